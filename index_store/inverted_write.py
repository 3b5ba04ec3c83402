"""Write an inverted file: faiss trains its centroids; reading needs only numpy (see `index_store.vectors`)."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.vectors import Floats, Ints

AXES = 128


ROUNDS, SAMPLE = 8, 40  # of k-means, and the vectors for each centroid that it is trained on


BLOCK = 8192


def write(folder: Path, vectors: Floats, levels: Sequence[int]) -> None:
    """Write the inverted file of `vectors` (n, dim), unit rows ordered by level, into `folder`.

    The same vectors give the same bytes: everything is seeded and runs on one thread.
    """
    folder.mkdir()
    with _one_thread():
        sample = _sample(vectors)
        centroids = _centroids(sample, _lists_for(len(vectors)))
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


def _one_thread() -> AbstractContextManager[object]:
    """The order of float additions, and so the last bits, depends on the number of threads."""
    import faiss  # noqa: F401  # only libraries already loaded are held
    from threadpoolctl import threadpool_limits

    held: AbstractContextManager[object] = threadpool_limits(limits=1)
    return held


def _blocks(vectors: Floats) -> Iterator[Floats]:
    return (vectors[i : i + BLOCK] for i in range(0, len(vectors), BLOCK))


def _lists_for(n: int) -> int:
    return min(int(4 * n**0.5), n)


def _sample(vectors: Floats) -> Floats:
    step = max(len(vectors) // (_lists_for(len(vectors)) * SAMPLE), 1)
    return np.ascontiguousarray(vectors[::step])


def _centroids(sample: Floats, count: int) -> Floats:
    import faiss

    kmeans = faiss.Kmeans(
        sample.shape[1],
        count,
        niter=ROUNDS,
        seed=0,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=2 * SAMPLE,
    )
    kmeans.train(sample)
    return np.asarray(kmeans.centroids)


def _coded(vectors: Floats, sample: Floats, order: Ints) -> tuple[Floats, npt.NDArray[np.int8]]:
    """The main axes of a sample, scaled, and the vectors on them as bytes, in `order`."""
    main = np.linalg.eigh((sample.T @ sample).astype(np.float64))[1][:, ::-1][:, :AXES].astype(np.float32)
    scale = max(max(float(np.abs(b @ main).max()) for b in _blocks(vectors)), 1e-9) / 127
    codes = np.empty((len(vectors), main.shape[1]), dtype=np.int8)
    for i in range(0, len(order), BLOCK):
        codes[i : i + BLOCK] = np.rint(vectors[order[i : i + BLOCK]] @ main / scale)
    return np.ascontiguousarray(main * np.float32(scale)), codes
