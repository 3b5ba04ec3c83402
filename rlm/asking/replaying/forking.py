"""Fork a recorded run: its record up to a turn, and from there on live calls, as a run of its own that names it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from index_store.index import Index
from index_store.terminal import count
from index_store.types import Json
from rlm.answers.citations import Conclusion
from rlm.asking.asking import Answer, answer_of, concluded
from rlm.asking.replaying.held import RecordedBudget
from rlm.asking.replaying.replay import (
    change_models,
    chatted,
    is_chat,
    of_trace,
    opened_as_asked,
    recorded_events,
    run_of,
)
from rlm.asking.replaying.script import CANCELLED, Difference, Script
from rlm.asking.routes import Choice
from rlm.asking.runs import gateway_for, ready
from rlm.audit import Trace, read
from rlm.audit.events import RecordedEvent
from rlm.audit.kinds import Event, ModelAnswered
from rlm.audit.log import FILE_NAME
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.gateway.gateway import Tell
from rlm.gateway.ledger import Reservation
from rlm.gateway.models import window
from rlm.gateway.types import Reply, Request, Usage
from rlm.limits import Limits, Models
from rlm.loop.budget import Budget
from rlm.loop.recording import Journal, Watch, unwatched
from rlm.loop.run import Run
from rlm.memo import open_memo

_POLL_S = 0.02
_CAPS = (
    "usd",
    "tokens",
    "calls",
    "timeout_s",
    "concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "allow_unpriced",
)


@dataclass(slots=True)
class ForkedBudget(RecordedBudget):
    """A budget that answers from the record, for nothing, until the run goes its own way; then it is like any."""

    def told(self, conversation: str) -> dict[str, Json]:
        """What is left."""
        return (Budget if self.script.is_live else RecordedBudget).told(self, conversation)

    def within(self) -> asyncio.Timeout:
        """A context that ends when the time is up, or was by the record."""
        deadline = Budget.within(self)
        self.stop_by["timeout"] = lambda: deadline.reschedule(0)
        return deadline

    def passed(self, conversation: str) -> str:
        """Which cap was passed."""
        return (Budget if self.script.is_live else RecordedBudget).passed(self, conversation)

    async def recall(self, conversation: str, keys: Sequence[str]) -> list[Json]:
        """What the record has from the store, or the store itself."""
        return await (Budget if self.script.is_live else RecordedBudget).recall(self, conversation, keys)

    async def keep(self, conversation: str, values: Mapping[str, Json]) -> None:
        """Keep what was answered live."""
        await (Budget if self.script.is_live else RecordedBudget).keep(self, conversation, values)

    def trouble(self, conversation: str) -> str:
        """Why the store is not used any more."""
        return (Budget if self.script.is_live else RecordedBudget).trouble(self, conversation)

    def worsts(self, conversation: str, requests: Sequence[Request]) -> list[Usage]:
        """What calls may use at most."""
        return (Budget if self.script.is_live else RecordedBudget).worsts(self, conversation, requests)

    def worsts_of(self, conversation: str, model: str, sizes: Sequence[tuple[int, int]]) -> list[Usage]:
        """What calls of such sizes may use at most."""
        kind = Budget if self.script.is_live else RecordedBudget
        return kind.worsts_of(self, conversation, model, sizes)

    async def reserve_all(self, conversation: str, worsts: Sequence[Usage]) -> list[Reservation]:
        """Set aside what calls need at most."""
        kind = Budget if self.script.is_live else RecordedBudget
        return await kind.reserve_all(self, conversation, worsts)

    def pays(self, request: Request) -> bool:
        """Whether what is left pays for a call."""
        return (Budget if self.script.is_live else RecordedBudget).pays(self, request)

    async def reserve_last(self, model: str, first: Callable[[], Usage]) -> None:
        """Set one call aside for the end."""
        await Budget.reserve_last(self, model, first)

    async def release_last(self) -> None:
        """Give back the call that was set aside."""
        await Budget.release_last(self)

    def shares(self, children: int) -> list[Budget]:
        """A budget for each child."""
        return (Budget if self.script.is_live else RecordedBudget).shares(self, children)

    async def complete(
        self, conversation: str, request: Request, held: Reservation | None, tell: Tell
    ) -> Reply:
        """The reply that the record has, or a live one."""
        kind = Budget if self.script.is_live else RecordedBudget
        return await kind.complete(self, conversation, request, held, tell)

    async def embed(self, conversation: str, request: Request, tell: Tell) -> Reply:
        """The vectors that the record has, or live ones."""
        kind = Budget if self.script.is_live else RecordedBudget
        return await kind.embed(self, conversation, request, tell)


class _Recording:
    """A recorder that writes the fork's trace, and holds it against the record up to where they part."""

    size = 0

    def __init__(
        self,
        script: Script,
        trace: Trace,
        turn: int,
        part: Callable[[], object],
        on_models: Callable[[RecordedEvent], object],
    ) -> None:
        self._script, self._trace, self._part, self._on_models = script, trace, part, on_models
        asks = [e["seq"] for e in script.events if e["kind"] == "model_asked" and e["conversation"] == "0"]
        self._until = asks[turn - 1]
        self._lock = threading.RLock()

    def record(self, conversation: str, event: Event, /) -> int:
        """Write one event, and let the run go its own way where the record comes to the turn."""
        with self._lock:
            if not self._script.is_live:
                self._script.hear(conversation, event)
                if isinstance(event, ModelAnswered):  # for nothing, without any request
                    event = replace(event, cached=True, attempts=None)
            seq = self._trace.record(conversation, event)
            self.size = self._trace.size
            following = self._script.next("0")
            is_there = following is not None and following["seq"] == self._until
            if not self._script.is_live and conversation == "0" and is_there:
                self._script.is_live = True
                self._part()
            elif conversation == "0" and (chosen := self._script.models_next()):
                self._on_models(chosen)
            return seq


