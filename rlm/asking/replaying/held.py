"""What a replay puts in the place of the world: a budget that answers from the record, and sandboxes held to it."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from index_store.types import Json
from rlm.asking.replaying.script import OUTSIDE, Script, is_by_clock, why_killed
from rlm.audit.consistency.calls import CUT_OFF
from rlm.audit.events import RecordedEvent
from rlm.audit.kinds import Event
from rlm.gateway.blocks import outside, unquote
from rlm.gateway.errors import CallFailed, GatewayError, OverBudget, Unpriced
from rlm.gateway.gateway import UNPRICED, Tell
from rlm.gateway.ledger import Reservation
from rlm.gateway.types import Attempt, Reply, Request, Served, Usage
from rlm.loop.budget import LAST_CALLS, Budget
from rlm.loop.calls import ASKED
from rlm.loop.ending import KEPT_BACK, NO_EVIDENCE
from rlm.loop.run import NO_COUNTS, Opening
from rlm.loop.single import GATHERED_CHARS
from rlm.mapping.types import Values, Wanted
from rlm.memo import TROUBLE
from rlm.prompts import refusals
from rlm.sandbox import CellResult, SandboxLimits, Session
from rlm.sandbox.types import CallRefused, Clock, Serve

_POLL_S = 0.01
#: What a cell of the record that was killed may still do once it has asked for all that it had asked for then.
_SETTLE_S = 0.05
#: A cell may take ten times what it took, of which at most LONG_S count, and SLACK_S: this machine may be slower.
SLACK_S, LONG_S = 60.0, 60.0
#: Within this a cell is told that the run was stopped in it, on a busy machine too.
KILL_S = 30.0
CPU_S = 3_600
AMOUNTS = ("usd", "tokens", "calls", "seconds")
_LEFT = re.compile(r"^Left: (.*)$", re.MULTILINE)
_AMOUNT = re.compile(r"\b(usd|tokens|calls|seconds) (-?[\d,]*\.?\d+(?:e-?\d+)?)")
_PASSED = re.compile(r"the cap of \S[^;]{0,300} was passed by [^;]{0,300}; no more calls are made")


class Elsewhere(GatewayError):
    """The replay has left the record, which has no reply for it."""


class Hearing:
    """A recorder that holds each event against the record. `on_cancel`: called where a person then stopped the run;
    `on_models`: with the event, where other models were chosen."""

    def __init__(
        self, script: Script, on_cancel: Callable[[], object], on_models: Callable[[RecordedEvent], object]
    ) -> None:
        self._script, self._on_cancel, self._on_models = script, on_cancel, on_models
        self._count = self.size = 0

    def record(self, conversation: str, event: Event, /) -> int:
        """Hold one event against the record; returns how many there were before."""
        if self._script.hear(conversation, event):
            self._on_cancel()
        self.size = self._script.size  # about what the record had by here
        self._count += 1
        if conversation == "0" and (chosen := self._script.models_next()):
            self._on_models(chosen)
        return self._count - 1


@dataclass(slots=True)
class RecordedBudget(Budget):
    """A budget that grants and refuses what the record says, tells what was left then, and answers with its replies.

    Its ledger has no caps: what fits under a cap hangs, beside the calls, on which of several children went first.
    """

    script: Script = field(kw_only=True)
    #: Ends the question under way, by its clock or as a person would.
    stop_by: dict[str, Callable[[], object]] = field(kw_only=True, default_factory=dict)

    def told(self, conversation: str) -> dict[str, Json]:
        """What was left then: as it was noted, or as the model was told next."""
        for event in self.script.ahead(conversation):
            if event["kind"] == "budget":
                return {name: event["left"].get(name) for name in AMOUNTS}
            if event["kind"] == "model_asked":
                return _left_told(event)
        return dict.fromkeys(AMOUNTS)

    def within(self) -> asyncio.Timeout:
        """A context that ends when the record says that the time was up."""
        deadline = asyncio.timeout(None)
        self.stop_by["timeout"] = lambda: deadline.reschedule(0)
        return deadline

    def passed(self, conversation: str) -> str:
        """Which cap was passed by then, as it was noted."""
        event = self.script.next(conversation)
        if event is not None and event["kind"] == "budget" and event["reason"] != ASKED:
            return str(event["reason"])
        return self._passed_at_end(conversation) if event is not None and event["kind"] == "answered" else ""

    def _passed_at_end(self, conversation: str) -> str:
        """What the record says, where a conversation ended, of a cap that was passed."""
        if conversation == "0":
            ends = (
                event.get("error", "") for event in self.script.ahead("0") if event["kind"] == "run_closed"
            )
            text = next(ends, "")
        else:
            parent = conversation.rpartition(".")[0]
            texts = (
                result["text"]
                for event in self.script.ahead(parent)
                if event["kind"] == "child_returned" and conversation in event["children"]
                for child, result in zip(event["children"], event["results"], strict=False)
                if child == conversation and not result["ok"]
            )
            text = next(texts, "")
        found = _PASSED.search(text)
        return found[0] if found else ""

    async def recall(self, conversation: str, keys: Sequence[str]) -> list[Json]:
        """What the record has that came from the store, for the calls that it has next."""
        event = self.script.next(conversation)
        if _tells_trouble(event):
            event = self.script.next(conversation, after=1)
        if event is None or event["kind"] != "child_called" or len(event["children"]) != len(keys):
            return [None] * len(
                keys
            )  # a map's are not told in the calls that it makes, but in what it recalled
        return [self._recalled(child) for child in event["children"]]

    def _recalled(self, child: str) -> str | None:
        """The reply of a sub-call to come, where it came from the store."""
        ends = (
            event for event in self.script.ahead(child) if event["kind"] in ("model_answered", "model_failed")
        )
        end = next(ends, None)
        return str(end["text"]) if end is not None and end.get("cached") else None

    async def recall_rows(self, conversation: str, wanted: Sequence[Wanted]) -> list[Values | None]:
        """The answers that a map had from the store, as the record tells them next."""
        stored = dict[tuple[str, int], Values]()
        for event in self.script.ahead(conversation):
            if event["kind"] == "rows_recalled":
                rows = zip(event["rows"], event["values"], strict=True)
                stored |= {(event["turn"], row): values for row, values in rows}
            elif not _tells_trouble(event):
                break
        return [stored.get((one.turn, one.row)) for one in wanted]

    async def keep(self, conversation: str, values: Mapping[str, Json]) -> None:
        """Nothing is kept of what was only taken over."""

    def trouble(self, conversation: str) -> str:
        """Why the store was not used any more, as it was noted."""
        event = self.script.next(conversation)
        return str(event["text"]) if event is not None and _tells_trouble(event) else ""

    def worsts(self, conversation: str, requests: Sequence[Request]) -> list[Usage]:
        """Nothing for each; raises Unpriced under a cap on dollars, where the record has neither these calls nor a cap
        that refused them."""
        for request in requests[:1]:
            self._refuse_unpriced(conversation, request.model, "child_called")
        return [Usage() for _ in requests]

    def worsts_of(self, conversation: str, model: str, sizes: Sequence[tuple[int, int]]) -> list[Usage]:
        """What all of them together may use by the record, at the prices of then; raises Unpriced as `worsts`."""
        self._refuse_unpriced(conversation, model, "reduce_called")
        event = self.script.next(conversation)
        plan = event["plan"] if event is not None and event["kind"] == "reduce_called" else None
        return [] if plan is None else [Usage(plan["calls"], plan["tokens"], 0, plan["usd"])]

    def _refuse_unpriced(self, conversation: str, model: str, granted: str) -> None:
        event, limits = self.script.next(conversation), self.script.events[0]["limits"]
        was_refused = event is not None and event["kind"] not in (granted, "budget", "suspicious")
        if was_refused and limits.get("usd") is not None and not limits.get("allow_unpriced"):
            raise Unpriced(UNPRICED.format(model=model))

    async def reserve_all(self, conversation: str, worsts: Sequence[Usage]) -> list[Reservation]:
        """Reservations of nothing; OverBudget where the record says so."""
        event = self.script.next(conversation)
        if event is not None and event["kind"] == "budget" and event["reason"] != ASKED:
            raise OverBudget(event["reason"], "", 0, 0)
        return self.ledger.reserve_all([Usage() for _ in worsts])

    def pays(self, request: Request) -> bool:
        """Whether the record's call had as many passages."""
        asked = next((event for event in self.script.ahead("0") if event["kind"] == "model_asked"), None)
        if asked is None or not asked["messages"]:
            return True
        had, now = (
            len(unquote(messages[-1]["content"])) for messages in (asked["messages"], request.messages)
        )
        return now <= had

    async def reserve_last(self, model: str, first: Callable[[], Usage]) -> None:
        """Set a call aside where the record made one."""
        size = _last_call(self.script)
        self.last = None if size is None else Reservation(Usage(1, *size))

    async def release_last(self) -> None:
        """Forget the call that was set aside."""
        self.last = None

    def shares(self, children: int) -> list[Budget]:
        """This budget, for each child."""
        return [replace(self, last=None) for _ in range(children)]

    async def complete(
        self, conversation: str, request: Request, held: Reservation | None, tell: Tell
    ) -> Reply:
        """The reply that the record has for this call, or the failure."""
        script = self.script
        event = script.next(conversation)
        if script.has_left(conversation):
            raise Elsewhere("the replay has left the record")
        if event is None and not script.is_closed:
            await _forever()
        if event is None or event["kind"] not in ("model_answered", "model_failed"):
            if event is not None:
                script.miss(conversation, event)
            raise Elsewhere("the record has no reply here")
        if not script.is_fork:
            for attempt in event.get("attempts", ()):
                tell(_attempt(attempt))
        usage = Usage() if script.is_fork else Usage(**event.get("usage", {}))
        self.ledger.settle(self.ledger.reserve(Usage()), usage)
        if event["kind"] == "model_answered":
            return _reply(event, usage, script.next(conversation, after=1))
        if event["error"] == CUT_OFF:
            while not script.may_stop(event):
                await asyncio.sleep(_POLL_S)
            self.stopped(event)
            await _forever()
        if "refused" in event:
            raise OverBudget(event["error"], **event["refused"])
        raise CallFailed(event["error"])

    async def embed(self, conversation: str, request: Request, tell: Tell) -> Reply:
        """The vectors that the record has for this search, or the failure."""
        script = self.script
        event = script.next(conversation)
        if event is None or event["kind"] != "embedded" or script.has_left(conversation):
            if event is not None and not script.has_left(conversation):
                script.miss(conversation, event)
            raise Elsewhere("the record has no vectors here")
        if not script.is_fork:
            for attempt in event["attempts"]:
                tell(_attempt(attempt))
        usage = Usage() if script.is_fork else Usage(**event["usage"])
        self.ledger.settle(self.ledger.reserve(Usage()), usage)
        if "error" in event:
            raise CallFailed(event["error"])
        return Reply(event["vectors"], event["model"], usage, "stop", event["seconds"])

    def stopped(self, event: RecordedEvent) -> None:
        """Stop the run as it was stopped then, in its event loop; `event` came of that."""
        if end := self.stop_by.get(self.script.stop(event)):
            end()


