"""Vectors to soft clusters: partition, UMAP, Gaussian mixture, BIC, token cap.

The procedure of RAPTOR (arXiv 2401.18059, section 3). Where it departs from the paper, and why:

- Above `part_size` nodes are first partitioned by k-means: time grows linearly, and parts run in processes apart.
- UMAP starts from principal components and is given exact neighbours: no eigensolver that may fail, no
  approximate search, and the same bytes out for the same bytes in.
- k is searched on a geometric grid and then around its minimum, instead of fitting every k; the Gaussians share one
  covariance (see `mixture`).
- A cluster over the token cap is bisected, which always ends, instead of being clustered again, which may not.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Literal

import numpy as np
import numpy.typing as npt

from raptor.errors import RaptorError

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

NEIGHBOURS = 15  # UMAP's default; the paper's sqrt(n) took 30 GB at 93,000 chunks
EPOCHS = 100  # of UMAP's layout: 200 take 1.5 times as long and gain 0.003 in mean cosine to the centroid
NEIGHBOURHOOD = 10  # clusters in a neighbourhood, as many as the paper's global step leaves to its local one
ROUNDS = 10
GRID, SPAN = 5, 1.6  # values of k tried at first, and how far the mean size may lie from the wanted one
PARALLEL = 12_000  # nodes above which processes pay, each of which imports UMAP and compiles it, in 6 s
BLOCK = 65_536
EM_ROUNDS, EM_GAIN = 50, 1e-3  # stop when a round adds less to the mean log density


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """How nodes are grouped.

    `max_tokens`: cap on the tokens of a cluster's members together. `threshold`: posterior above which a node
    joins a further cluster, up to `max_memberships` in all. `dims`: what UMAP reduces to. `target_size`: members
    wanted in a cluster, on average within a factor of `SPAN`; none has more than four times as many.
    `part_size`: most nodes clustered at once. `method`: as described above, or "paper" as in
    `raptor.clustering.paper`, for comparison, which heeds only `max_tokens`, `threshold`, `dims` and `seed`.
    """

    method: Literal["fast", "paper"] = "fast"
    max_tokens: int = 3000
    threshold: float = 0.1
    max_memberships: int = 3
    dims: int = 10
    target_size: int = 8
    part_size: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("fast", "paper"):
            raise RaptorError(f"method is {self.method!r}; give 'fast' or 'paper'")
        least = {"max_tokens": 1, "max_memberships": 1, "dims": 1, "target_size": 2, "part_size": 8}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise RaptorError(f"{name} is {getattr(self, name)}; give at least {minimum}")
        if not 0 < self.threshold <= 1:
            raise RaptorError(f"threshold is {self.threshold}; give a posterior above 0 and at most 1")


def cluster(
    vectors: Floats, tokens: Ints, settings: ClusterSettings | None = None, workers: int | None = None
) -> list[Ints]:
    """Sorted member indices of each cluster of `vectors` (n, dim), whose nodes are `tokens` (n,) long.

    Every node is in a cluster, no cluster is empty or lies inside another, and for n > 1 there are fewer clusters
    than nodes (seldom more than half as many), so a loop that clusters the clusters ends in one root. Three or
    more members never exceed `max_tokens` together; a pair may, because pairing is the least that still shrinks
    a level, and then the caller has to shorten its members. Clusters come in order of their members. The same
    input and seed give the same clusters, bit for bit, with any number of `workers`: processes that share the work
    where it is large, by default one for each core.
    """
    settings = settings or ClusterSettings()
    points = unit_rows(vectors, tokens)
    if settings.method == "paper":
        from raptor.clustering.paper import cluster_as_published

        return sorted(cluster_as_published(points, tokens, settings), key=lambda members: members.tolist())
    parts = partition(points, settings)
    workers = min(workers or cores(), len(parts))
    if workers == 1 or len(points) <= PARALLEL:
        groups = [cluster_part(points[part], tokens[part], settings) for part in parts]
    else:
        groups = in_processes(points, tokens, parts, settings, workers)
    found = [part[members] for part, inside in zip(parts, groups, strict=True) for members in inside]
    return sorted(found, key=lambda members: members.tolist())


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    points: Floats, tokens: Ints, parts: list[Ints], settings: ClusterSettings, workers: int
) -> list[list[Ints]]:
    """`cluster_part` of each part, same order, few of them copied and under way at a time."""
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    waiting: deque[Future[list[Ints]]] = deque()
    done = []
    # Spawned, not forked: a fork of a process in which BLAS or torch have threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
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


def one_thread() -> AbstractContextManager[object]:
    """Holds BLAS and OpenMP to one thread, as the order of float additions depends on their number.

    It reaches only libraries already loaded: enter it after the import of whatever it should hold.
    """
    from threadpoolctl import threadpool_limits

    held: AbstractContextManager[object] = threadpool_limits(limits=1)
    return held


def unit_rows(vectors: Floats, tokens: Ints) -> npt.NDArray[np.float32]:
    """`vectors` checked and scaled to length 1; zero rows stay zero."""
    if vectors.ndim != 2 or tokens.shape != vectors.shape[:1]:
        raise RaptorError(
            f"vectors have shape {vectors.shape} and tokens {tokens.shape}; give (n, dim) and (n,) of the same n"
        )
    bad = np.flatnonzero(~np.concatenate([np.isfinite(b).all(axis=1) for b in blocks(vectors)]))
    if len(bad):
        raise RaptorError(
            f"{len(bad)} vectors are not finite, first at row {bad[0]}; embed those texts again"
        )
    points = np.empty(vectors.shape, dtype=np.float32)
    for block, unit in zip(blocks(vectors), blocks(points), strict=True):
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        unit[:] = block / np.where(lengths > 0, lengths, 1)
    return points


def blocks(rows: Floats) -> Iterator[Floats]:
    """`rows` a stretch at a time, as what is made on the way from a million vectors takes gigabytes."""
    return (rows[i : i + BLOCK] for i in range(0, max(len(rows), 1), BLOCK))


# --- partition: nodes that are far apart need not be compared ---


def partition(points: Floats, settings: ClusterSettings) -> list[Ints]:
    """Sorted index arrays of at most `part_size` near nodes each, that together hold every row once."""
    waiting, parts = [np.arange(len(points))], []
    with one_thread():
        while waiting:
            part = waiting.pop()
            if len(part) <= settings.part_size:
                parts.append(part)
            else:
                rows = points[part] if len(part) < len(points) else points
                waiting += [part[inside] for inside in near_parts(rows, settings)]
    return [part for part in parts if len(part)]


def near_parts(points: Floats, settings: ClusterSettings) -> list[Ints]:
    """Spherical k-means into parts of about half `part_size`; equal halves where k-means finds no parts."""
    centres = centroids(points, -(-2 * len(points) // settings.part_size), settings.seed)
    sizes = np.bincount(nearest(points, centres), minlength=len(centres))
    labels = nearest(points, centres[sizes >= min(sizes.max(), settings.part_size // 20)])
    parts = by_label(labels)
    return parts if len(parts) > 1 else list(np.array_split(np.arange(len(points)), 2))


def centroids(points: Floats, count: int, seed: int) -> Floats:
    """Unit rows (count, dim) found by spherical k-means."""
    import faiss

    kmeans = faiss.Kmeans(
        points.shape[1], count, niter=ROUNDS, seed=seed, spherical=True, min_points_per_centroid=1
    )
    with one_thread():
        kmeans.train(points)
    return np.asarray(kmeans.centroids)


def nearest(points: Floats, centroids: Floats) -> Ints:
    """Row of the most similar centroid for each point; ties go to the first."""
    blocks = np.array_split(points, -(-len(points) // 10_000))
    return np.concatenate([np.argmax(block @ centroids.T, axis=1) for block in blocks])


# --- one part: neighbourhoods, and clusters inside each ---


def cluster_part(points: Floats, tokens: Ints, settings: ClusterSettings) -> list[Ints]:
    """`cluster` for one part: first neighbourhoods, then clusters in each, as the paper's global and local steps.

    Pure and picklable: parts may run in other processes.
    """
    with one_thread():
        found = [
            near[members]
            for near in neighbourhoods(points, settings)
            for members in cluster_near(points[near], tokens[near], settings)
        ]
        return [np.sort(group) for group in adopt_singles(found, points, Room(tokens, settings))]


def neighbourhoods(points: Floats, settings: ClusterSettings) -> list[Ints]:
    """Index arrays of about `NEIGHBOURHOOD` clusters' worth of nodes each, by a mixture over UMAP coordinates."""
    wanted = NEIGHBOURHOOD * settings.target_size
    if len(points) <= 2 * wanted:
        return [np.arange(len(points))]
    return by_label(best_mixture(reduce_dims(points, settings), wanted, settings.seed).argmax(axis=1))


