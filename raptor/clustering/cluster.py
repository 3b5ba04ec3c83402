"""Vectors to soft clusters, the fast way or the paper's; the parts of many vectors wherever the engine computes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from index_store.spool import Lazy, Spool, order_of
from raptor.clustering.fast import cluster_part, partition
from raptor.clustering.geometry import Floats, Ints, unit_rows
from raptor.clustering.paper import cluster_as_published
from raptor.clustering.settings import ClusterSettings
from raptor.engines.engine import Engine, Stage, in_order
from raptor.engines.local import Local, cores

PARALLEL = 12_000  # nodes above which processes pay, each of which imports UMAP and compiles it, in 6 s


def cluster(
    vectors: Floats,
    tokens: Ints,
    settings: ClusterSettings | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
    folder: Path | None = None,
) -> Sequence[Ints]:
    """Sorted member indices of each cluster of `vectors` (n, dim), whose nodes are `tokens` (n,) long.

    Every node is in a cluster, no cluster is empty or lies inside another, and for n > 1 there are fewer clusters
    than nodes (seldom more than half as many), so a loop that clusters the clusters ends in one root. Three or
    more members never exceed `max_tokens` together; a pair may, because pairing is the least that still shrinks
    a level, and then the caller has to shorten its members. Clusters come in order of their members.

    `workers`: processes of this machine that share the work where it is large, by default one for each core. `engine`:
    where it is done, here where none is named. `folder`: where many vectors are kept meanwhile, in a file. The same
    input and seed give the same clusters, bit for bit, with any number of workers on any engine. Raises RaptorError for
    vectors that are not finite or do not fit `tokens`, and where a process ends early.
    """
    settings, engine = settings or ClusterSettings(), engine or Local()
    points = unit_rows(vectors, tokens, folder)
    if settings.method == "paper":
        return _in_order(cluster_as_published(points, tokens, settings), folder)
    parts = partition(points, settings, engine, folder)
    workers = min(workers or cores(), len(parts)) if len(points) > PARALLEL else 1
    stage = Stage("cluster", clusters_in, settings, workers=workers)
    groups = in_order(engine.map_batches(stage, ((points[part], tokens[part]) for part in parts)))
    clusters = (part[members] for part, inside in zip(parts, groups, strict=True) for members in inside)
    return _in_order(clusters, folder)


def _in_order(clusters: Iterable[Ints], folder: Path | None) -> Sequence[Ints]:
    """Clusters by their members; many are kept in a file in `folder`."""
    spool, firsts = Spool(folder), Spool(folder)
    for members in clusters:
        spool.append(members.astype(np.int64).tobytes())
        firsts.append(members[:1].astype(np.int64).tobytes())

    def cluster_at(number: int) -> Ints:
        return np.frombuffer(spool.view(number), dtype=np.int64)

    first = np.frombuffer(firsts.whole(), dtype=np.int64)
    order = order_of(first, folder)
    begins = np.flatnonzero(np.append(True, first[order[1:]] != first[order[:-1]]))
    for start, end in pairwise([*begins.tolist(), len(order)]):
        if end - start > 1:  # few are in more clusters than one
            order[start:end] = sorted(
                order[start:end].tolist(), key=lambda number: cluster_at(number).tolist()
            )
    return Lazy(len(order), lambda place: cluster_at(int(order[place])))


def clusters_in(settings: ClusterSettings, part: tuple[Floats, Ints]) -> list[Ints]:
    """`cluster_part` as a stage: of the vectors and tokens of one part."""
    points, tokens = part
    return cluster_part(points, tokens, settings)
