"""One run: what the root conversation shares with its descendants, and every model call they make."""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from index_store.index import Index
from index_store.types import Json
from index_store.view import View
from rlm.answers.citations import Citation, Conclusion, event_of, resolve
from rlm.answers.demands import Demands, unmet
from rlm.audit.kinds import (
    Answered,
    BudgetNoted,
    Embedded,
    ModelAnswered,
    ModelAsked,
    ModelFailed,
    ModelsChanged,
    OverCap,
)
from rlm.gateway.blocking import run_blocking
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.gateway import charged
from rlm.gateway.ledger import Reservation
from rlm.gateway.models import not_sent
from rlm.gateway.types import Attempt, Message, Reply, Request, Served, Usage
from rlm.limits import Limits, Models
from rlm.loop.budget import Budget
from rlm.loop.embedding import embedded_by_calls
from rlm.loop.recording import Journal
from rlm.memo import is_repeatable, is_whole, reply_key
from rlm.sandbox import SandboxLimits, Session
from rlm.sandbox.types import Serve

#: Opens a session that serves its calls so, under such limits.
Opening = Callable[[Serve, SandboxLimits], Session]
#: The session of a conversation, opened with what serves its calls and its limits.
Sandbox = Callable[[str, Opening, Serve, SandboxLimits], Session]
#: What is done with a reply as it comes.
Keep = Callable[[Reply], Coroutine[Any, Any, None]]
#: Sandboxes of one depth at the same time: each is a process that may use as much memory as a sandbox is allowed.
SANDBOXES = 8
#: What a person is told, once, where a provider tells too little.
NO_COUNTS = "{model} reports no token counts that can be read: they are counted here"


STOPPED = "the run was stopped before its vectors came"


def _as_opened(conversation: str, opening: Opening, serve: Serve, limits: SandboxLimits) -> Session:
    return opening(serve, limits)


async def _to_its_end(keeping: Coroutine[Any, Any, None]) -> None:
    """Wait for it, also where the run is stopped meanwhile: a reply that has come, and was paid, is kept and counts."""
    task = asyncio.ensure_future(keeping)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task