def cluster_near(points: Floats, tokens: Ints, settings: ClusterSettings) -> list[Ints]:
    """`cluster` for one neighbourhood, where principal components serve as well as UMAP and cost nothing."""
    coords, room = principal(points, settings.dims), Room(tokens, settings)
    if len(points) <= 1.5 * settings.target_size:
        posterior: Floats = np.ones((len(points), 1))
    else:
        posterior = best_mixture(coords, settings.target_size, settings.seed)
    components = by_label(posterior.argmax(axis=1))
    pieces = [piece for members in components for piece in bisect(members, coords, room)]
    return maximal(add_soft(adopt_singles(pieces, points, room), posterior, points, room))


def by_label(labels: Ints) -> list[Ints]:
    """Sorted index arrays of the rows that share a label, in order of the labels."""
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


@dataclass(frozen=True, slots=True)
class Room:
    """What may share a cluster."""

    tokens: Ints
    settings: ClusterSettings

    def holds(self, members: Ints) -> bool:
        """True for up to two members, and for more that are within the cap and four times the target size."""
        few = len(members) <= 4 * self.settings.target_size
        return len(members) <= 2 or (few and int(self.tokens[members].sum()) <= self.settings.max_tokens)


def principal(points: Floats, dims: int) -> Floats:
    """Coordinates (n, at most dims) on the main axes, largest last; one column of zeros if all points are equal."""
    centred = (points - points.mean(axis=0)).astype(np.float64)
    spread, axes = np.linalg.eigh(centred.T @ centred)
    kept = spread > 1e-7 * max(len(points) * 1e-3, spread[-1])
    return centred @ axes[:, kept][:, -dims:] if kept.any() else np.zeros((len(points), 1))


