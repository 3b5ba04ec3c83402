"""Progress bars on standard error; a line for each stage where that is no terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raptor.build import Progress


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A `Progress` that draws one bar for each stage: done, total, rate and time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = [
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    ]
    bars = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
    with bars:
        yield _Bars(bars).show


class _Bars:
    """One bar a stage, begun when the stage is first heard of."""

    def __init__(self, bars: Any) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}

    def show(self, stage: str, done: int, total: int) -> None:
        if stage not in self.tasks:
            if not self.bars.console.is_terminal:
                print(f"{stage} ...", file=sys.stderr, flush=True)
            self.tasks[stage] = self.bars.add_task(stage, total=total or None, rate="")
        task = self.tasks[stage]
        speed = self.bars.tasks[task].speed
        self.bars.update(task, completed=done, total=total or None, rate=f"{speed:,.0f}/s" if speed else "")
