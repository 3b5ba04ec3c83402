"""Whether the citations of a trace agree with the texts they quote: those in the trace, and those of the index."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from index_store.errors import IndexStoreError
from index_store.types import Span
from rlm.audit.events import CONTEXT_CHARS, RecordedEvent

if TYPE_CHECKING:
    from index_store.index import Index

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


@dataclass(slots=True)
class Citations:
    """The citations of a run that have a place, MOST_CITATIONS at most; `passed_over`: whether there were more."""

    listed: list[Cited] = field(default_factory=list)
    passed_over: bool = False
    work: int = WORK

    def add(self, event: RecordedEvent) -> None:
        """Take those of an event that has some."""
        for cited in _cited(event):
            if len(self.listed) >= MOST_CITATIONS:
                self.passed_over = True
                return
            self.listed.append(cited)

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
        if words is not None and None not in (one["doc"], one["start"], one["end"]):
            found = Passage(one["doc"], one["start"], one["end"], words)
            yield Cited(event["seq"] + 1, number, found, one["context_before"], one["context_after"])


def _agree(one: Passage, other: Passage) -> bool:
    low, high = max(one.start, other.start), min(one.end, other.end)
    if one.doc != other.doc or low >= high:
        return True
    return one.text[low - one.start : high - one.start] == other.text[low - other.start : high - other.start]


def passages_of(event: RecordedEvent) -> Iterator[Passage]:
    """The passages of documents that a visit showed, as far as the event says exactly where they stand."""
    if event["kind"] != "visited" or event.get("error"):
        return
    result, arguments, verb = event["result"], event["arguments"], event["verb"]
    if verb in ("search", "peek"):
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


def index_problem(
    index: "Index", opened: RecordedEvent, citations: Iterable[Cited]
) -> tuple[int, str] | None:
    """(line, sentence) of what the index contradicts: the facts of it that the run opened with, or a citation."""
    said = opened["index"]
    if said["digest"] != index.digest:
        return (
            1,
            f"the run asked an index with digest {said['digest'][:80]}, and {index.path.name} has {index.digest}",
        )
    for name, held in (("documents", len(index.documents)), ("nodes", len(index))):
        if said[name] != held:
            return (
                1,
                f"the run is said to have asked {said[name]} {name}, and the index of that digest has {held}",
            )
    for cited in citations:
        if not _stands_in(index, cited):
            return cited.line, f"{cited.name} has other words than the document in {index.path.name}"
    return None


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
