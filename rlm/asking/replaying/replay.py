"""Do a recorded run again: the real loop, sandbox and index, with the recorded replies; and say where it differs."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from index_store.errors import IndexStoreError
from index_store.index import Index, narrowed, open_any
from index_store.terminal import count, one_line
from index_store.types import Json, Scope
from index_store.view import View
from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.answers.demands import Demands
from rlm.asking.asking import concluded
from rlm.asking.chat import GIVEN_UP, KEEPS, NOTHING_ASKED, Recorded, answered
from rlm.asking.replaying.held import LONG_S, SLACK_S, Hearing, HeldSession, RecordedBudget
from rlm.asking.replaying.script import CANCELLED, Difference, Script
from rlm.asking.routes import Choice
from rlm.asking.runs import record_closing, record_opening, words_digest
from rlm.asking.tables import Asked, concluded_table, in_order
from rlm.audit import TraceError, read
from rlm.audit.events import RecordedEvent
from rlm.audit.kinds import QuestionPut
from rlm.audit.sources import generation_asked
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.limits import Limits, Models
from rlm.loop import navigator
from rlm.loop.conversation import close
from rlm.loop.recording import Journal
from rlm.loop.run import Opening, Run
from rlm.sandbox import SandboxLimits, Session
from rlm.sandbox.types import Serve

_POLL_S = 0.02
TOLD_SCHEMA = prompts.TYPED.partition("{schema}")[0].rpartition("}")[2]
#: A replay that comes to no further event in this time, longer than any cell may take, has lost its way.
QUIET_S = 10 * LONG_S + 2 * SLACK_S
A_SHELL = "a person writes the cells"


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of doing a run again.

    `difference`: the first by the order of the record; None where all is the same. `events`: how many the record has.
    `is_closed`: whether it has its end. `index`: the digest that the run asked, and the one that was given. `changed`:
    what else is not as it was: "prompts", "code". `capture`: what was done again, and what was only taken over from the
    record, each with a count.
    """

    difference: Difference | None
    events: int
    is_closed: bool
    index: Mapping[str, Json]
    changed: Sequence[str]
    capture: Mapping[str, Mapping[str, int]]

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return self.difference is None

    def as_json(self) -> dict[str, Json]:
        """The replay as the command line prints it."""
        return {
            "same": self.is_same,
            "difference": None if self.difference is None else asdict(self.difference),
            "events": self.events,
            "closed": self.is_closed,
            "index": dict(self.index),
            "changed": list(self.changed),
            "capture": {name: dict(counts) for name, counts in self.capture.items()},
        }


def replay(run: str | Path, index: str | Path | Index, *, anyway: bool = False) -> Replay:
    """Do the run of a trace again, over the index that it asked; no model is called. Blocks.

    `anyway`: also where the index has another digest, or the trace is not as it was written from some line on.
    Raises RlmError or IndexStoreError: one sentence.
    """
    events = recorded_events(run, anyway)
    opened = opened_as_asked(index, events[0], anyway)
    script = Script(events)
    run_blocking(_followed(opened, script))
    script.end()
    return Replay(
        script.first_difference(),
        len(events),
        script.is_closed,
        {"recorded": events[0]["index"]["digest"], "given": opened.digest},
        [name for name, is_other in _others(events[0]) if is_other],
        _capture(script),
    )


def recorded_events(run: str | Path, anyway: bool = False) -> list[RecordedEvent]:
    """The events of a trace that may be done again. Raises RlmError where it has none, is not as it was written,
    or lacks contents that were taken out."""
    events, verdict = read(run)
    if not events:
        raise TraceError(f"there is nothing to do again: {verdict.reason}")
    is_cut_off = events[-1]["kind"] != "run_closed" and verdict.unread <= 1
    if not verdict.ok and not is_cut_off and not anyway:
        raise TraceError(
            f"the trace is not as it was written: line {verdict.first_bad_line}: {verdict.reason}; give --anyway to do "
            f"the {count(len(events), 'event')} before it again"
        )
    if verdict.taken_out and not anyway:
        raise TraceError(
            "contents were taken out of the trace, so it cannot come out the same; give --anyway to do the rest again"
        )
    if events[0].get("route_why") == A_SHELL:
        raise RlmError(
            "this is the trace of rlm shell, whose code a person wrote: there is no model to replay"
        )
    return events