def _tells_trouble(event: RecordedEvent | None) -> bool:
    """Whether an event says that the store was not used any more."""
    return event is not None and event["kind"] == "note" and str(event["text"]).startswith(TROUBLE)


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


def _left_told(asked: RecordedEvent) -> dict[str, Json]:
    """What a model was told to be left, in the last message that it was sent; what is not told there has no cap."""
    content = asked["messages"][-1]["content"] if asked["messages"] else ""
    lines = _LEFT.findall(outside(content))
    told = dict(_AMOUNT.findall(lines[-1])) if lines else {}
    return {name: _number(told[name]) if name in told else None for name in AMOUNTS}


def _number(text: str) -> int | float:
    plain = text.replace(",", "")
    return int(plain) if plain.lstrip("-").isdigit() else float(plain)


def _last_call(script: Script) -> tuple[int, int] | None:
    """(prompt, reply) tokens of the call that was set aside for the end of this question; None where none was used."""
    searched = 0
    for event in script.ahead("0"):
        if event["kind"] == "visited" and event.get("by") == "run":
            chars = event["arguments"].get("chars")
            searched = chars if isinstance(chars, int) else 0
        elif event["kind"] == "note" and NO_EVIDENCE in event["text"]:
            return LAST_CALLS[0] if searched > GATHERED_CHARS * LAST_CALLS[1][0] // 2 else LAST_CALLS[1]
        elif event["kind"] == "note" and KEPT_BACK in event["text"]:
            asks = (
                one for one in script.ahead("0") if one["kind"] == "model_asked" and one["seq"] > event["seq"]
            )
            asked = next(asks, None)
            return LAST_CALLS[0] if asked is None else _size(asked)
        elif event["kind"] in ("answered", "question_put"):
            return None
    return None


