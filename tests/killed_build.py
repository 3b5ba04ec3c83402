"""A process that builds an index and is killed, again and again, until a build ends by itself.

    python -m tests.killed_build DOCS INDEX SEED [MOMENT_S ...]

Prints, for each kill, the number of summaries that were recorded by then; last, the digest.
"""

import json
import os
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

import litellm  # noqa: F401  (loaded once, before the forks)
import sklearn.cluster  # noqa: F401

import raptor.clustering
import raptor.documents  # noqa: F401
from index_store import embedder
from raptor.build import build_index
from raptor.settings import BuildSettings
from tests import tiny_embedder
from tests.model_server import MODEL

embedder.load_embedder = tiny_embedder.load  # type: ignore[assignment]


def build(docs: str, index: str, moment_s: float | None) -> None:
    if moment_s is not None:
        threading.Timer(moment_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
    report = build_index(docs, index, summarizer=MODEL, settings=BuildSettings(concurrency=3))
    if moment_s is None:
        print(json.dumps({"digest": report.digest, "calls": report.calls}), flush=True)


def recorded(index: str) -> list[str]:
    """Keys of the summaries in the checkpoint."""
    path = Path(index) / "build.sqlite"
    if not path.exists():
        return []
    with sqlite3.connect(path) as db:
        exists = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'results'").fetchone()[0]
        return [k for (k,) in db.execute("SELECT key FROM results WHERE kind = 'summary'")] if exists else []


def main(docs: str, index: str, *moments: str) -> None:
    for moment in [*map(float, moments), None]:
        child = os.fork()
        if not child:
            build(docs, index, moment)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if moment is not None:
            told = {"killed": code == -signal.SIGKILL, "recorded": len(recorded(index)), "at": time.time()}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
