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
from tests.helpers import tiny_embedder
from tests.helpers.model_server import ModelServer, error

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