def opened_as_asked(index: str | Path | Index, opened: RecordedEvent, anyway: bool) -> Index:
    """The generation that the run asked. Raises RlmError where the index has none of its digest, unless `anyway`."""
    navigator.register()
    given = index if isinstance(index, Index) else open_any(index)
    if not given.is_plain:
        given.check_embedder_named()
    asked = generation_asked(given, opened)
    if asked is None and not anyway:
        said = one_line(opened["index"]["digest"], 12)
        raise RlmError(
            f"{given.path.name} is another index than the run asked, or another state of it (digest {said}, and this "
            f"has {given.digest[:12]}); give the one it asked, or --anyway to see what changes first"
        )
    if asked is None and given.access is None and opened.get("access") is not None:
        return narrowed(given, opened["access"])
    return asked or given


def _others(opened: RecordedEvent) -> Iterable[tuple[str, bool]]:
    """What is not as it was when the run was recorded, beside the index."""
    from importlib.metadata import version

    yield "prompts", opened["prompts"]["sha256"] != words_digest()
    yield "code", opened["code_version"] != version("raptor-rlm")


def _capture(script: Script) -> dict[str, dict[str, int]]:
    """What was done again as far as the replay went, and what was only taken over, each with a count."""
    heard = script.heard_events()
    numbers = {
        kind: sum(event["kind"] == kind for event in heard) for kind in {event["kind"] for event in heard}
    }
    killed = script.taken["cells"]
    redone = {
        "code": numbers.get("code_run", 0),
        "visits": numbers.get("visited", 0),
        "outputs": numbers.get("code_run", 0) - killed,
        "prompts": numbers.get("model_asked", 0),
        "answers": numbers.get("answered", 0),
        "citations": sum(len(event["citations"]) for event in heard if event["kind"] == "answered"),
    }
    taken = {
        "model replies": numbers.get("model_answered", 0),
        "model failures": numbers.get("model_failed", 0),
        "what was left of the budget": numbers.get("budget", 0),
        "ends of killed cells": killed,
        "verbs out of time": script.taken["verbs out of time"],
        "clock": len(heard),
    }
    return {"redone": redone, "taken_over": taken}


# -- the run itself ----------------------------------------------------------------------------------------


async def _followed(index: Index, script: Script) -> None:
    """Run the record's run until it has ended, or the first difference is known, or the record ends."""
    going = asyncio.ensure_future(_conducted(index, script))
    heard, quiet_s = -1, 0.0
    while not going.done() and not script.has_all():
        await asyncio.wait({going}, timeout=_POLL_S)
        quiet_s = quiet_s + _POLL_S if heard == script.heard() else 0.0
        heard = script.heard()
        if quiet_s > QUIET_S:
            break
    if not going.done() and script.is_closed and script.first_difference() is None:
        await asyncio.wait({going}, timeout=5.0)  # it has recorded its end, and closes
    script.is_over = True
    going.cancel()
    try:
        await going
    except asyncio.CancelledError:
        return
    except (RlmError, IndexStoreError):
        if not script.heard_events():  # it could not even begin
            raise


async def _conducted(index: Index, script: Script) -> None:
    """Put the record's questions, one after another, to a run that follows it."""
    opened = script.events[0]
    loop, tasks = asyncio.get_running_loop(), list[asyncio.Future[Any]]()

    def cancel() -> None:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks[-1:]])

    budget = RecordedBudget(Gateway(Ledger()), 1e9, script=script, stop_by={CANCELLED: cancel})
    run = run_of(
        opened, index, budget, Journal(Hearing(script, cancel, lambda event: change_models(run, event)))
    )
    choice = Choice(opened["route"], opened.get("route_why", ""))
    if "map" in opened:
        asked = of_trace(Asked, in_order(opened["map"]))
        tasks.append(asyncio.ensure_future(concluded_table(run, asked)))
        await tasks[-1]
        return
    if not is_chat(script.events):
        tasks.append(asyncio.ensure_future(concluded(run, opened["question"], choice)))
        await tasks[-1]
        return
    await chatted(run, script, choice, tasks)


