"""Vectors to soft clusters, the fast way or the paper's, in processes where there are many."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context

from raptor.clustering.fast import cluster_part, partition
from raptor.clustering.geometry import Floats, Ints, unit_rows
from raptor.clustering.paper import cluster_as_published
from raptor.clustering.settings import ClusterSettings
from raptor.errors import RaptorError

PARALLEL = 12_000  # nodes above which processes pay, each of which imports UMAP and compiles it, in 6 s


def cluster(
    vectors: Floats, tokens: Ints, settings: ClusterSettings | None = None, workers: int | None = None
) -> list[Ints]:
    """Sorted member indices of each cluster of `vectors` (n, dim), whose nodes are `tokens` (n,) long.

    Every node is in a cluster, no cluster is empty or lies inside another, and for n > 1 there are fewer clusters
    than nodes (seldom more than half as many), so a loop that clusters the clusters ends in one root. Three or
    more members never exceed `max_tokens` together; a pair may, because pairing is the least that still shrinks
    a level, and then the caller has to shorten its members. Clusters come in order of their members.

    `workers`: processes that share the work where it is large, by default one for each core. The same input and seed
    give the same clusters, bit for bit, with any number of them. Raises RaptorError for vectors that are not finite
    or do not fit `tokens`, and where a process ends early.
    """
    settings = settings or ClusterSettings()
    points = unit_rows(vectors, tokens)
    if settings.method == "paper":
        return sorted(cluster_as_published(points, tokens, settings), key=lambda members: members.tolist())
    parts = partition(points, settings)
    workers = min(workers or cores(), len(parts))
    if workers == 1 or len(points) <= PARALLEL:
        groups = [cluster_part(points[part], tokens[part], settings) for part in parts]
    else:
        groups = in_processes(points, tokens, parts, settings, workers)
    clusters = [part[members] for part, inside in zip(parts, groups, strict=True) for members in inside]
    return sorted(clusters, key=lambda members: members.tolist())


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    points: Floats, tokens: Ints, parts: list[Ints], settings: ClusterSettings, workers: int
) -> list[list[Ints]]:
    """`cluster_part` of each part, in their order, in processes, a few parts at a time."""
    waiting: deque[Future[list[Ints]]] = deque()
    done = []
    # Spawned, not forked: a fork of a process in which BLAS or torch have threads may hang.
    with _nothing_from_here(), ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(cluster_part, points[part], tokens[part], settings))
                if len(waiting) > 2 * workers:
                    done.append(waiting.popleft().result())
            return done + [future.result() for future in waiting]
        except BrokenProcessPool as e:
            raise RaptorError(
                f"a process that clusters {settings.part_size:,} nodes ended early; free memory, and if a script of "
                "yours builds the index, do it under: if __name__ == '__main__'"
            ) from e


@contextmanager
def _nothing_from_here() -> Iterator[None]:
    """Python as it starts in the block does not import from the working directory, which may hold a stranger's files.

    `multiprocessing` starts it with `-c`, which looks there first until it has been told the caller's own `sys.path`.
    """
    name, before = "PYTHONSAFEPATH", os.environ.get("PYTHONSAFEPATH")
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
