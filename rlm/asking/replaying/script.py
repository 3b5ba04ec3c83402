"""What a run recorded, as a replay follows it: each conversation's events in their order, and where it left them.

Children run side by side, so that only the order within a conversation is the run's own: the streams of conversations
are compared, each by itself. What a model was found to read like an instruction is told once for the whole run, by
whichever conversation read it first, so those events are compared as a set.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from index_store.types import Json
from rlm.asking.chat import GIVEN_UP
from rlm.audit.consistency.calls import CUT_OFF
from rlm.audit.events import RecordedEvent
from rlm.audit.kinds import Event
from rlm.loop.ending import TAKE_DRAFT
from rlm.sandbox.shown import DEATHS

#: What of every event is the time, the place in the file, or the seal; and of some events what hangs on the order in
#: which conversations took turns, or is taken over from the record.
UNCOMPARED = frozenset({"seq", "time_s", "conversation", "kind", "seconds", "ended", "prev", "hash"})
#: A fork is charged nothing for what it takes from the record, and has limits of its own.
_OF_FORK = UNCOMPARED | {"usage", "limits", "models"}
_OF_KIND: Mapping[str, frozenset[str]] = {
    "model_asked": frozenset({"call"}),
    "model_answered": frozenset({"call", "usage", "attempts", "served", "cached"}),
    "embedded": frozenset({"usage", "attempts"}),
    "model_failed": frozenset({"call", "usage", "attempts", "refused"}),
    "budget": frozenset({"spent", "reserved", "left"}),
    "reduce_called": frozenset({"plan"}),  # which hangs on the prices of the day
}
#: Of the first event: what was asked, and under what. The index, prompts and code are told of beside the difference.
_OPENING = frozenset({"question", "models", "limits", "demands", "scope", "route", "window", "access"})
RUN_WIDE = "suspicious"
CANCELLED = "cancelled"
OUTSIDE = DEATHS["outside"]
_STOPPED_BY_TIME = "stopped by timeout: "
#: How the error of a cell begins that was killed because a clock, or somebody, said so.
_BY_CLOCK = tuple(
    f"The cell was stopped: {DEATHS[reason].partition('{')[0]}"
    for reason in ("time", "cpu", "signal", "gone", "outside")
)
_ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,16}\b")
_MARK = re.compile(r"<<<(DATA|END) [0-9a-f]{4,64} ")
_AROUND = 120  # characters of a text that are shown before and after where two begin to differ


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay left the record: the `field` of an event, "kind" where another event came, or one more, or none.

    `seq`: of the recorded event, or of the last of its conversation where the record has no more of that. `recorded`,
    `replayed`: the values, of long ones what stands around the place where they begin to differ; None for none.
    """

    seq: int
    conversation: str
    kind: str
    field: str
    recorded: Json
    replayed: Json