def reduce_dims(points: Floats, settings: ClusterSettings) -> Floats:
    """UMAP coordinates (n, dims); principal components where those lose nothing."""
    start = principal(points, settings.dims + 1)
    if start.shape[1] <= settings.dims:
        return start
    umap = import_umap()
    random = np.random.RandomState(settings.seed)
    rows, distances = exact_neighbours(points, NEIGHBOURS)
    graph, _, _ = umap.fuzzy_simplicial_set(
        points, NEIGHBOURS, random, "cosine", knn_indices=rows, knn_dists=distances
    )
    a, b = umap.find_ab_params(1.0, 0.0)  # spread 1, min_dist 0: UMAP's advice for clustering
    coords, _ = umap.simplicial_set_embedding(
        points, graph, settings.dims, 1.0, a, b, 1.0, 5, EPOCHS, start[:, 1:], random, "cosine", {},
        densmap=False, densmap_kwds={}, output_dens=False, parallel=False,
    )  # fmt: skip
    return np.asarray(coords, dtype=np.float64)


def import_umap() -> ModuleType:
    """`umap.umap_`: a graph and a layout as separate functions, where the class `UMAP` repeats work done here."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Tensorflow not installed", ImportWarning
        )  # of a variant not used here
        return importlib.import_module("umap.umap_")


def exact_neighbours(points: Floats, count: int) -> tuple[Ints, Floats]:
    """Rows and cosine distances (n, count) of each point's nearest, itself first."""
    similar = points @ points.T
    np.fill_diagonal(similar, np.inf)
    rows = np.argpartition(-similar, count, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(similar, rows, axis=1), axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)
    distances = 1 - np.take_along_axis(similar, rows, axis=1)
    return rows.astype(np.int32), np.maximum(distances, 0).astype(np.float32)


def best_mixture(coords: Floats, size: int, seed: int) -> Floats:
    """Posteriors (n, k) of the mixture with the lowest BIC, of those with mean sizes within `SPAN` of `size`.

    k is tried on a geometric grid, then once more on both sides of the best.
    """
    from sklearn.cluster import kmeans_plusplus

    counts = len(coords) / size * np.geomspace(1 / SPAN, SPAN, GRID)
    grid = np.unique(np.clip(counts.round().astype(int), 1, len(np.unique(coords, axis=0))))
    with one_thread():
        _, seeds = kmeans_plusplus(coords, int(grid[-1]), random_state=seed)
    fitted: dict[int, tuple[float, Floats]] = {}
    for _ in range(2):
        fitted |= {int(k): mixture(coords, coords[seeds[:k]]) for k in grid if k not in fitted}
        best = min(fitted, key=lambda k: (fitted[k][0], k))
        grid = np.array(
            [round((a * b) ** 0.5) for a, b in pairwise(sorted(fitted)) if best in (a, b)], dtype=int
        )
    return min(fitted.values(), key=lambda fit: fit[0])[1]


