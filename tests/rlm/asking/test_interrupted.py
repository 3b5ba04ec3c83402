"""Ctrl-C while a model is slow, with a real process: it ends, and leaves a closed trace that verifies."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlm.audit import read
from rlm.gateway.blocking import run_blocking
from tests.helpers.model_server import MODEL, ModelServer, Step, rate_limited, slow
from tests.helpers.toy import publish_toy

BATCH = "```python\nprint(llm_query_batched(['one', 'two', 'three']))\n```"


@pytest.mark.slow  # a process of its own imports litellm
@pytest.mark.parametrize(
    ("script", "calls", "kinds"),
    [
        ([BATCH, slow("", 60)], 4, ["model_failed"] * 3 + ["code_run", "run_closed"]),
        ([rate_limited("50")], 1, ["model_asked", "model_failed", "run_closed"]),
    ],
    ids=["batch", "between-attempts"],
)
def test_ctrl_c_ends_the_command_whatever_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: list[str | Step], calls: int, kinds: list[str]
) -> None:
    publish_toy(tmp_path / "toy.index")
    with ModelServer(script) as server:
        server.use(monkeypatch)
        command = [
            sys.executable,
            "-m",
            "rlm.cli",
            "ask",
            str(tmp_path / "toy.index"),
            "why",
            "--model",
            MODEL,
        ]
        process = subprocess.Popen(
            [*command, "--runs", str(tmp_path / "runs")],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while server.calls < calls and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err.splitlines()[-1]) == (130, "rlm: stopped")
    (run,) = (tmp_path / "runs").iterdir()
    events, verdict = read(run)
    assert verdict.ok
    assert [event["kind"] for event in events if event["kind"] != "child_returned"][-len(kinds) :] == kinds
    assert events[-1]["stop"] == "cancelled"


def test_an_interrupt_in_a_notebook_cancels_the_work_and_waits_for_its_end() -> None:
    """A notebook's cell runs inside an event loop, so the work has a thread of its own."""
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(0.2)  # by then the cell waits for this
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append("after its last words")

    async def cell() -> None:
        run_blocking(work())

    loop, earlier = asyncio.new_event_loop(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(cell())
    finally:
        signal.signal(signal.SIGINT, earlier)
        loop.close()
    assert ended == ["after its last words"]


def test_inside_a_loop_work_returns_its_result_and_raises_its_errors() -> None:
    async def half(number: int) -> int:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    async def cell() -> int:
        return run_blocking(half(4))

    async def wrong() -> int:
        return run_blocking(half(3))

    assert asyncio.run(cell()) == run_blocking(half(4)) == 2
    with pytest.raises(ValueError, match="3 is odd"):
        asyncio.run(wrong())
