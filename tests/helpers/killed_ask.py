"""Questions that are killed, each at a moment of its own.

    python -m tests.helpers.killed_ask INDEX RUNS KILLS SEED

All are forks of one process, in which nothing was asked yet. One is left alone and counts its events; each other is
killed some milliseconds after one of them, so that kills fall before, between and behind all lines. One that ended
before its moment was not killed, and is asked again.

Prints the number of events that a whole run has, then the folder of runs of each question that was killed.
"""

import random
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

from index_store.index import Index
from rlm.cli import main
from tests.helpers.killing import forked, killed
from tests.helpers.rlm_toy import ToyEmbedder

QUESTION = "How many masts has the ketch, and what is aft?"
MOST_MS = 20.0


def ask(index: str, runs: Path) -> None:
    """Ask by the command, in this process."""
    command = ["ask", index, QUESTION, "--route", "rlm", "--runs", str(runs), "--quiet", "--json"]
    with patch.object(Index, "_embedder", ToyEmbedder()):
        assert main(command) == 0


def most_ms(tried: int) -> float:
    return MOST_MS / (1 + tried % 4)


def kill(index: str, runs: Path, kills: int, seed: int) -> None:
    asking = partial(ask, index)
    events = forked(asking, runs / "whole", None)
    assert events is not None
    print(events, flush=True)
    for folder in killed(asking, runs, events, kills, random.Random(seed), most_ms):
        print(folder, flush=True)


if __name__ == "__main__":
    kill(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
