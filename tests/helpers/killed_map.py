"""Maps that are killed, each at a moment of its own.

    python -m tests.helpers.killed_map TEXT FOLDER KILLS SEED WORDS...

WORDS are what is typed behind `rlm map`; the text is copied for each, so that each has a store of its own. All are
forks of one process, in which no model was asked yet; a dry run there has loaded what a map loads. One is left alone
and counts its events; each other is killed some milliseconds after one of them. One that ended before its moment was
not killed, and is tried again.

Prints the folder of the one that was left alone, then that of each that was killed, in which the same command goes on.
"""

import io
import os
import random
import shutil
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

from rlm.cli import main
from rlm.gateway.litellm_setup import litellm
from tests.helpers.killing import forked, killed

MOST_MS = 30.0


def mapped(text: Path, words: list[str], folder: Path) -> None:
    """Map by the command, in this process."""
    folder.mkdir()
    shutil.copy(text, folder)
    os.chdir(folder)
    assert main(["map", *words]) == 0


def kill(text: Path, folder: Path, kills: int, seed: int, words: list[str]) -> None:
    litellm()  # whose import takes longer than a map
    with redirect_stdout(io.StringIO()):
        assert main(["map", *words, "--dry-run"]) == 0
    mapping = partial(mapped, text, words)
    events = forked(mapping, folder / "whole", None)
    assert events is not None
    print(folder / "whole", flush=True)
    for one in killed(mapping, folder, events, kills, random.Random(seed), lambda tried: MOST_MS):
        print(one, flush=True)


if __name__ == "__main__":
    kill(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
