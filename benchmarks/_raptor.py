"""The two ways in which RAPTOR reads its tree (arXiv 2401.18059, section 3), over a tree of ours: the same nodes,
vectors and summaries, so that only the way of reading differs."""

import numpy as np
import numpy.typing as npt

from index_store.search import candidates
from index_store.tree import Tree

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

TOKENS = 2_000  # that the paper's collapsed tree reads
A_LEVEL = 10  # nodes that a traversal takes on each level; the paper tried 1 to 10


def collapsed(tree: Tree, vector: Floats, doc: str | None, tokens: int = TOKENS) -> list[int]:
    """Collapsed tree: all nodes in one pool, by cosine, until so many tokens are read. Numbers, best first.

    Of one document: its chunks, and the summaries of nothing else.
    """
    nodes = candidates(tree, "tree", None, None, doc)
    order = _by_cosine(tree, nodes, vector)
    sizes = np.asarray(tree.rows["tokens"][order], dtype=np.int64)
    return [int(n) for n in order[np.cumsum(sizes) <= tokens]]


def traversed(tree: Tree, vector: Floats, doc: str | None, k: int = A_LEVEL) -> list[int]:
    """Tree traversal: below the root the `k` nodes nearest to the question, of their children again, down to the
    chunks. Numbers of all that were taken, by cosine: the paper gives its reader all levels, and so they are ranked as
    one. Of one document: the way leads over what is above its chunks.
    """
    chunks = candidates(tree, "lexical", 0, None, doc)
    allowed = np.union1d(chunks, tree.above(chunks))
    layer, taken = np.array([len(tree) - 1]), np.empty(0, dtype=np.int64)
    for _ in tree.levels[1:]:
        below = np.unique(np.concatenate([tree.neighbours(int(node), "children") for node in layer]))
        layer = _by_cosine(tree, np.intersect1d(below.astype(np.int64), allowed), vector)[:k]
        taken = np.union1d(taken, layer)
    texts = np.intersect1d(taken, candidates(tree, "tree", None, None, doc))
    return [int(n) for n in _by_cosine(tree, texts, vector)]


def _by_cosine(tree: Tree, nodes: Numbers, vector: Floats) -> Numbers:
    return nodes[np.argsort(-(tree.vectors[nodes] @ vector), kind="stable")]
