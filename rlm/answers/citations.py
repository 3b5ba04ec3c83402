"""From what a model offered as its answer to an answer whose citations have been looked up in the source."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, islice, takewhile
from typing import Literal

from index_store.errors import NoSuchNode
from index_store.index import Index
from index_store.types import Document, Json, Span
from rlm.answers.similar import GAP_CHARS, SAME_WORDS, cuts_word, nearest
from rlm.audit.events import CONTEXT_CHARS

Support = Literal["verbatim", "nearest", "unsupported"]

MAX_CITATIONS = 100
MAX_PLACES = 50
MAX_CUT = 10_000  # places at which a quote would begin or end within a word, and which are passed over
WORD_CHARS = 100
QUOTE_CHARS = 5_000  # a longer claim is looked up, and told, by so much of its beginning
PATTERN_CHARS = 1_900
#: The least similarity of a "nearest" citation. Of quotes from the development texts, altered as models alter them, 98
#: in 100 with one word left out or changed reach it, and 93 with one number changed; of quotes with every second word
#: replaced 3, of sentences from other documents of the same kind 3, of another kind none
#: (`python -m tests.helpers.altered`).
NEAREST = 0.75
NEAREST_HITS = 8  # chunks of the whole index that hold the most of a quote's words
NEAREST_CHARS = 50_000_000  # looked through for the nearest words to all citations of one answer together
_ALIKE = ("'‘’", '"“”', "–—-")  # the hyphen last, as a character class takes it
_SPACE = r"[\s\pZ\x{1c}-\x{1f}\x{85}]+"  # what str.split takes for white space
_NODE_ID = re.compile(r"\bL0-\d{5,12}\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class Citation:
    """`quote` stands word for word at `start:end` of document `doc` when `supported` is "verbatim".

    "nearest": the source's own words nearest to the model's, which are then `claimed`; `similarity` is below 1 and at
    least NEAREST, so whatever differs, were it one number, shows. "unsupported": nothing like it was found; there is no
    place, `similarity` is 0, and `quote` is the model's claim.
    """

    doc: str | None
    start: int | None
    end: int | None
    quote: str
    page: int | None
    supported: Support
    node: str | None = None
    claimed: str | None = None
    similarity: float = 1.0

    def as_json(self) -> dict[str, Json]:
        """The citation as an answer hands it over."""
        return {
            "doc": self.doc,
            "start": self.start,
            "end": self.end,
            "quote": self.quote,
            "page": self.page,
            "supported": self.supported,
            "similarity": self.similarity,
        }


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How a conversation ended. `stop`: answer, turns, budget, timeout or failed; `error` says why it failed."""

    content: str
    citations: tuple[Citation, ...]
    stop: str
    error: str = ""


def resolve(index: Index, content: str, offered: Json) -> list[Citation]:
    """Check each citation a model offered; without any, the chunk ids named in the answer are its citations.

    A quote is looked for as it stands, then with other white space, quotation marks and dashes, at the place, node and
    documents named and then everywhere; and then, in the same order, for the words nearest to it.
    """
    items = offered if isinstance(offered, list) else [offered] if offered else []
    items = items or list(dict.fromkeys(_NODE_ID.findall(content)))
    found, left = [], NEAREST_CHARS
    for item in items[:MAX_CITATIONS]:
        citation, read = _resolve_one(index, item, left)
        found.append(citation)
        left -= read
    return list(dict.fromkeys(found))


def _resolve_one(index: Index, item: Json, left: int) -> tuple[Citation, int]:
    """(the citation, how many of the `left` characters were looked through for the nearest words)."""
    quote, places = _claim(index, item)
    if quote is None:
        return (_at(index, places[0]) if places else _unsupported(_as_claim(item))), 0
    if place := _standing(index, quote, places) or _standing(index, quote, _everywhere(index, quote)):
        return _at(index, place, claimed=quote), 0
    near, read = _nearest(index, quote, [_wide(index, span, quote) for span in places], left)
    if near is None:
        near, more = _nearest(index, quote, _likely(index, quote), left - read)
        read += more
    return (_at(index, near[0], quote, near[1]) if near else _unsupported(quote)), read


def _standing(index: Index, quote: str, places: list[Span]) -> Span | None:
    """Where the quote stands, word for word or nearly, in the first of the places that holds it so."""
    for find in (find_exactly, find_nearly):
        for span in places:
            if found := find(index.span_text(span), quote):
                return Span(span.doc, span.start + found[0], span.start + found[1])
    return None


