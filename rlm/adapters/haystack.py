"""A component of Haystack that retrieves from an index."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from index_store.types import Mode
from rlm.adapters.extras import needed
from rlm.adapters.passages import Passage, Retrieval

with needed("rlm.adapters.haystack", "haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict


@component
class RaptorRetriever:
    """Passages of an index as Haystack's documents; what is in their `meta`, `Passage` says.

        RaptorRetriever("my.index", k=5).run("notice period")["documents"]

    The arguments are those of `Retrieval`; `k` may be given to `run` too. Raises IndexStoreError or RlmError.
    """

    def __init__(
        self,
        index: str,
        k: int = 10,
        mode: Mode = "hybrid",
        under: str | None = None,
        doc: str | None = None,
        embedder: str | None = None,
        access: Sequence[str] | None = None,
    ) -> None:
        self._retrieval = Retrieval(index, k, mode, under, doc, embedder, access)

    @component.output_types(documents=list[Document])
    def run(self, query: str, k: int | None = None) -> dict[str, list[Document]]:
        """The best passages for the query, best first."""
        return {"documents": [_document(passage) for passage in self._retrieval.passages(query, k)]}

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str, k: int | None = None) -> dict[str, list[Document]]:
        """As `run`, in a thread, so that the event loop goes on meanwhile."""
        return {"documents": [_document(one) for one in await self._retrieval.passages_async(query, k)]}

    def to_dict(self) -> dict[str, Any]:
        """The component as a pipeline is saved with it; the index itself is named by its path alone."""
        return default_to_dict(self, **asdict(self._retrieval))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "RaptorRetriever":
        """The component that `to_dict` gave."""
        made: RaptorRetriever = default_from_dict(cls, data)
        return made


def _document(passage: Passage) -> Document:
    return Document(id=passage.id, content=passage.text, meta=dict(passage.metadata), score=passage.score)
