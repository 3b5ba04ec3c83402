"""What the retrievers of all frameworks share: which index is searched, and how; and what is found, with its place."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from index_store.arguments import check_fields
from index_store.index import Index, open_any
from index_store.types import Json, Mode, Node
from rlm.errors import RlmError
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.loop.embedding import paying


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that was found. `id`: of its node, after the beginning of the index's digest, so that passages of several
    indexes are told apart. `metadata`: the fields of `place_of`, `title` of the document, `score`, and `also_in`: the
    documents that say the same."""

    id: str
    text: str
    score: float
    metadata: dict[str, Json]


@dataclass(frozen=True)
class Retrieval:
    """A way to search an index, which is opened when it is first searched.

    `index`: an index folder, or a text file. `k`, `mode`, `under`, `doc`: as those of `Index.search`. `embedder` and
    `access`, the labels of a reader: as those of `open_index`. Raises RlmError for what is none of these.
    """

    index: str
    k: int = 10
    mode: Mode = "hybrid"
    under: str | None = None
    doc: str | None = None
    embedder: str | None = None
    access: Sequence[str] | None = None

    def __post_init__(self) -> None:
        check_fields(self, RlmError)

    @cached_property
    def opened(self) -> Index:
        """The index. Raises BrokenIndex."""
        return paying(open_any(self.index, self.embedder, self.access), lambda: Gateway(Ledger()))

    def passages(self, query: str, k: int | None = None) -> list[Passage]:
        """The `k` best passages, best first. Raises IndexStoreError."""
        index = self.opened
        found = index.search(
            query, self.k if k is None else k, mode=self.mode, under=self.under, doc=self.doc
        )
        return [
            Passage(
                f"{index.digest[:12]}-{hit.node}",
                index.text(hit.node),
                hit.score,
                place_of(index, index.node(hit.node))
                | {
                    "title": index.document(hit.span.doc).title if hit.span else None,
                    "score": hit.score,
                    "also_in": list(hit.also_in),
                },
            )
            for hit in found
        ]

    async def passages_async(self, query: str, k: int | None = None) -> list[Passage]:
        """As `passages`, in a thread, so that the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.passages, query, k)


def place_of(index: Index, node: Node) -> dict[str, Json]:
    """Where a node is: its id, level and label; of a chunk its document, characters, page and headings from outside in.

    The same fields for every node: null, or no heading, where there is nothing to say.
    """
    span = node.span
    return {
        "node": node.id,
        "level": node.level,
        "label": node.label,
        "doc": span.doc if span else None,
        "start": span.start if span else None,
        "end": span.end if span else None,
        "page": index.page(span) if span else None,
        "section": list(index.section(span)) if span else [],
    }


def places_of(index: Index, nodes: Iterable[Node]) -> list[dict[str, Json]]:
    """The places of several nodes, in order."""
    return [place_of(index, node) for node in nodes]
