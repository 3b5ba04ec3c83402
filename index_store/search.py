"""Ranked search: dense and lexical scores, fused, over any level, below any node, in any document.

Pure arithmetic over score arrays; the index only supplies them. Modes:

dense    cosine of the query's vector with each node's
lexical  BM25
hybrid   both, standardised and added (the default, over the chunks)
tree     hybrid over all levels in one pool, RAPTOR's collapsed tree (arXiv 2401.18059, section 4)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from index_store.errors import BadQuery
from index_store.types import Hit

if TYPE_CHECKING:
    from index_store.reader import Index

Mode = Literal["hybrid", "dense", "lexical", "tree"]
MODES: tuple[Mode, ...] = ("hybrid", "dense", "lexical", "tree")

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weights:
    """Measured on the development sets; see benchmarks/."""

    dense: float = 0.6
    neighbour: float = 0.3
    document: float = 0.15


def search(
    index: "Index",
    query: str,
    k: int = 10,
    *,
    mode: Mode = "hybrid",
    level: int | None = None,
    under: str | None = None,
    doc: str | None = None,
    vector: npt.NDArray[np.float32] | None = None,
    weights: Weights | None = None,
) -> list[Hit]:
    """At most `k` hits, best first; ties by node order. Raises BadQuery or NoSuchNode.

    `level` None means the chunks, or every level in mode `tree`. `vector` is the query's (dim,) unit vector;
    without it the index's own embedder is loaded, unless the mode is lexical.
    """
    if mode not in MODES:
        raise BadQuery(f"no search mode {mode!r}; there are {', '.join(MODES)}")
    if not query.strip():
        raise BadQuery("the query is empty; ask with at least one word")
    if k < 1:
        raise BadQuery(f"k is {k}; ask for at least one hit")
    nodes = candidates(index, mode, level, under, doc)
    if not len(nodes):
        return []
    if vector is None and mode != "lexical":
        vector = index.embed_queries([query])[0]
    scores = score(index, query, vector, nodes, mode, weights or Weights())
    best = top(scores, k)
    if mode == "lexical":
        best = best[scores[best] > 0]
    return [hit(index, int(nodes[i]), float(scores[i])) for i in best]


def hit(index: "Index", number: int, score: float) -> Hit:
    level = next(i for i in range(len(index.levels)) if number in index.level_range(i))
    return Hit(index.id_of(number), level, index.span_at(number), round(score, 6))


def candidates(
    index: "Index", mode: Mode, level: int | None, under: str | None, doc: str | None
) -> npt.NDArray[np.int64]:
    """Numbers of the nodes that may be found, ascending. In one document: its chunks, and what stands on them."""
    chosen = (
        range(len(index))
        if level is None and mode == "tree"
        else index.level_range(0 if level is None else level)
    )
    nodes = np.arange(chosen.start, chosen.stop, dtype=np.int64)
    if under is not None:
        nodes = np.intersect1d(nodes, index.below(index.number_of(under)), assume_unique=True)
    if doc is not None:
        leaves = index.document_leaves(index.document_number(doc))
        inside = (nodes >= leaves.start) & (nodes < leaves.stop)
        if len(nodes) and nodes[-1] >= index.levels[0]:
            inside |= np.isin(nodes, ancestors(index, leaves))
        nodes = nodes[inside]
    return nodes


def ancestors(index: "Index", leaves: range) -> npt.NDArray[np.int64]:
    """Numbers of all nodes above some chunks, ascending."""
    layer, seen = set(leaves), set[int]()
    for _ in index.levels[1:]:
        layer = {p for n in layer for p in index.neighbours(n, "parents")} - seen
        seen |= layer
    return np.array(sorted(seen), dtype=np.int64)


def score(
    index: "Index",
    query: str,
    vector: npt.NDArray[np.float32] | None,
    nodes: npt.NDArray[np.int64],
    mode: Mode,
    weights: Weights,
) -> Scores:
    """A score for each candidate, shape (len(nodes),)."""
    if mode == "lexical":
        return _lexical(index, query, nodes)
    dense = _dense(index, vector, nodes)
    if mode == "dense":
        return dense
    fused = fuse(dense, _lexical(index, query, nodes), weights.dense)
    leaves = nodes < index.levels[0]
    fused[leaves] = lift(fused[leaves], nodes[leaves], index.leaf_documents, weights)
    return fused


def _dense(index: "Index", vector: npt.NDArray[np.float32] | None, nodes: npt.NDArray[np.int64]) -> Scores:
    if vector is None or vector.shape != (index.vectors.shape[1],):
        found = None if vector is None else vector.shape
        raise BadQuery(f"the query's vector has shape {found}, the index has ({index.vectors.shape[1]},)")
    together = nodes[-1] - nodes[0] + 1 == len(nodes)
    rows = index.vectors[nodes[0] : nodes[-1] + 1] if together else index.vectors[nodes]
    return (rows @ vector).astype(np.float64)


def _lexical(index: "Index", query: str, nodes: npt.NDArray[np.int64]) -> Scores:
    return index.lexicon.score(query, len(index))[nodes].astype(np.float64)


def standardise(scores: Scores) -> Scores:
    """Zero mean, unit variance; all zeros when the scores do not differ."""
    spread = scores.std()
    return (scores - scores.mean()) / spread if spread > 1e-12 else np.zeros_like(scores)


def fuse(dense: Scores, lexical: Scores, dense_weight: float) -> Scores:
    """Convex combination of standardised scores (Bruch et al., "An Analysis of Fusion Functions", TOIS 2023)."""
    return dense_weight * standardise(dense) + (1 - dense_weight) * standardise(lexical)


def lift(scores: Scores, leaves: npt.NDArray[np.int64], owners: npt.NDArray[np.int32], w: Weights) -> Scores:
    """Raise a chunk by its better neighbour in the document and by its document's best chunks.

    A chunk without a neighbour is lifted by its own score, so that short documents lose nothing.
    """
    if not len(leaves):
        return scores
    documents = owners[leaves]
    beside = np.full(len(scores), -np.inf)
    adjacent = (np.diff(leaves) == 1) & (np.diff(documents) == 0)
    beside[1:][adjacent] = scores[:-1][adjacent]
    beside[:-1][adjacent] = np.maximum(beside[:-1][adjacent], scores[1:][adjacent])
    beside = np.where(np.isinf(beside), scores, beside)
    return scores + w.neighbour * beside + w.document * _document_means(scores, documents)


def _document_means(scores: Scores, documents: npt.NDArray[np.int32]) -> Scores:
    """For each chunk, the mean score of its document's candidates."""
    _, inverse, counts = np.unique(documents, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(inverse, weights=scores) / counts)[inverse])


def top(scores: Scores, k: int) -> npt.NDArray[np.int64]:
    """Places of the `k` largest scores, best first, ties by place."""
    if k < len(scores):
        floor = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= floor)
    else:
        places = np.arange(len(scores))
    return places[np.argsort(-scores[places], kind="stable")][:k]
