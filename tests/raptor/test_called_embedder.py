"""An embedder that is called, litellm/NAME: paid for once, within the cap, by text; odd replies are refused."""

import json
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_store.errors import BadQuery, IndexStoreError
from index_store.index import open_index
from raptor import build_index, estimate, update_index
from raptor.cli import main
from raptor.corpus import spans_of
from raptor.errors import RaptorError
from raptor.settings import BuildSettings, Sharding, Spending
from raptor.workspace import called_embedder
from rlm.gateway.errors import MissingKey, UnknownModel
from rlm.gateway.ledger import Caps, Ledger
from tests.helpers import tiny_embedder
from tests.helpers.model_server import Body, ModelServer, Step, error
from tests.helpers.served import wait_until

MODEL = "litellm/openai/text-embedding-3-small"
PRICE = 2e-8  # dollars a token


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_embedder.use(monkeypatch)  # for what is estimated


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return tiny_embedder.write_documents(tmp_path / "docs", 12)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer([""]) as server:
        server.use(monkeypatch)
        yield server


def texts_of(server: ModelServer) -> list[str]:
    return [text for body in server.requests for text in body["input"]]


def test_an_index_holds_the_vectors_of_the_provider_and_says_what_they_cost(
    docs: Path, tmp_path: Path, server: ModelServer
) -> None:
    report = build_index(docs, tmp_path / "i", embedder=MODEL)
    index = open_index(tmp_path / "i")
    asked = texts_of(server)
    assert len(asked) == len(set(asked)) == 1 + sum(report.levels)
    assert asked[0] == "dimension"
    leaf = index.text_at(0)
    (row,) = tiny_embedder.encode([f"{index.documents[0].id}\n{leaf}"])
    assert np.allclose(index.vectors[0], row, atol=1e-6)
    assert index.manifest.models["embedder"] == MODEL
    words = sum(len(text.split()) for text in asked)
    assert report.calls == server.calls + sum(
        report.levels[1:]
    )  # those of the offline summarizer, which are free
    assert report.usd == pytest.approx(words * PRICE)


def test_a_build_that_was_stopped_pays_for_the_rest_alone_though_a_document_was_added(
    docs: Path, tmp_path: Path, server: ModelServer
) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "embed" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(docs, tmp_path / "i", embedder=MODEL, progress=stop)
    assert server.calls > 1
    (docs / "more.txt").write_text("A yawl carries its mizzen abaft the rudder.")
    report = build_index(docs, tmp_path / "i", embedder=MODEL)
    asked = texts_of(server)
    assert len(asked) == len(set(asked)) == 1 + sum(report.levels)


