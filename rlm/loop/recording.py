"""What a run leaves behind: every event goes into its trace, and to whoever watches it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from index_store.types import Json
from rlm.audit.kinds import Event, Note, Suspicious
from rlm.audit.suspicion import FLAGS, Alarm

#: A cell that reads on and on must not fill the disk, nor a trace be too long to review.
TRACE_BYTES = 256 << 20
#: Gets every event as it is recorded: (kind, conversation, fields).
Watch = Callable[[str, str, dict[str, Json]], None]


class Recorder(Protocol):
    """Keeps events: the trace of a run. `size`: bytes so far."""

    size: int

    def record(self, conversation: str, event: Event, /) -> int: ...


class Unrecorded:
    """A recorder that keeps nothing: a person's shell is their own session, not a run to be audited."""

    size = 0

    def record(self, conversation: str, event: Event, /) -> int:
        return 0


def unwatched(kind: str, conversation: str, fields: dict[str, Json]) -> None:
    """Nobody is looking."""


@dataclass(slots=True)
class Journal:
    """The trace of a run, whoever watches it, and what in it was flagged so far."""

    trace: Recorder
    watch: Watch = unwatched
    _alarm: Alarm = field(default_factory=Alarm)

    @property
    def is_full(self) -> bool:
        """Whether the trace is too long for more calls of cells."""
        return self.trace.size > TRACE_BYTES

    def record(self, conversation: str, event: Event) -> None:
        """Record one event of a conversation. Raises TraceError where the table of events does not allow it."""
        self.trace.record(conversation, event)
        self.watch(event.kind, conversation, event.fields())

    def note(self, conversation: str, text: str) -> None:
        """Record what no other event says."""
        self.record(conversation, Note(text=text))

    def flag(self, conversation: str, shown_as: str, passages: Iterable[tuple[str, str]]) -> None:
        """Record what in these (place, text) reads like an instruction to a model; nothing else comes of it."""
        for place, text in passages:
            flags = self._alarm.new(text)
            for flag in flags:
                suspicious = Suspicious(
                    shown_as=shown_as,
                    place=place,
                    start=flag.start,
                    end=flag.end,
                    words=text[flag.start : flag.end],
                    rule=flag.rule,
                )
                self.record(conversation, suspicious)
            if flags and self._alarm.is_full:
                limit = f"{FLAGS:,} passages read like instructions to a model; any more are not told"
                self.note(conversation, limit)
