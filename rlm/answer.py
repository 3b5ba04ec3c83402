"""From what a model offered as its answer to an answer whose citations have been looked up in the source."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from index_store.errors import IndexStoreError
from index_store.reader import Index
from index_store.types import Span

Json = Any
Support = Literal["verbatim", "nearest", "unsupported"]

CONTEXT_CHARS = 200
MAX_CITATIONS = 100
_NODE_ID = re.compile(r"\bL0-\d{5,12}\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class Citation:
    """`quote` stands word for word at `start:end` of document `doc` when `supported` is "verbatim".

    "nearest": the same words with other white space or quotation marks; `quote` is then the source's own words and
    `claimed` the model's. "unsupported": not found; there is no place, and `quote` is the model's claim.
    """

    doc: str | None
    start: int | None
    end: int | None
    quote: str
    page: int | None
    supported: Support
    node: str | None = None
    claimed: str | None = None

    def as_json(self) -> dict[str, Json]:
        place = {
            "doc": self.doc,
            "start": self.start,
            "end": self.end,
            "quote": self.quote,
            "page": self.page,
        }
        return place | {"supported": self.supported}


def resolve(index: Index, content: str, offered: Json) -> list[Citation]:
    """Check each citation a model offered; without any, the chunk ids named in the answer are its citations."""
    items = offered if isinstance(offered, list) else [offered] if offered else []
    items = items or list(dict.fromkeys(_NODE_ID.findall(content)))
    resolved = (_resolve_one(index, item) for item in items[:MAX_CITATIONS])
    return list(dict.fromkeys(resolved))


def _resolve_one(index: Index, item: Json) -> Citation:
    quote, places = _claim(index, item)
    if quote is None:
        return _at(index, places[0]) if places else _unsupported(str(item)[:500])
    for span in places or _everywhere(index, quote):
        if found := find_quote(index.span_text(span), quote):
            place = Span(span.doc, span.start + found[0], span.start + found[1])
            return _at(index, place, claimed=quote)
    return _unsupported(quote)


def _claim(index: Index, item: Json) -> tuple[str | None, list[Span]]:
    """(quote or None, where to look for it, best first) of one offered citation."""
    if isinstance(item, str):
        spans = _node_span(index, item)
        return (None, spans) if spans else (item, [])
    if not isinstance(item, Mapping):
        return None, []
    quote = item.get("quote")
    quote = quote if isinstance(quote, str) and quote.strip() else None
    spans = _place_span(index, item) + _node_span(index, item.get("node"))
    doc = item.get("doc")
    if quote and isinstance(doc, str) and any(d.id == doc for d in index.documents):
        spans.append(Span(doc, 0, index.document(doc).chars))
    return quote, spans


def _place_span(index: Index, item: Mapping[str, Json]) -> list[Span]:
    doc, start, end = item.get("doc"), item.get("start"), item.get("end")
    if not (isinstance(doc, str) and type(start) is int and type(end) is int):
        return []
    chars = next((d.chars for d in index.documents if d.id == doc), 0)
    return [Span(doc, start, end)] if 0 <= start < end <= chars else []


def _node_span(index: Index, node: Json) -> list[Span]:
    try:
        span = index.node(node).span
    except IndexStoreError:
        return []
    return [span] if span else []


def _everywhere(index: Index, quote: str) -> Iterator[Span]:
    """Documents that may hold a quote given without a place."""
    first_line = max(quote.splitlines() or [""], key=len).strip()
    if not first_line:
        return
    import re2

    pattern = r"\s+".join(re2.escape(w) for w in first_line.split()[:40])
    for match in index.grep(pattern[:1900].rstrip("\\"), limit=5, count_to=5).matches:
        yield Span(match.span.doc, 0, index.document(match.span.doc).chars)


_SAME = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-"})


def find_quote(text: str, quote: str) -> tuple[int, int] | None:
    """Where `quote` stands in `text`: word for word, else with other white space, quotation marks or dashes."""
    at = text.find(quote)
    if at >= 0:
        return at, at + len(quote)
    words = quote.translate(_SAME).split()
    pattern = r"\s+".join(re.escape(w) for w in words)
    found = re.search(pattern, text.translate(_SAME)) if words else None
    return found.span() if found else None


def _at(index: Index, span: Span, claimed: str | None = None) -> Citation:
    words = index.span_text(span)
    exact = claimed is None or claimed == words
    start = index.document_leaves(index.document_number(span.doc))
    node = next((n for n in start if (s := index.span_at(n)) and s.start <= span.start < s.end), None)
    return Citation(
        span.doc,
        span.start,
        span.end,
        words,
        index.page(span),
        "verbatim" if exact else "nearest",
        None if node is None else index.id_of(node),
        None if exact else claimed,
    )


def _unsupported(quote: str) -> Citation:
    return Citation(None, None, None, quote, None, "unsupported")


def event_of(index: Index, citation: Citation) -> dict[str, Json]:
    """A citation as the trace keeps it: with the words around it, so that a page needs no index."""
    body = citation.as_json() | {"node": citation.node, "quote": citation.claimed or citation.quote}
    before = after = ""
    extra: dict[str, Json] = {}
    if citation.doc is not None and citation.start is not None and citation.end is not None:
        low = max(citation.start - CONTEXT_CHARS, 0)
        before = index.span_text(Span(citation.doc, low, citation.start))
        after = index.span_text(Span(citation.doc, citation.end, citation.end + CONTEXT_CHARS))
        document = index.document(citation.doc)
        extra = {"found": citation.quote, "title": document.title, "source": document.source}
    similarity = {"verbatim": 1.0, "nearest": None, "unsupported": 0.0}[citation.supported]
    return body | {"similarity": similarity, "context_before": before, "context_after": after} | extra
