"""One root call: what all its conversations share, and every model call they make."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from index_store.index import Index
from index_store.types import Json
from rlm.answers.citations import Citation, Conclusion, event_of, resolve
from rlm.answers.demands import Demands
from rlm.audit.kinds import Answered, BudgetNoted, ModelAnswered, ModelAsked, ModelFailed
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.ledger import Reservation
from rlm.gateway.types import Message, Reply, Request, Usage
from rlm.limits import Limits, Models
from rlm.loop.budget import Budget
from rlm.loop.recording import Journal

SANDBOXES = 8  # of one depth at the same time: each is a process that may fill its whole memory


@dataclass(slots=True)
class Run:
    """Shared by a root conversation and its descendants: one index, one budget, one trace, one event loop."""

    index: Index
    models: Models
    limits: Limits
    demands: Demands
    budget: Budget
    journal: Journal
    loop: asyncio.AbstractEventLoop
    _calls: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _slots: dict[int, asyncio.Semaphore] = field(default_factory=dict)

    def slot(self, depth: int) -> asyncio.Semaphore:
        """What a conversation holds while it has a sandbox. Each depth has slots of its own: a parent waits for its
        children, so they must never wait for it."""
        return self._slots.setdefault(depth, asyncio.Semaphore(SANDBOXES))

    def call_ids(self, count: int) -> list[int]:
        """Numbers for so many model calls, each given once in a run."""
        return [next(self._calls) for _ in range(count)]

    def shares(self, children: int) -> list["Run"]:
        """This run as each of so many children sees it: on a share of what is left; nothing is demanded of it."""
        return [replace(self, budget=share, demands=Demands()) for share in self.budget.shares(children)]

    # -- model calls -------------------------------------------------------------------------------------

    async def ask(
        self,
        conversation: str,
        model: str,
        messages: list[Message],
        new: int,
        max_tokens: int,
        held: Reservation | None = None,
    ) -> Reply:
        """One model call, recorded before and after. `new`: how many of the last messages were not yet recorded;
        `held`: what was set aside for it. Raises GatewayError."""
        (call,) = self.call_ids(1)
        asked = ModelAsked(
            call=call,
            model=model,
            messages=messages[len(messages) - new :],
            conversation_messages=len(messages),
            max_tokens=max_tokens,
        )
        self.journal.record(conversation, asked)
        began = time.monotonic()
        try:
            reply = await self.budget.gateway.complete(Request(model, tuple(messages), max_tokens), held)
        except (GatewayError, asyncio.CancelledError) as e:
            self._failed(conversation, call, model, e, time.monotonic() - began)
            raise
        self.budget.charge(conversation, reply.usage)
        answered = ModelAnswered(
            call=call,
            model=model,
            text=reply.text,
            usage=reply.usage,
            finish_reason=reply.finish_reason,
            seconds=round(reply.seconds, 3),
            cached=False,
        )
        self.journal.record(conversation, answered)
        return reply

    def _failed(self, conversation: str, call: int, model: str, error: BaseException, seconds: float) -> None:
        usage = error.usage if isinstance(error, GatewayError) else Usage()
        self.budget.charge(conversation, usage)
        failed = ModelFailed(
            call=call,
            model=model,
            error=str(error) or "the run was stopped before the model answered",
            seconds=round(seconds, 3),
            usage=usage,
        )
        self.journal.record(conversation, failed)
        if isinstance(error, OverBudget):
            self.record_budget(conversation, str(error))

    def record_budget(self, conversation: str, reason: str) -> None:
        """Record the ledger as it stands, and why."""
        ledger, left = self.budget.ledger, self.budget.left()
        noted = BudgetNoted(spent=ledger.spent, reserved=ledger.reserved, left=left, reason=reason)
        self.journal.record(conversation, noted)

    # -- answers -----------------------------------------------------------------------------------------

    async def cited(self, content: str, offered: Json) -> list[Citation]:
        """The citations of an answer, looked up; in a thread, since near misses in long documents take seconds."""
        return await asyncio.to_thread(resolve, self.index, content, offered)

    def conclude(
        self, conversation: str, content: str, citations: Sequence[Citation], stop: str, error: str = ""
    ) -> Conclusion:
        """The answer of a conversation; recorded, whatever ended it."""
        events = [event_of(self.index, citation) for citation in citations]
        self.journal.record(conversation, Answered(content=content, citations=events, stop=stop))
        return Conclusion(content, tuple(citations), stop, error)
