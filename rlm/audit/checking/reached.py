"""How far a run came towards each passage: offered, entered, read, cited; and where it lost one.

By what is recorded and the tree of the index:

    offered  it, or a branch that holds it, stood in what a verb showed or packed, or in a row of a map, or it was
             entered; the root offers nothing, as it holds everything, and what stood beside a node without being shown
             offers nothing either
    entered  it, or a branch that holds it, was opened, named to a verb or a child, or it was read
    read     words of it were given, in a text that was given whole, to the code or to a model, be it a row of a map or
             a passage of a reduction; not the first words of a hit or a peek, nor a row that no model was asked about
    cited    a citation of the answer that stands in the documents shares a character with it
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from index_store.errors import IndexStoreError
from index_store.index import Index
from index_store.types import Span
from rlm.audit.checking.evidence import Passage, above
from rlm.audit.checking.findings import Coverage, Lost, Stage
from rlm.audit.checking.steps import prompts_of
from rlm.audit.claims import STANDING
from rlm.audit.events import RecordedEvent
from rlm.audit.given import given_at, packed, rows_told
from rlm.audit.routing import entered_by, given_to_models
from rlm.gateway.blocks import Block


@dataclass(frozen=True, slots=True)
class Known:
    """The node ids that an index has."""

    index: Index

    def __contains__(self, node: object) -> bool:
        try:
            self.index.number_of(str(node))
        except IndexStoreError:
            return False
        return True


@dataclass(slots=True)
class Trail:
    """What a run was shown, entered, read and cited, as numbers of nodes of its index; `cited` are chunks."""

    shown: set[int] = field(default_factory=set)
    entered: set[int] = field(default_factory=set)
    read: set[int] = field(default_factory=set)
    cited: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Record:
    """What is read off all events of a run once. `given`: the data blocks in asks of models, by seq; `read`: the spans
    whose whole text was given, by seq; `rows`: those of the rows of maps, asked or left out; `prompts`: what each child
    was asked; `opened`: the first event."""

    given: Mapping[int, list[Block]]
    read: Mapping[int, list[Span]]
    rows: Mapping[int, list[Span]]
    prompts: Mapping[str, str]
    opened: RecordedEvent

    @classmethod
    def of(cls, index: Index, run: Sequence[RecordedEvent]) -> "Record":
        """Those of a run that asked this index."""
        read = _by_seq(given_at(index, run))
        rows = _by_seq((seq, span) for seq, _, span in rows_told(index, run))
        return cls(given_to_models(run), read, rows, prompts_of(run), run[0])


def _by_seq(spans: Iterable[tuple[int, Span]]) -> dict[int, list[Span]]:
    by_seq: dict[int, list[Span]] = {}
    for seq, span in spans:
        by_seq.setdefault(seq, []).append(span)
    return by_seq


def trail_of(
    index: Index, events: Sequence[RecordedEvent], record: Record, cited: Sequence[Mapping[str, Any]]
) -> Trail:
    """The trail of some events of a run; `cited`: the citations of its answer."""
    trail, known = Trail(), Known(index)
    for event in events:
        if event["kind"] == "visited" and not event.get("error"):
            trail.shown.update(numbers_of(index, [ref["node"] for ref in event["shown"]]))
        trail.entered.update(numbers_of(index, entered_by(event, known, record.given)))
        for span in record.read.get(event["seq"], ()):
            trail.read.update(chunks_of(index, span))
        for span in record.rows.get(event["seq"], ()):
            trail.shown.update(chunks_of(index, span))
    trail.shown.update(numbers_of(index, packed(events)))
    for one in cited:
        if one["supported"] in STANDING and None not in (one["doc"], one["start"], one["end"]):
            trail.cited.update(chunks_of(index, Span(one["doc"], one["start"], one["end"])))
    return trail


def stage_of(index: Index, trail: Trail, passage: Passage) -> Stage | None:
    """The first stage at which a run lost a passage; None where its answer cites it."""
    over = {node for number in passage.numbers for node in above(index, number)}
    chunks = set(passage.numbers)
    if chunks & trail.cited:
        return None
    if chunks & trail.read:
        return "not cited"
    if over & trail.entered:
        return "not read"
    return "not entered" if over & trail.shown else "not offered"


def coverage_of(index: Index, trail: Trail, passages: Sequence[Passage]) -> Coverage:
    """What of the evidence in these passages the run came to; nothing of no passages is all of it."""
    total = sum(one.share for one in passages)
    if not total:
        return Coverage(1.0, 1.0, 1.0, 1.0)
    stages = [(one.share, stage_of(index, trail, one)) for one in passages]

    def reached(*lost: Stage) -> float:
        return min(sum(share for share, stage in stages if stage not in lost) / total, 1.0)

    return Coverage(
        reached("not offered"),
        reached("not offered", "not entered"),
        reached("not offered", "not entered", "not read"),
        reached("not offered", "not entered", "not read", "not cited"),
    )


def lost_in(index: Index, trail: Trail, passages: Sequence[Passage]) -> list[Lost]:
    """The passages that the answer does not cite, those with the most evidence first."""
    lost = []
    for one in passages:
        stage, span = stage_of(index, trail, one), index.span_at(one.number)
        if stage is not None and span is not None:
            node = index.at(one.number)
            lost.append(Lost(node.id, span.doc, span.start, span.end, stage, node.label, one.share))
    return lost


def numbers_of(index: Index, ids: Any) -> list[int]:
    """The numbers of the ids that an index has; others are passed over."""
    known = Known(index)
    return [index.number_of(node) for node in ids if isinstance(node, str) and node in known]


def chunks_of(index: Index, span: Span) -> range:
    """The numbers of the chunks that share a character with a span; none for a document that the index has not."""
    try:
        chunks = index.document_leaves(index.document_number(span.doc))
    except IndexStoreError:
        return range(0)
    first = bisect_right(chunks, span.start, key=lambda number: _place(index, number).end)
    past = bisect_left(chunks, span.end, key=lambda number: _place(index, number).start)
    return chunks[first:past]


def _place(index: Index, number: int) -> Span:
    return index.span_at(number) or Span("", 0, 0)