@dataclass(slots=True)
class Run:
    """What a root conversation and its descendants share: one index, one budget, one trace, one event loop.

    `view`: what of the index the question is about; no conversation sees, and no citation names, anything else.
    `loop`: where model calls are made; cells wait for it in threads of their own. `sandbox`: gives the session of
    a conversation, which a replay holds to its record. `window`: tokens that the root model takes, None where that is
    not known. `told`: what the root is told beside its question.
    """

    view: View
    models: Models
    limits: Limits
    demands: Demands
    budget: Budget
    journal: Journal
    loop: asyncio.AbstractEventLoop
    sandbox: Sandbox = _as_opened
    window: int | None = None
    told: str = ""
    _calls: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _slots: dict[int, asyncio.Semaphore] = field(default_factory=dict)

    @property
    def index(self) -> Index:
        """The index that the view is of."""
        return self.view.index

    def slot(self, depth: int) -> asyncio.Semaphore:
        """A semaphore with one slot for each sandbox of this depth; a conversation takes a slot while it is open.

        Each depth has slots of its own: a parent waits for its children, so they must never wait for its slot.
        """
        return self._slots.setdefault(depth, asyncio.Semaphore(SANDBOXES))

    def call_ids(self, count: int) -> list[int]:
        """`count` new numbers for model calls, each used once in a run."""
        return [next(self._calls) for _ in range(count)]

    def shares(self, children: int) -> list["Run"]:
        """The run of each of `children` children: on a share of what is left, and with no demands on its answer."""
        return [
            replace(self, budget=share, demands=Demands(), told="") for share in self.budget.shares(children)
        ]

    def change(self, models: Models, window: int | None) -> None:
        """Ask other models from now on, of which the root takes `window` tokens; the trace says so."""
        self.models, self.window = models, window
        self.journal.record("0", ModelsChanged(models=models.as_json(), window=window))

    # -- model calls -------------------------------------------------------------------------------------

    async def ask(
        self,
        conversation: str,
        model: str,
        messages: list[Message],
        new: int,
        max_tokens: int,
        reservation: Reservation | None = None,
        *,
        options: Mapping[str, Json],
        response_format: Mapping[str, Json] | None = None,
    ) -> Reply:
        """The reply to one model call, which is recorded before and after.

        `new`: how many of the last messages are not yet in the trace. `reservation`: what the ledger has set aside for
        the call; without it the gateway reserves. `options`, `response_format`: see Request. Raises GatewayError,
        OverBudget among them.
        """
        request = Request(
            model, tuple(messages), max_tokens, options=options, response_format=response_format
        )
        return await self.make(conversation, request, new, reservation)

    async def make(
        self,
        conversation: str,
        request: Request,
        new: int,
        reservation: Reservation | None = None,
        keep: Keep | None = None,
    ) -> Reply:
        """As `ask`, for a request. `keep`: is called with the reply before that is recorded, so that what a run that is
        killed has recorded is kept."""
        call, model = self._record_asked(conversation, request, new), request.model
        attempts, began = list[Attempt](), time.monotonic()
        try:
            reply = await self.budget.complete(conversation, request, reservation, attempts.append)
        except (GatewayError, asyncio.CancelledError) as e:
            self._record_failure(conversation, call, model, e, time.monotonic() - began, attempts)
            raise
        self.budget.charge(conversation, reply.usage)
        try:
            if keep is not None:
                await _to_its_end(keep(reply))
        finally:
            self._record_answered(conversation, call, model, reply, attempts)
        self._tell_passed(conversation)
        return reply

    def index_for(self, conversation: str) -> Index:
        """The index as a conversation searches it: where its embedder is called, by calls of the conversation's own."""
        return embedded_by_calls(self.index, partial(self._embed, conversation))

    def _embed(self, conversation: str, request: Request) -> Reply:
        """The reply to a call that embeds, which is recorded once it has ended. Blocks."""
        attempts, began, error, text = list[Attempt](), time.monotonic(), None, ""
        try:
            reply = run_blocking(self.budget.embed(conversation, request, attempts.append))
            text = reply.text
            return reply
        except GatewayError as e:
            error = str(e)
            raise
        finally:
            usage = charged(attempts)
            self.budget.charge(conversation, usage)
            embedded = Embedded(
                model=request.model,
                texts=[message["content"] for message in request.messages],
                vectors=text,
                usage=usage,
                seconds=round(time.monotonic() - began, 3),
                attempts=attempts,
                error=error or (None if text else STOPPED),
            )
            self.journal.record(conversation, embedded)

    def _record_answered(
        self, conversation: str, call: int, model: str, reply: Reply, attempts: Sequence[Attempt]
    ) -> None:
        answered = ModelAnswered(
            call=call,
            model=model,
            text=reply.text,
            usage=reply.usage,
            finish_reason=reply.finish_reason,
            seconds=round(reply.seconds, 3),
            cached=False,
            attempts=attempts,
            served=None if reply.served == Served() else reply.served,
            tool_call=reply.tool_call or None,
            structured=reply.structured or None,
        )
        self.journal.record(conversation, answered)
        if reply.estimated:
            self.journal.note_once(conversation, NO_COUNTS.format(model=model))

    def _record_asked(self, conversation: str, request: Request, new: int) -> int:
        """Record what is asked, and give the number of the call."""
        (call,), parameters = self.call_ids(1), request.parameters
        asked = ModelAsked(
            call=call,
            model=request.model,
            messages=request.messages[len(request.messages) - new :],
            conversation_messages=len(request.messages),
            max_tokens=request.max_tokens,
            temperature=parameters.pop("temperature"),
            parameters=parameters or None,
        )
        if untaken := not_sent(request.model, request.options):
            self.journal.note_once(conversation, untaken)
        self.journal.record(conversation, asked)
        return call

    # -- what was answered before ------------------------------------------------------------------------

    async def recall(self, conversation: str, requests: Sequence[Request]) -> list[str | None]:
        """The text of each reply that the store has, for a conversation that is about to make these requests."""
        if not all(map(is_repeatable, requests)):
            return [None] * len(requests)
        keys = await asyncio.to_thread(lambda: [reply_key(request) for request in requests])
        texts = await self.budget.recall(conversation, keys)
        self.tell_trouble(conversation)
        return [text if isinstance(text, str) else None for text in texts]

    async def keep(self, conversation: str, request: Request, reply: Reply) -> None:
        """Keep a reply that may be given again."""
        if is_repeatable(request) and is_whole(reply):
            await self.budget.keep(conversation, {reply_key(request): reply.text})
            self.tell_trouble(conversation)

    def record_recalled(self, conversation: str, request: Request, text: str) -> None:
        """Record a call that is not made, as the store has its reply: it costs nothing."""
        call = self._record_asked(conversation, request, len(request.messages))
        answered = ModelAnswered(
            call=call,
            model=request.model,
            text=text,
            usage=Usage(),
            finish_reason="stop",
            seconds=0.0,
            cached=True,
        )
        self.journal.record(conversation, answered)

    def tell_trouble(self, conversation: str) -> None:
        """Record, once, why the store is not used any more, for a conversation that has just used it."""
        if trouble := self.budget.trouble(conversation):
            self.journal.trouble = trouble
            self.journal.note_once(conversation, trouble)

    def _tell_passed(self, conversation: str) -> None:
        """Record that a reply passed a cap, and by how much, once for each call that left it so."""
        if passed := self.budget.passed(conversation):
            self.record_budget(conversation, passed)

    def _record_failure(
        self,
        conversation: str,
        call: int,
        model: str,
        error: BaseException,
        seconds: float,
        attempts: Sequence[Attempt],
    ) -> None:
        usage = charged(attempts)
        self.budget.charge(conversation, usage)
        refused: OverCap | None = None
        if isinstance(error, OverBudget):
            refused = {"cap": error.cap, "asked": error.asked, "left": error.left}
        failed = ModelFailed(
            call=call,
            model=model,
            error=str(error) or "the run was stopped before the model answered",
            seconds=round(seconds, 3),
            usage=usage,
            # None of a call that was stopped before its first tells that it cost nothing.
            attempts=attempts or ([] if isinstance(error, asyncio.CancelledError) else None),
            refused=refused,
        )
        self.journal.record(conversation, failed)
        if refused:
            self.record_budget(conversation, str(error))

    def record_budget(self, conversation: str, reason: str) -> dict[str, Json]:
        """Record what the ledger has spent, reserved and left, and why it is recorded now; returns what is left."""
        ledger, left = self.budget.ledger, self.budget.told(conversation)
        noted = BudgetNoted(spent=ledger.spent, reserved=ledger.reserved, left=left, reason=reason)
        self.journal.record(conversation, noted)
        return left

    # -- answers -----------------------------------------------------------------------------------------

    async def cited(self, content: str, offered: Json) -> list[Citation]:
        """The citations `offered` with an answer, looked up in a thread, since long documents take seconds."""
        return await asyncio.to_thread(resolve, self.view, content, offered)

    def conclude(
        self, conversation: str, content: str, citations: Sequence[Citation], stop: str, error: str = ""
    ) -> Conclusion:
        """The conclusion of a conversation, which is recorded. `stop`: why it ended; `error`: why it failed."""
        events = [event_of(self.index, citation) for citation in citations]
        lacks = unmet(self.demands, content, citations) if stop == "unmet" else None
        error = ". ".join(filter(None, (error, self.budget.passed(conversation))))
        self.journal.record(conversation, Answered(content=content, citations=events, stop=stop, lacks=lacks))
        return Conclusion(content, tuple(citations), stop, error, lacks or "")
