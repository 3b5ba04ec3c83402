"""Record the events of a run: each goes into its trace and to whoever watches the run."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from index_store.types import Json
from rlm.audit.kinds import Event, ModelAnswered, Note, Suspicious
from rlm.audit.suspicion import FLAGS, Alarm

_log = logging.getLogger(__name__)
#: The size at which a trace is full: a cell that reads on and on must not fill the disk.
TRACE_BYTES = 256 << 20
#: What a watch hears of a map after each wave, beside the events of the trace: the fields of
#: `rlm.mapping.types.Progress`, with `usd`, spent by its calls so far, and `usd_to_come`, None where no price is known.
PROGRESS = "map_progress"
#: Gets every event as it is recorded, with its number as `seq`, and how far a map is: (kind, conversation, fields).
Watch = Callable[[str, str, dict[str, Json]], None]


class Recorder(Protocol):
    """What keeps the events of a run, such as its trace. `size`: bytes so far."""

    size: int

    def record(self, conversation: str, event: Event, /) -> int:
        """Keep one event of a conversation; returns its number."""
        ...


class Unrecorded:
    """A recorder that keeps nothing, for a run that nobody will look back at."""

    size = 0

    def record(self, conversation: str, event: Event, /) -> int:
        """Keep nothing; returns 0."""
        return 0


def unwatched(kind: str, conversation: str, fields: dict[str, Json]) -> None:
    """A watch that does nothing."""


@dataclass(slots=True)
class Journal:
    """Where a run is recorded: its trace, its watch, and the instructions flagged in what it has read so far.

    `stored`: how many replies came from the store; `trouble`: why that is not used any more, '' where it is;
    `cached_tokens`: of prompts, those that providers had in caches.
    """

    trace: Recorder
    watch: Watch = unwatched
    stored: int = 0
    trouble: str = ""
    cached_tokens: int = 0
    _alarm: Alarm = field(default_factory=Alarm)
    _noted: set[str] = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        """Whether the trace has reached TRACE_BYTES; then calls from cells are refused."""
        return self.trace.size > TRACE_BYTES

    def record(self, conversation: str, event: Event) -> None:
        """Record one event of a conversation. Raises TraceError where the table of events does not allow it."""
        _log.debug("conversation %s: %s", conversation, event.kind)
        number = self.trace.record(conversation, event)
        if isinstance(event, ModelAnswered):
            self.stored += event.cached
            # In a fork, what is taken over has no calls.
            self.cached_tokens += event.served.cached_tokens if event.served and event.usage.calls else 0
        self.watch(event.kind, conversation, event.fields() | {"seq": number})

    def tell(self, conversation: str, kind: str, fields: dict[str, Json]) -> None:
        """Tell the watch what is gone with the moment, such as PROGRESS; the trace does not hold it."""
        self.watch(kind, conversation, fields)

    def note(self, conversation: str, text: str) -> None:
        """Record a sentence for which there is no other kind of event."""
        self.record(conversation, Note(text=text))

    def note_once(self, conversation: str, text: str) -> None:
        """As `note`, where this sentence was not recorded before."""
        if text not in self._noted:
            self._noted.add(text)
            self.note(conversation, text)

    def flag(self, conversation: str, shown_as: str, passages: Iterable[tuple[str, str]]) -> None:
        """Record what in these passages, each (place, text), reads like an instruction to a model.

        `shown_as`: how a model came to see them, such as "context.read". The passages go on as they are.
        """
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