class Script:
    """The events of a run, and how far a replay has come in each conversation.

    `is_closed`: the run has recorded its end. `differences`: the first of each conversation, by its name. `is_over`:
    nothing more is asked of the replay; then it is stopped. `is_fork`: replies taken from the record cost nothing.
    `is_live`: the run goes its own way from here on. Any thread may use it.
    """

    def __init__(self, events: Sequence[RecordedEvent], is_fork: bool = False) -> None:
        self.events = events
        self.is_fork, self.is_live = is_fork, False
        self.is_closed = bool(events) and events[-1]["kind"] == "run_closed"
        self.streams: dict[str, list[RecordedEvent]] = {}
        self.differences: dict[str, Difference] = {}
        self.taken: Counter[str] = Counter()
        self.is_over = False
        self.size = 0
        self._at: dict[str, int] = {}
        self._order = [event["seq"] for event in events if event["kind"] != RUN_WIDE]
        self._unheard, self._low = set(self._order), 0
        self._flags: dict[tuple[Json, Json], list[RecordedEvent]] = {}
        self._lock = threading.RLock()
        for event in events:
            if event["kind"] == RUN_WIDE:
                self._flags.setdefault((event["rule"], event["words"]), []).append(event)
            else:
                self.streams.setdefault(event["conversation"], []).append(event)
        self._stops = dict(sorted(stop for stream in self.streams.values() for stop in _stops_in(stream)))
        self._stopped_before = 0

    # -- looking ahead -----------------------------------------------------------------------------------

    def next(self, conversation: str, after: int = 0) -> RecordedEvent | None:
        """The event that is next in a conversation, or one so many after it; None where the record has none."""
        stream, at = self.streams.get(conversation, []), self._at.get(conversation, 0) + after
        return stream[at] if at < len(stream) else None

    def models_next(self) -> RecordedEvent | None:
        """The event that is next in the root, where other models were chosen by it."""
        event = None if self.is_live or self.has_left("0") else self.next("0")
        return event if event is not None and event["kind"] == "models_changed" else None

    def ahead(self, conversation: str) -> Iterator[RecordedEvent]:
        """The events to come in a conversation."""
        stream = self.streams.get(conversation, [])
        return (stream[at] for at in range(self._at.get(conversation, 0), len(stream)))

    def has_left(self, conversation: str) -> bool:
        """Whether a conversation went another way than the record, so that nothing in it is of use any more."""
        return self.is_over or conversation in self.differences

    def cell_end(self, conversation: str) -> RecordedEvent | None:
        """How the cell that begins ended."""
        return next((event for event in self.ahead(conversation) if event["kind"] == "code_run"), None)

    def is_at_end_of_cell(self, conversation: str) -> bool:
        """Whether the cell under way asked for nothing more than it has."""
        coming = (event["kind"] for event in self.ahead(conversation))
        return next((kind for kind in coming if kind != "code_scanned"), "code_run") == "code_run"

    def is_stop(self, event: RecordedEvent) -> bool:
        """Whether an event came of it that the run was stopped, by its clock or by a person."""
        return event["seq"] in self._stops

    # -- where all was stopped ---------------------------------------------------------------------------

    def may_stop(self, event: RecordedEvent) -> bool:
        """Whether all has happened that happened before the run was stopped, which `event` came of."""
        with self._lock:
            if event["seq"] < self._stopped_before or self.is_over:
                return True
            waiting = (since for seq, since in self._stops.items() if seq in self._unheard)
            first = min(waiting, default=event["seq"])
            return bool(self._least(first) >= first)

    def stop(self, event: RecordedEvent) -> str:
        """What stopped the run, which `event` came of: "timeout", "cancelled", or "" where it was stopped already, or
        the record ends here."""
        with self._lock:
            stopped = self._stop_of(event)
            if stopped is None or event["seq"] < self._stopped_before:
                return ""
            self._stopped_before = stopped["seq"]
            return _why_stopped(stopped) or ""

    def has_stop(self, event: RecordedEvent) -> bool:
        """Whether the record goes on to where the run was stopped, which `event` came of."""
        with self._lock:
            return event["seq"] < self._stopped_before or self._stop_of(event) is not None

    def _stop_of(self, event: RecordedEvent) -> RecordedEvent | None:
        """The first event of the root from `event` on that says what stopped the run; None where the record ends."""
        root = (one for one in self.streams.get("0", []) if one["seq"] >= event["seq"])
        return next((one for one in root if _why_stopped(one) is not None), None)

    # -- hearing what is done again ----------------------------------------------------------------------

    def hear(self, conversation: str, event: Event) -> bool:
        """Hold an event of the replay against the one that is next in its conversation; returns whether a person then
        stopped the run, without any other event that came of it."""
        told = json.loads(json.dumps(event.fields()))
        with self._lock:
            if self.is_over:
                return False
            if event.kind == RUN_WIDE:
                self._hear_flag(conversation, told)
                return False
            if conversation in self.differences:
                return False
            recorded = self.next(conversation)
            if recorded is None:
                if self.is_closed:
                    self._differ(conversation, None, event.kind, "kind", None, event.kind)
                return False
            self.size += len(str(told)) + 200
            if recorded["kind"] != event.kind:
                self._differ(conversation, recorded, event.kind, "kind", recorded["kind"], event.kind)
            elif (
                name := _differing(recorded, event, told, _OF_FORK if self.is_fork else UNCOMPARED)
            ) is not None:
                self._differ(conversation, recorded, event.kind, name, recorded.get(name), told.get(name))
            else:
                self._unheard.discard(recorded["seq"])
                self._at[conversation] = self._at.get(conversation, 0) + 1
                return conversation == "0" and not self.is_stop(recorded) and self._is_cancelled_now()
            return False

    def _is_cancelled_now(self) -> bool:
        following = self.next("0")
        if (
            following is None
            or _why_stopped(following) != CANCELLED
            or following["seq"] <= self._stopped_before
        ):
            return False
        self._stopped_before = following["seq"]
        return True

    def miss(self, conversation: str, recorded: RecordedEvent) -> None:
        """The replay did not come to an event that the record has."""
        with self._lock:
            if conversation not in self.differences:
                self._differ(conversation, recorded, recorded["kind"], "kind", recorded["kind"], None)

    def has_all(self) -> bool:
        """Whether all was heard that is of use: the whole record, or what stands before the first difference."""
        with self._lock:
            end = len(self.events)
            first = self.first_difference()
            return self._least(end) >= (end if first is None else first.seq)

    def heard_events(self) -> list[RecordedEvent]:
        """The events that came out as they are recorded."""
        return [
            event for event in self.events if event["kind"] != RUN_WIDE and event["seq"] not in self._unheard
        ]

    def heard(self) -> int:
        """How many events were heard, which grows as long as the replay goes on."""
        return len(self.events) - len(self._unheard)

    def end(self) -> None:
        """The replay has ended: what it has not come to is missing."""
        with self._lock:
            flags = [event for left in self._flags.values() for event in left]
            for event in sorted((e for e in self.events if e["seq"] in self._unheard), key=_seq):
                self.miss(event["conversation"], event)
            if self.is_closed and not self.differences and flags:
                event = min(flags, key=_seq)
                self.miss(event["conversation"], event)

    def first_difference(self) -> Difference | None:
        """The first by the record's order; None where there is none."""
        return min(self.differences.values(), key=lambda one: one.seq, default=None)

    def _least(self, default: int) -> int:
        """The number of the first event that was not heard."""
        while self._low < len(self._order) and self._order[self._low] not in self._unheard:
            self._low += 1
        return self._order[self._low] if self._low < len(self._order) else default

    def _hear_flag(self, conversation: str, fields: dict[str, Any]) -> None:
        left = self._flags.get((fields["rule"], fields["words"]))
        if left:
            left.pop()
        elif self.is_closed and conversation not in self.differences:
            self._differ(conversation, self.next(conversation), RUN_WIDE, "kind", None, RUN_WIDE)

    def _differ(
        self, conversation: str, at: RecordedEvent | None, kind: str, name: str, recorded: Any, replayed: Any
    ) -> None:
        """`at`: the event of the record; None where it has no more of this conversation."""
        last = max((event["seq"] for event in self.streams.get(conversation, [])), default=0)
        before, after = _shortened(recorded, replayed)
        self.differences[conversation] = Difference(
            last if at is None else at["seq"],
            conversation,
            kind if at is None else at["kind"],
            name,
            before,
            after,
        )


