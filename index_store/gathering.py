"""What to read of a tree for a question, in so many characters: the best cut.

Chunks where the evidence is dense, summaries of the best branches where it is broad, and what touches is one piece.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from index_store.branches import evidence_shares
from index_store.folding import folded
from index_store.search import Weights, fused_and_walked, led, top
from index_store.tree import Tree

BROAD = 0.45  # of all chunks share the evidence: then no choice of chunks shows what there is
#: Of the text; where so much can be read, chunks show what there is, and summaries take their room.
MUCH_OF_IT = 1 / 8
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


@dataclass(frozen=True, slots=True)
class Piece:
    """Nodes to read in one piece. `nodes`: their numbers. `also_in`: ids of documents that say the same."""

    nodes: range
    also_in: tuple[str, ...] = ()


def evidence_for(tree: Tree, query: str, allowed: Numbers, vector: Floats | None, k: int = 500) -> Evidence:
    """The evidence for a question among the chunks `allowed`, ascending; by words alone where a tree has no vectors."""
    by_words = tree.by_words(query, allowed)
    if vector is None:
        scores = by_words[allowed].astype(np.float64)
        return Evidence(allowed, evidence_shares(scores, np.zeros(len(allowed))), scores)
    nodes, fused, walked = fused_and_walked(tree, query, by_words, vector, allowed, k, Weights())
    shares = evidence_shares(fused, walked.on(nodes))
    return Evidence(nodes, shares, led(tree, nodes, fused, walked, Weights()))


def gather(
    tree: Tree, evidence: Evidence, chars: int, readable: Callable[[int], bool] = lambda number: True
) -> list[Piece]:
    """What to read, at most `chars` characters in all, the best piece first.

    Each piece is either one summary, of those that are `readable`, or chunks that follow one another in their document.
    """
    order = [int(evidence.chunks[place]) for place in top(evidence.scores, LOOKED)]
    same = folded(tree, order, len(order)) if tree.has_copies else {number: [number] for number in order}
    copies = {shown: others for shown, *others in same.values()}
    taken, left = [], chars
    for number in [*filter(readable, _summaries(tree, evidence, chars)), *copies]:
        if (size := tree.chars_at(number)) <= left:
            taken.append(number)
            left -= size
    return [_piece(tree, nodes, copies) for nodes in tree.pieces(taken)]


def _piece(tree: Tree, nodes: range, copies: Mapping[int, Sequence[int]]) -> Piece:
    documents = (int(tree.leaf_documents[copy]) for number in nodes for copy in copies.get(number, ()))
    return Piece(nodes, tuple(tree.documents[number].id for number in dict.fromkeys(documents)))


def _summaries(tree: Tree, evidence: Evidence, chars: int) -> list[int]:
    """Numbers of the summaries to read, those with the most evidence first, where this is broad.

    How many chunks share the evidence is the exponential of its entropy. Of 400 questions of the development sets, each
    about something, none reaches 0.45 of all chunks; where texts are alike, "summarise everything" reaches a half.
    """
    shares = evidence.shares[evidence.shares > 0]
    spread = float(np.exp(-(shares * np.log(shares)).sum()))
    if len(tree.levels) < 3 or spread <= BROAD * len(evidence.chunks):
        return []
    rows = tree.rows[evidence.chunks]
    size = int((rows["end"] - rows["start"]).sum())  # in bytes, which is near enough
    if chars >= MUCH_OF_IT * size:
        return []
    parents, places = tree.parents_of(evidence.chunks)
    held = np.bincount(parents, evidence.shares[places])
    best, used, chosen = np.argsort(-held, kind="stable"), 0, []
    for number in best[held[best] > 0].tolist():
        used += tree.chars_at(number)
        if used > SUMMARISED * chars:
            break
        chosen.append(number)
    return chosen
