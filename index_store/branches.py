"""How the evidence for a question lies over the branches of the tree.

The evidence of a chunk is its share in a softmax over the fused scores of a search, and of the walk over names, half
each; that of a branch is what its chunks have together. A chunk in several branches counts in each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from index_store.folding import folded
from index_store.tree import Tree

BEST = 2  # chunks that are named of a branch
BROAD = 0.98  # of the evidence; where one branch holds more, it is its parts that differ

Numbers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Branch:
    """A node above some chunks.

    `share`: of all evidence. `size`: how many chunks are below it. `best`: the numbers of those with the most evidence.
    """

    number: int
    share: float
    size: int
    best: tuple[int, ...]


def softmax(scores: Scores) -> Scores:
    """Shares (n,) that add up to 1, each e times as large as another where its score is 1 higher."""
    shares = np.exp(scores - scores.max(initial=-np.inf))
    return np.asarray(shares / max(shares.sum(), 1e-300))


def evidence_shares(fused: Scores, walked: Scores) -> Scores:
    """The evidence of n chunks, (n,), of their scores and of their shares of the walk; it adds up to 1."""
    by_score, total = softmax(fused), walked.sum()
    return (by_score + walked / total) / 2 if total else by_score


def best_branches(
    tree: Tree, top: int, chunks: Numbers, shares: Scores, k: int, inside: Callable[[int], bool]
) -> list[Branch]:
    """The `k` branches below the node `top` that hold the most evidence, most first; those without any are left out.

    They are siblings, at the highest level where they differ: while more than BROAD of the evidence is at home below
    one of them, it is its own branches that are compared. `chunks` (ascending) and `shares`: of what was searched.
    `inside`: whether a node may be shown.
    """
    at_home = held_at_home(tree, chunks, shares)
    summaries = sum(tree.levels[:2])  # from here on nodes have branches of their own
    while True:
        children = [child for child in tree.neighbours(top, "children") if inside(child)]
        first = max(children, key=lambda child: at_home[child], default=0)
        if first < summaries or at_home[first] <= BROAD * at_home[top]:
            break
        top = first
    branches = [_branch(tree, child, chunks, shares) for child in children]
    branches.sort(key=lambda branch: (-branch.share, -at_home[branch.number]))
    return [branch for branch in branches[:k] if branch.share > 0]


def held_at_home(tree: Tree, chunks: Numbers, shares: Scores) -> Scores:
    """What some chunks hold, such as evidence or characters, summed up for each node that they are at home in or below,
    (nodes,): each chunk's counts once on its way up."""
    held = np.zeros(len(tree))
    held[chunks] = shares
    for level in range(len(tree.levels) - 1):
        nodes = tree.level_range(level)
        own = nodes.start + np.flatnonzero(held[nodes.start : nodes.stop])
        np.add.at(held, tree.homes[own], held[own])
    return held


def _branch(tree: Tree, number: int, chunks: Numbers, shares: Scores) -> Branch:
    below = tree.below(number)
    leaves = below[below < tree.levels[0]]
    here = np.flatnonzero(np.isin(chunks, leaves, assume_unique=True))
    order = chunks[here[np.argsort(-shares[here], kind="stable")]].tolist()
    best = [same[0] for same in folded(tree, order, BEST).values()] if tree.has_copies else order[:BEST]
    return Branch(number, float(shares[here].sum()), len(leaves), tuple(best))
