"""The retriever for LlamaIndex."""

from pathlib import Path

import pytest

pytest.importorskip("llama_index.core")
from llama_index.core.schema import QueryBundle

from index_store.errors import IndexStoreError
from index_store.index import Index
from rlm.adapters.llama_index import RaptorRetriever
from tests.helpers.examples import check_example, check_example_of_a_wrong_path
from tests.helpers.waiting_embedder import while_the_loop_goes_on


def test_a_node_says_where_it_is_from(index: Index) -> None:
    (best,) = RaptorRetriever(str(index.path), k=1, mode="lexical").retrieve("masts")
    assert (best.text, best.node_id) == ("The ketch has two masts. ", f"{index.digest[:12]}-L0-00000")
    assert best.score is not None
    assert best.score > 0
    assert best.node.ref_doc_id == "boats.txt"
    place = {name: best.metadata[name] for name in ("node", "doc", "start", "end", "page", "section")}
    assert place == {
        "node": "L0-00000",
        "doc": "boats.txt",
        "start": 0,
        "end": 25,
        "page": None,
        "section": [],
    }


def test_a_summary_is_of_no_document(index: Index) -> None:
    found = RaptorRetriever(str(index.path), mode="tree", under="L1-00000").retrieve("mizzen")
    (summary,) = [node for node in found if node.metadata["level"] == 1]
    assert (summary.text, summary.node.ref_doc_id) == ("A ketch and a yawl have a mizzen.", None)


def test_a_search_does_not_hold_up_the_loop(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = RaptorRetriever(str(index.path), k=2)
    found = while_the_loop_goes_on(monkeypatch, lambda: retriever.aretrieve(QueryBundle("mizzen")))
    assert len(found) == 2


def test_a_missing_index_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(IndexStoreError, match="there is no"):
        RaptorRetriever(str(tmp_path / "none.index")).retrieve("mizzen")


def test_the_example_runs(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_example("llama_index_retriever.py", index, monkeypatch, capsys)


def test_the_example_says_of_a_wrong_path_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_example_of_a_wrong_path("llama_index_retriever.py", tmp_path, monkeypatch, capsys)
