"""A build takes no more memory as its corpus grows, but for some bytes a chunk: what else there is, is in files."""

import gc
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raptor
from index_store import (
    duplicates,
    inverted_write,
    lexical,
    name_table,
    names,
    spool,
    tables,
    vectors,
    word_list,
)
from raptor import corpus, embedding, grower
from raptor.clustering import cluster, fast, geometry, guests
from raptor.clustering.settings import ClusterSettings
from raptor.settings import BuildSettings
from raptor.workspace import Clock
from rlm.gateway.offline.registry import register_offline
from tests.helpers import tiny_embedder

#: Bytes of a chunk that docs/scale.md states.
A_CHUNK = 60
#: Those of the first two levels, as others have few nodes; `load` and `embed` begin with what is the same for all.
STAGES = [
    "load 2",
    "chunk 1",
    "embed 2",
    "cluster 1",
    "summarise 1",
    "embed 3",
    "cluster 2",
    "load 3",
    "write 1",
]
DOCUMENTS, TIMES = 40, 4
#: What is worked on in memory together: so little that the smaller corpus has much of each.
TOGETHER = [
    (spool, "IN_MEMORY", 4 << 10),
    (spool, "PIECE", 256),
    (name_table, "BLOCK", 1_000),
    (lexical, "BLOCK", 1_000),
    (word_list, "_OF_ALL", 16 << 10),
    (guests, "BLOCK", 32),
    (geometry, "BLOCK", 128),
    (fast, "BLOCK", 128),
    (embedding, "_COUNTED", 64),
    (inverted_write, "BLOCK", 128),
    (tables, "_MARKS", 16),
    (vectors, "EXACT_NODES", 100),
    (corpus, "BATCH_CHARS", 10_000),
    (corpus, "_MANY", 64),
    (grower, "_GROUPS", 64),
    (names, "_names_of_run", names._names_of_run.__wrapped__),  # which remembers some
    (duplicates, "_hash", duplicates._hash.__wrapped__),
]
SETTINGS = BuildSettings(chunk_tokens=16, concurrency=4, cluster=ClusterSettings(part_size=16))


def eights(points: Any, tokens: Any, how: ClusterSettings) -> list[Any]:
    """Stands in for the clustering of a part, whose size is bounded."""
    return np.array_split(np.arange(len(points)), -(-len(points) // 8))


def work_on_little(patch: pytest.MonkeyPatch) -> None:
    """Let builds work on little at a time."""
    for module, name, value in TOGETHER:
        patch.setattr(module, name, value)
    patch.setattr(cluster, "cluster_part", eights)
    register_offline("at-once", lambda messages, most: "LABEL: words\nSUMMARY: what was said")
    tiny_embedder.use(patch)


def write(file: Path, documents: int) -> Path:
    """Documents of some four chunks each, with words and names of their own, and names of others before them."""
    draw = random.Random(7)
    words = ["".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(400)]
    with file.open("w", encoding="utf-8") as out:
        for number in range(documents):
            own = range(2 * number, 2 * number + 6)
            named = [f"{words[n % 400].title()} {words[n // 3 % 400].title()}" for n in own]
            said = (f"of {draw.choice(named)} {' '.join(draw.choices(words, k=8))}." for _ in range(5))
            out.write(json.dumps({"_id": f"d{number}", "title": named[0], "text": " ".join(said)}) + "\n")
    return file


def peaks(folder: Path, documents: int) -> tuple[dict[str, int], int]:
    """The most bytes that a build takes in each of its stages, with all that it holds by then, by the name of the stage
    and its turn; and its chunks."""
    folder.mkdir()
    source, found, times = write(folder / "corpus.jsonl", documents), dict[str, int](), Counter[str]()

    @contextmanager
    def stage(clock: Clock, name: str) -> Iterator[None]:
        gc.collect()
        tracemalloc.reset_peak()
        yield
        times[name] += 1
        found[f"{name} {times[name]}"] = tracemalloc.get_traced_memory()[1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Clock, "stage", stage)
        gc.freeze()  # what is there already is not looked through each time
        tracemalloc.start()
        try:
            report = raptor.build_index(source, folder / "i", summarizer="offline/at-once", settings=SETTINGS)
        finally:
            tracemalloc.stop()
            gc.unfreeze()
    return found, report.chunks


def growths(folder: Path) -> dict[str, float]:
    """The bytes that each stage takes more for a chunk more."""
    with pytest.MonkeyPatch.context() as patch:
        work_on_little(patch)
        peaks(folder / "warm", DOCUMENTS)  # what is imported and loaded once
        few, small = peaks(folder / "small", DOCUMENTS)
        many, large = peaks(folder / "large", TIMES * DOCUMENTS)
    assert large > 3 * small
    return {name: (many[name] - few[name]) / (large - small) for name in STAGES}


@pytest.mark.slow
def test_each_stage_of_a_build_takes_few_bytes_more_for_a_chunk_more(tmp_path: Path) -> None:
    """In a process of its own: what other tests have left in this one would be counted too."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        found = alone.submit(growths, tmp_path).result()
    assert max(found.values()) < A_CHUNK, found
