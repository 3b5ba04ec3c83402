"""What to read of a tree for a question, in so many characters: the best cut.

Chunks where the evidence is dense, summaries of the best branches where it is broad, and what touches is one piece.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from index_store.branches import evidence_shares
from index_store.folding import folded
from index_store.search import Weights, fused_and_walked, led, top
from index_store.tree import Tree

BROAD = 0.33  # of all chunks share the evidence: then no choice of chunks shows what there is
LOOKED = 1_000  # chunks, the best, of which those that fit are taken
SUMMARISED = 0.25  # of the characters, at most, on summaries

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a search knows of n chunks, (n,) each.

    `chunks`: numbers, ascending. `shares`: of the evidence for the question; they add up to 1. `scores`: as a search
    ranks them.
    """

    chunks: Numbers
    shares: Scores
    scores: Scores


def evidence_for(tree: Tree, query: str, allowed: Numbers, vector: Floats | None, k: int = 500) -> Evidence:
    """The evidence for a question among the chunks `allowed`, ascending; by words alone where a tree has no vectors."""
    by_words = tree.lexicon.score(query, len(tree))
    if vector is None:
        scores = by_words[allowed].astype(np.float64)
        return Evidence(allowed, evidence_shares(scores, np.zeros(len(allowed))), scores)
    nodes, fused, walked = fused_and_walked(tree, query, by_words, vector, allowed, k, Weights())
    shares = evidence_shares(fused, walked.on(nodes))
    return Evidence(nodes, shares, led(tree, nodes, fused, walked, Weights()))


def gather(
    tree: Tree, evidence: Evidence, chars: int, readable: Callable[[int], bool] = lambda number: True
) -> list[list[int]]:
    """Numbers of the nodes to read, at most `chars` characters in all, in pieces of neighbours; the best piece first.

    Each piece is either one summary, of those that are `readable`, or chunks that follow one another in their document.
    """
    order = [int(evidence.chunks[place]) for place in top(evidence.scores, LOOKED)]
    if tree.has_copies:
        order = [same[0] for same in folded(tree, order, len(order)).values()]
    taken, left = [], chars
    for number in [*filter(readable, _summaries(tree, evidence, chars)), *order]:
        if (size := tree.chars_at(number)) <= left:
            taken.append(number)
            left -= size
    return _pieces(tree, taken)


def _summaries(tree: Tree, evidence: Evidence, chars: int) -> list[int]:
    """Numbers of the summaries to read, those with the most evidence first, where this is broad.

    How many chunks share the evidence is the exponential of its entropy. Questions of the development sets seldom
    reach a fifth of all chunks; "summarise everything" reaches a half.
    """
    shares = evidence.shares[evidence.shares > 0]
    spread = float(np.exp(-(shares * np.log(shares)).sum()))
    if len(tree.levels) < 3 or spread <= BROAD * len(evidence.chunks) or tree.chars <= chars:
        return []
    parents, rows = tree.parents_of(evidence.chunks)
    held = np.bincount(parents, evidence.shares[rows])
    best, used, chosen = np.argsort(-held, kind="stable"), 0, []
    for number in best[held[best] > 0].tolist():
        used += tree.chars_at(number)
        if used > SUMMARISED * chars:
            break
        chosen.append(number)
    return chosen


def _pieces(tree: Tree, numbers: Sequence[int]) -> list[list[int]]:
    """The numbers with those that follow one another in a document put together, by the best of each piece."""
    rank = {number: place for place, number in enumerate(numbers)}
    pieces: list[list[int]] = []
    for number in sorted(numbers):
        last = pieces[-1][-1] if pieces else -2
        touches = number < tree.levels[0] and last == number - 1
        if touches and tree.leaf_documents[last] == tree.leaf_documents[number]:
            pieces[-1].append(number)
        else:
            pieces.append([number])
    return sorted(pieces, key=lambda piece: min(rank[number] for number in piece))
