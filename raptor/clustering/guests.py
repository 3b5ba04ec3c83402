"""Guests: a node's further clusters, those of what it names.

RAPTOR's clusters are soft (arXiv 2401.18059, section 3), so that a text stands in every branch where it would be looked
for. Gaussians over meaning give hardly any text a second cluster; names do: a text about a novel, which names its
publisher, stands in the publisher's branch too. What decides is the posterior of a walk of two steps, from a node over
a name that it bears to another that bears it: the chance to arrive in a cluster. A guest is found in a branch, but no
summary is about it, so that neither the number of summaries nor their words change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.name_table import MOST_BEARERS, NameTable, weights
from index_store.spool import Lazy, Spool, borders, order_of, pieces, room
from index_store.tables import ranges, sizes_of
from raptor.clustering.geometry import Ints
from raptor.clustering.settings import ClusterSettings

MEAN = 0.48  # guest places for each node, at most, on the average: 1.5 parents, with those that its meaning gives it
BLOCK = (
    1024  # rows of the walk in memory at once: a row has hundreds of numbers where names are borne by many
)

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Sparse = Any  # scipy.sparse.csr_matrix, which has no types

_CANDIDATE = np.dtype([("node", "<i8"), ("cluster", "<i8"), ("posterior", "<f8")])


@dataclass(frozen=True, slots=True)
class Rows:
    """A sparse matrix (n, width) with e values, by rows: mapped from files where it is large.

    `offsets`: (n + 1,) where the values of each row begin. `columns`: (e,) the column of each. `values`: (e,).
    """

    offsets: Numbers
    columns: Ints
    values: Floats
    width: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def some(self, rows: Numbers) -> Sparse:
        """Some rows, in memory."""
        at = ranges(self.offsets, rows)
        return _sparse(self.values[at], self.columns[at], sizes_of(self.offsets, rows), self.width)

    def transposed(self, folder: Path | None) -> Rows:
        """The same by columns."""
        order = order_of(self.columns, folder)
        rows, values = room(order.shape, np.int32, folder), room(order.shape, np.float64, folder)
        for some in pieces(len(order)):
            rows[some] = np.searchsorted(self.offsets, order[some], side="right") - 1
            values[some] = self.values[order[some]]
        return Rows(borders(self.columns, self.width, folder), rows, values, len(self))


@dataclass(frozen=True, slots=True)
class Named:
    """Which of the n nodes of a level bears which of m names.

    `bears`: (n, m), how much. `borne`: the same by names. `kin`: (n,) numbers; nodes of one number, as chunks of one
    document, make no guests of each other.
    """

    bears: Rows
    borne: Rows
    kin: Numbers


def named_chunks(table: NameTable, documents: Numbers, folder: Path | None = None) -> Named:
    """Of the chunks, which are of these documents, (n,). What is large is mapped from files in `folder`."""
    borne = Rows(table.offsets, table.bearers, weights(table, folder), table.chunks)
    return Named(borne.transposed(folder), borne, documents)


def named_above(named: Named, clusters: Sequence[Sequence[int]], folder: Path | None = None) -> Named:
    """Of the summaries of `clusters`: what their members bear, without names that lead to very many of them."""
    width = named.bears.width

    def borne(block: Sequence[Sequence[int]]) -> Sparse:
        member, nodes = _squeezed(_indicator(block, len(named.kin)))
        bears, names = _squeezed(named.bears.some(nodes))
        found = member @ bears
        found.sort_indices()
        return _sparse(found.data, names[found.indices], np.diff(found.indptr), width)

    every = _rows(map(borne, _blocks(clusters)), len(clusters), width, folder)
    number, kept = _numbered(every, folder)

    def joining(rows: Numbers) -> Sparse:
        found = every.some(rows)
        name = number[found.indices]
        own = np.repeat(np.arange(len(rows)), np.diff(found.indptr))[name >= 0]
        sizes = np.bincount(own, minlength=len(rows))
        return _sparse(found.data[name >= 0], name[name >= 0], sizes, kept)

    bears = _rows(map(joining, _runs(len(clusters))), len(clusters), kept, folder)
    return Named(bears, bears.transposed(folder), np.arange(len(clusters)))


def _numbered(bears: Rows, folder: Path | None) -> tuple[Numbers, int]:
    """The number of each name that joins nodes, but not very many, else -1; and how many do."""
    ends, kept = borders(bears.columns, bears.width, folder), 0
    number = room((bears.width,), np.int32, folder)
    for some in pieces(bears.width):
        bearers = np.diff(ends[some.start : some.stop + 1])
        joins = (bearers > 1) & (bearers <= MOST_BEARERS)
        number[some] = np.where(joins, kept + np.cumsum(joins) - 1, -1)
        kept += int(joins.sum())
    return number, kept


def guests(
    named: Named, clusters: Sequence[Sequence[int]], settings: ClusterSettings, folder: Path | None = None
) -> Sequence[tuple[int, ...]]:
    """The guests of each of `clusters`, ascending.

    A node is the guest of a cluster whose posterior is above `threshold`, the surest first: so that it is in at most
    `max_memberships` clusters, a cluster has at most four times `target_size` guests, and there are at most MEAN for
    each node. What is large is mapped from files in `folder`.
    """
    count = len(named.kin)
    by_cluster = (_indicator(block, count) for block in _blocks(clusters))
    member = _rows(by_cluster, len(clusters), count, folder).transposed(folder)
    spool = Spool(folder)
    for nodes in _runs(count):
        spool.append(_candidates(named, member, nodes, settings.threshold).tobytes())
    candidates = np.frombuffer(spool.whole(), _CANDIDATE)
    joined, places = room((count,), np.int32, folder), room((len(clusters),), np.int32, folder)
    for some in pieces(count):
        joined[some] = np.diff(member.offsets[some.start : some.stop + 1])
    taken, used = room((int(MEAN * count), 2), np.int32, folder), 0
    for node, cluster in _surest_first(candidates, folder):
        if used == len(taken):
            break
        if joined[node] < settings.max_memberships and places[cluster] < 4 * settings.target_size:
            taken[used] = node, cluster
            joined[node] += 1
            places[cluster] += 1
            used += 1
    ends, order = borders(taken[:used, 1], len(clusters), folder), order_of(taken[:used, 1], folder)
    return Lazy(len(clusters), lambda own: tuple(sorted(taken[order[ends[own] : ends[own + 1]], 0].tolist())))


def _surest_first(candidates: npt.NDArray[Any], folder: Path | None) -> Iterator[tuple[int, int]]:
    """Node and cluster of candidates, which ascend; of equal posteriors in that order."""
    # Complex numbers are ordered by their real parts, then by their imaginary ones; and sorted in their file.
    order = room(candidates.shape, np.complex128, folder)
    for some in pieces(len(order)):
        order.real[some], order.imag[some] = -candidates["posterior"][some], np.arange(some.start, some.stop)
    order.sort()
    for some in pieces(len(order)):
        found = candidates[order.imag[some].astype(np.int64)]
        yield from zip(found["node"].tolist(), found["cluster"].tolist(), strict=True)


def _candidates(named: Named, member: Rows, nodes: Numbers, threshold: float) -> npt.NDArray[Any]:
    """Node, cluster and posterior, ascending, wherever that is above the threshold and the node no member."""
    over, names = _squeezed(_rows_to_one(named.bears.some(nodes)))
    back, bearers = _squeezed(_rows_to_one(named.borne.some(names)))
    homes, clusters = _squeezed(_rows_to_one(member.some(bearers)))
    arrived = (over @ back).tocoo()
    strange = named.kin[nodes[arrived.row]] != named.kin[bearers[arrived.col]]
    steps = arrived.data[strange], (arrived.row[strange], arrived.col[strange])
    posterior = (type(over)(steps, arrived.shape) @ homes).tocoo()
    sure = posterior.data > threshold
    found = np.empty(int(sure.sum()), dtype=_CANDIDATE)
    found["node"], found["cluster"] = nodes[posterior.row[sure]], clusters[posterior.col[sure]]
    found["posterior"] = posterior.data[sure]
    own = member.some(nodes).tocoo()
    held = np.isin(found["node"] * member.width + found["cluster"], nodes[own.row] * member.width + own.col)
    found = found[~held]
    return found[np.lexsort((found["cluster"], found["node"]))]


# -- sparse matrices -------------------------------------------------------------------------------------------


def _sparse(values: Floats, columns: Ints, sizes: Numbers, width: int) -> Sparse:
    """Rows of such sizes, as scipy has them."""
    from scipy.sparse import csr_matrix

    return csr_matrix((values, columns, np.concatenate([[0], np.cumsum(sizes)])), (len(sizes), width))


def _rows(blocks: Iterable[Sparse], count: int, width: int, folder: Path | None) -> Rows:
    """The rows of all blocks, `count` of them."""
    columns, values, done = Spool(folder), Spool(folder), 0
    offsets = room((count + 1,), np.int64, folder)
    for block in blocks:
        columns.append(block.indices.astype(np.int32).tobytes())
        values.append(block.data.astype(np.float64).tobytes())
        offsets[done + 1 : done + len(block.indptr)] = offsets[done] + block.indptr[1:]
        done += block.shape[0]
    return Rows(
        offsets,
        np.frombuffer(columns.whole(), dtype=np.int32),
        np.frombuffer(values.whole(), dtype=np.float64),
        width,
    )


def _runs(count: int) -> Iterator[Numbers]:
    """The numbers below `count`, some at a time."""
    return (np.arange(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def _blocks(clusters: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    return (clusters[start : start + BLOCK] for start in range(0, len(clusters), BLOCK))


def _indicator(clusters: Sequence[Sequence[int]], nodes: int) -> Sparse:
    """(clusters, nodes), 1 where a node is a member."""
    from scipy.sparse import csr_matrix

    members = np.fromiter(chain.from_iterable(clusters), dtype=np.int64)
    own = np.repeat(np.arange(len(clusters)), [len(members) for members in clusters])
    return csr_matrix((np.ones(len(members)), (own, members)), (len(clusters), nodes))


def _squeezed(matrix: Sparse) -> tuple[Sparse, Numbers]:
    """The matrix without columns that have no value, and the numbers of those that it has: what is computed with it
    needs no memory for the others."""
    columns, own = np.unique(matrix.indices, return_inverse=True)
    return _sparse(matrix.data, own, np.diff(matrix.indptr), len(columns)), columns.astype(np.int64)


def _rows_to_one(matrix: Sparse) -> Sparse:
    """Each row divided by its sum; a row of zeros stays."""
    from scipy.sparse import diags

    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return (diags(1 / np.where(sums > 0, sums, 1)) @ matrix).tocsr()
