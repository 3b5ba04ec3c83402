"""Vectors to soft clusters, the fast way or the paper's; the parts of many vectors wherever the engine computes."""

from __future__ import annotations

from pathlib import Path

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
) -> list[Ints]:
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
        return sorted(cluster_as_published(points, tokens, settings), key=lambda members: members.tolist())
    parts = partition(points, settings, engine)
    workers = min(workers or cores(), len(parts)) if len(points) > PARALLEL else 1
    stage = Stage("cluster", clusters_in, settings, workers=workers)
    groups = in_order(engine.map_batches(stage, ((points[part], tokens[part]) for part in parts)))
    clusters = [part[members] for part, inside in zip(parts, groups, strict=True) for members in inside]
    return sorted(clusters, key=lambda members: members.tolist())


def clusters_in(settings: ClusterSettings, part: tuple[Floats, Ints]) -> list[Ints]:
    """`cluster_part` as a stage: of the vectors and tokens of one part."""
    points, tokens = part
    return cluster_part(points, tokens, settings)
