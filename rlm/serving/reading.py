"""What is in an index, as JSON: figures, nodes, documents, texts, hits."""

from collections.abc import Sequence

from index_store.errors import BadQuery
from index_store.index import Index
from index_store.types import Json, Mode, Node, Span
from rlm.limits import HIT_CHARS

#: Characters of a document that are read at once, and of those around them.
MOST_CHARS, MOST_AROUND = 200_000, 50_000
#: Neighbours of a node that are told of.
MOST_NEIGHBOURS = 500
#: Children of a node that a picture of the tree has, by how far down it stands; below these it has none.
PICTURED = (48, 16)


def index_json(index: Index, name: str, *, may_write: bool) -> dict[str, Json]:
    """The figures of an index."""
    chunks, *summaries = index.levels
    root = index.root
    return {
        "name": name,
        "title": root.label or name,
        "documents": len(index.documents),
        "chunks": chunks,
        "summaries": sum(summaries),
        "levels": len(index.levels),
        "generation": index.generation,
        "digest": index.digest,
        "may_write": may_write,
        "root": root.id,
    }


def node_json(index: Index, id: str) -> dict[str, Json]:
    """A node with its text, its place, and what is below, above and on the way to it; "root" is a node too."""
    node = index.root if id == "root" else index.node(id)
    return {
        **_named(node),
        "text": index.text(node.id),
        **_place(index, node.span),
        "children": [_counted(index, child) for child in index.children(node.id)[:MOST_NEIGHBOURS]],
        "parents": [_named(parent) for parent in index.parents(node.id)[:MOST_NEIGHBOURS]],
        "path": [_named(step) for step in index.path_to(node.id)],
    }


def tree_json(index: Index) -> dict[str, Json]:
    """The upper levels of the tree, for a picture: nodes inside one another, each under the parent whose summary is
    about it. `more`: children that are left out."""
    return _pictured(index, index.number_of(index.root.id), PICTURED)


def _pictured(index: Index, number: int, widths: Sequence[int]) -> dict[str, Json]:
    own = (
        [child for child in index.neighbours(number, "children") if index.home(child) == number]
        if widths
        else []
    )
    shown = own[: widths[0]] if widths else []
    children: list[Json] = [_pictured(index, child, widths[1:]) for child in shown]
    return {**_counted(index, index.at(number)), "children": children, "more": len(own) - len(shown)}


def paths_json(index: Index, nodes: Sequence[str]) -> dict[str, Json]:
    """The way from the root down to each of some nodes. Raises NoSuchNode."""
    paths: dict[str, Json] = {node: [_named(step) for step in index.path_to(node)] for node in nodes}
    return {"paths": paths}


def _named(node: Node) -> dict[str, Json]:
    return {"node": node.id, "level": node.level, "label": node.label}


def _counted(index: Index, node: Node) -> dict[str, Json]:
    below = index.below(index.number_of(node.id))
    return {**_named(node), "leaves": int((below < index.levels[0]).sum())}


def _place(index: Index, span: Span | None) -> dict[str, Json]:
    if span is None:
        return dict.fromkeys(("doc", "start", "end", "page"))
    return {"doc": span.doc, "start": span.start, "end": span.end, "page": index.page(span)}


def documents_json(index: Index, words: str, offset: int, limit: int) -> dict[str, Json]:
    """The documents whose id or title has these words in it, whatever the case, so many from one on."""
    numbers: Sequence[int] = range(len(index.documents))
    if wanted := words.casefold().split():
        numbers = [n for n in numbers if _has(index, n, wanted)]
    shown = [index.documents[n] for n in numbers[offset : offset + limit]]
    documents: list[Json] = [
        {"doc": d.id, "title": d.title, "chars": d.chars, "pages": len(d.pages), "meta": dict(d.meta)}
        for d in shown
    ]
    return {"total": len(numbers), "documents": documents}


def _has(index: Index, number: int, wanted: Sequence[str]) -> bool:
    document = index.documents[number]
    text = f"{document.id} {document.title}".casefold()
    return all(word in text for word in wanted)


def text_json(index: Index, doc: str, start: int, end: int | None, around: int) -> dict[str, Json]:
    """The characters start:end of a document with so many `around` them, and the pages that they stand on."""
    document = index.document(doc)
    last = document.chars if end is None else min(end, document.chars)
    if not 0 <= start <= last:
        raise BadQuery(f"the characters {start} to {end} are not in {doc!r}, which has {document.chars}")
    around = min(around, MOST_AROUND)
    low = max(start - around, 0)
    high = min(last + around, document.chars, low + MOST_CHARS)
    starts = [*document.pages, document.chars + 1]
    pages: list[Json] = [
        {"page": number, "start": begin}
        for number, begin in enumerate(document.pages, 1)
        if begin < high and starts[number] > low
    ]
    return {
        "doc": document.id,
        "title": document.title,
        "start": low,
        "end": high,
        "text": index.span_text(Span(document.id, low, high)),
        "pages": pages,
        "chars": document.chars,
    }


def hits_json(
    index: Index, query: str, k: int, mode: Mode, under: str | None, doc: str | None
) -> dict[str, Json]:
    """What a search finds, best first."""
    hits = index.search(query, k, mode=mode, under=under, doc=doc)
    return {
        "hits": [
            {
                "node": hit.node,
                "level": hit.level,
                **_place(index, hit.span),
                "label": index.node(hit.node).label,
                "score": hit.score,
                "text": index.text(hit.node)[:HIT_CHARS],
                "also_in": list(hit.also_in),
            }
            for hit in hits
        ]
    }
