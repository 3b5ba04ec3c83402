"""Look up the citations that a model offers with its answer in the documents."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, islice, takewhile
from typing import Literal

from index_store.errors import BadQuery, NoSuchNode
from index_store.index import Index
from index_store.types import Document, Json, Match, Span
from index_store.view import View
from rlm.answers.similar import GAP_CHARS, Near, cuts_word, nearest, words_of
from rlm.audit.claims import names_claims
from rlm.audit.events import CONTEXT_CHARS
from rlm.audit.likeness import ALIKE, SAME_WORDS, one_mark, same_words

Support = Literal["verbatim", "respaced", "nearest", "summary", "unsupported"]

MAX_CITATIONS = 100  # of one answer
MAX_PLACES = 50  # matches of a quote's first words in the whole index
WHOLE_CHARS = 1_000_000  # of a place that is read whole to look for a quote
MAX_COPIES = 20  # near-duplicates that are looked into, and other documents that are named
# Of a quote that is looked for elsewhere: its least length, how much of it is; and the most bytes of the text.
SAME_CHARS, BEGINNING_CHARS, SAME_BYTES = 12, 60, 1 << 24
MAX_PARTS = 1_000  # of a longer place, that begin with a quote's first words
MAX_CUT = 10_000  # occurrences of a quote that cut a word at either end, and are passed over
WORD_CHARS = 100  # of the longest word that is not cut
QUOTE_CHARS = 5_000  # of a longer quote only the beginning is looked up and shown
PATTERN_CHARS = 1_900
FEW_WORDS = 12
#: The least similarity of a "nearest" citation. Of quotes from the development texts, altered as models alter them, 98
#: in 100 with one word left out or changed reach it, and 93 with one number changed; of quotes with every second word
#: replaced 3, of sentences from other documents of the same kind 3, of another kind none
#: (`python -m tests.helpers.altered`).
NEAREST = 0.75
NEAREST_HITS = 8  # chunks of the whole index that are searched for the words nearest to a quote
NEAREST_CHARS = 50_000_000  # searched for the nearest words, for all citations of one answer together
_SPACE = r"[\s\pZ\x{1c}-\x{1f}\x{85}]+"  # what str.split takes for white space
_NODE_ID = re.compile(r"\bL0-\d{5,12}\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote and its place in the documents: characters `start:end` of document `doc`, on `page` where it has pages.

    `supported` says how the documents hold what the model quoted. "verbatim": word for word; `similarity` is 1.
    "respaced": the same words, with other white space, words parted at a line's end, ligatures, soft hyphens, quotation
    marks or dashes (`rlm.audit.likeness`); `quote` is then the document's words, `claimed` the model's, and
    `similarity` SAME_WORDS. "nearest": in other words, or other case or marks; `quote` and `claimed` as before, and
    `similarity` below 1 and at least NEAREST, so that a single changed number shows. "summary": no document has the
    words, but the label or the summary of `node` has; there is no place. "unsupported": not at all; `quote` is then the
    model's, `similarity` 0, and there is no place. `node`: the id of the chunk in which the quote begins, else of the
    summary.
    `also_in`: ids of other documents that hold these words too: near-duplicates of this one first, MAX_COPIES at most.
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
    also_in: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """The citation as it is in the JSON of an answer; `also_in` only where there is any."""
        others: dict[str, Json] = {"also_in": list(self.also_in)} if self.also_in else {}
        return others | {
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
    """How a conversation ended, with its answer if it has one.

    `stop`: "answer", "unmet" (the answer lacks what is demanded), "turns", "budget", "timeout", "no code" (the
    model writes none), "failed" or "cancelled". `error`: why it failed, or why a limit left no answer. `lacks`: what
    an "unmet" answer lacks.
    """

    content: str
    citations: tuple[Citation, ...]
    stop: str
    error: str = ""
    lacks: str = ""


def resolve(view: View, content: str, offered: Json) -> list[Citation]:
    """The citations of an answer, each looked up in what may be cited, MAX_CITATIONS at most.

    Without repetitions, unless the answer names them by their numbers, which then hold for all that were offered.

    `offered`: what the model gave, a list of quotes, node ids or mappings with "quote", "node", "doc", "start" and
    "end"; where it gave none, the ids of chunks in `content` are the citations. A quote is looked for word for word,
    then with other white space, quotation marks and dashes, first at the place, node and documents named with it, then
    in all documents. Where it is not found, the words nearest to it are looked for in the same order.
    """
    items = offered if isinstance(offered, list) else [offered] if offered else []
    items = items or list(dict.fromkeys(_NODE_ID.findall(content)))
    citations, left = [], NEAREST_CHARS
    for item in items[:MAX_CITATIONS]:
        citation, read = _resolve_one(view, item, left)
        citations.append(citation)
        left -= read
    return citations if names_claims(content) else list(dict.fromkeys(citations))


def _resolve_one(view: View, item: Json, left: int) -> tuple[Citation, int]:
    """(the citation, how many of the `left` characters were searched for the nearest words)."""
    quote, places = _claim(view, item)
    if quote is None:
        return (_at(view, places[0]) if places else _unsupported(_as_claim(item))), 0
    if place := _find(view, quote, places) or _find(view, quote, _everywhere(view, quote)):
        return _at(view, place, claimed=quote), 0
    if summed := _summed(view, quote, item):
        return summed, 0
    near, read = _nearest(view, quote, [near for span in places for near in _near(view, span, quote)], left)
    if near is None:
        near, more = _nearest(view, quote, _likely(view, quote), left - read)
        read += more
    return (_at(view, near[0], quote, near[1]) if near else _unsupported(quote)), read


def _summed(view: View, quote: str, item: Json) -> Citation | None:
    """The citation of words that the label or the summary of the node named with them has; None where it has not."""
    node = item.get("node") if isinstance(item, Mapping) else None
    try:
        number = view.index.number_of(node) if isinstance(node, str) else None
    except NoSuchNode:
        return None
    if number is None or number not in view or not view.is_text(number) or not view.index.level_of(number):
        return None
    for text in (view.index.at(number).label, view.index.head_at(number, WHOLE_CHARS)):
        for find in (find_exactly, find_nearly):
            if at := find(text, quote):
                return Citation(None, None, None, text[at[0] : at[1]], None, "summary", str(node))
    return None


def _find(view: View, quote: str, places: list[Span]) -> Span | None:
    """The span of the quote in the first place that holds it word for word, else in the first that nearly does."""
    parts = [part for span in places for part in _parts(view, span, quote)]
    for find in (find_exactly, find_nearly):
        for span, begins in parts:
            at = find(view.index.span_text(span), quote)
            if at and span.start + at[0] in begins:
                return Span(span.doc, span.start + at[0], span.start + at[1])
    return None


def _is_long(span: Span) -> bool:
    """Whether a place is too long to be read whole."""
    return span.end - span.start > WHOLE_CHARS


def _parts(view: View, span: Span, quote: str) -> list[tuple[Span, range]]:
    """What of a place is read to look for a quote, and where in it the quote may begin: a short place is read whole.

    Of a long one, the parts that begin with the quote's first words, and a little around, to see that no word is cut.
    """
    if not _is_long(span):
        return [(span, range(span.start, span.end))]
    matches = _beginnings(view, quote, MAX_PARTS, span.doc)
    starts = [match.span.start for match in matches if match.span.start in range(span.start, span.end)]
    blank, reach = len(quote) - len(quote.lstrip()), 4 * len(quote) + WORD_CHARS
    return [
        (
            Span(span.doc, max(at - blank - 3, span.start), min(at + reach, span.end)),
            range(at - blank, at + 1),
        )
        for at in starts
    ]


def _nearest(view: View, quote: str, places: list[Span], left: int) -> tuple[tuple[Span, float] | None, int]:
    """((the span most like the quote, its similarity), or None below NEAREST; how many characters were searched)."""
    best: tuple[Span, float] | None = None
    read = 0
    for span in places:
        size = span.end - span.start
        if read + size > left or (best and best[1] == SAME_WORDS):
            continue
        read += size
        text = view.index.span_text(span)
        near = nearest(text, quote)
        if near and near.similarity >= (best[1] + 1e-9 if best else NEAREST):
            start, end = _with_marks(text, near, quote) or (near.start, near.end)
            best = Span(span.doc, span.start + start, span.start + end), near.similarity
    return best, read


def _with_marks(text: str, near: Near, quote: str) -> tuple[int, int] | None:
    """(start, end) of a stretch with the marks before its first and after its last word as the quote has them.

    None where they are others, or anything else differs but the spacing.
    """
    if near.similarity != SAME_WORDS:
        return None
    words = words_of(quote).spans
    start = _past_marks(text, near.start - 1, quote[: words[0][0]][::-1], -1)
    end = _past_marks(text, near.end, quote[words[-1][1] :], 1)
    if start is None or end is None or not same_words(text[start + 1 : end], quote):
        return None
    return start + 1, end


def _past_marks(text: str, at: int, marks: str, step: int) -> int | None:
    """The place in a text after these marks, in steps of 1 or -1, whatever the blanks between; None for others."""
    for mark in one_mark("".join(marks.split())):
        while 0 <= at < len(text) and text[at].isspace():
            at += step
        if not (0 <= at < len(text) and one_mark(text[at]) == mark):
            return None
        at += step
    return at


def _near(view: View, span: Span, quote: str) -> list[Span]:
    """A place with the text around it, or of a long one the chunks that match the words of a quote best."""
    return _likely(view, quote, span.doc) if _is_long(span) else [_wide(view, span, quote)]


def _likely(view: View, quote: str, doc: str | None = None) -> list[Span]:
    """The chunks, each with the text around it, that match the words of a quote best (BM25)."""
    query = quote.encode("utf-8", "replace").decode()
    hits = view.search(query, NEAREST_HITS, mode="lexical", level=0, doc=doc) if query.strip() else []
    return [_wide(view, hit.span, quote) for hit in hits if hit.span]


def _wide(view: View, span: Span, quote: str) -> Span:
    """The span, wider on either side by what a quote may reach over its ends, and to where no word is cut."""
    reach, around = len(quote) + GAP_CHARS, _stretch(view, span) or span
    start, end = max(span.start - reach, around.start), min(span.end + reach, around.end)
    before = view.index.span_text(Span(span.doc, max(start - WORD_CHARS, around.start), start))
    after = view.index.span_text(Span(span.doc, end, min(end + WORD_CHARS, around.end)))
    cut, rest = re.search(r"\w*\Z", before), re.match(r"\w*", after)
    return Span(span.doc, start - len(cut[0] if cut else ""), end + len(rest[0] if rest else ""))


def _stretch(view: View, span: Span) -> Span | None:
    """The unbroken stretch of what may be cited in which a span lies; None where it lies in none."""
    stretches = view.spans_of(span.doc)
    return next((s for s in stretches if s.start <= span.start and span.end <= s.end), None)


def _claim(view: View, item: Json) -> tuple[str | None, list[Span]]:
    """(the quote or None, the spans to look for it in, the most likely first) of one offered citation."""
    if isinstance(item, str):
        spans = _node_span(view, item)
        return (None, spans) if spans else (_beginning(item), [])
    if not isinstance(item, Mapping):
        return None, []
    quote = item.get("quote")
    if not (isinstance(quote, str) and quote.strip()):
        return None, _place_span(view, item) + _node_span(view, item.get("node"))
    return _beginning(quote), _places_of_quote(view, item)


def _beginning(quote: str) -> str:
    """The first QUOTE_CHARS of a quote, or some less so that no word is cut."""
    ends = range(QUOTE_CHARS, QUOTE_CHARS - WORD_CHARS, -1)
    return quote[: next((at for at in ends if not cuts_word(quote, at)), QUOTE_CHARS)]


def _places_of_quote(view: View, item: Mapping[str, Json]) -> list[Span]:
    """The spans of the place and of the node named with a quote, then what may be cited of their documents."""
    spans = _place_span(view, item) + _node_span(view, item.get("node"))
    docs = [item.get("doc"), *(span.doc for span in spans)]
    whole = [span for doc in docs if (d := _document(view, doc)) for span in view.spans_of(d.id)]
    return list(dict.fromkeys(spans + whole))


def _place_span(view: View, item: Mapping[str, Json]) -> list[Span]:
    document, start, end = _document(view, item.get("doc")), item.get("start"), item.get("end")
    if document is None or type(start) is not int or type(end) is not int:
        return []
    span = Span(document.id, start, end)
    return [span] if 0 <= start < end <= document.chars and _stretch(view, span) else []


def _document(view: View, doc: Json) -> Document | None:
    if isinstance(doc, str) and view.index.has_document(doc) and view.spans_of(doc):
        return view.index.document(doc)
    return None


def _node_span(view: View, node: Json) -> list[Span]:
    try:
        piece = view.index.piece_of(node) if isinstance(node, str) else range(0)
    except NoSuchNode:
        return []
    spans = [span for number in piece if number in view and (span := view.index.span_at(number))]
    # The place of a piece is one stretch, so that a quote may run over the ends of its chunks.
    return [Span(spans[0].doc, spans[0].start, spans[-1].end)] if len(spans) == len(piece) and spans else []


def _as_claim(item: Json) -> str:
    """What the model offered, as a short text; of a container that may be deep only the type."""
    if isinstance(item, Mapping) and all(isinstance(v, str | int | None) for v in item.values()):
        return ", ".join(f"{key} {str(value)[:80]}" for key, value in list(item.items())[:5])
    return str(item)[:QUOTE_CHARS] if isinstance(item, str | bool | float | None) else type(item).__name__


def _everywhere(view: View, quote: str) -> list[Span]:
    """What may be cited, as spans, of the documents that hold the first words of a quote there."""
    matches = _beginnings(view, quote, MAX_PLACES)
    return [span for doc in dict.fromkeys(m.span.doc for m in matches) for span in view.spans_of(doc)]


def _beginnings(view: View, quote: str, most: int, doc: str | None = None) -> Sequence[Match]:
    """The first `most` matches of a quote's first words, of fewer words where so many take too long in a long text."""
    for words in (None, FEW_WORDS):
        if pattern := _loose_pattern(quote, words):
            with suppress(BadQuery):
                return view.grep(pattern, doc=doc, limit=most, count_to=most).matches
    return ()


