"""Statistics of the tree, and the tree as a networkx graph for export."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from index_store.arguments import checked
from index_store.errors import IndexStoreError
from index_store.index import Index
from index_store.tree import Numbers


@dataclass(frozen=True, slots=True)
class LevelStats:
    """One level: its nodes, their tokens in all, and how many children and parents a node has on average."""

    level: int
    nodes: int
    tokens: int
    mean_children: float
    mean_parents: float


@checked(IndexStoreError)
def to_networkx(index: Index, leaves: bool = True) -> Any:
    """A `networkx.DiGraph` from parents to children, its nodes by id with `level`, `label` and `tokens`.

    Without `leaves` the chunks are left out.
    """
    import networkx as nx

    graph = nx.DiGraph()
    first = 0 if leaves else index.levels[0]
    for number in range(first, len(index)):
        node = index.at(number)
        graph.add_node(node.id, level=node.level, label=node.label, tokens=node.tokens)
    for number in range(index.levels[0], len(index)):
        graph.add_edges_from(
            (index.id_of(number), index.id_of(c)) for c in index.neighbours(number, "children") if c >= first
        )
    return graph


@checked(IndexStoreError)
def level_stats(index: Index) -> list[LevelStats]:
    """Statistics of each level, chunks first."""
    parents, children = index.edges()
    return [_stats(index, level, parents, children) for level in range(len(index.levels))]


def _stats(index: "Index", level: int, parents: Numbers, children: "Numbers") -> LevelStats:
    nodes = index.level_range(level)

    def mean_edges(ends: "Numbers") -> float:
        return round(int(((ends >= nodes.start) & (ends < nodes.stop)).sum()) / len(nodes), 2)

    tokens = int(np.sum(index.rows["tokens"][nodes.start : nodes.stop]))
    return LevelStats(level, len(nodes), tokens, mean_edges(parents), mean_edges(children))
