"""From what a model offered as its answer to an answer whose citations have been looked up in the source."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any, Literal

from index_store.errors import NoSuchNode
from index_store.reader import Index
from index_store.types import Document, Span

Json = Any
Support = Literal["verbatim", "nearest", "unsupported"]

CONTEXT_CHARS = 200
MAX_CITATIONS = 100
MAX_PLACES = 50
QUOTE_CHARS = 5_000  # a longer claim is looked up, and told, by so much of its beginning
PATTERN_CHARS = 1_900
_ALIKE = ("'‘’", '"“”', "–—-")  # the hyphen last, as a character class takes it
_SAME = str.maketrans({mark: marks[-1] for marks in _ALIKE for mark in marks})
_SPACE = r"[\s\pZ\x{1c}-\x{1f}\x{85}]+"  # what str.split takes for white space
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


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How a conversation ended. `stop`: answer, turns, budget, timeout or failed; `error` says why it failed."""

    content: str
    citations: tuple[Citation, ...]
    stop: str
    error: str = ""


def resolve(index: Index, content: str, offered: Json) -> list[Citation]:
    """Check each citation a model offered; without any, the chunk ids named in the answer are its citations."""
    items = offered if isinstance(offered, list) else [offered] if offered else []
    items = items or list(dict.fromkeys(_NODE_ID.findall(content)))
    return list(dict.fromkeys(_resolve_one(index, item) for item in items[:MAX_CITATIONS]))


def _resolve_one(index: Index, item: Json) -> Citation:
    quote, places = _claim(index, item)
    if quote is None:
        return _at(index, places[0]) if places else _unsupported(_brief(item))
    places = places or _everywhere(index, quote)
    for find in (find_exactly, find_nearly):
        for span in places:
            if found := find(index.span_text(span), quote):
                place = Span(span.doc, span.start + found[0], span.start + found[1])
                return _at(index, place, claimed=quote)
    return _unsupported(quote)


def _claim(index: Index, item: Json) -> tuple[str | None, list[Span]]:
    """(quote or None, where to look for it, best first) of one offered citation."""
    if isinstance(item, str):
        spans = _node_span(index, item)
        return (None, spans) if spans else (item[:QUOTE_CHARS], [])
    if not isinstance(item, Mapping):
        return None, []
    quote = item.get("quote")
    if not (isinstance(quote, str) and quote.strip()):
        return None, _place_span(index, item) + _node_span(index, item.get("node"))
    return quote[:QUOTE_CHARS], _places_of_quote(index, item)


def _places_of_quote(index: Index, item: Mapping[str, Json]) -> list[Span]:
    """The place named, the node named, then all of the documents they stand in."""
    spans = _place_span(index, item) + _node_span(index, item.get("node"))
    docs = [item.get("doc"), *(span.doc for span in spans)]
    whole = [Span(d.id, 0, d.chars) for doc in docs if (d := _document(index, doc))]
    return list(dict.fromkeys(spans + whole))


def _place_span(index: Index, item: Mapping[str, Json]) -> list[Span]:
    document, start, end = _document(index, item.get("doc")), item.get("start"), item.get("end")
    if document is None or type(start) is not int or type(end) is not int:
        return []
    return [Span(document.id, start, end)] if 0 <= start < end <= document.chars else []


def _document(index: Index, doc: Json) -> Document | None:
    try:
        return index.document(doc) if isinstance(doc, str) else None
    except NoSuchNode:
        return None


def _node_span(index: Index, node: Json) -> list[Span]:
    try:
        span = index.node(node).span if isinstance(node, str) else None
    except NoSuchNode:
        return []
    return [span] if span else []


def _brief(item: Json) -> str:
    """What was offered, in a few characters; a container that may be deep is not looked into."""
    if isinstance(item, Mapping) and all(isinstance(v, str | int | None) for v in item.values()):
        return ", ".join(f"{key} {str(value)[:80]}" for key, value in list(item.items())[:5])
    return str(item)[:QUOTE_CHARS] if isinstance(item, str | bool | float | None) else type(item).__name__


def _everywhere(index: Index, quote: str) -> list[Span]:
    """Documents that may hold a quote given without a place: those that hold its first words."""
    pattern = _loose_pattern(quote)
    matches = index.grep(pattern, limit=MAX_PLACES, count_to=MAX_PLACES).matches if pattern else ()
    return [Span(doc, 0, index.document(doc).chars) for doc in dict.fromkeys(m.span.doc for m in matches)]


def _loose_pattern(quote: str) -> str:
    """RE2 for the first words of a quote, with any white space, quotation marks and dashes; '' for no words."""
    alike = {mark: f"[{marks}]" for marks in _ALIKE for mark in marks}
    words = quote.encode("utf-8", "replace").decode().split()
    loose = ("".join(alike.get(char) or re.escape(char) for char in word) for word in words)
    longer_and_longer = accumulate(loose, lambda so_far, word: f"{so_far}{_SPACE}{word}")
    fitting = takewhile(lambda pattern: len(pattern) <= PATTERN_CHARS, longer_and_longer)
    return max(fitting, key=len, default="")


def find_exactly(text: str, quote: str) -> tuple[int, int] | None:
    """Where `quote` first stands in `text`, word for word."""
    at = text.find(quote)
    return (at, at + len(quote)) if at >= 0 else None


def find_nearly(text: str, quote: str) -> tuple[int, int] | None:
    """Where the words of `quote` first stand in `text`, with any white space, quotation marks and dashes."""
    words = quote.translate(_SAME).split()
    pattern = r"\s+".join(re.escape(w) for w in words)
    found = re.search(pattern, text.translate(_SAME)) if words else None
    return found.span() if found else None


def _at(index: Index, span: Span, claimed: str | None = None) -> Citation:
    span = Span(span.doc, span.start, min(span.end, span.start + QUOTE_CHARS))
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
