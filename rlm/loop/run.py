"""One root call: what all its conversations share, and every model call they make."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from index_store.index import Index
from rlm.answers.citations import Citation, Conclusion, event_of, resolve
from rlm.answers.demands import Demands
from rlm.audit.suspicion import FLAGS, Alarm
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger, Reservation
from rlm.gateway.models import price
from rlm.gateway.types import Message, Reply, Request, Usage
from rlm.limits import Limits, Models

Json = Any
TRACE_BYTES = (
    256 << 20
)  # a cell that reads on and on must not fill the disk, nor a trace be too long to review
SANDBOXES = 8  # of one depth at the same time: each is a process that may fill its whole memory
#: (prompt, reply) tokens of the call that is kept back, the first that takes no more than a part of each cap.
LAST_CALLS = ((4_000, 1_000), (1_500, 400))
LAST_PART = 4
#: Told every event as it is recorded: (kind, conversation, fields).
Watch = Callable[[str, str, dict[str, Json]], None]


class Recorder(Protocol):
    """Keeps events: the trace of a run. `size`: bytes so far."""

    size: int

    def record(self, kind: str, conversation: str, /, **fields: Any) -> int: ...


def unwatched(kind: str, conversation: str, fields: dict[str, Json]) -> None:
    """Nobody is looking."""


@dataclass(slots=True)
class Run:
    """Shared by a root conversation and its descendants: one index, one pool, one trace, one deadline."""

    index: Index
    gateway: Gateway
    models: Models
    limits: Limits
    trace: Recorder
    folder: Path
    loop: asyncio.AbstractEventLoop
    watch: Watch = unwatched
    demands: Demands = Demands()
    last: Reservation | None = None  # set aside for an answer when all else is spent
    began: float = field(default_factory=time.monotonic)
    _calls: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _used: dict[str, Usage] = field(default_factory=dict)
    _rooms: dict[int, asyncio.Semaphore] = field(default_factory=dict)
    _alarm: Alarm = field(default_factory=Alarm)

    @property
    def ledger(self) -> Ledger:
        return self.gateway.ledger

    @property
    def left_s(self) -> float:
        """Seconds of wall clock that the run still has."""
        return self.began + self.limits.timeout_s - time.monotonic()

    def record(self, kind: str, conversation: str, **fields: Json) -> None:
        self.trace.record(kind, conversation, **fields)
        self.watch(kind, conversation, fields)

    def flag(self, conversation: str, shown_as: str, texts: Iterable[tuple[str, str]]) -> None:
        """Record what in these (place, text) reads like an instruction to a model; nothing else comes of it."""
        for place, text in texts:
            news = self._alarm.new(text)
            for found in news:
                words = text[found.start : found.end]
                where = {"shown_as": shown_as, "place": place, "start": found.start, "end": found.end}
                self.record("suspicious", conversation, **where, words=words, rule=found.rule)
            if news and self._alarm.is_full:
                told = f"{FLAGS:,} passages read like instructions to a model; any more are not told"
                self.record("note", conversation, text=told)

    @property
    def is_full(self) -> bool:
        """Whether the trace has no room for more calls of cells."""
        return self.trace.size > TRACE_BYTES

    def room(self, depth: int) -> asyncio.Semaphore:
        """What a conversation holds while it has a sandbox. Each depth has its own: a parent waits for its children,
        so they must never wait for it."""
        return self._rooms.setdefault(depth, asyncio.Semaphore(SANDBOXES))

    def call_ids(self, count: int) -> list[int]:
        return [next(self._calls) for _ in range(count)]

    async def ask(
        self,
        conversation: str,
        call: int,
        model: str,
        messages: list[Message],
        new: int,
        max_tokens: int,
        held: Reservation | None = None,
    ) -> Reply:
        """One model call, recorded before and after. `new`: how many of the last messages were not yet recorded;
        `held`: what was set aside for it."""
        self.record(
            "model_asked",
            conversation,
            call=call,
            model=model,
            messages=[dict(m) for m in messages[len(messages) - new :]],
            conversation_messages=len(messages),
            max_tokens=max_tokens,
        )
        began = time.monotonic()
        try:
            reply = await self.gateway.complete(Request(model, tuple(messages), max_tokens), held)
        except (GatewayError, asyncio.CancelledError) as e:
            usage = e.usage if isinstance(e, GatewayError) else Usage()
            self._charge(conversation, usage)
            self.record(
                "model_failed",
                conversation,
                call=call,
                model=model,
                error=str(e) or "the run was stopped before the model answered",
                seconds=round(time.monotonic() - began, 3),
                usage=usage_json(usage),
            )
            if isinstance(e, OverBudget):
                self.record_budget(conversation, str(e))
            raise
        self._charge(conversation, reply.usage)
        self.record(
            "model_answered",
            conversation,
            call=call,
            model=model,
            text=reply.text,
            usage=usage_json(reply.usage),
            finish_reason=reply.finish_reason,
            seconds=round(reply.seconds, 3),
            cached=False,  # this program has no cache of replies; older traces may say true
        )
        return reply

    def keep_back(self) -> None:
        """Set one call aside, so that an answer can be given when all else is spent; none where caps are small."""
        left, model = self.ledger.left(), self.models.root
        for prompt, reply in LAST_CALLS:
            worst = Usage(1, prompt, reply, price(model, prompt, reply) or 0.0)
            small = (worst.calls, left.calls), (worst.tokens, left.tokens), (worst.usd, left.usd)
            if all(room is None or amount <= room / LAST_PART for amount, room in small):
                self.last = self.ledger.reserve(worst)
                return

    def let_go(self) -> None:
        """Give back what was set aside and not used."""
        if self.last is not None:
            self.ledger.release(self.last)
            self.last = None

    def shares(self, children: int) -> list["Run"]:
        """This run as each of so many new children sees it: under caps of its own, a part of what is left.

        The pool above stays the bound for all of them together; one part is kept back for the parent.
        """
        left, parts = self.ledger.left(), children + 1
        caps = Caps(
            None if left.usd is None else left.usd / parts,
            None if left.tokens is None else left.tokens // parts,
            None if left.calls is None else max(left.calls // parts, 1),
        )
        return [self.under(Ledger(caps, parent=self.ledger)) for _ in range(children)]

    def under(self, ledger: Ledger) -> "Run":
        """This run for a child that spends from `ledger`; nothing is demanded of its answer."""
        return replace(self, gateway=self.gateway.under(ledger), demands=Demands(), last=None)

    async def cited(self, content: str, offered: Json) -> list[Citation]:
        """The citations of an answer, looked up; in a thread, since near misses in long documents take seconds."""
        return await asyncio.to_thread(resolve, self.index, content, offered)

    def conclude(
        self, conversation: str, content: str, citations: Sequence[Citation], stop: str, error: str = ""
    ) -> Conclusion:
        """The answer of a conversation; recorded, whatever ended it."""
        events = [event_of(self.index, c) for c in citations]
        self.record("answered", conversation, content=content, citations=events, stop=stop)
        return Conclusion(content, tuple(citations), stop, error)

    def used(self, conversations: Iterable[str]) -> Usage:
        """What these conversations and their descendants were charged so far."""
        wanted = frozenset(conversations)
        shares = (usage for name, usage in self._used.items() if not wanted.isdisjoint(lineage(name)))
        return sum(shares, Usage())

    def _charge(self, conversation: str, usage: Usage) -> None:
        self._used[conversation] = self._used.get(conversation, Usage()) + usage

    def record_budget(self, conversation: str, reason: str) -> None:
        ledger = self.ledger
        self.record(
            "budget",
            conversation,
            spent=usage_json(ledger.spent),
            reserved=usage_json(ledger.reserved),
            left=self.left(),
            reason=reason,
        )

    def left(self) -> dict[str, Json]:
        """What is left under each cap; null where there is none."""
        caps = self.ledger.left()
        seconds = round(max(self.left_s, 0.0), 1)
        return {"usd": caps.usd, "tokens": caps.tokens, "calls": caps.calls, "seconds": seconds}


def lineage(conversation: str) -> Iterator[str]:
    """A conversation and those it descends from: "0.3.1", "0.3", "0"."""
    while conversation:
        yield conversation
        conversation = conversation.rpartition(".")[0]


def usage_json(usage: Usage) -> dict[str, Json]:
    return {
        "calls": usage.calls,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "usd": usage.usd,
    }
