"""A retriever of LangChain over an index."""

from collections.abc import Sequence
from typing import Any, Self

from index_store.types import Mode
from rlm.adapters.extras import needed
from rlm.adapters.passages import Passage, Retrieval

with needed("rlm.adapters.langchain", "langchain"):
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import PrivateAttr, model_validator


class RaptorRetriever(BaseRetriever):
    """Passages of an index as LangChain's documents; what is in their metadata, `Passage` says.

        RaptorRetriever(index="my.index", k=5).invoke("notice period")

    The fields are those of `Retrieval`; `k` may be given to `invoke` too. Raises IndexStoreError or RlmError.
    """

    index: str
    k: int = 10
    mode: Mode = "hybrid"
    under: str | None = None
    doc: str | None = None
    embedder: str | None = None
    access: Sequence[str] | None = None
    _retrieval: Retrieval = PrivateAttr()

    @model_validator(mode="after")
    def _prepared(self) -> Self:
        self._retrieval = Retrieval(
            self.index, self.k, self.mode, self.under, self.doc, self.embedder, self.access
        )
        return self

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return [_document(passage) for passage in self._retrieval.passages(query, k)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return [_document(passage) for passage in await self._retrieval.passages_async(query, k)]


def _document(passage: Passage) -> Document:
    metadata: dict[str, Any] = dict(passage.metadata)
    return Document(id=passage.id, page_content=passage.text, metadata=metadata)