def _loose_pattern(quote: str, most: int | None = None) -> str:
    """RE2 for the first words of a quote, `most` of them, with any white space, quotation marks and dashes.

    '' for no words.
    """
    alike = {mark: f"[{marks}]" for marks in ALIKE for mark in marks}
    words = quote.encode("utf-8", "replace").decode().split()[:most]
    loose = ("".join(alike.get(char) or re.escape(char) for char in word) for word in words)
    longer_and_longer = accumulate(loose, lambda so_far, word: f"{so_far}{_SPACE}{word}")
    fitting = takewhile(lambda pattern: len(pattern) <= PATTERN_CHARS, longer_and_longer)
    return max(fitting, key=len, default="")


def find_exactly(text: str, quote: str) -> tuple[int, int] | None:
    """(start, end) of the first occurrence of a quote in a text; "able to pay" does not occur in "unable to pay"."""
    at = text.find(quote) if quote else -1
    for _ in range(MAX_CUT):
        if at < 0 or not (cuts_word(text, at) or cuts_word(text, at + len(quote))):
            break
        at = text.find(quote, at + 1)
    else:
        return None
    return (at, at + len(quote)) if at >= 0 else None


def find_nearly(text: str, quote: str) -> tuple[int, int] | None:
    """(start, end) of the first occurrence of a quote, whatever the white space, quotation marks and dashes."""
    flat = " ".join(one_mark(text).split())
    at = find_exactly(flat, " ".join(one_mark(quote).split()))
    return (_unflattened(text, flat, at[0]), _unflattened(text, flat, at[1] - 1) + 1) if at else None