def _seq(event: RecordedEvent) -> int:
    return int(event["seq"])


def _stops_in(stream: Sequence[RecordedEvent]) -> Iterator[tuple[int, int]]:
    """The events of a conversation that came of it that the run was stopped, each with the event since which it was so:
    the scan of a cell that asked for nothing is told only at its end."""
    for at, event in enumerate(stream):
        following = stream[at + 1] if at + 1 < len(stream) else None
        if event["kind"] == "model_failed":
            if event["error"] == CUT_OFF:
                yield event["seq"], event["seq"]
        elif event["kind"] == "code_run" and (
            OUTSIDE in event["error"] or _breaks_off(event, stream[at - 1], following)
        ):
            before = stream[at - 1] if stream[at - 1]["kind"] == "code_scanned" else event
            yield event["seq"], before["seq"]


def _breaks_off(ran: RecordedEvent, scanned: RecordedEvent, following: RecordedEvent | None) -> bool:
    """Whether a conversation was stopped while a cell ran that then ended by itself."""
    if scanned.get("code") == TAKE_DRAFT:
        return False
    if ran["conversation"] != "0":
        return following is None or (
            following["kind"] == "model_asked"
            and following["conversation_messages"] == len(following["messages"])
        )
    return following is not None and _why_stopped(following) not in (None, "")


def _why_stopped(event: RecordedEvent) -> str | None:
    """What an event of the root says of how it was stopped; None where it says nothing."""
    if event["kind"] == "answered":
        return "timeout" if event["stop"] == "timeout" else ""
    if event["kind"] == "note":
        if event["text"] == GIVEN_UP:
            return CANCELLED
        return "timeout" if event["text"].startswith(_STOPPED_BY_TIME) else None
    if event["kind"] == "run_closed":
        return CANCELLED if event["stop"] == CANCELLED else ""
    return None


def is_by_clock(ran: RecordedEvent) -> bool:
    """Whether a cell was killed because a clock, or somebody, said so: then no replay ends it by itself."""
    return bool(ran["status"] == "killed") and str(ran["error"]).startswith(_BY_CLOCK)


def why_killed(error: str) -> str:
    """The reason that the error of a killed cell gives, without what became of the variables."""
    return error.partition(";")[0]


def _differing(
    recorded: RecordedEvent, event: Event, told: Mapping[str, Any], uncompared: frozenset[str]
) -> str | None:
    """The first field in which a recorded event and one of the same kind, as JSON `told`, differ; None where they are
    the same. What a trace adds by itself, such as the time, is no field of the event."""
    # What a result holds says more than how long it is.
    names = sorted((one.name for one in fields(event)), key=lambda name: name == "result_chars")
    if recorded["kind"] == "run_opened":
        names = [name for name in names if name in _OPENING and name in told]
    passed_over = uncompared | _OF_KIND.get(recorded["kind"], frozenset())
    return next(
        (name for name in names if name not in passed_over and not _same(recorded.get(name), told.get(name))),
        None,
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: 1 is not 1.0, nor true.

    Where an object of Python is printed, its place in memory is passed over, and the marks that hash what holds it.
    """
    texts = json.dumps(one, sort_keys=True), json.dumps(other, sort_keys=True)
    return texts[0] == texts[1] or (
        bool(_ADDRESS.search(texts[0])) and _placeless(texts[0]) == _placeless(texts[1])
    )


def _placeless(text: str) -> str:
    return _MARK.sub(r"<<<\1 ", _ADDRESS.sub("at 0x", text))


def _shortened(one: Any, other: Any) -> tuple[Json, Json]:
    """Two values that differ, as JSON in words where they are long, from a little before they do."""
    texts = [
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in (one, other)
    ]
    if max(map(len, texts)) <= 2 * _AROUND:
        return one, other
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(same - _AROUND, 0)
    return tuple(  # type: ignore[return-value]
        None
        if value is None
        else f"{'…' * (start > 0)}{text[start : same + _AROUND]}{'…' * (len(text) > same + _AROUND)}"
        for value, text in zip((one, other), texts, strict=True)
    )
