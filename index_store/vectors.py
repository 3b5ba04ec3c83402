"""Dense search: exact over few nodes, by an inverted file over many.

The inverted file (Sivic and Zisserman, "Video Google", ICCV 2003) puts each vector into the list of its nearest
centroid; a query reads the nearest lists only. In them vectors are bytes on the main axes of all vectors, which
costs a tenth of the memory traffic; the best are then compared exactly. Everything is a plain array read by numpy
with its bounds checks, because it may come from a stranger. faiss trains, and is not needed for reading.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex

if TYPE_CHECKING:
    from index_store.reader import Index

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.integer]

EXACT_NODES = 50_000  # up to here every vector is compared, in some 10 ms
AXES = 128
READ = 65_536  # vectors whose bytes are read for a query
COMPARED = 300  # vectors compared exactly, at least
ROUNDS, SAMPLE = 8, 40  # of k-means, and the vectors for each centroid that it is trained on
BLOCK = 8192


@dataclass(frozen=True, slots=True)
class InvertedFile:
    """Vectors (n, dim) in `lists` lists; a list holds its nodes level by level, each ascending.

    moments    (levels, 1 + dim, dim) float64: mean of a level's vectors, then the mean of their outer products
    axes       (dim, a) float32: a vector v is v @ axes beside a node's bytes
    centroids  (lists, dim) float32
    offsets    (lists * levels + 1,): where level 0 of list 0 begins, level 1 of list 0, ...
    nodes      (n,) node numbers
    codes      (n, a) int8: `codes[i] @ (v @ axes)` is about the cosine of node `nodes[i]` with v
    """

    moments: npt.NDArray[np.float64]
    axes: Floats
    centroids: Floats
    offsets: Ints
    nodes: Ints
    codes: npt.NDArray[np.int8]

    def fits(self, n: int, dim: int, levels: int) -> bool:
        """Whether the arrays' shapes fit each other and an index; opening asks."""
        lists, axes = len(self.centroids), self.axes.shape[1]
        return (
            self.moments.shape == (levels, dim + 1, dim)
            and self.axes.shape[0] == self.centroids.shape[1] == dim
            and self.offsets.shape == (lists * levels + 1,)
            and self.nodes.shape == (n,)
            and self.codes.shape == (n, axes)
        )


# --- reading ---