def _unflattened(text: str, flat: str, at: int) -> int:
    """The place in `text` of the character at `at` in `flat`, which is `text` with one space between words."""
    words = re.finditer(r"\S+", text)
    return next(islice(words, flat.count(" ", 0, at), None)).start() + at - (flat.rfind(" ", 0, at) + 1)


def _at(view: View, span: Span, claimed: str | None = None, similarity: float = SAME_WORDS) -> Citation:
    most = (
        QUOTE_CHARS if claimed is None else 2 * QUOTE_CHARS
    )  # blanks and hyphens may stand between its words
    span = Span(span.doc, span.start, min(span.end, span.start + most))
    words = view.index.span_text(span)
    exact = claimed is None or claimed == words
    respaced = claimed is not None and not exact and same_words(words, claimed)
    chunks = view.index.document_leaves(view.index.document_number(span.doc))
    node = next((n for n in chunks if (s := view.index.span_at(n)) and s.start <= span.start < s.end), None)
    return Citation(
        span.doc,
        span.start,
        span.end,
        words,
        view.index.page(span),
        "verbatim" if exact else "respaced" if respaced else "nearest",
        None if node is None else view.index.id_of(node),
        None if exact else claimed,
        1.0 if exact else SAME_WORDS if respaced else similarity,
        tuple(_also_in(view, span, words)),
    )


