"""Guests: a node's further clusters, those of what it names.

RAPTOR's clusters are soft (arXiv 2401.18059, section 3), so that a text stands in every branch where it would be looked
for. Gaussians over meaning give hardly any text a second cluster; names do: a text about a novel, which names its
publisher, stands in the publisher's branch too. What decides is the posterior of a walk of two steps, from a node over
a name that it bears to another that bears it: the chance to arrive in a cluster. A guest is found in a branch, but no
summary is about it, so that neither the number of summaries nor their words change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from index_store.name_table import MOST_BEARERS, NameTable, weights
from raptor.clustering.geometry import Ints
from raptor.clustering.settings import ClusterSettings

MEAN = 0.48  # guest places for each node, at most, on the average: 1.5 parents, with those that its meaning gives it
BLOCK = (
    1024  # rows of the walk in memory at once: a row has hundreds of numbers where names are borne by many
)

Sparse = Any  # scipy.sparse.csr_matrix, which has no types


@dataclass(frozen=True, slots=True)
class Named:
    """Which of the n nodes of a level bears which of m names.

    `bears`: (n, m), how much. `kin`: (n,) numbers; nodes of one number, as chunks of one document, make no guests of
    each other.
    """

    bears: Sparse
    kin: Ints


def named_chunks(table: NameTable, documents: Ints) -> Named:
    """Of the chunks, which are of these documents, (n,)."""
    from scipy.sparse import csc_matrix

    shape = (table.chunks, len(table.listed))
    return Named(csc_matrix((weights(table), table.bearers, table.offsets), shape).tocsr(), documents)


def named_above(named: Named, clusters: Sequence[Sequence[int]]) -> Named:
    """Of the summaries of `clusters`: what their members bear, without names that lead to very many of them."""
    bears = _indicator(clusters, len(named.kin)).T @ named.bears
    bearers = np.asarray((bears > 0).sum(axis=0)).ravel()
    return Named(
        bears.tocsc()[:, (bearers > 1) & (bearers <= MOST_BEARERS)].tocsr(), np.arange(len(clusters))
    )


def guests(
    named: Named, clusters: Sequence[Sequence[int]], settings: ClusterSettings
) -> list[tuple[int, ...]]:
    """The guests of each of `clusters`, ascending.

    A node is the guest of a cluster whose posterior is above `threshold`, the surest first: so that it is in at most
    `max_memberships` clusters, a cluster has at most four times `target_size` guests, and there are at most MEAN for
    each node.
    """
    member = _indicator(clusters, len(named.kin))
    node, cluster, posterior = _posteriors(named, member, settings.threshold)
    own = member.tocoo()
    further = ~np.isin(node * len(clusters) + cluster, own.row * len(clusters) + own.col)
    node, cluster, posterior = node[further], cluster[further], posterior[further]
    joined = np.bincount(own.row, minlength=len(named.kin))
    places: list[list[int]] = [[] for _ in clusters]
    left = int(MEAN * len(named.kin))
    for at in np.lexsort((cluster, node, -posterior)).tolist():
        who, where = int(node[at]), int(cluster[at])
        if left and joined[who] < settings.max_memberships and len(places[where]) < 4 * settings.target_size:
            places[where].append(who)
            joined[who] += 1
            left -= 1
    return [tuple(sorted(found)) for found in places]


def _posteriors(named: Named, member: Sparse, threshold: float) -> tuple[Ints, Ints, Any]:
    """Node, cluster and posterior wherever that is above the threshold."""
    over, back = _rows_to_one(named.bears), _rows_to_one(named.bears.T.tocsr())
    homes = _rows_to_one(member)
    found: list[tuple[Ints, Ints, Any]] = []
    for start in range(0, len(named.kin), BLOCK):
        arrived = (over[start : start + BLOCK] @ back).tocoo()
        strange = named.kin[arrived.row + start] != named.kin[arrived.col]
        steps = arrived.data[strange], (arrived.row[strange], arrived.col[strange])
        posterior = (type(over)(steps, arrived.shape) @ homes).tocoo()
        sure = posterior.data > threshold
        found.append(
            (posterior.row[sure].astype(np.int64) + start, posterior.col[sure], posterior.data[sure])
        )
    nodes, clusters, values = (np.concatenate(column) for column in zip(*found, strict=True))
    return nodes, clusters, values


def _indicator(clusters: Sequence[Sequence[int]], nodes: int) -> Sparse:
    """(nodes, clusters), 1 where a node is a member."""
    from scipy.sparse import csr_matrix

    sizes = [len(members) for members in clusters]
    members = np.concatenate([np.asarray(members, dtype=np.int64) for members in clusters])
    own = np.repeat(np.arange(len(clusters)), sizes)
    return csr_matrix((np.ones(len(members)), (members, own)), (nodes, len(clusters)))


def _rows_to_one(matrix: Sparse) -> Sparse:
    """Each row divided by its sum; a row of zeros stays."""
    from scipy.sparse import diags

    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return (diags(1 / np.where(sums > 0, sums, 1)) @ matrix).tocsr()