def dense_candidates(
    index: "Index", vector: Floats, nodes: range, count: int
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Numbers, ascending, of about the `count` nodes of `nodes` nearest to `vector` (dim,), and their cosines.

    Exact where there is no inverted file, where `nodes` are few, or where they are not whole levels.
    """
    inverted, levels = index.inverted_file, whole_levels(index.levels, nodes)
    if inverted is None or levels is None or len(nodes) <= EXACT_NODES:
        scores = cosines(index.vectors, np.arange(nodes.start, nodes.stop), vector)
        best = np.sort(largest(scores, count)).astype(np.int64)
        return best + nodes.start, scores[best]
    numbers = near(inverted, vector, levels, max(count, COMPARED))
    scores = cosines(index.vectors, numbers, vector)
    best = np.sort(largest(scores, count))
    return numbers[best], scores[best]


def cosine_moments(index: "Index", vector: Floats, nodes: range) -> tuple[float, float]:
    """Mean and standard deviation of the cosines of all `nodes` with `vector`, exact up to rounding."""
    inverted, levels = index.inverted_file, whole_levels(index.levels, nodes)
    if inverted is None or levels is None:
        scores = cosines(index.vectors, np.arange(nodes.start, nodes.stop), vector).astype(np.float64)
        return float(scores.mean()), float(scores.std())
    weights = np.array([index.levels[level] for level in levels], dtype=np.float64) / len(nodes)
    first, second = 0.0, 0.0
    for weight, level in zip(weights, levels, strict=True):
        moment = inverted.moments[level]
        first += float(weight * (moment[0] @ vector))
        second += float(weight * (vector @ moment[1:] @ vector))
    return first, max(second - first**2, 0.0) ** 0.5


def whole_levels(sizes: Sequence[int], nodes: range) -> range | None:
    """The levels that `nodes` are all of; None where they are not whole levels."""
    borders = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    if nodes.start not in borders or nodes.stop not in borders:
        return None
    return range(borders.index(nodes.start), borders.index(nodes.stop))


def cosines(vectors: Floats, numbers: Ints, vector: Floats) -> Floats:
    """Cosines (k,) of the rows `numbers` (k,) with `vector`; rows that lie apart are copied a block at a time."""
    if len(numbers) and numbers[-1] - numbers[0] + 1 == len(numbers):
        return np.asarray(vectors[int(numbers[0]) : int(numbers[-1]) + 1] @ vector)
    blocks = (numbers[i : i + BLOCK] for i in range(0, len(numbers), BLOCK))
    return np.concatenate([np.empty(0, np.float32), *(vectors[block] @ vector for block in blocks)])


def largest(scores: Floats, count: int) -> Ints:
    """Places of the `count` largest scores, in no order."""
    if count >= len(scores):
        return np.arange(len(scores))
    return np.argpartition(-scores, count)[:count]


def near(inverted: InvertedFile, vector: Floats, levels: range, count: int) -> npt.NDArray[np.int64]:
    """Numbers of about the `count` nodes of some levels nearest to `vector`, ascending."""
    rough, places = [], []
    query = vector @ inverted.axes
    for start, end in _lists(inverted, vector, levels):
        rough.append(_rough(inverted.codes[start:end], query))
        places.append(np.arange(start, end))
    best = np.concatenate(places)[largest(np.concatenate(rough), count)]
    numbers = np.unique(inverted.nodes[best]).astype(np.int64)
    if not len(numbers) or numbers[0] < 0 or numbers[-1] >= len(inverted.nodes):
        raise BrokenIndex("the index's inverted file names nodes that do not exist; build it again")
    return numbers


def _lists(inverted: InvertedFile, vector: Floats, levels: range) -> Iterator[tuple[int, int]]:
    """(start, end) of the nearest lists' parts in `levels`, nearest first, until READ vectors are in them."""
    order = np.argsort(-(inverted.centroids @ vector), kind="stable")
    step = len(inverted.moments)
    starts = inverted.offsets[order * step + levels.start]
    ends = inverted.offsets[order * step + levels.stop]
    if ((starts < 0) | (starts > ends) | (ends > len(inverted.nodes))).any():
        raise BrokenIndex("the index's inverted file has lists out of range; build it again")
    enough = int(np.searchsorted(np.cumsum(ends - starts), READ)) + 1
    yield from zip(starts[:enough].tolist(), ends[:enough].tolist(), strict=True)


def _rough(codes: npt.NDArray[np.int8], query: Floats) -> Floats:
    blocks = (codes[i : i + BLOCK] for i in range(0, len(codes), BLOCK))
    return np.concatenate([np.empty(0, np.float32), *(b.astype(np.float32) @ query for b in blocks)])


# --- writing ---


def write(folder: Path, vectors: Floats, levels: Sequence[int]) -> None:
    """Write the inverted file of `vectors` (n, dim), unit rows ordered by level, into `folder`.

    The same vectors give the same bytes: everything is seeded and runs on one thread.
    """
    folder.mkdir()
    with _one_thread():
        moments = _moments(vectors, levels)
        centroids = _centroids(vectors)
        labels = np.concatenate([np.argmax(b @ centroids.T, axis=1) for b in _blocks(vectors)])
        level = np.repeat(np.arange(len(levels)), levels)
        order = np.lexsort((level, labels))
        axes, codes = _coded(vectors, moments, levels, order)
    sizes = np.bincount(labels * len(levels) + level, minlength=len(centroids) * len(levels))
    arrays: dict[str, npt.NDArray[Any]] = {
        "moments": moments,
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


def _moments(vectors: Floats, levels: Sequence[int]) -> npt.NDArray[np.float64]:
    dim = vectors.shape[1]
    out = np.zeros((len(levels), dim + 1, dim))
    borders = np.concatenate([[0], np.cumsum(levels)])
    for level, size in enumerate(levels):
        for block in _blocks(vectors[borders[level] : borders[level + 1]]):
            out[level, 0] += block.sum(axis=0, dtype=np.float64)
            out[level, 1:] += block.T @ block
        out[level] /= size
    return out


def _centroids(vectors: Floats) -> Floats:
    import faiss

    count = min(int(4 * len(vectors) ** 0.5), len(vectors))
    sample = np.ascontiguousarray(vectors[:: max(len(vectors) // (count * SAMPLE), 1)])
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        count,
        niter=ROUNDS,
        seed=0,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=2 * SAMPLE,
    )
    kmeans.train(sample)
    return np.asarray(kmeans.centroids)


def _coded(
    vectors: Floats, moments: npt.NDArray[np.float64], levels: Sequence[int], order: Ints
) -> tuple[Floats, npt.NDArray[np.int8]]:
    """The main axes of all vectors, scaled, and the vectors on them as bytes, in `order`."""
    second = np.average(moments[:, 1:], axis=0, weights=np.asarray(levels))
    main = np.linalg.eigh(second)[1][:, ::-1][:, :AXES].astype(np.float32)
    scale = max(max(float(np.abs(b @ main).max()) for b in _blocks(vectors)), 1e-9) / 127
    codes = np.empty((len(vectors), main.shape[1]), dtype=np.int8)
    for i in range(0, len(order), BLOCK):
        codes[i : i + BLOCK] = np.rint(vectors[order[i : i + BLOCK]] @ main / scale)
    return np.ascontiguousarray(main * np.float32(scale)), codes