def _nearest(
    index: Index, quote: str, places: list[Span], left: int
) -> tuple[tuple[Span, float] | None, int]:
    """(the place that is most like the quote and its similarity, or None below NEAREST; the characters read)."""
    best: tuple[Span, float] | None = None
    read = 0
    for span in places:
        size = span.end - span.start
        if read + size > left or (best and best[1] == SAME_WORDS):
            continue
        read += size
        near = nearest(index.span_text(span), quote)
        if near and near.similarity >= (best[1] + 1e-9 if best else NEAREST):
            best = Span(span.doc, span.start + near.start, span.start + near.end), near.similarity
    return best, read


def _likely(index: Index, quote: str) -> list[Span]:
    """The chunks, and what is around them, that hold the most of a quote's words and the rarest (BM25)."""
    query = quote.encode("utf-8", "replace").decode()
    hits = index.search(query, NEAREST_HITS, mode="lexical", level=0) if query.strip() else []
    return [_wide(index, hit.span, quote) for hit in hits if hit.span]


def _wide(index: Index, span: Span, quote: str) -> Span:
    """The span and as much on either side as the quote may reach over it, to where no word is cut."""
    reach, chars = len(quote) + GAP_CHARS, index.document(span.doc).chars
    start, end = max(span.start - reach, 0), min(span.end + reach, chars)
    before = index.span_text(Span(span.doc, max(start - WORD_CHARS, 0), start))
    after = index.span_text(Span(span.doc, end, end + WORD_CHARS))
    cut, rest = re.search(r"\w*\Z", before), re.match(r"\w*", after)
    return Span(span.doc, start - len(cut[0] if cut else ""), end + len(rest[0] if rest else ""))


def _claim(index: Index, item: Json) -> tuple[str | None, list[Span]]:
    """(quote or None, where to look for it, best first) of one offered citation."""
    if isinstance(item, str):
        spans = _node_span(index, item)
        return (None, spans) if spans else (_beginning(item), [])
    if not isinstance(item, Mapping):
        return None, []
    quote = item.get("quote")
    if not (isinstance(quote, str) and quote.strip()):
        return None, _place_span(index, item) + _node_span(index, item.get("node"))
    return _beginning(quote), _places_of_quote(index, item)


def _beginning(quote: str) -> str:
    """The first QUOTE_CHARS of a quote, or some less so that no word is cut."""
    ends = range(QUOTE_CHARS, QUOTE_CHARS - WORD_CHARS, -1)
    return quote[: next((at for at in ends if not cuts_word(quote, at)), QUOTE_CHARS)]


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


def _as_claim(item: Json) -> str:
    """What was offered, in a few characters; a container that may be deep is not looked into."""
    if isinstance(item, Mapping) and all(isinstance(v, str | int | None) for v in item.values()):
        return ", ".join(f"{key} {str(value)[:80]}" for key, value in list(item.items())[:5])
    return str(item)[:QUOTE_CHARS] if isinstance(item, str | bool | float | None) else type(item).__name__


def _everywhere(index: Index, quote: str) -> list[Span]:
    """Documents that may hold a quote: those that hold its first words."""
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
    """Where `quote` first stands in `text`, word for word: "able to pay" does not stand in "unable to pay"."""
    at = text.find(quote) if quote else -1
    for _ in range(MAX_CUT):
        if at < 0 or not (cuts_word(text, at) or cuts_word(text, at + len(quote))):
            break
        at = text.find(quote, at + 1)
    else:
        return None
    return (at, at + len(quote)) if at >= 0 else None


def find_nearly(text: str, quote: str) -> tuple[int, int] | None:
    """Where the words of `quote` first stand in `text`, with any white space, quotation marks and dashes."""
    flat = " ".join(_one_mark(text).split())
    found = find_exactly(flat, " ".join(_one_mark(quote).split()))
    return (_unflattened(text, flat, found[0]), _unflattened(text, flat, found[1] - 1) + 1) if found else None


def _one_mark(text: str) -> str:
    """With one kind of quotation mark, apostrophe and dash; every character at its place."""
    for marks in _ALIKE:
        for mark in marks[:-1]:
            text = text.replace(mark, marks[-1])
    return text


def _unflattened(text: str, flat: str, at: int) -> int:
    """Where the character at `at` of `flat`, the words of `text` with one space between them, stands in `text`."""
    words = re.finditer(r"\S+", text)
    return next(islice(words, flat.count(" ", 0, at), None)).start() + at - (flat.rfind(" ", 0, at) + 1)


def _at(index: Index, span: Span, claimed: str | None = None, similarity: float = SAME_WORDS) -> Citation:
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
        1.0 if exact else similarity,
    )


def _unsupported(quote: str) -> Citation:
    return Citation(None, None, None, quote, None, "unsupported", similarity=0.0)


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
    return body | {"context_before": before, "context_after": after} | extra