@pytest.mark.parametrize("shards", [None, Sharding()])
def test_ctrl_c_does_not_wait_for_calls_under_way_and_counts_them_as_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: Sharding | None
) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 30)
    how: dict[str, Any] = {"embedder": MODEL, "settings": BuildSettings(concurrency=1), "shards": shards}
    ledgers, answered, returned = list[Ledger](), threading.Event(), threading.Event()
    told, asked = list[bool](), list[Body]()

    def ledger(caps: Caps) -> Ledger:
        ledgers.append(Ledger(caps))
        return ledgers[-1]

    def script(body: Body) -> str | Step:
        asked.append(body)
        return Step(until=answered) if len(asked) > 2 else ""

    def interrupt() -> None:
        wait_until(lambda: len(asked) > 2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        told.append(returned.wait(60))
        answered.set()

    with ModelServer(script) as server:
        server.use(monkeypatch)
        monkeypatch.setattr("raptor.build.Ledger", ledger)
        presses = threading.Thread(target=interrupt)
        presses.start()
        with pytest.raises(KeyboardInterrupt):
            build_index(docs, tmp_path / "i", **how)
        returned.set()
        presses.join()
        assert told == [True]
    words = sum(len(text.split()) for text in asked[0]["input"] + asked[1]["input"])
    assert ledgers[0].spent.usd > words * PRICE  # what was under way is entered as spent
    with ModelServer([""]) as server:
        server.use(monkeypatch)
        build_index(docs, tmp_path / "i", **how)
        again = texts_of(server)
    assert not set(asked[1]["input"]) & set(again)
    assert set(asked[2]["input"]) <= set(again)


def test_a_build_stays_below_its_cap_and_goes_on_below_a_higher_one(
    tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 30)
    with pytest.raises(RaptorError, match="and was not started; raise --max-usd"):
        build_index(docs, tmp_path / "i", embedder=MODEL, spending=Spending(usd=1e-6))
    with monkeypatch.context() as patch:
        patch.setattr("raptor.estimating._usd", lambda *_: (0.0019, 0.0023))
        how: dict[str, Any] = {"embedder": MODEL, "summarizer": "openai/gpt-4o-mini"}
        with pytest.raises(RaptorError, match=r"\$0.0020 to \$0.0024, above the cap of \$0.0003"):
            build_index(docs, tmp_path / "i", spending=Spending(usd=3e-4), **how)
    assert server.calls == 0
    monkeypatch.setattr("raptor.build.refuse_above_cap", lambda *_: None)
    with pytest.raises(
        RaptorError, match=r"the build stopped at its cap: .* go on by the same command with a higher cap"
    ):
        build_index(docs, tmp_path / "i", embedder=MODEL, spending=Spending(usd=1.2e-4))
    assert sum(len(text.split()) for text in texts_of(server)) * PRICE < 1.2e-4
    assert server.calls > 1
    report = build_index(docs, tmp_path / "i", embedder=MODEL, spending=Spending(usd=1))
    assert len(texts_of(server)) == 1 + sum(report.levels)


def test_an_embedder_of_ones_own_is_free_under_a_cap_where_its_short_name_says_so(
    docs: Path, tmp_path: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        '[free]\nmodel = "openai/our-own"\nusd_per_million = [0, 0]\n[other]\nmodel = "openai/another"\n'
    )
    line = ["build", str(docs), "-o", str(tmp_path / "i"), "--models", str(file), "-q", "--max-usd", "0"]
    assert main([*line, "--embedder", "litellm/other"]) == 2
    told = capsys.readouterr().err
    assert "the price of litellm/openai/another is not known" in told
    assert "usd_per_million = [0, 0] where it costs nothing" in told
    assert server.calls == 0
    assert main([*line, "--embedder", "litellm/free"]) == 0
    assert server.calls > 1


def test_shards_are_held_against_one_cap_before_anybody_is_called_and_each_text_is_paid_for_once(
    tmp_path: Path, server: ModelServer
) -> None:
    for folder, count in (("a", 6), ("b", 7)):
        tiny_embedder.write_documents(tmp_path / "docs" / folder, count)
    how: dict[str, Any] = {"embedder": MODEL, "shards": Sharding("folder")}
    with pytest.raises(RaptorError, match="and was not started; raise --max-usd"):
        build_index(tmp_path / "docs", tmp_path / "i", spending=Spending(usd=1e-6), **how)
    assert server.calls == 0
    report = build_index(tmp_path / "docs", tmp_path / "i", spending=Spending(usd=1), **how)
    asked = texts_of(server)
    assert sorted(set(asked)) == sorted(asked)
    assert len(asked) == 1 + sum(report.levels)


def test_a_dry_run_prices_embeddings_and_calls_nobody(
    docs: Path, tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    expected, _ = estimate(docs, tmp_path / "i", embedder=MODEL)
    plain, _ = estimate(docs, tmp_path / "i")
    assert server.calls == 0
    server.use(monkeypatch)
    report = build_index(docs, tmp_path / "i", embedder=MODEL)
    assert (plain.usd_low, plain.usd_high) == (0, 0)
    assert expected.usd_low == pytest.approx(report.usd, rel=0.6)


def test_a_worker_elsewhere_cuts_chunks_for_an_embedder_that_is_called_and_pays_for_nothing() -> None:
    here = called_embedder(MODEL, {"dimensions": 16}, 16)
    there = pickle.loads(pickle.dumps(here))  # noqa: S301  it is our own
    assert (there.name, there.fingerprint, there.dim) == (MODEL, here.fingerprint, 16)
    how = [(model, 16) for model in (here, there)]
    cut = [spans_of(each, ["A ketch has two masts. " * 20]) for each in how]
    assert cut[0] == cut[1] and len(cut[0][0]) > 1
    with pytest.raises(IndexStoreError, match="is called through a gateway, which pays for it"):
        there.encode(["a ketch"])


def vectors(rows: Any, **fields: Any) -> Step:
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    return Step(raw=json.dumps({"object": "list", "model": "m", "data": data, **fields}).encode())


def a_second_time(step: Step) -> list[str | Step]:
    """The first call asks for the dimension."""
    return ["", step]


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (vectors([[1.0] * 16]), "have 1 vectors"),
        (vectors([[float("nan")] * 16] * 10), "a vector holds what is no number"),
        (vectors([[0.0] * 16] * 10), "a vector is all zeros"),
        (vectors([["one"] * 16] * 10), "the reply is not a list of vectors"),
        (vectors([[1.0] * 16] * 9 + [[1.0] * 15]), "vectors have different lengths"),
        (vectors([[1.0] * 8] * 10), "gave vectors of 8 numbers, where the others have 16"),
        (Step(raw=b"[]"), "the reply is not a list of vectors"),
        (error(401, "no such key"), "the provider refused the key"),
    ],
)
def test_a_reply_that_is_none_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Step, told: str
) -> None:
    monkeypatch.setattr("rlm.gateway.gateway.backoff_s", lambda attempt: 0.0)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"_id": f"d{n}", "text": f"A ketch {n}."}) + "\n" for n in range(10)))
    with ModelServer(a_second_time(step)) as server:
        server.use(monkeypatch)
        with pytest.raises(RaptorError, match=told) as refused:
            build_index(rows, tmp_path / "i", embedder=MODEL)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "i" / "CURRENT").exists()


