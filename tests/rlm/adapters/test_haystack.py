"""The component for Haystack."""

import os
from pathlib import Path

import pytest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # it is read when haystack is imported
pytest.importorskip("haystack")
from haystack import Pipeline

from index_store.errors import IndexStoreError
from index_store.index import Index
from rlm.adapters.haystack import RaptorRetriever
from tests.helpers.examples import check_example, check_example_of_a_wrong_path
from tests.helpers.waiting_embedder import while_the_loop_goes_on


def test_a_document_says_where_it_is_from(index: Index) -> None:
    (best,) = RaptorRetriever(str(index.path), mode="lexical").run("masts", k=1)["documents"]
    assert (best.content, best.id) == ("The ketch has two masts. ", f"{index.digest[:12]}-L0-00000")
    assert best.score is not None
    assert best.score > 0
    place = {name: best.meta[name] for name in ("node", "doc", "start", "end", "page", "section")}
    assert place == {
        "node": "L0-00000",
        "doc": "boats.txt",
        "start": 0,
        "end": 25,
        "page": None,
        "section": [],
    }


def test_a_pipeline_that_was_saved_finds_the_same(index: Index) -> None:
    pipeline = Pipeline()
    pipeline.add_component("retriever", RaptorRetriever(str(index.path), k=2, doc="boats.txt"))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["rlm.adapters.haystack"])
    asked = {"retriever": {"query": "mizzen"}}
    assert again.run(asked) == pipeline.run(asked)
    assert len(again.run(asked)["retriever"]["documents"]) == 2


def test_a_search_does_not_hold_up_the_loop(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline()
    pipeline.add_component("retriever", RaptorRetriever(str(index.path), k=2))
    asked = {"retriever": {"query": "mizzen"}}
    found = while_the_loop_goes_on(monkeypatch, lambda: pipeline.run_async(asked))
    assert len(found["retriever"]["documents"]) == 2


def test_a_missing_index_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(IndexStoreError, match="there is no"):
        RaptorRetriever(str(tmp_path / "none.index")).run("mizzen")


def test_the_example_runs(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_example("haystack_retriever.py", index, monkeypatch, capsys)


def test_the_example_says_of_a_wrong_path_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_example_of_a_wrong_path("haystack_retriever.py", tmp_path, monkeypatch, capsys)
