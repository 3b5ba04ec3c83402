"""Arithmetic that gives the same bits each time: on one thread, and k-means from a seed."""

from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt


def one_thread() -> AbstractContextManager[object]:
    """Limit BLAS and OpenMP to one thread: the order of float additions, and so the last bits, depends on how many.

    It reaches only libraries already loaded: enter it after the import of those it should limit.
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=1)
    return limits


def spherical_kmeans(
    points: npt.NDArray[np.floating], count: int, *, rounds: int, seed: int, sample: int = 256
) -> npt.NDArray[np.float32]:
    """`count` centroids of `points` (n, dim), n >= count: (count, dim) float32 unit rows.

    Where there are more than `sample` points for each centroid, so many of them are drawn by `seed`. Lloyd's iteration
    with cosines (Dhillon and Modha, "Concept decompositions for large sparse text data", 2001), by faiss.
    """
    import faiss

    kmeans = faiss.Kmeans(
        points.shape[1],
        count,
        niter=rounds,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=sample,
    )
    with one_thread():
        kmeans.train(points)
    return np.asarray(kmeans.centroids)
