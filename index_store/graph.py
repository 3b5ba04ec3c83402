"""The tree as a networkx graph: for statistics, export and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from index_store.index import Index


@dataclass(frozen=True, slots=True)
class LevelStats:
    """One level: how many nodes, their tokens together, and the mean number of children and parents of each."""

    level: int
    nodes: int
    tokens: int
    mean_children: float
    mean_parents: float


def to_networkx(index: "Index", leaves: bool = True) -> Any:
    """A directed graph, parent to child, with `level`, `label`, `tokens` on each node; chunks only if `leaves`."""
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


def level_stats(index: "Index") -> list[LevelStats]:
    """Statistics of each level, leaves first."""
    graph = to_networkx(index)
    return [
        _stats(graph, level, [n for n, d in graph.nodes(data=True) if d["level"] == level])
        for level in range(len(index.levels))
    ]


def _stats(graph: Any, level: int, nodes: list[str]) -> LevelStats:
    degrees: Mapping[str, Any] = {"out": graph.out_degree, "in": graph.in_degree}
    means = {name: sum(d for _, d in degree(nodes)) / len(nodes) for name, degree in degrees.items()}
    tokens = sum(graph.nodes[n]["tokens"] for n in nodes)
    return LevelStats(level, len(nodes), tokens, round(means["out"], 2), round(means["in"], 2))
