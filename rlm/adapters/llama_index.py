"""A retriever of LlamaIndex over an index."""

from collections.abc import Sequence
from typing import Any

from index_store.types import Mode
from rlm.adapters.extras import needed
from rlm.adapters.passages import Passage, Retrieval

with needed("rlm.adapters.llama_index", "llama-index"):
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import (
        NodeRelationship,
        NodeWithScore,
        QueryBundle,
        RelatedNodeInfo,
        TextNode,
    )


class RaptorRetriever(BaseRetriever):
    """Passages of an index as LlamaIndex's nodes; what is in their metadata, `Passage` says.

        RaptorRetriever("my.index", k=5).retrieve("notice period")

    The arguments are those of `Retrieval`; others go to `BaseRetriever`. Raises IndexStoreError or RlmError.
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
        **options: Any,
    ) -> None:
        self._retrieval = Retrieval(index, k, mode, under, doc, embedder, access)
        super().__init__(**options)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(passage) for passage in self._retrieval.passages(query_bundle.query_str)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node(passage) for passage in await self._retrieval.passages_async(query_bundle.query_str)]


def _node(passage: Passage) -> NodeWithScore:
    place: dict[str, Any] = dict(passage.metadata)
    document = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=place["doc"])} if place["doc"] else {}
    node = TextNode(
        id_=passage.id,
        text=passage.text,
        metadata=place,
        start_char_idx=place["start"],
        end_char_idx=place["end"],
        relationships=document,
    )
    return NodeWithScore(node=node, score=passage.score)
