"""A run that is said to have ended otherwise than it did, or to have cost otherwise where a call was cut short."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm import Demands, Limits, Models, RlmError, ask
from rlm.asking.chat import open_chat
from rlm.audit import read, verify
from rlm.gateway.blocking import run_blocking
from tests.helpers.forging import forged
from tests.helpers.model_server import MODEL, ModelServer, Script, Step, error
from tests.helpers.rlm_toy import warm_up

Event = dict[str, Any]
QUESTION = "How many masts?"
LOOK = "```python\nprint(context.read('L0-00000'))\n```"
DRAFT = "```python\nanswer['content'] = 'Two.'\n```"
DONE = "```python\nFINAL('Two.')\n```"
SPIN = "```python\nwhile True: pass\n```"
REPLY = 'Two.\n\n[L0-00000] "The ketch has two masts."'
CITED = Demands(citations=True)

#: A script, the options by which it ends, and how it does.
ENDS: dict[str, tuple[Script, dict[str, Any], str]] = {
    "an answer": ([LOOK, DONE], {}, "answer"),
    "an answer of one call": ([REPLY], {"route": "direct"}, "answer"),
    "an answer that is not taken": ([DONE], {"demands": CITED, "limits": Limits(turns=1)}, "unmet"),
    "the budget, with nothing": ([LOOK], {"limits": Limits(calls=1)}, "budget"),
    "the budget, with a draft": ([DRAFT, LOOK], {"limits": Limits(calls=2)}, "budget"),
    "the budget, with a call kept back": ([LOOK] * 4 + [REPLY], {"limits": Limits(calls=5)}, "budget"),
    "the budget, on the first call": ([REPLY], {"route": "direct", "limits": Limits(calls=0)}, "budget"),
    "the budget, on the second try": (
        ["Two."],
        {"route": "direct", "limits": Limits(calls=1), "demands": CITED},
        "budget",
    ),
    "the turns, with a draft": ([DRAFT], {"limits": Limits(turns=2)}, "turns"),
    "the turns, with a call kept back": ([LOOK, LOOK, REPLY], {"limits": Limits(turns=2)}, "turns"),
    "no code, with a call kept back": ([LOOK, *["Well."] * 3, REPLY], {}, "no code"),
    "the clock, in a cell": ([SPIN], {"limits": Limits(timeout_s=3)}, "timeout"),
    "the clock, in a call, with a draft": (
        [DRAFT, Step(DONE, delay_s=300)],
        {"limits": Limits(timeout_s=3)},
        "timeout",
    ),
}


def played(index: Index, runs: Path, script: Script, **options: Any) -> Path:
    """The run folder of a question."""
    warm_up()
    with ModelServer(script) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        given: dict[str, Any] = {"route": "rlm", "models": Models(MODEL, MODEL)} | options
        ask(index, QUESTION, runs=runs, **given)
    (folder,) = runs.iterdir()
    return folder


@pytest.mark.parametrize("name", ENDS)
def test_another_stop_than_the_one_that_ended_the_run_is_found_where_it_is_told(
    index: Index, tmp_path: Path, name: str
) -> None:
    script, options, stop = ENDS[name]
    run = played(index, tmp_path / "runs", script, **options)
    assert verify(run).ok, verify(run).reason
    events = read(run)[0]
    answered = next(event for event in reversed(events) if event["kind"] == "answered")
    assert (answered["stop"], events[-1]["stop"]) == (stop, stop)
    for other in {"answer", "budget", "turns", "timeout"} - {stop}:
        answered["stop"] = events[-1]["stop"] = other
        verdict = verify(forged(events, tmp_path))
        assert not verdict.ok and verdict.first_bad_line == answered["seq"] + 1, (other, verdict)
        assert f"ended by {other!r}" in verdict.reason or "no model said anything" in verdict.reason


async def _interrupted(chat: Any, until: Callable[[], bool]) -> None:
    asking = asyncio.ensure_future(chat.ask("Which is shorter?"))
    while not until():
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])


@pytest.mark.parametrize("ends", ["interrupted", "goes on"])
def test_the_total_of_a_chat_with_a_question_that_was_interrupted_is_held_against_its_calls(
    index: Index, tmp_path: Path, ends: str
) -> None:
    warm_up()
    script: list[str | Step] = [DONE, Step(DONE, delay_s=300), DONE]

    async def chatting(server: ModelServer) -> None:
        async with open_chat(index, models=Models(MODEL, MODEL), runs=tmp_path / "runs") as chat:
            await chat.ask(QUESTION)
            await _interrupted(chat, lambda: server.calls == 2)
            if ends == "goes on":
                await chat.ask("And now?")

    with ModelServer(script) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        run_blocking(chatting(server))
    (run,) = (tmp_path / "runs").iterdir()
    assert verify(run).ok, verify(run).reason
    events = read(run)[0]
    cut = next(event for event in events if event["kind"] == "model_failed")
    assert cut["usage"]["completion_tokens"] > 0  # it may have been billed
    for change in (1, -1):
        events[-1]["usage"]["completion_tokens"] += change
        verdict = verify(forged(events, tmp_path))
        assert verdict.first_bad_line == len(events) and "the run is said to have used" in verdict.reason
        events[-1]["usage"]["completion_tokens"] -= change


def test_a_call_that_was_stopped_before_it_began_is_told_to_have_cost_nothing(
    index: Index, tmp_path: Path
) -> None:
    """Three prompts take turns for one slot: two of them have not been sent when the time is up."""
    ask_three = "```python\nprint(llm_query_batched(['a', 'b', 'c']))\n```"
    limits = Limits(timeout_s=4, concurrency=1)
    run = played(index, tmp_path / "runs", [ask_three, Step("late", delay_s=300)], limits=limits)
    assert verify(run).ok, verify(run).reason
    events = read(run)[0]
    failed = [event for event in events if event["kind"] == "model_failed"]
    assert sorted(len(event["attempts"]) for event in failed) == [0, 0, 1]
    events[-1]["usage"]["prompt_tokens"] += 1
    assert "its calls together" in verify(forged(events, tmp_path)).reason


def test_a_question_that_failed_in_a_chat_says_nothing_about_the_next(index: Index, tmp_path: Path) -> None:
    async def chatting() -> None:
        async with open_chat(index, models=Models(MODEL, MODEL), runs=tmp_path / "runs") as chat:
            with pytest.raises(RlmError, match="refused the request"):
                await chat.ask(QUESTION)
            await chat.ask("And now?")

    with ModelServer([error(400, "no"), DONE]) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        run_blocking(chatting())
    (run,) = (tmp_path / "runs").iterdir()
    assert verify(run).ok, verify(run).reason
    events = read(run)[0]
    second = [event for event in events if event["kind"] == "answered"][-1]
    second["stop"] = events[-1]["stop"] = "budget"
    verdict = verify(forged(events, tmp_path))
    assert verdict.first_bad_line == second["seq"] + 1 and "no call was refused" in verdict.reason
