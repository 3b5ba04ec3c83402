"""Questions that are killed, each at a moment of its own.

    python -m tests.helpers.killed_ask INDEX RUNS KILLS SEED

All are forks of one process, in which nothing was asked yet. One is left alone and counts its events; each other is
killed some milliseconds after one of them, so that kills fall before, between and behind all lines. One that ended
before its moment was not killed, and is asked again.

Prints the number of events that a whole run has, then the folder of runs of each question that was killed.
"""

import json
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

from index_store.index import Index
from rlm.audit.log import Trace
from rlm.cli import main
from tests.helpers.rlm_toy import ToyEmbedder

QUESTION = "How many masts has the ketch, and what is aft?"
MOST_MS = 20.0


def ask(index: str, runs: Path, moment: tuple[int, float] | None) -> int:
    """Ask by the command, in this process; the number of events, where it is not killed."""
    events, write = 0, Trace._write

    def counted(trace: Trace, line: bytes) -> None:
        nonlocal events
        write(trace, line)
        events += 1
        if moment and events == moment[0]:
            threading.Timer(moment[1] / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()

    command = ["ask", index, QUESTION, "--route", "rlm", "--runs", str(runs), "--quiet", "--json"]
    with patch.object(Trace, "_write", counted), patch.object(Index, "_embedder", ToyEmbedder()):
        assert main(command) == 0
    return events


def forked(index: str, runs: Path, moment: tuple[int, float] | None) -> int | None:
    """How many events a question had; None where it was killed."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.close(reading)
        with open(os.devnull, "w") as silent:  # noqa: PTH123
            os.dup2(silent.fileno(), sys.stdout.fileno())
        code: Any = 1
        try:
            os.write(writing, json.dumps(ask(index, runs, moment)).encode())
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


def kill(index: str, runs: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    events = forked(index, runs / "whole", None)
    assert events is not None
    print(events, flush=True)
    done, tried = 0, 0
    while done < kills:
        tried += 1
        assert tried < 10 * kills
        moment = (
            1 + round((done + rng.random()) * (events - 2) / kills),
            rng.random() * MOST_MS / (1 + tried % 4),
        )
        folder = runs / f"killed-{tried}"
        if forked(index, folder, moment) is None:
            done += 1
            print(folder, flush=True)


if __name__ == "__main__":
    kill(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
