"""From a node to the exact characters it stands on, and from characters to the nodes above them."""

from dataclasses import dataclass

from index_store.arguments import checked
from index_store.errors import BadQuery
from index_store.index import Index
from index_store.types import Node, Span


@dataclass(frozen=True, slots=True)
class Source:
    """An unbroken stretch of a document; `pages`: its first and last, from 1, None where the document has none."""

    span: Span
    pages: tuple[int, int] | None


@checked(BadQuery)
def sources(index: Index, node: str) -> list[Source]:
    """The stretches of documents that the chunks under a node cover, as long as can be, in document order.

    Raises NoSuchNode.
    """
    joined: list[Span] = []
    for leaf in index.leaves(node):
        if leaf.span is None:
            continue
        if joined and joined[-1].doc == leaf.span.doc and joined[-1].end == leaf.span.start:
            joined[-1] = Span(leaf.span.doc, joined[-1].start, leaf.span.end)
        else:
            joined.append(leaf.span)
    return [Source(span, _pages(index, span)) for span in joined]


def _pages(index: "Index", span: Span) -> tuple[int, int] | None:
    first, last = index.page(span), index.page(Span(span.doc, max(span.end - 1, span.start), span.end))
    return None if first is None or last is None else (first, last)


@checked(BadQuery)
def nodes_above(index: Index, span: Span) -> list[Node]:
    """Every node that has some of these characters under it, chunks first, the root last.

    Raises BadQuery for a range that is empty or reaches out of its document, NoSuchNode for an unknown document.
    """
    chars = index.document(span.doc).chars
    if not 0 <= span.start < span.end <= chars:
        raise BadQuery(f"{span.doc} has characters 0 to {chars}, asked for {span.start} to {span.end}")
    leaves = index.document_leaves(index.document_number(span.doc))
    numbers = {n for n in leaves if (s := index.span_at(n)) and s.start < span.end and span.start < s.end}
    layer = set(numbers)
    for _ in index.levels[1:]:
        layer = {p for n in layer for p in index.neighbours(n, "parents")}
        numbers |= layer
    return [index.at(n) for n in sorted(numbers)]