def test_an_update_asks_for_what_is_new_and_needs_the_same_model_by_name(
    docs: Path, tmp_path: Path, server: ModelServer
) -> None:
    build_index(docs, tmp_path / "i", embedder=MODEL)
    before = server.calls
    (docs / "more.txt").write_text("A yawl carries its mizzen abaft the rudder.")
    with pytest.raises(BadQuery, match="which is loaded only when you name it too"):
        update_index(tmp_path / "i", docs)
    with pytest.raises(
        BadQuery, match="the index was built with embedder litellm/openai/text-embedding-3-small"
    ):
        update_index(tmp_path / "i", docs, embedder="litellm/openai/text-embedding-3-large")
    assert server.calls == before
    update_index(tmp_path / "i", docs, embedder=MODEL)
    new = [body["input"] for body in server.requests[before:]]
    assert len(new[0]) == 1  # the first chunk again, to see whether the model is still the same
    assert ["more.txt\nA yawl carries its mizzen abaft the rudder."] in new


def test_another_model_behind_the_same_name_is_found_before_anything_is_changed(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[bool] = []

    def script(body: Body) -> Step:
        rows = tiny_embedder.encode(body["input"])
        return vectors([row[::-1].tolist() if changed else row.tolist() for row in rows])

    with ModelServer(script) as server:
        server.use(monkeypatch)
        digest = build_index(docs, tmp_path / "i", embedder=MODEL).digest
        changed.append(True)
        (docs / "more.txt").write_text("A yawl.")
        with pytest.raises(RaptorError, match="gives other vectors now than when the index was built"):
            update_index(tmp_path / "i", docs, embedder=MODEL)
    assert open_index(tmp_path / "i").digest == digest


def test_a_short_name_has_its_options_and_price(
    docs: Path, tmp_path: Path, server: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models.toml"
    named = 'model = "openai/text-embedding-3-large"\ndimensions = 16\nusd_per_million = [1.0, 0.0]'
    models.write_text(f"[near]\n{named}\n")
    called = ["--embedder", "litellm/near", "--models", str(models)]
    line = ["build", str(docs), "-o", str(tmp_path / "i"), *called]
    assert main([*line, "--json", "-q"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert server.requests[0]["dimensions"] == 16
    assert report["usd"] == pytest.approx(sum(len(text.split()) for text in texts_of(server)) / 1e6)
    assert open_index(tmp_path / "i").manifest.models["embedder"] == "litellm/openai/text-embedding-3-large"


def test_no_key_and_no_such_provider_are_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(MissingKey, match="OPENAI_API_KEY"):
        build_index(tmp_path / "none", tmp_path / "i", embedder=MODEL)
    with pytest.raises(UnknownModel, match="such as litellm/openai/text-embedding-3-small"):
        build_index(tmp_path / "none", tmp_path / "i", embedder="litellm/nobody")
