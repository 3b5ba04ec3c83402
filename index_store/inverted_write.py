"""Write an inverted file: faiss trains its centroids; reading needs only numpy (see `index_store.vectors`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.reproducible import one_thread, spherical_kmeans
from index_store.vectors import Floats, Ints

AXES = 128
ROUNDS, SAMPLE = 8, 40  # of k-means, and how many vectors it is trained on for each centroid
BLOCK = 8192


def write(folder: Path, vectors: Floats, levels: Sequence[int]) -> None:
    """Write the inverted file of `vectors` (n, dim), unit rows ordered by level, into `folder`.

    The same vectors give the same bytes: everything is seeded and runs on one thread.
    """
    folder.mkdir()
    with one_thread():
        sample = _sample(vectors)
        lists = _lists_for(len(vectors))
        centroids = spherical_kmeans(sample, lists, rounds=ROUNDS, seed=0, sample=2 * SAMPLE)
        labels = np.concatenate([np.argmax(b @ centroids.T, axis=1) for b in _blocks(vectors)])
        level = np.repeat(np.arange(len(levels)), levels)
        order = np.lexsort((level, labels))
        axes, codes = _coded(vectors, sample, order)
    sizes = np.bincount(labels * len(levels) + level, minlength=len(centroids) * len(levels))
    arrays: dict[str, npt.NDArray[Any]] = {
        "axes": axes,
        "centroids": centroids,
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "nodes": order.astype(np.int32),
        "codes": codes,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def _blocks(vectors: Floats) -> Iterator[Floats]:
    return (vectors[i : i + BLOCK] for i in range(0, len(vectors), BLOCK))


def _lists_for(n: int) -> int:
    return min(int(4 * n**0.5), n)


def _sample(vectors: Floats) -> Floats:
    step = max(len(vectors) // (_lists_for(len(vectors)) * SAMPLE), 1)
    return np.ascontiguousarray(vectors[::step])


def _coded(vectors: Floats, sample: Floats, order: Ints) -> tuple[Floats, npt.NDArray[np.int8]]:
    """The main axes of a sample, scaled, and the vectors on them as bytes, in `order`."""
    main = np.linalg.eigh((sample.T @ sample).astype(np.float64))[1][:, ::-1][:, :AXES].astype(np.float32)
    scale = max(max(float(np.abs(b @ main).max()) for b in _blocks(vectors)), 1e-9) / 127
    codes = np.empty((len(vectors), main.shape[1]), dtype=np.int8)
    for i in range(0, len(order), BLOCK):
        codes[i : i + BLOCK] = np.rint(vectors[order[i : i + BLOCK]] @ main / scale)
    return np.ascontiguousarray(main * np.float32(scale)), codes