def run_of(opened: RecordedEvent, index: Index, budget: RecordedBudget, journal: Journal) -> Run:
    """The run that a record says, as it opened. Raises RlmError for what no run has."""

    def held(conversation: str, opening: Opening, serve: Serve, limits: SandboxLimits) -> Session:
        if budget.script.is_live:
            return opening(serve, limits)
        return HeldSession(budget, conversation, opening, serve, limits)

    view = View(index, scope=of_trace(Scope, opened.get("scope") or {}))
    models, limits = of_trace(Models, opened["models"]), of_trace(Limits, opened["limits"])
    demands = of_trace(Demands, _in_order(opened.get("demands") or {}, budget.script))
    loop = asyncio.get_running_loop()
    window = opened.get("window", limits.window)
    return Run(view, models, limits, demands, budget, journal, loop, sandbox=held, window=window)


def _in_order(demands: Mapping[str, Any], script: Script) -> Mapping[str, Any]:
    """The demands with the fields of their schema in the order in which a model was told it: a trace sorts them."""
    first = next((event for event in script.ahead("0") if event["kind"] == "model_asked"), None)
    content = first["messages"][0]["content"] if first is not None and first["messages"] else ""
    _, found, told = content.rpartition(TOLD_SCHEMA)
    with contextlib.suppress(ValueError, RecursionError):
        schema, _ = json.JSONDecoder().raw_decode(told.lstrip()) if found else (None, 0)
        if schema is not None and schema == demands.get("schema"):
            return {**demands, "schema": schema}
    return demands


def of_trace(kind: Callable[..., Any], fields: Mapping[str, Json]) -> Any:
    """A value of `kind` by the fields that a trace has of it. Raises RlmError for fields that there are not."""
    try:
        return kind(**fields)
    except TypeError as e:
        raise RlmError(
            f"the trace opens with {kind.__name__.lower()} that this version does not know ({e})"
        ) from e


def is_chat(events: Sequence[RecordedEvent]) -> bool:
    """Whether a run is one of a chat, which goes on after a question."""
    return events[0].get("route_why") == KEEPS or any(
        event["kind"] == "question_put" or (event["kind"] == "note" and event["text"] == GIVEN_UP)
        for event in events
    )


async def chatted(
    run: Run,
    script: Script,
    choice: Choice,
    tasks: list[asyncio.Future[Any]],
    parent: Mapping[str, Json] | None = None,
) -> Conclusion:
    """Put the questions of a chat, with the models that were chosen between them; how the last of them ended."""
    recorded = Recorded(run, choice.route)
    last = NOTHING_ASKED
    try:
        record_opening(run, script.events[0]["question"], choice, parent=parent)
        question: str | None = script.events[0]["question"]
        while question is not None:
            await asyncio.to_thread(run.index.warm_up)
            last = Conclusion("", (), CANCELLED, GIVEN_UP)
            await run.budget.release_last()
            tasks.append(asyncio.ensure_future(answered(recorded, question)))
            try:
                last = await tasks[-1]
            except asyncio.CancelledError:
                if script.is_over:
                    raise
                run.journal.note("0", GIVEN_UP)
            question = _next_question(run, script)
    finally:
        if recorded.talk is not None:
            await close(recorded.talk)
        await run.budget.release_last()
        record_closing(run, last)
    return last


def change_models(run: Run, event: RecordedEvent) -> None:
    """Ask the models that the record says were chosen."""
    run.change(of_trace(Models, event["models"]), event.get("window"))


def _next_question(run: Run, script: Script) -> str | None:
    """The question that the record puts next; None for no more."""
    event = script.next("0")
    if event is None or event["kind"] != "question_put" or script.is_live:
        return None
    run.journal.record("0", QuestionPut(question=event["question"]))
    return str(event["question"])
