"""Dense search: exact over few nodes, by an inverted file over many.

The inverted file (Sivic and Zisserman, "Video Google", ICCV 2003) puts each vector into the list of its nearest
centroid; a query reads the nearest lists only. A list gives each vector by its coordinates on the main axes of all
vectors, a byte each, which takes a twelfth of the memory traffic; the best are then compared exactly. Everything is a
plain array read by numpy with its bounds checks, because it may come from a stranger. It is written by
`index_store.inverted_write`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.integer]
Numbers = npt.NDArray[np.int64]

EXACT_NODES = 50_000  # up to here every vector is compared, in some 10 ms
READ = 64  # times the root of n: vectors of which a query reads the bytes, those of some 256 lists
MOST_COSINE = 1e6  # a cosine is 1 at most; a caller's vector may be longer
COMPARED = 300  # vectors compared exactly, at least
# Numbers in a matrix: up to here, and some way beyond, OpenBLAS does not divide the work.
ON_ONE_THREAD = 1 << 17


@dataclass(frozen=True, slots=True)
class InvertedFile:
    """Vectors (n, dim) in lists; a list has its nodes level by level, and ascending in each level.

    axes       (dim, a) float32: v @ axes are the coordinates of a vector v that are compared with codes
    centroids  (lists, dim) float32
    offsets    (lists * levels + 1,): where level 0 of list 0 begins, level 1 of list 0, ...
    nodes      (n,) node numbers
    codes      (n, a) int8: `codes[i] @ (v @ axes)` is about the cosine of node `nodes[i]` with v
    """

    axes: Floats
    centroids: Floats
    offsets: Ints
    nodes: Ints
    codes: npt.NDArray[np.int8]

    def fits(self, n: int, dim: int, levels: int) -> bool:
        """Whether the shapes of the arrays fit each other and an index of `n` nodes in so many levels."""
        lists, axes = len(self.centroids), self.axes.shape[1]
        return (
            lists > 0
            and self.axes.shape[0] == self.centroids.shape[1] == dim
            and self.offsets.shape == (lists * levels + 1,)
            and self.nodes.shape == (n,)
            and self.codes.shape == (n, axes)
        )


def whole_levels(sizes: Sequence[int], nodes: Ints) -> range | None:
    """The levels of which `nodes`, ascending, are all nodes; None where they are not whole levels in a row."""
    borders = [0, *accumulate(sizes)]
    ends = (int(nodes[0]), int(nodes[-1]) + 1) if len(nodes) else (-1, -1)
    if ends[1] - ends[0] != len(nodes) or ends[0] not in borders or ends[1] not in borders:
        return None
    return range(borders.index(ends[0]), borders.index(ends[1]))


def cosines(vectors: Floats, numbers: Ints, vector: Floats) -> Floats:
    """Cosines (k,) of the unit rows `numbers` (k,), ascending, with the unit `vector`; copies a few rows at a time.

    Raises BrokenIndex where a row is no unit row by far, or the vector is not of finite numbers.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        found = _cosines(vectors, numbers, vector)
    if not (np.abs(found) < MOST_COSINE).all():
        raise BrokenIndex("the index's vectors, or the query's, are not of length 1; build the index again")
    return found


def _cosines(vectors: Floats, numbers: Ints, vector: Floats) -> Floats:
    if len(numbers) and numbers[-1] - numbers[0] + 1 == len(numbers):
        return _products(vectors[int(numbers[0]) : int(numbers[-1]) + 1], vector)
    step = _rows_at_once(vectors)
    blocks = _mapped(vectors)(lambda i: vectors[numbers[i : i + step]] @ vector, range(0, len(numbers), step))
    return np.concatenate([np.empty(0, np.float32), *blocks])


def _products(rows: npt.NDArray[Any], vector: Floats) -> Floats:
    """`rows @ vector` in float32, a few rows at a time."""
    step = _rows_at_once(rows)
    blocks = _mapped(rows)(
        lambda i: np.asarray(rows[i : i + step], np.float32) @ vector, range(0, len(rows), step)
    )
    return np.concatenate([np.empty(0, np.float32), *blocks])


def _mapped(rows: Any) -> Callable[[Callable[[int], Floats], range], Iterable[Floats]]:
    """How a function is applied to each block of rows: as these themselves know, where they are of several files."""
    mapped: Callable[[Callable[[int], Floats], range], Iterable[Floats]] = getattr(rows, "mapped", map)
    return mapped


def _rows_at_once(rows: npt.NDArray[Any]) -> int:
    """As many as BLAS multiplies on one thread: where others use the cores, its threads wait for each other."""
    return int(max(ON_ONE_THREAD // max(rows.shape[1], 1), 1))


def largest(scores: Floats, count: int) -> Ints:
    """Places of the `count` largest scores, in no order."""
    if count >= len(scores):
        return np.arange(len(scores))
    return np.argpartition(-scores, count)[:count]


def near(inverted: InvertedFile, vector: Floats, levels: range, count: int) -> Numbers:
    """Numbers, ascending, of about the `count` nodes nearest to `vector` (dim,) in some levels.

    Raises BrokenIndex where an array leads out of another.
    """
    lists = _lists(inverted, vector, levels)
    nodes = np.concatenate([inverted.nodes[place] for place in lists])
    with np.errstate(invalid="ignore", over="ignore"):
        on_axes = vector @ inverted.axes
        rough = np.concatenate([_products(inverted.codes[place], on_axes) for place in lists])
    numbers = np.unique(nodes[largest(rough, count)]).astype(np.int64)
    if not len(numbers) or numbers[0] < 0 or numbers[-1] >= len(inverted.nodes):
        raise BrokenIndex("the index's inverted file names nodes that do not exist; build it again")
    return numbers


def _lists(inverted: InvertedFile, vector: Floats, levels: range) -> list[slice]:
    """Where the parts of the nearest lists in `levels` lie, nearest first, until they have vectors enough."""
    with np.errstate(invalid="ignore", over="ignore"):
        order = np.argsort(-_products(inverted.centroids, vector), kind="stable")
    step = (len(inverted.offsets) - 1) // len(inverted.centroids)
    starts = inverted.offsets[order * step + levels.start]
    ends = inverted.offsets[order * step + levels.stop]
    if ((starts < 0) | (starts > ends) | (ends > len(inverted.nodes))).any():
        raise BrokenIndex("the index's inverted file has lists out of range; build it again")
    wanted = READ * len(inverted.nodes) ** 0.5
    enough = int(np.searchsorted(np.cumsum(ends - starts), wanted)) + 1
    return [slice(*place) for place in zip(starts[:enough].tolist(), ends[:enough].tolist(), strict=True)]