def _also_in(view: View, span: Span, words: str) -> list[str]:
    """Ids of other documents in which a span's words may be cited too: near-duplicates of its own first."""
    others = dict.fromkeys([*_in_copies(view, span, words), *_elsewhere(view, words)])
    return [doc for doc in others if doc != span.doc][:MAX_COPIES]


def _elsewhere(view: View, words: str) -> Iterator[str]:
    """Ids of documents that hold these words, where they are no few and the text is no long one."""
    if len(words) < SAME_CHARS or view.bytes > SAME_BYTES:
        return
    for match in view.grep(re.escape(words[:BEGINNING_CHARS]), limit=MAX_PLACES, count_s=0.0).matches:
        span = match.span
        end = min(span.start + len(words) + 1, view.index.document(span.doc).chars)
        if find_exactly(view.index.span_text(Span(span.doc, max(span.start - 1, 0), end)), words):
            yield span.doc


def _in_copies(view: View, span: Span, words: str) -> Iterator[str]:
    copies = view.index.copies(view.index.document_number(span.doc)) if view.index.has_copies else []
    for number in copies[:MAX_COPIES]:
        document = view.index.documents[number]
        whole = view.spans_of(document.id) if document.chars <= WHOLE_CHARS else []
        if any(find_exactly(view.index.span_text(stretch), words) for stretch in whole):
            yield document.id


def _unsupported(quote: str) -> Citation:
    return Citation(None, None, None, quote, None, "unsupported", similarity=0.0)


def event_of(index: Index, citation: Citation) -> dict[str, Json]:
    """A citation as it is in a trace: with the text around it, so that a page can show it without the index."""
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
