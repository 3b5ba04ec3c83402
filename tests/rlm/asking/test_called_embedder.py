"""Questions of an index whose embedder is called: the run pays for each search, tells it in its trace, and replays."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlm.cli
from index_store.errors import BadQuery
from index_store.index import Index, open_index
from raptor import build_index
from rlm import Limits, ask
from rlm.asking.replaying.replay import replay
from rlm.audit import read, verify
from rlm.gateway.embeddings import vectors_in
from rlm.serving.types import Grant
from tests.helpers import tiny_embedder
from tests.helpers.model_server import ModelServer, error
from tests.helpers.served import KeyedState, serving, settings_of
from tests.helpers.toy import publish_toy

MODEL = "litellm/openai/text-embedding-3-small"
QUESTION = "What keeps the old ledger?"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("called")
    docs = tiny_embedder.write_documents(folder / "docs", 15)
    with pytest.MonkeyPatch.context() as patch, ModelServer([""]) as server:
        server.use(patch)
        build_index(docs, folder / "i", embedder=MODEL)
    return folder / "i"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer([""]) as server:
        server.use(monkeypatch)
        yield server


@pytest.fixture
def index(path: Path) -> Index:
    return open_index(path, embedder=MODEL)


def embedded_in(trace: Path) -> list[dict[str, Any]]:
    return [event for event in read(trace)[0] if event["kind"] == "embedded"]


@pytest.mark.parametrize("route", ["rlm", "retrieve"])
def test_a_search_is_paid_for_by_the_run_and_told_in_its_trace_which_replays_without_a_call(
    index: Index, path: Path, tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch, route: Any
) -> None:
    answer = ask(index, QUESTION, route=route, runs=tmp_path, limits=Limits(usd=0.01))
    told = embedded_in(answer.trace)
    texts = [body["input"] for body in server.requests]
    assert answer.citations
    assert [event["texts"] for event in told] == texts != []
    words = sum(len(text.split()) for batch in texts for text in batch)
    assert answer.usage.usd == pytest.approx(2e-8 * words)
    assert np.allclose(vectors_in(told[0]["vectors"], 1), tiny_embedder.encode(told[0]["texts"]), atol=1e-6)
    assert verify(answer.trace).ok, verify(answer.trace).reason
    calls = server.calls
    monkeypatch.setenv("OPENAI_API_KEY", "")
    again = replay(answer.trace, open_index(path, embedder=MODEL))
    assert again.is_same, again.difference
    assert server.calls == calls


def test_what_a_run_may_not_pay_for_is_refused_to_the_search_and_the_run_ends_all_the_same(
    index: Index, tmp_path: Path, server: ModelServer
) -> None:
    answer = ask(index, QUESTION, route="rlm", runs=tmp_path, limits=Limits(usd=1e-9))
    told = embedded_in(answer.trace)
    assert server.calls == 0
    assert "more than" in told[0]["error"]
    assert answer.usage.usd == 0
    assert verify(answer.trace).ok, verify(answer.trace).reason


def test_a_provider_that_fails_is_told_to_the_code_and_in_the_trace(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer([error(401, "no such key")]) as server:
        server.use(monkeypatch)
        answer = ask(index, QUESTION, route="rlm", runs=tmp_path)
    events = read(answer.trace)[0]
    (first, *_) = embedded_in(answer.trace)
    assert "the provider refused the key" in first["error"]
    refused = [event["error"] for event in events if event["kind"] == "visited" and "error" in event]
    assert any("search by words (mode lexical)" in one for one in refused)
    assert verify(answer.trace).ok, verify(answer.trace).reason


def test_a_search_of_the_command_line_says_what_it_cost(
    path: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["search", str(path), "old ledger", "--mode", "dense", "--json", "-k", "2"]
    assert rlm.cli.main(line) == 2
    assert "which is loaded only when you name it too" in capsys.readouterr().err
    assert server.calls == 0
    assert rlm.cli.main([*line, "--embedder", MODEL]) == 0
    shown = capsys.readouterr()
    (vector,) = tiny_embedder.encode(["old ledger"])
    index = open_index(path)
    assert [hit["node"] for hit in json.loads(shown.out)] == [
        hit.node for hit in index.search("old ledger", 2, mode="dense", vector=vector)
    ]
    assert shown.err == f"embedded by {MODEL}: 2 tokens, $0.0000\n"


def test_an_index_that_was_opened_without_a_run_calls_nobody(index: Index, server: ModelServer) -> None:
    with pytest.raises(BadQuery, match="nobody pays for that here"):
        index.search("old ledger")
    assert index.search("old ledger", mode="lexical")
    index.warm_up()
    assert server.calls == 0


def test_another_model_than_the_one_of_the_index_is_refused_before_a_run(
    path: Path, tmp_path: Path, server: ModelServer
) -> None:
    with pytest.raises(
        BadQuery, match="the index was built with embedder litellm/openai/text-embedding-3-small"
    ):
        ask(open_index(path, embedder="litellm/openai/text-embedding-3-large"), QUESTION, runs=tmp_path)
    assert server.calls == 0


def test_a_server_whose_user_named_the_embedder_pays_for_searches_and_questions(
    path: Path, tmp_path: Path, server: ModelServer
) -> None:
    settings = settings_of(tmp_path, path, embedder=MODEL, limits=Limits(usd=0.01))
    state = KeyedState({"rk-ann": Grant("a1", "ann"), "rk-poor": Grant("b2", "poor")})
    state.broke.add("b2")
    query: dict[str, str | int] = {"q": "old ledger", "k": 2, "mode": "dense"}
    with serving(settings, state) as served, served.client("rk-ann") as ann, served.client("rk-poor") as poor:
        found = ann.get("/api/indexes/i/search", params=query).json()["hits"]
        assert server.calls == 1
        unpaid = poor.get("/api/indexes/i/search", params=query)
        by_words = poor.get("/api/indexes/i/search", params={**query, "mode": "lexical"})
        assert server.calls == 1
        reply = served.openai("rk-ann").chat.completions.create(
            model="i", messages=[{"role": "user", "content": QUESTION}]
        )
    (vector,) = tiny_embedder.encode(["old ledger"])
    hits = open_index(path).search("old ledger", 2, mode="dense", vector=vector)
    assert [hit["node"] for hit in found] == [hit.node for hit in hits]
    assert (unpaid.status_code, unpaid.json()["code"]) == (402, "insufficient_quota")
    assert by_words.json()["hits"]
    assert (run := reply.model_extra["raptor"])["usd"] > 0  # type: ignore[index]
    assert embedded_in(tmp_path / "runs" / run["run"])


def test_a_search_that_the_caps_of_a_server_do_not_allow_is_refused_as_one_without_money(
    path: Path, tmp_path: Path, server: ModelServer
) -> None:
    settings = settings_of(tmp_path, path, embedder=MODEL, limits=Limits(usd=1e-9))
    with serving(settings) as served, served.client() as client:
        reply = client.get("/api/indexes/i/search", params={"q": "old ledger"})
    assert (reply.status_code, server.calls) == (402, 0)
    assert "the query was not embedded" in reply.json()["detail"]


@pytest.mark.parametrize("command", ["serve", "mcp"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "which is loaded only when you name it too"),
        (["--embedder", f"{MODEL}-other"], f"the index was built with embedder {MODEL}"),
    ],
)
def test_a_server_without_the_embedder_of_an_index_or_with_another_does_not_start(
    path: Path,
    tmp_path: Path,
    server: ModelServer,
    capsys: pytest.CaptureFixture[str],
    command: str,
    words: list[str],
    told: str,
) -> None:
    place = [*words, "--data" if command == "serve" else "--runs", str(tmp_path)]
    assert rlm.cli.main([command, str(path), *place]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert server.calls == 0


def test_an_index_of_the_built_in_embedder_is_searched_by_that_whatever_was_named_for_the_others(
    path: Path, tmp_path: Path
) -> None:
    publish_toy(tmp_path / "toy")
    named = {
        name: open_index(place, MODEL).by_its_own()
        for name, place in {"i": path, "toy": tmp_path / "toy"}.items()
    }
    assert {name: one.embedder_named for name, one in named.items()} == {"i": MODEL, "toy": None}
    named["toy"].check_embedder_named()


def test_the_searches_of_an_mcp_client_stay_under_the_caps_that_were_typed(
    path: Path,
    tmp_path: Path,
    server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "rlm.adapters.mcp.server_of", lambda indexes, asking: indexes["i"].search("old ledger")
    )
    line = ["mcp", str(path), "--embedder", MODEL, "--runs", str(tmp_path), "--max-usd", "1e-9"]
    assert rlm.cli.main(line) == 2
    assert "the query was not embedded" in capsys.readouterr().err
    assert server.calls == 0