def _size(asked: RecordedEvent) -> tuple[int, int]:
    return next((size for size in LAST_CALLS if size[1] == asked["max_tokens"]), LAST_CALLS[0])


def _attempt(told: dict[str, Any]) -> Attempt:
    fields = {**told, "reserved": Usage(**told["reserved"]), "settled": Usage(**told["settled"])}
    return Attempt(**fields)


def _reply(event: RecordedEvent, usage: Usage, following: RecordedEvent | None) -> Reply:
    counted_here = NO_COUNTS.format(model=event["model"])
    return Reply(
        event["text"],
        event["model"],
        usage,
        event["finish_reason"],
        event["seconds"],
        event.get("tool_call", ""),
        Served(**event.get("served", {})),
        event.get("structured", False),
        following is not None and following["kind"] == "note" and following["text"] == counted_here,
    )


# -- sandboxes ---------------------------------------------------------------------------------------------


class HeldSession(Session):
    """A real session, with a clock that has time; a cell that a clock had killed ends where the record says so."""

    def __init__(
        self, budget: RecordedBudget, conversation: str, opening: Opening, serve: Serve, limits: SandboxLimits
    ) -> None:
        self._budget, self._script, self._conversation = budget, budget.script, conversation
        self._serve, self._loop = serve, asyncio.get_running_loop()
        cpu_s = limits.cpu_s if self._script.is_fork else CPU_S
        self._real = opening(self._served, replace(limits, cpu_s=cpu_s, keeps=True))
        self.limits, self.layers, self.clock = limits, self._real.layers, self._real.clock
        self._ends: RecordedEvent | None = None  # the end of the cell under way, where that is taken over
        self._killed = threading.Event()
        self._lock = threading.Lock()
        self._is_running = self._is_held = self._is_interrupted = False
        self.ended = False

    def run(self, code: str) -> CellResult:
        """Run one cell, and let it end as it had."""
        if self.ended or self._script.is_live:
            self._real.limits = replace(self._real.limits, cell_timeout_s=self.limits.cell_timeout_s)
            return self._real.run(code)
        recorded = self._script.cell_end(self._conversation)
        self._killed.clear()
        self._is_held = recorded is not None
        try:
            return self._run(code, recorded)
        finally:
            self._is_held = False

    def _run(self, code: str, recorded: RecordedEvent | None) -> CellResult:
        is_cut = recorded is not None and self._script.is_stop(recorded)
        self._ends = recorded if recorded is not None and is_by_clock(recorded) else None
        took_s = 0.0 if recorded is None else min(recorded["seconds"], LONG_S)
        timeout_s = 10 * took_s + SLACK_S
        self._real.limits = replace(self._real.limits, cell_timeout_s=timeout_s)
        watching = threading.Thread(target=self._watch, daemon=True)
        self._is_running, self._is_interrupted = True, False
        watching.start()
        try:
            result = self._real.run(code)
        finally:
            with self._lock:
                self._is_running = False
            watching.join()
        if recorded is None or self._script.has_left(self._conversation):
            if recorded is None and not self._script.has_left(self._conversation):
                self._killed.wait(KILL_S)  # the record ends in this cell, or the run was stopped in it
            self._really_end()
            return result
        if is_cut:
            self._wait_for_the_stop(recorded)
        if is_by_clock(recorded) or (result.status == recorded["status"] == "killed"):
            return self._as_recorded(recorded, result)
        return result

    def _as_recorded(self, recorded: RecordedEvent, result: CellResult) -> CellResult:
        """The end of a killed cell as the record has it: what it had printed by then, and what became of variables."""
        if not is_by_clock(recorded) and why_killed(recorded["error"]) != why_killed(result.error):
            return result
        self._script.taken["cells"] += 1
        is_lost = bool(recorded.get("state_lost"))
        if OUTSIDE in recorded["error"]:
            self._really_end()
        elif is_lost:
            self._real.reset()
        return CellResult(
            "killed",
            recorded["stdout"],
            recorded["error"],
            recorded["seconds"],
            truncated=recorded["truncated"],
            state_lost=is_lost,
        )

    def _wait_for_the_stop(self, recorded: RecordedEvent) -> None:
        """Wait until all before the stop has happened, stop the run as it was stopped, and wait for that."""
        while not self._script.may_stop(recorded):
            time.sleep(_POLL_S)
        if self._script.is_over or not self._script.has_stop(recorded):
            return
        self._loop.call_soon_threadsafe(self._budget.stopped, recorded)
        self._killed.wait(KILL_S)

    def _served(self, name: str, args: list[Json], kwargs: dict[str, Json]) -> Json:
        if self._ends is not None and self._script.is_at_end_of_cell(self._conversation):
            with self._lock:
                self._interrupt_once()
            raise CallRefused("the cell was stopped here")
        self.clock = self._real.clock
        if self._script.is_live:
            return self._serve(name, args, kwargs)
        upcoming = (
            event for event in self._script.ahead(self._conversation) if event["kind"] != "code_scanned"
        )
        event = next(upcoming, None)
        if event is not None and event["kind"] == "visited" and event.get("error") == refusals.OUT_OF_TIME:
            self._script.taken["verbs out of time"] += 1
            self.clock = Clock(0.0)
        try:
            return self._serve(name, args, kwargs)
        finally:
            self.clock = self._real.clock

    def _watch(self) -> None:
        """Interrupt the cell where its record ends with it killed, and where nothing more is asked of it."""
        while self._is_running:
            script, name = self._script, self._conversation
            if script.is_over or (
                self._ends is not None and (script.has_left(name) or script.is_at_end_of_cell(name))
            ):
                time.sleep(_SETTLE_S)
                with self._lock:
                    if self._is_running:
                        self._interrupt_once()
                return
            time.sleep(_POLL_S)

    def _interrupt_once(self) -> None:
        """Not again: the worker that takes the place of one that was killed has the variables to bring back."""
        if not self._is_interrupted:
            self._is_interrupted = True
            self._real.interrupt()

    def interrupt(self) -> None:
        """End the cell under way."""
        self._real.interrupt()

    def kill(self) -> None:
        """End the session; a cell that the run was stopped in does first what it still did by the record."""
        self._killed.set()
        if not self._is_held or self._script.has_left(self._conversation):
            self._really_end()

    def _really_end(self) -> None:
        self.ended = True
        self._real.kill()

    def reset(self) -> None:
        """Empty the namespace."""
        self._real.reset()

    def close(self) -> None:
        """End the session and free what it holds."""
        self.ended = True
        self._killed.set()
        self._real.close()