def fork(
    run: str | Path,
    index: str | Path | Index,
    turn: int,
    models: Models,
    folder: str | Path,
    *,
    caps: Limits = Limits(),
    watch: Watch = unwatched,
    memo: bool = True,
) -> Answer:
    """Do a recorded run again up to a turn of its root conversation, and go on live from there; blocks.

    `turn`: from 1, the first call of the root model that is made live, by `models`. `folder`: of the new run, whose
    trace names the head of this one and the turn. `caps`: on dollars, tokens, calls and time, of the live calls alone;
    all other limits are those of the record. `memo`: as of `rlm.ask`, for live calls. Raises RlmError or
    IndexStoreError: one sentence.
    """
    events = recorded_events(run)
    opened = opened_as_asked(index, events[0], anyway=False)
    asks = sum(event["kind"] == "model_asked" and event["conversation"] == "0" for event in events)
    if not 1 <= turn <= asks:
        raise RlmError(
            f"the run has {count(asks, 'turn')}, and --from is {turn}; give one of them, from 1 on"
            if asks
            else "the run asked no model, so there is no turn to go on from"
        )
    limits = replace(of_trace(Limits, events[0]["limits"]), **{name: getattr(caps, name) for name in _CAPS})
    parent: dict[str, Json] = {"head": read(run)[1].head, "turn": turn}
    ready(opened, models)
    script = Script(events, is_fork=True)
    with Trace.open(folder) as trace:
        try:
            return run_blocking(
                _forked(opened, script, turn, models, limits, trace, Path(folder), parent, watch, memo)
            )
        finally:
            if not script.is_live:
                with contextlib.suppress(OSError):  # nothing in it is more than the record
                    (Path(folder) / FILE_NAME).unlink()
                    Path(folder).rmdir()


async def _forked(
    index: Index,
    script: Script,
    turn: int,
    models: Models,
    limits: Limits,
    trace: Trace,
    folder: Path,
    parent: dict[str, Json],
    watch: Watch,
    memo: bool,
) -> Answer:
    opened, tasks = script.events[0], list[asyncio.Future[Any]]()
    loop = asyncio.get_running_loop()
    first = opened if turn > 1 else opened | {"models": models.as_json(), "window": None}
    async with gateway_for(limits) as gateway:
        store = open_memo(index.beside) if memo else None
        budget = ForkedBudget(gateway, limits.timeout_s, memo=store, script=script)
        budget.stop_by[CANCELLED] = lambda: loop.call_soon_threadsafe(
            lambda: [t.cancel() for t in tasks[-1:]]
        )
        made: list[Run] = []

        def part() -> None:
            own = limits.window or window(models.root)
            if turn > 1:
                made[0].change(models, own)
            else:
                made[0].window = own

        recording = _Recording(script, trace, turn, part, lambda event: change_models(made[0], event))
        run = run_of(first, index, budget, Journal(recording, watch))
        run.limits, run.loop = limits, loop
        made.append(run)
        choice = Choice(opened["route"], opened.get("route_why", ""))
        conclusion = await _until_it_ends(run, script, choice, parent, tasks)
        return answer_of(run, opened["question"], conclusion, folder, trace.head)


async def _until_it_ends(
    run: Run, script: Script, choice: Choice, parent: dict[str, Json], tasks: list[asyncio.Future[Any]]
) -> Conclusion:
    """How the fork ends. Raises RlmError where it leaves the record before the turn, or its model cannot be asked."""
    question = script.events[0]["question"]
    if is_chat(script.events):
        going: asyncio.Future[Conclusion] = asyncio.ensure_future(chatted(run, script, choice, tasks, parent))
    else:
        going = asyncio.ensure_future(concluded(run, question, choice, parent=parent))
        tasks.append(going)
    try:
        while not going.done() and (script.is_live or not script.differences):
            await asyncio.wait({going}, timeout=_POLL_S)
    finally:
        script.is_over = not script.is_live
        if not going.done():
            going.cancel()
            await asyncio.wait([going])
    if (difference := script.first_difference()) is not None:
        raise RlmError(_left(difference))
    conclusion = going.result()
    if conclusion.stop == "failed":
        raise RlmError(conclusion.error)
    return conclusion


def _left(difference: Difference) -> str:
    return (
        f"the run does not come out the same up to that turn: event {difference.seq} differs in {difference.field}; "
        "give an earlier turn, or see rlm trace replay without --from"
    )
