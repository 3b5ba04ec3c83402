"""A build on a Ray cluster, with the tiny embedder, killed when so many of its summaries are done.

python -m tests.helpers.killed_on_ray DOCS INDEX ADDRESS SUMMARIES
"""

import os
import signal
import sys

from index_store import embedder
from raptor import BuildSettings, build_index
from tests.helpers import tiny_embedder
from tests.helpers.model_server import MODEL


def main(docs: str, index: str, address: str, summaries: str) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith("summarise") and done == int(summaries):
            os.kill(os.getpid(), signal.SIGKILL)

    settings = BuildSettings(concurrency=2)
    build_index(
        docs, index, summarizer=MODEL, settings=settings, progress=progress, engine="ray", address=address
    )


if __name__ == "__main__":
    embedder.load_embedder = tiny_embedder.load
    main(*sys.argv[1:])