def mixture(coords: Floats, seeds: Floats) -> tuple[float, Floats]:
    """BIC and posteriors (n, k) of k Gaussians that share one covariance, fitted by EM from `seeds` (k, dims).

    A covariance for each would be noise with ten members in it, and rewards components of one point: only the
    shared one has its BIC minimum inside the range of useful sizes. Sharing also makes a round one product of
    matrices, which scikit-learn's loop over components is not.
    """
    posterior, bound = np.eye(len(seeds))[squared_distances(coords, seeds).argmin(axis=1)], -np.inf
    for _ in range(EM_ROUNDS):
        log_joint = shared_log_joint(coords, posterior)
        top = log_joint.max(axis=1, keepdims=True)
        log_density = top + np.log(np.exp(log_joint - top).sum(axis=1, keepdims=True))
        posterior, before, bound = np.exp(log_joint - log_density), bound, float(log_density.mean())
        if bound - before < EM_GAIN:
            break
    (n, dims), k = coords.shape, len(seeds)
    parameters = k * dims + dims * (dims + 1) / 2 + k - 1
    return parameters * np.log(n) - 2 * n * bound, posterior


def shared_log_joint(coords: Floats, posterior: Floats) -> Floats:
    """M step, then log(weight x density) (n, k) of each point under each component."""
    n, dims = coords.shape
    weights = posterior.sum(axis=0) + 1e-9
    means = posterior.T @ coords / weights[:, None]
    within = (coords.T @ coords - (means.T * weights) @ means) / n
    floor = 1e-6 * np.trace(coords.T @ coords) / n / dims + 1e-12
    half = np.linalg.cholesky(within + floor * np.eye(dims))
    points, centres = np.linalg.solve(half, coords.T).T, np.linalg.solve(half, means.T).T
    logs: Floats = np.log(weights / n) - np.log(np.diag(half)).sum() - dims / 2 * np.log(2 * np.pi)
    return np.asarray(logs - squared_distances(points, centres) / 2)


def squared_distances(points: Floats, centres: Floats) -> Floats:
    """Euclidean, (n, k)."""
    lengths = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    return np.asarray(lengths - 2 * points @ centres.T)


# --- from components to clusters ---


def bisect(members: Ints, coords: Floats, room: Room) -> Iterator[Ints]:
    """`members` cut across their main axis, near half their tokens, until each piece has room."""
    waiting = [members]
    while waiting:
        piece = waiting.pop()
        if room.holds(piece):
            yield piece
            continue
        along = piece[np.argsort(principal(coords[piece], 1)[:, 0], kind="stable")]
        weight = room.tokens[along] + 1
        before = np.cumsum(weight) - weight / 2  # to the middle of each, so that equal members part equally
        edge = 2 if len(piece) > 3 else 1
        cut = int(np.clip(np.searchsorted(before, weight.sum() / 2), edge, len(piece) - edge))
        waiting += [along[:cut], along[cut:]]


def adopt_singles(groups: list[Ints], points: Floats, room: Room) -> list[Ints]:
    """Lone nodes moved into the most similar group that has room; another lone node always has."""
    grown, centres = list(groups), np.array([points[group].mean(axis=0) for group in groups])
    for lone, group in enumerate(groups):
        if len(grown[lone]) != 1:
            continue  # grown by another lone node, or emptied
        for other in np.argsort(-(centres @ points[group[0]]), kind="stable"):
            wider = np.append(grown[other], group)
            if other != lone and len(wider) > 1 and room.holds(wider):
                grown[other], grown[lone] = wider, wider[:0]
                break
    return [group for group in grown if len(group)]


def add_soft(groups: list[Ints], posterior: Floats, points: Floats, room: Room) -> list[Ints]:
    """Further memberships by posterior, surest first, where there is room: in the cluster of the nearest member."""
    settings, component = room.settings, posterior.argmax(axis=1)
    home = np.empty(len(points), dtype=int)
    for label, group in enumerate(groups):
        home[group] = label
    grown, joined = list(groups), np.ones(len(points), dtype=int)
    rows, columns = np.nonzero(posterior > settings.threshold)
    for at in np.argsort(-posterior[rows, columns], kind="stable"):
        node, kin = rows[at], np.flatnonzero(component == columns[at])
        if not len(kin) or columns[at] == component[node] or joined[node] == settings.max_memberships:
            continue
        label = home[kin[np.argmax(points[kin] @ points[node])]]
        wider = np.append(grown[label], node)
        if node not in grown[label] and room.holds(wider):
            grown[label], joined[node] = wider, joined[node] + 1
    return grown


def maximal(groups: list[Ints]) -> list[Ints]:
    """Sorted groups without those that lie inside another: they would be summarised twice."""
    sets = sorted(
        {frozenset(group.tolist()) for group in groups}, key=lambda group: (-len(group), sorted(group))
    )
    of: dict[int, list[frozenset[int]]] = {}
    for group in sets:
        if not any(group < larger for larger in of.get(min(group), [])):
            for node in group:
                of.setdefault(node, []).append(group)
    return [np.array(sorted(group)) for group in {group for held in of.values() for group in held}]
