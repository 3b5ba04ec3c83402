"""Write an inverted file: faiss trains its centroids; reading needs only numpy (see `index_store.vectors`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.reproducible import one_thread, spherical_kmeans
from index_store.spool import order_of, room, taken
from index_store.tables import rows_written, save
from index_store.vectors import Floats, Ints

AXES = 128
ROUNDS, SAMPLE = 8, 40  # of k-means, and how many vectors it is trained on for each centroid
BLOCK = 8192
PRODUCTS = 1 << 25  # of vectors with centroids that are in memory together


def write(folder: Path, vectors: Floats, levels: Sequence[int]) -> None:
    """Write the inverted file of `vectors` (n, dim), unit rows ordered by level, into `folder`.

    The same vectors give the same bytes: everything is seeded and runs on one thread.
    """
    folder.mkdir()
    lists, ends = _lists_for(len(vectors)), np.cumsum(levels)
    labels, sizes = room((len(vectors),), np.int32, folder), np.zeros(lists * len(levels), dtype=np.int64)
    with one_thread():
        sample = _sample(vectors, folder)
        centroids = spherical_kmeans(sample, lists, rounds=ROUNDS, seed=0, sample=2 * SAMPLE, folder=folder)
        for some in _blocks(len(vectors), min(BLOCK, max(PRODUCTS // lists, 1))):
            labels[some] = np.argmax(vectors[some] @ centroids.T, axis=1)
            level = np.searchsorted(ends, np.arange(some.start, some.stop), side="right")
            sizes += np.bincount(labels[some] * len(levels) + level, minlength=len(sizes))
        order = order_of(labels, folder)  # levels ascend already
        axes = _write_codes(folder / "codes.npy", vectors, sample, order)
    arrays: dict[str, tuple[npt.NDArray[Any], npt.DTypeLike]] = {
        "axes": (axes, np.float32),
        "centroids": (centroids, np.float32),
        "offsets": (np.concatenate([[0], np.cumsum(sizes)]), np.int64),
        "nodes": (order, np.int32),
    }
    for name, (values, dtype) in arrays.items():
        save(folder / f"{name}.npy", values, dtype)


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _lists_for(n: int) -> int:
    return min(int(4 * n**0.5), n)


def _sample(vectors: Floats, folder: Path) -> Floats:
    step = max(len(vectors) // (_lists_for(len(vectors)) * SAMPLE), 1)
    return taken(vectors, np.arange(0, len(vectors), step), folder)


def _write_codes(path: Path, vectors: Floats, sample: Floats, order: Ints) -> Floats:
    """Write the vectors in `order` as bytes on the main axes of a sample, and give these, scaled."""
    main = np.linalg.eigh((sample.T @ sample).astype(np.float64))[1][:, ::-1][:, :AXES].astype(np.float32)
    most = max(float(np.abs(vectors[some] @ main).max()) for some in _blocks(len(vectors), BLOCK))
    scale = max(most, 1e-9) / 127
    with rows_written(path, np.int8, (len(vectors), main.shape[1])) as write_codes:
        for some in _blocks(len(order), BLOCK):
            write_codes(np.rint(vectors[order[some]] @ main / scale))
    return np.ascontiguousarray(main * np.float32(scale))
