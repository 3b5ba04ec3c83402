"""Arithmetic that gives the same bits each time: on one thread, and k-means from a seed."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_lock, _limits, _inside = threading.Lock(), ExitStack(), 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP to one thread: the order of float additions, and so the last bits, depends on how many.

    It holds until the last of all threads of the process that are in such a block has left it. It reaches only
    libraries already loaded: enter it after the import of those it should limit.
    """
    from threadpoolctl import threadpool_info, threadpool_limits

    global _inside
    with _lock:
        _inside += 1
        if any(library["num_threads"] != 1 for library in threadpool_info()):
            _limits.enter_context(threadpool_limits(limits=1))
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _limits.close()


def spherical_kmeans(
    points: "npt.NDArray[np.floating]",
    count: int,
    *,
    rounds: int,
    seed: int,
    sample: int = 256,
    folder: Path | None = None,
) -> "npt.NDArray[np.float32]":
    """`count` centroids of `points` (n, dim), n >= count: (count, dim) float32 unit rows.

    Where there are more than `sample` points for each centroid, so many of them are drawn by `seed`, into a file in
    `folder` where they are many. Lloyd's iteration with cosines (Dhillon and Modha, "Concept decompositions for large
    sparse text data", 2001), by faiss.
    """
    import faiss
    import numpy as np

    from index_store.spool import room, taken

    if len(points) > count * sample:
        # As faiss draws them itself, which would hold them in memory.
        drawn = room((len(points),), np.int32, folder)
        faiss.rand_perm(faiss.swig_ptr(drawn), len(points), seed)  # type: ignore[attr-defined]
        points = taken(points, drawn[: count * sample], folder)
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
