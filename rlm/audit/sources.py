"""Whether the citations of a trace agree with the texts they quote: those in the trace, and those of the index."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from index_store.errors import IndexStoreError
from index_store.terminal import one_line
from index_store.types import Span
from rlm.audit.events import CONTEXT_CHARS, RecordedEvent, is_taken
from rlm.audit.likeness import one_mark

if TYPE_CHECKING:
    from index_store.index import Index

MOST_PASSAGES = 10_000  # of a run that are held against the index
MOST_CITATIONS = 1_000  # of a run that are held against texts; an answer has 100 at most
WORK = 5_000_000  # comparisons of a citation with a text that the trace holds


@dataclass(frozen=True, slots=True)
class Passage:
    """The characters `start:end` of a document, as an event has them."""

    doc: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    """A citation with a place: the words found there, and those around them. `line`: of its event in the file, from 1;
    `number`: in its answer, from 1."""

    line: int
    number: int
    found: Passage
    before: str
    after: str

    @property
    def name(self) -> str:
        """The citation as a sentence names it."""
        return f"citation {self.number} of characters {self.found.start} to {self.found.end}"


@dataclass(frozen=True, slots=True)
class Summed:
    """A citation of words that the label or the summary of a node has. `line`, `number`: as of Cited."""

    line: int
    number: int
    node: str
    quote: str


@dataclass(slots=True)
class Citations:
    """The citations of a run that have a place, and those of summaries, MOST_CITATIONS at most of each; `passed_over`:
    whether there were more."""

    listed: list[Cited] = field(default_factory=list)
    summed: list[Summed] = field(default_factory=list)
    passed_over: bool = False
    work: int = WORK

    def add(self, event: RecordedEvent) -> None:
        """Take those of an event that has some."""
        for cited in _cited(event):
            if len(self.listed) >= MOST_CITATIONS:
                self.passed_over = True
                return
            self.listed.append(cited)
        for number, one in enumerate(event.get("citations", ()), 1):
            if one["supported"] != "summary" or one["node"] is None or _is_taken(event, number):
                continue
            if len(self.summed) >= MOST_CITATIONS:
                self.passed_over = True
                return
            self.summed.append(Summed(event["seq"] + 1, number, one["node"], one["quote"]))

    def against(self, event: RecordedEvent) -> tuple[int, str] | None:
        """(line, sentence) of the first citation that has other words than a text that the event shows."""
        for passage in passages_of(event):
            for cited in self.listed:
                self.work -= 1
                if self.work < 0:
                    self.passed_over = True
                    return None
                if not _agree(cited.found, passage):
                    return cited.line, f"{cited.name} has other words there than event {event['seq']} showed"
        return None


def _cited(event: RecordedEvent) -> Iterator[Cited]:
    for number, one in enumerate(event.get("citations", ()), 1):
        words = one.get("found") or (one["quote"] if one["supported"] == "verbatim" else None)
        if _is_taken(event, number):
            continue
        if words is not None and None not in (one["doc"], one["start"], one["end"]):
            found = Passage(one["doc"], one["start"], one["end"], words)
            yield Cited(event["seq"] + 1, number, found, one["context_before"], one["context_after"])


def _is_taken(event: RecordedEvent, number: int) -> bool:
    return is_taken(event, f"citations/{number - 1}")


def _agree(one: Passage, other: Passage) -> bool:
    low, high = max(one.start, other.start), min(one.end, other.end)
    if one.doc != other.doc or low >= high:
        return True
    return one.text[low - one.start : high - one.start] == other.text[low - other.start : high - other.start]


def passages_of(event: RecordedEvent) -> Iterator[Passage]:
    """The passages of documents that a visit showed, as far as the event says exactly where they stand."""
    if event["kind"] != "visited" or event.get("error"):
        return
    if is_taken(event, "arguments", "shown", "result"):
        return
    result, arguments, verb = event["result"], event["arguments"], event["verb"]
    if verb in ("gather", "peek", "read_rows", "search"):
        for entry in result if isinstance(result, list) else [result]:
            if isinstance(entry, dict) and isinstance(text := entry.get("text"), str):
                yield from _placed(entry.get("doc"), entry.get("start"), None, text)
    elif verb == "read" and isinstance(result, str):
        yield from _read(arguments, event["shown"], result)


def _read(arguments: dict[str, Any], shown: list[dict[str, Any]], text: str) -> Iterator[Passage]:
    """What a `read` of one node, or of one place, gave."""
    node, start, end = (arguments.get(name) for name in ("node", "start", "end"))
    if isinstance(node, dict):
        yield from _placed(node.get("doc"), node.get("start"), node.get("end"), text)
    elif start is not None and end is not None:
        yield from _placed(node, start, end, text)
    elif start is end is None and len(shown) == 1 and shown[0]["node"] == node:
        yield from _placed(shown[0].get("doc"), shown[0].get("start"), shown[0].get("end"), text)


def _placed(doc: object, start: object, end: object, text: str) -> Iterator[Passage]:
    """The passage, where its place is one; with `end` None it ends where its text does."""
    if isinstance(doc, str) and type(start) is int and (end is None or end == start + len(text)):
        yield Passage(doc, start, start + len(text), text)


# -- the index ---------------------------------------------------------------------------------------------


def generation_asked(index: "Index", opened: RecordedEvent) -> "Index | None":
    """The generation of an index with the digest that the run names, live or not; None where it is not there.

    Of a run that was narrowed to a reader each is narrowed to the same labels, and then compared; so it is to those of
    the reader for whom the index was opened.
    """
    digest = opened["index"]["digest"]
    reader = opened.get("access") if index.access is None else sorted(index.access)
    if reader is not None:
        return _narrowed_alike(index, digest, reader)
    if index.digest == digest or index.is_plain:
        return index if index.digest == digest else None
    from index_store.generations import of_digest

    try:
        return of_digest(index, digest)
    except (IndexStoreError, OSError):
        return None


def _narrowed_alike(index: "Index", digest: str, reader: Sequence[str]) -> "Index | None":
    """The latest generation of an index that, narrowed to these labels, has this digest."""
    from index_store.generations import list_generations, of_digest, place_of
    from index_store.index import narrowed

    earlier = [] if index.is_plain else [one.digest for one in list_generations(place_of(index))]
    for one in dict.fromkeys((index.digest, *reversed(earlier))):
        with suppress(IndexStoreError, OSError):  # one that is damaged, or in which they may read nothing
            whole = index if one == index.digest else of_digest(index, one)
            if whole is not None and (seen := narrowed(whole, list(reader))).digest == digest:
                return seen
    return None


def another_generation(index: "Index", opened: RecordedEvent) -> str:
    """Why a trace that is whole by itself cannot be held against an index that has not what the run asked."""
    said = opened["index"]
    asked = f"generation {one_line(str(said['generation']), 20)} with digest {said['digest'][:12]}"
    return (
        f"the trace by itself is whole, but {index.path.name} is another generation than the run asked, or another "
        f"index: the run asked {asked}, which is not there, so its citations were not compared; give the one it asked"
    )


def named(index: "Index") -> str:
    """An index as a sentence names it."""
    name = one_line(index.path.name, 80)
    return name if index.is_plain else f"generation {index.generation} of {name}"


def index_problem(
    index: "Index", opened: RecordedEvent, events: Iterable[RecordedEvent], citations: Citations
) -> tuple[int, str] | None:
    """(line, sentence) of what the generation that was asked contradicts: the facts of it that the run opened with, a
    citation, or a passage that a verb gave."""
    said = opened["index"]
    for name, held in (("documents", len(index.documents)), ("nodes", len(index))):
        if said[name] != held:
            return (
                1,
                f"the run is said to have asked {said[name]} {name}, and the index of that digest has {held}",
            )
    for cited in citations.listed:
        if not _stands_in(index, cited):
            return cited.line, f"{cited.name} has other words than the document in {index.path.name}"
    for one in citations.summed:
        if not _is_summed(index, one):
            who = f"citation {one.number} of node {one_line(one.node, 40)}"
            return (
                one.line,
                f"{who} has words that neither its label nor its summary in {index.path.name} has",
            )
    return _misread(index, events, citations)


def _misread(index: "Index", events: Iterable[RecordedEvent], citations: Citations) -> tuple[int, str] | None:
    """(line, sentence) of the first passage that a verb gave with other words than the document has."""
    passages = ((event["seq"] + 1, passage) for event in events for passage in passages_of(event))
    for number, (line, passage) in enumerate(passages):
        if number >= MOST_PASSAGES:
            citations.passed_over = True
            return None
        if not _is_at(index, passage):
            where = f"characters {passage.start} to {passage.end}"
            return line, f"{where} were shown with other words than the document in {index.path.name} has"
    return None


def _is_at(index: "Index", passage: Passage) -> bool:
    try:
        return index.span_text(Span(passage.doc, passage.start, passage.end)) == passage.text
    except IndexStoreError:
        return False


def _is_summed(index: "Index", cited: Summed) -> bool:
    try:
        number = index.number_of(cited.node)
        texts = (index.at(number).label, index.text_at(number)) if index.level_of(number) else ()
    except IndexStoreError:
        return False
    quote = " ".join(one_mark(cited.quote).split())
    return bool(quote) and any(quote in " ".join(one_mark(text).split()) for text in texts)


def _stands_in(index: "Index", cited: Cited) -> bool:
    found = cited.found
    try:
        if not 0 <= found.start < found.end <= index.document(found.doc).chars:
            return False
        before = index.span_text(Span(found.doc, max(found.start - CONTEXT_CHARS, 0), found.start))
        after = index.span_text(Span(found.doc, found.end, found.end + CONTEXT_CHARS))
        here = index.span_text(Span(found.doc, found.start, found.end))
    except IndexStoreError:
        return False
    return (before, here, after) == (cited.before, found.text, cited.after)
