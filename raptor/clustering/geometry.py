"""Vectors and distances: unit rows, main axes, neighbours, k-means. Pure."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from index_store.reproducible import one_thread, spherical_kmeans
from index_store.spool import borders, order_of, room
from index_store.terminal import count
from raptor.errors import RaptorError

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

ROUNDS = 10
BLOCK = 65_536
PRODUCTS = 1 << 25  # of points with centroids that are in memory together
#: What UMAP compiles of its modules `umap_` and `layouts` for a graph and a layout.
COMPILED_GRAPH = ("smooth_knn_dist", "compute_membership_strengths")
COMPILED_LAYOUT = ("_nb_optimize_layout_euclidean_single_epoch",)


def unit_rows(vectors: Floats, tokens: Ints, folder: Path | None = None) -> npt.NDArray[np.float32]:
    """`vectors` (n, dim) scaled to length 1; zero rows stay zero. Many are mapped from a file in `folder`.

    Raises RaptorError where they are not finite.
    """
    if vectors.ndim != 2 or tokens.shape != vectors.shape[:1]:
        raise RaptorError(
            f"vectors have shape {vectors.shape} and tokens {tokens.shape}; give (n, dim) and (n,) of the same n"
        )
    bad = np.flatnonzero(~np.concatenate([np.isfinite(b).all(axis=1) for b in blocks(vectors)]))
    if len(bad):
        raise RaptorError(
            f"{count(len(bad), 'vector is', 'vectors are')} not finite, first at row {bad[0]}; embed those texts again"
        )
    points: npt.NDArray[np.float32] = room(vectors.shape, np.float32, folder)
    for block, unit in zip(blocks(vectors), blocks(points), strict=True):
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        unit[:] = block / np.where(lengths > 0, lengths, 1)
    return points


def blocks(rows: Floats) -> Iterator[Floats]:
    """`rows` in pieces of `BLOCK`, as the intermediate arrays of a million vectors would take gigabytes."""
    return (rows[i : i + BLOCK] for i in range(0, max(len(rows), 1), BLOCK))


def centroids(points: Floats, count: int, seed: int, folder: Path | None = None) -> Floats:
    """Unit rows (count, dim) found by spherical k-means."""
    return spherical_kmeans(points, count, rounds=ROUNDS, seed=seed, folder=folder)


def nearest(centroids: Floats, points: Floats) -> Ints:
    """Row of the most similar centroid for each point; ties go to the first."""
    step = max(PRODUCTS // len(centroids), 1)
    with one_thread():
        found = [np.argmax(points[i : i + step] @ centroids.T, axis=1) for i in range(0, len(points), step)]
    return np.concatenate([np.empty(0, np.int64), *found])


def by_label(labels: Ints, folder: Path | None = None) -> list[Ints]:
    """Sorted index arrays of the rows that share a label, in order of the labels."""
    ends, order = borders(labels, int(labels.max(initial=-1)) + 1, folder), order_of(labels, folder)
    return [order[start:end] for start, end in pairwise(ends.tolist()) if start < end]


def principal(points: Floats, dims: int) -> Floats:
    """Principal components (n, at most `dims`), largest last; one column of zeros if all points are equal."""
    centred = (points - points.mean(axis=0)).astype(np.float64)
    spread, axes = np.linalg.eigh(centred.T @ centred)
    wide = spread > 1e-7 * max(len(points) * 1e-3, spread[-1])
    return centred @ axes[:, wide][:, -dims:] if wide.any() else np.zeros((len(points), 1))


def import_umap() -> ModuleType:
    """`umap.umap_`: a graph and a layout as separate functions, where the class `UMAP` repeats work done here.

    What of it is compiled is kept on disk as numba keeps it (see NUMBA_CACHE_DIR in numba's manual), for the next
    process: compiling takes ten seconds, and UMAP asks for no cache itself.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Tensorflow not installed", ImportWarning
        )  # of a variant not used here
        umap = importlib.import_module("umap.umap_")
    _cache_compiled(umap, *COMPILED_GRAPH)
    _cache_compiled(importlib.import_module("umap.layouts"), *COMPILED_LAYOUT)
    return umap


def _cache_compiled(module: ModuleType, *names: str) -> None:
    for name in names:
        compiled = getattr(module, name, None)  # the second is private to UMAP, and may go
        if compiled is not None and not compiled.stats.cache_path:
            with contextlib.suppress(
                RuntimeError
            ):  # no folder can be written to: compiled for this process alone
                compiled.enable_caching()


def exact_neighbours(points: Floats, count: int) -> tuple[Ints, Floats]:
    """Rows and cosine distances (n, count) of each unit row's nearest neighbours, itself first."""
    similar = points @ points.T
    np.fill_diagonal(similar, np.inf)
    rows = np.argpartition(-similar, count, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(similar, rows, axis=1), axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)
    distances = 1 - np.take_along_axis(similar, rows, axis=1)
    return rows.astype(np.int32), np.maximum(distances, 0).astype(np.float32)


def squared_distances(points: Floats, centres: Floats) -> Floats:
    """Squared Euclidean distances (n, k)."""
    lengths = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    return np.asarray(lengths - 2 * points @ centres.T)
