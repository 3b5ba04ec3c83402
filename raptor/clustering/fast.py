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

from pathlib import Path

import numpy as np

from index_store.reproducible import one_thread
from index_store.spool import room
from raptor.clustering.geometry import (
    Floats,
    Ints,
    by_label,
    centroids,
    exact_neighbours,
    import_umap,
    nearest,
    principal,
)
from raptor.clustering.groups import Capacity, add_soft, adopt_singles, bisect, maximal
from raptor.clustering.mixture import best_mixture
from raptor.clustering.settings import ClusterSettings
from raptor.engines.engine import Engine, Stage, in_order
from raptor.engines.local import Local

NEIGHBOURS = 15  # UMAP's default; the paper's sqrt(n) took 30 GB at 93,000 chunks
BLOCK = 10_000  # nodes in a batch of those that are held against all centres
EPOCHS = 100  # of UMAP's layout: 200 take 1.5 times as long and gain 0.003 in mean cosine to the centroid
NEIGHBOURHOOD = 10  # clusters in a neighbourhood, as many as the paper's global step leaves to its local one


# --- partition: nodes that are far apart need not be compared ---


def partition(
    points: Floats, settings: ClusterSettings, engine: Engine | None = None, folder: Path | None = None
) -> list[Ints]:
    """Parts of at most `part_size` near nodes each, as sorted index arrays that together hold every row once."""
    if len(points) <= settings.part_size:
        return [np.arange(len(points))] if len(points) else []
    parts = []
    with one_thread():
        waiting = near_parts(points, settings, engine, folder)
        while waiting:
            part = waiting.pop()
            if len(part) <= settings.part_size:
                parts.append(part)
            else:
                waiting += [part[inside] for inside in near_parts(points[part], settings, engine)]
    return [part for part in parts if len(part)]


def near_parts(
    points: Floats, settings: ClusterSettings, engine: Engine | None = None, folder: Path | None = None
) -> list[Ints]:
    """Spherical k-means into parts of about half `part_size`; equal halves where k-means finds no parts."""
    centres = centroids(points, -(-2 * len(points) // settings.part_size), settings.seed, folder)
    sizes = np.bincount(_labels(points, centres, engine, folder), minlength=len(centres))
    labels = _labels(points, centres[sizes >= min(sizes.max(), settings.part_size // 20)], engine, folder)
    parts = by_label(labels, folder)
    return parts if len(parts) > 1 else list(np.array_split(np.arange(len(points)), 2))


def _labels(points: Floats, centres: Floats, engine: Engine | None, folder: Path | None) -> Ints:
    """Row of the most similar centre for each point."""
    stage, done = Stage("partition", nearest, centres), 0
    blocks = np.array_split(points, -(-len(points) // BLOCK))
    labels = room((len(points),), np.int32, folder)
    for own in in_order((engine or Local()).map_batches(stage, blocks)):
        labels[done : done + len(own)] = own
        done += len(own)
    return labels


# --- one part: neighbourhoods, and clusters inside each ---


def cluster_part(points: Floats, tokens: Ints, settings: ClusterSettings) -> list[Ints]:
    """`cluster` for one part: first neighbourhoods, then clusters in each, as the paper's global and local steps.

    Pure and picklable: parts may run in other processes.
    """
    with one_thread():
        clusters = [
            near[members]
            for near in neighbourhoods(points, settings)
            for members in cluster_near(points[near], tokens[near], settings)
        ]
        return [np.sort(group) for group in adopt_singles(clusters, points, Capacity(tokens, settings))]


def neighbourhoods(points: Floats, settings: ClusterSettings) -> list[Ints]:
    """Index arrays of about `NEIGHBOURHOOD` clusters' worth of nodes each, by a mixture over UMAP coordinates."""
    wanted = NEIGHBOURHOOD * settings.target_size
    if len(points) <= 2 * wanted:
        return [np.arange(len(points))]
    return by_label(best_mixture(reduce_dims(points, settings), wanted, settings.seed).argmax(axis=1))


def cluster_near(points: Floats, tokens: Ints, settings: ClusterSettings) -> list[Ints]:
    """`cluster` for one neighbourhood, in which principal components serve as well as UMAP and cost nothing."""
    coords, capacity = principal(points, settings.dims), Capacity(tokens, settings)
    if len(points) <= 1.5 * settings.target_size:
        posterior: Floats = np.ones((len(points), 1))
    else:
        posterior = best_mixture(coords, settings.target_size, settings.seed)
    components = by_label(posterior.argmax(axis=1))
    pieces = [piece for members in components for piece in bisect(members, coords, capacity)]
    return maximal(add_soft(adopt_singles(pieces, points, capacity), posterior, points, capacity))


def reduce_dims(points: Floats, settings: ClusterSettings) -> Floats:
    """UMAP coordinates (n, dims); principal components where there are no more of them than that."""
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
