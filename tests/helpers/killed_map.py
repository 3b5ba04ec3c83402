"""Maps that are killed, each at a moment of its own.

    python -m tests.helpers.killed_map TEXT FOLDER KILLS SEED WORDS...

WORDS are what is typed behind `rlm map`; the text is copied for each, so that each has a store of its own. All are
forks of one process, in which no model was asked yet. One is left alone and counts its events; each other is killed
some milliseconds after one of them. One that ended before its moment was not killed, and is tried again.

Prints the folder of the one that was left alone, then that of each that was killed, in which the same command goes on.
"""

import os
import random
import shutil
import signal
import sys
import threading
from pathlib import Path
from unittest.mock import patch

from rlm.audit.log import Trace
from rlm.cli import main
from rlm.gateway.litellm_setup import litellm

MOST_MS = 30.0


def forked(folder: Path, text: Path, words: list[str], moment: tuple[int, float] | None) -> int | None:
    """How many events a map had, in a folder of its own; None where it was killed."""
    folder.mkdir()
    shutil.copy(text, folder)
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        code = 1
        try:
            os.chdir(folder)
            os.write(writing, str(mapped(words, moment)).encode())
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


def mapped(words: list[str], moment: tuple[int, float] | None) -> int:
    """Map by the command, in this process; the number of events, where it is not killed."""
    events, write = 0, Trace._write

    def counted(trace: Trace, line: bytes) -> None:
        nonlocal events
        write(trace, line)
        events += 1
        if moment and events == moment[0]:
            threading.Timer(moment[1] / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()

    with patch.object(Trace, "_write", counted), Path(os.devnull).open("w") as silent:
        os.dup2(silent.fileno(), sys.stdout.fileno())
        assert main(["map", *words]) == 0
    return events


def kill(text: Path, folder: Path, kills: int, seed: int, words: list[str]) -> None:
    litellm()  # whose import takes longer than a map
    rng = random.Random(seed)
    events = forked(folder / "whole", text, words, None)
    assert events is not None
    print(folder / "whole", flush=True)
    done, tried = 0, 0
    while done < kills:
        tried += 1
        assert tried < 10 * kills
        moment = 1 + round((done + rng.random()) * (events - 2) / kills), rng.random() * MOST_MS
        if forked(folder / f"killed-{tried}", text, words, moment) is None:
            done += 1
            print(folder / f"killed-{tried}", flush=True)


if __name__ == "__main__":
    kill(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
