"""Progress on standard error: a bar for each stage in a terminal, elsewhere a line as it ends."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from index_store.terminal import byte_size, say, spelled

if TYPE_CHECKING:
    from rich.console import Console

    from raptor.workspace import Progress


#: Stages that are told in bytes, and not in files, chunks or calls.
IN_BYTES = ("push", "pull", "verify")


def show_progress(*, quiet: bool = False) -> "AbstractContextManager[Progress]":
    """A `Progress` for as long as a build runs: bars in a terminal, else lines of a log, both on standard error.

    `quiet`: it shows nothing.
    """
    if quiet:
        return nullcontext(lambda stage, done, total: None)
    if not sys.stderr.isatty():
        return progress_lines()
    from rich.console import Console

    return progress_bars(Console(stderr=True))


@contextmanager
def progress_lines() -> "Iterator[Progress]":
    """A log: `embed: 120 in 3.1 s` as each stage ends. One that a failure cuts short has no line."""
    stages: list[tuple[str, float]] = []
    latest = 0

    def end() -> None:
        if stages:
            name, began = stages[-1]
            line = f"{name}: {_amount(name, latest)} in {time.monotonic() - began:.1f} s"
            say(spelled(line), file=sys.stderr, flush=True)

    def show(stage: str, done: int, total: int) -> None:
        nonlocal latest
        if not stages or stages[-1][0] != stage:
            end()
            stages.append((stage, time.monotonic()))
        latest = done

    yield show
    end()


@contextmanager
def progress_bars(console: "Console") -> "Iterator[Progress]":
    """One bar for each stage, from its first report on: done, total, rate, time taken, time left."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description:<20}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TextColumn("{task.fields[rate]}"),
    ]
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for before in bars.tasks:  # one whose total was never known ends with what it did
                    bars.update(before.id, total=before.completed)
                tasks[stage] = bars.add_task(spelled(stage), total=total or None, amount="", rate="")
            speed = bars.tasks[tasks[stage]].speed
            rate = f"{_amount(stage, round(speed))}/s" if speed else ""
            amount = " of ".join(_amount(stage, number) for number in (done, total) if number)
            bars.update(tasks[stage], completed=done, total=total or None, amount=amount, rate=rate)

        yield show


def _amount(stage: str, done: int) -> str:
    return byte_size(done) if stage in IN_BYTES else f"{done:,}"
