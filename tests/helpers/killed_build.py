"""A build that is undisturbed, then builds that are killed, again and again, until they end by themselves.

    python -m tests.helpers.killed_build DOCS FOLDER KILLS [SHARD_CHUNKS]

All are forks of one process, in which the undisturbed build has loaded what a build loads.

A moment is a step of the build (each report of progress is one) and a few milliseconds after it, so that kills fall
into every stage and between any two instructions. Moments go forward through the build, which would not get to late
ones otherwise. A build that ended before its moment was not killed: it begins anew in another folder, and does not
count.
Each run has an API key of its own, by which the model server can tell whose request it was.

Prints a line of JSON for each build that was killed, with the keys of what it had recorded, and for each that ended.
"""

import json
import os
import random
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from index_store import embedder
from raptor import BuildSettings, Sharding, build_index
from tests.helpers import tiny_embedder
from tests.helpers.model_server import MODEL

CONCURRENCY = 3
KILLS_EACH = 10  # kills of one index before its build may end
Moment = tuple[int, float]


def build(docs: str, index: str, run: str, moment: Moment | None, chunks: int) -> int:
    """The steps that the build took; it does not come back from a moment in between. `chunks`: of a shard; 0: no
    shards."""
    os.environ["OPENAI_API_KEY"] = run
    steps = 0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if moment and steps == moment[0]:
            threading.Timer(moment[1], os.kill, (os.getpid(), signal.SIGKILL)).start()

    settings = BuildSettings(concurrency=CONCURRENCY)
    shards = Sharding("size", chunks) if chunks else None
    report = build_index(docs, index, summarizer=MODEL, settings=settings, shards=shards, progress=progress)
    line = {"digest": report.digest, "calls": report.calls, "run": run, "index": index}
    print(json.dumps(line), flush=True)
    return steps


def recorded(index: str) -> list[str]:
    """Keys of the summaries in the checkpoints of an index and its shards."""
    return [key for path in sorted(Path(index).rglob("build.sqlite")) for key in _keys(path)]


def _keys(path: Path) -> list[str]:
    with sqlite3.connect(path) as db:
        exists = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'results'").fetchone()[0]
        keys = "SELECT key FROM results WHERE kind LIKE '%summary'"
        return [k for (k,) in db.execute(keys)] if exists else []


def moments(seed: int, steps: int) -> Iterator[list[Moment]]:
    """Lists of moments, each for one index."""
    chance = random.Random(seed)
    while True:
        at = sorted(chance.randint(1, steps) for _ in range(KILLS_EACH))
        yield [(step, chance.uniform(0, 0.02)) for step in at]


def forked(docs: str, index: str, run: str, moment: Moment | None, chunks: int) -> bool:
    """Whether the build was killed."""
    child = os.fork()
    if not child:
        build(docs, index, run, moment, chunks)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def main(docs: str, folder: str, kills: str, shard_chunks: str = "0") -> None:
    chunks = int(shard_chunks)
    steps = build(docs, f"{folder}/whole", "run-0", None, chunks)
    left, runs = int(kills), 0
    for number, plan in enumerate(moments(int(kills), steps)):
        index = f"{folder}/{number}"
        for moment in [*plan[:left], None]:
            runs += 1
            if not forked(docs, index, f"run-{runs}", moment, chunks):
                break
            left -= 1
            line = {"killed": True, "run": f"run-{runs}", "index": index, "recorded": recorded(index)}
            print(json.dumps(line), flush=True)
        if not left:
            return


if __name__ == "__main__":
    os.environ["NUMBA_THREADING_LAYER"] = "forksafe"  # the undisturbed build, before the forks, clusters too
    embedder.load_embedder = tiny_embedder.load
    main(*sys.argv[1:])
