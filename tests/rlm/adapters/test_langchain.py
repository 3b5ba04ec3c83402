"""The retriever for LangChain, by its own standard tests and ours."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")
from langchain_tests.integration_tests import RetrieversIntegrationTests

from index_store.errors import IndexStoreError
from index_store.index import Index
from rlm.adapters.langchain import RaptorRetriever
from tests.helpers.examples import check_example, check_example_of_a_wrong_path
from tests.helpers.waiting_embedder import while_the_loop_goes_on


@pytest.mark.anyio
class TestByLangchain(RetrieversIntegrationTests):
    """What LangChain asks of each retriever."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture(autouse=True)
    def _over_the_toy(self, index: Index) -> None:
        self.index = index

    @property
    def retriever_constructor(self) -> type[RaptorRetriever]:
        return RaptorRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"index": str(self.index.path)}

    @property
    def retriever_query_example(self) -> str:
        return "which boat has a mizzen"


def test_a_document_says_where_it_is_from(index: Index) -> None:
    (best,) = RaptorRetriever(index=str(index.path), k=1, mode="lexical").invoke("masts")
    assert best.page_content == "The ketch has two masts. "
    assert best.id == f"{index.digest[:12]}-L0-00000"
    assert best.metadata == {
        "node": "L0-00000",
        "level": 0,
        "label": "boats: The ketch has two masts.",
        "doc": "boats.txt",
        "start": 0,
        "end": 25,
        "page": None,
        "section": [],
        "title": "boats",
        "score": best.metadata["score"],
        "also_in": [],
    }
    assert best.metadata["score"] > 0


def test_what_is_looked_through_can_be_narrowed(index: Index) -> None:
    path = str(index.path)
    found = RaptorRetriever(index=path, doc="one.txt").invoke("mizzen")
    assert [document.metadata["doc"] for document in found] == ["one.txt"]
    below = RaptorRetriever(index=path, under="L1-00000").invoke("mizzen")
    assert {document.metadata["doc"] for document in below} == {"boats.txt"}
    levels = {d.metadata["level"] for d in RaptorRetriever(index=path, mode="tree").invoke("boats")}
    assert levels == {0, 1, 2}


def test_a_summary_has_no_place(index: Index) -> None:
    summaries = RaptorRetriever(index=str(index.path), mode="tree", under="L1-00000").invoke("mizzen")
    (summary,) = [document for document in summaries if document.metadata["level"] == 1]
    assert summary.page_content == "A ketch and a yawl have a mizzen."
    assert (summary.metadata["doc"], summary.metadata["start"]) == (None, None)


def test_a_search_does_not_hold_up_the_loop(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = RaptorRetriever(index=str(index.path), k=2)
    found = while_the_loop_goes_on(monkeypatch, lambda: retriever.ainvoke("mizzen"))
    assert len(found) == 2


def test_what_cannot_be_is_one_sentence(index: Index, tmp_path: Path) -> None:
    with pytest.raises(IndexStoreError, match="k is 0; ask for at least one hit"):
        RaptorRetriever(index=str(index.path)).invoke("mizzen", k=0)
    with pytest.raises(IndexStoreError, match="there is no"):
        RaptorRetriever(index=str(tmp_path / "none.index")).invoke("mizzen")


def test_the_example_runs(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_example("langchain_retriever.py", index, monkeypatch, capsys)


def test_the_example_says_of_a_wrong_path_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_example_of_a_wrong_path("langchain_retriever.py", tmp_path, monkeypatch, capsys)
