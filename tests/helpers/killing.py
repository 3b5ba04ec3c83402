"""Commands that write a trace, as forks of this process, each killed some milliseconds after one of its events."""

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from unittest.mock import patch

from rlm.audit.log import Trace

#: The number of an event, from 1, and milliseconds after it.
Moment = tuple[int, float]
#: Runs a command in a folder of its own.
Work = Callable[[Path], None]


@contextmanager
def counted(moment: Moment | None) -> Iterator[list[int]]:
    """How many events were written so far, as the only item of a list; this process is killed at the moment, if any."""
    events, write = [0], Trace._write

    def counting(trace: Trace, line: bytes) -> None:
        write(trace, line)
        events[0] += 1
        if moment and events[0] == moment[0]:
            threading.Timer(moment[1] / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()

    with patch.object(Trace, "_write", counting):
        yield events


def forked(work: Work, folder: Path, moment: Moment | None) -> int | None:
    """How many events a command had in a fork of this process, which prints nothing; None where it was killed."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.close(reading)
        with open(os.devnull, "w") as silent:  # noqa: PTH123
            os.dup2(silent.fileno(), sys.stdout.fileno())
        code = 1
        try:
            with counted(moment) as events:
                work(folder)
            os.write(writing, str(events[0]).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = told.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert status == 0, status
    return int(said)


def killed(
    work: Work, runs: Path, events: int, kills: int, rng: random.Random, most_ms: Callable[[int], float]
) -> Iterator[Path]:
    """The folder of each command that was killed, at moments all over the `events` that a whole one has. One that ended
    before its moment was not killed, and is tried again. `most_ms`: after an event, by the number of the try."""
    done = 0
    for tried in count(1):
        if done == kills:
            return
        assert tried < 10 * kills
        moment = 1 + round((done + rng.random()) * (events - 2) / kills), rng.random() * most_ms(tried)
        folder = runs / f"killed-{tried}"
        if forked(work, folder, moment) is None:
            done += 1
            yield folder
