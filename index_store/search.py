"""Ranked search: dense and lexical scores, fused, over any level, below any node, in any document.

Modes:

dense    cosine of the query's vector with each node's
lexical  BM25
hybrid   both, standardised and added; then a chunk gains from what leads to it by the names that it shares with the
         best (`walk`), and from the best chunk near it, and loses a little for each better chunk of its document (the
         default, over the chunks)
tree     hybrid over all levels in one pool, RAPTOR's collapsed tree (arXiv 2401.18059, section 4)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from index_store.branches import evidence_shares
from index_store.errors import BadQuery
from index_store.filters import filtered
from index_store.folding import folded
from index_store.tree import Tree
from index_store.types import MODES, Check, Hit, Mode, Scope, Span, unchecked
from index_store.vectors import EXACT_NODES, cosines, largest
from index_store.walk import NOWHERE, Walked, best_name, walk

Scores = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

AHEAD = 100  # nodes that are looked at, beside twice those asked for, for passages that say the same
SCORED = 5_000  # up to here all nodes get a score; of more, a shortlist, which takes as long for any number
SHORTLIST = 500  # nodes of each kind on that list, by vector and by words each
NO_VECTORS = (
    "{path} has no vectors, so it is not searched by meaning; search it by words (mode lexical), or grep it"
)


@dataclass(frozen=True, slots=True)
class Weights:
    """The parameters of the hybrid score.

    `dense`: share of the dense score, the rest is lexical. `best`: scores are standardised by the mean and deviation
    of so many of the best. `walk`: times the root of its share of the walk is what a chunk gains. `name`: times the
    root of what the best of its names gathers (see `best_name`), as far as the walk is trusted. `near`: weight of the
    best chunk at most `reach` chunks away. `again`: what a chunk loses for each better one of its document. What is
    gained and lost is in standard deviations. The defaults were chosen on the development sets; `python -m benchmarks
    retrieval` varies them one by one.
    """

    dense: float = 0.5
    best: int = 200
    walk: float = 24.0
    name: float = 2.0
    near: float = 1.5
    reach: int = 3
    again: float = 0.2


def search(
    tree: Tree,
    query: str,
    k: int = 10,
    *,
    mode: Mode = "hybrid",
    level: int | None = None,
    under: str | None = None,
    doc: str | None = None,
    where: Mapping[str, str] | None = None,
    section: str | None = None,
    vector: Floats | None = None,
    within: Numbers | None = None,
    weights: Weights | None = None,
    fold: bool = True,
    check: Check = unchecked,
) -> list[Hit]:
    """The `k` best nodes, or fewer, best first; ties by node order. Raises BadQuery or NoSuchNode.

    `mode`: hybrid (meaning and words), dense, lexical, or tree: all levels in one pool. A text file, which has no
    vectors, is searched by words in every mode but dense, which raises BadQuery. `level`: None means the chunks, or
    every level in mode tree.
    Filters: `under`, only this node and those below it; `doc`, only the chunks of this document, or of those that a
    folder, pattern or file stands for (see `Documents.named`), and summaries of nothing else; `where`, only documents
    whose metadata has each of these fields with that value; `section`, only chunks under a heading that contains this,
    whatever the case; `within`, only nodes with these numbers, ascending.
    `vector`: the query's (dim,) unit vector, else the tree's embedder makes it. `weights`: of the hybrid score.
    `fold`: passages that say the same in documents that are near-duplicates are one hit, with the others as its
    `copies`; without it each is a hit. `check`: may stop it by raising, while it looks through headings.
    """
    if mode not in MODES:
        raise BadQuery(f"no search mode {mode!r}; there are {', '.join(MODES)}")
    if not query.strip():
        raise BadQuery("the query is empty; ask with at least one word")
    if k < 1:
        raise BadQuery(f"k is {k}; ask for at least one hit")
    if not tree.vectors.shape[1]:
        mode = _by_words(tree, mode)
    nodes = filtered(tree, candidates(tree, mode, level, under, doc), where or {}, section, check)
    if within is not None:
        nodes = among(nodes, within)
    if not len(nodes):
        return []
    if vector is None and mode != "lexical":
        vector = tree.embed_queries([query])[0]
    by_words = tree.by_words("" if mode == "dense" else query, nodes)
    if mode == "lexical":
        nodes = positive(by_words, nodes)
        scores = by_words[nodes].astype(np.float64)
    elif mode == "dense":
        vector = _fitting(tree, vector)
        if len(nodes) > EXACT_NODES:
            nodes = dense_candidates(tree, vector, nodes, k)[0]
        scores = cosines(tree.vectors, nodes, vector).astype(np.float64)
    else:
        weights = weights or Weights()
        nodes, fused, walked = fused_and_walked(tree, query, by_words, vector, nodes, k, weights)
        scores = led(tree, nodes, fused, walked, weights)
    if not (fold and tree.has_copies):
        return [hit(tree, int(nodes[i]), float(scores[i])) for i in top(scores, k)]
    return _folded(tree, nodes, scores, k)


def _by_words(tree: Tree, mode: Mode) -> Mode:
    """The mode in which a tree without vectors is searched. Raises BadQuery for `dense`."""
    if mode == "dense":
        raise BadQuery(NO_VECTORS.format(path=tree.path))
    return "lexical"


def _folded(tree: Tree, nodes: Numbers, scores: Scores, k: int) -> list[Hit]:
    """The `k` best hits that say what none before them says; each look is at twice as many nodes as the last."""
    count = AHEAD + 2 * k
    while True:
        best = top(scores, count)
        places = dict(zip(nodes[best].tolist(), best.tolist(), strict=True))
        shown = folded(tree, places, k)
        if len(shown) == k or count >= len(scores):
            return [_hit_of(tree, same, float(scores[places[best]])) for best, same in shown.items()]
        count *= 2


def _hit_of(tree: Tree, same: Sequence[int], score: float) -> Hit:
    """The first of the nodes that say the same, with the score of the best of them; the others are its copies."""
    return hit(tree, same[0], score, [span for number in same[1:] if (span := tree.span_at(number))])


def hit(tree: Tree, number: int, score: float, copies: Sequence[Span] = ()) -> Hit:
    """The node with this number as a hit, its score rounded to six digits."""
    level = next(i for i in range(len(tree.levels)) if number in tree.level_range(i))
    return Hit(tree.id_of(number), level, tree.span_at(number), round(score, 6), tuple(copies))


def candidates(tree: Tree, mode: Mode, level: int | None, under: str | None, doc: str | None) -> Numbers:
    """Numbers of the nodes to choose from, ascending. Of documents: their chunks and the summaries of nothing else."""
    chosen = (
        range(len(tree))
        if level is None and mode == "tree"
        else tree.level_range(0 if level is None else level)
    )
    below = None if under is None else between(tree.below(tree.number_of(under)), chosen.start, chosen.stop)
    if doc is None:
        return tree.numbers(chosen) if below is None else below
    inside = tree.chunks_of(tree.documents_named(doc))
    chunks = between(inside, chosen.start, chosen.stop)
    if below is not None:
        chunks = np.intersect1d(chunks, below, assume_unique=True)
    above = range(max(chosen.start, tree.levels[0]), chosen.stop)
    if not above:
        return chunks
    summaries = tree.numbers(above) if below is None else between(below, above.start, above.stop)
    others = np.setdiff1d(tree.numbers(tree.level_range(0)), inside, assume_unique=True)
    return np.concatenate([chunks, np.setdiff1d(summaries, tree.above(others), assume_unique=True)])


def chunks_in(tree: Tree, scope: Scope) -> Numbers:
    """Numbers of the chunks in a scope, ascending. Raises NoSuchNode or BadQuery, also where it holds none."""
    chunks = filtered(tree, candidates(tree, "lexical", 0, None, scope.doc), scope.where, scope.section)
    if not len(chunks):
        told = ", ".join(f"{name} {value!r}" for name, value in scope.as_json().items())
        raise BadQuery(f"there is no text in the scope ({told[:400]}); give a wider one")
    return chunks


def shortlist(
    tree: Tree, by_words: Floats, by_vector: Floats | None, vector: Floats, nodes: Numbers, k: int, reach: int
) -> Numbers:
    """Those of many `nodes` that are worth a score, ascending.

    Of the chunks and of the summaries each, the SHORTLIST (or 2 `k`) best by vector and as many by words; and the
    chunks at most `reach` away from such a chunk. `by_vector`: as `by_words`, where all cosines are known.
    """
    chosen, count = np.zeros(len(tree), dtype=np.bool_), max(2 * k, SHORTLIST)
    with_words = positive(by_words, nodes)
    for low, high in ((0, tree.levels[0]), (tree.levels[0], len(tree))):
        part, worded = between(nodes, low, high), between(with_words, low, high)
        if by_vector is None:
            chosen[dense_candidates(tree, vector, part, count)[0]] = True
        else:
            chosen[part[largest(by_vector[part], count)]] = True
        chosen[worded[largest(by_words[worded], count)]] = True
        if len(worded) < count:
            chosen[part[:count]] = True
    chunks = np.flatnonzero(chosen[: tree.levels[0]])
    for step in range(1, reach + 1):
        chosen[chunks[chunks >= step] - step] = True
        chosen[np.minimum(chunks + step, tree.levels[0] - 1)] = True
    return among(np.flatnonzero(chosen), nodes)


def between(nodes: Numbers, low: int, high: int) -> Numbers:
    """Those of `nodes`, ascending, that are at least `low` and below `high`."""
    start, stop = np.searchsorted(nodes, [low, high])
    return nodes[start:stop]


def among(numbers: Numbers, nodes: Numbers) -> Numbers:
    """Those of `numbers` that are in `nodes`; both ascend without repeats. Quick where `nodes` has no gap."""
    if not len(nodes):
        return nodes
    numbers = between(numbers, int(nodes[0]), int(nodes[-1]) + 1)
    whole = int(nodes[-1]) - int(nodes[0]) + 1 == len(nodes)
    return numbers if whole else numbers[np.isin(numbers, nodes, assume_unique=True)]


def positive(scores: Floats, nodes: Numbers) -> Numbers:
    """Those of `nodes`, which ascend, whose score is above 0; `scores` has one for each node of the tree."""
    if not len(nodes):
        return nodes
    low, high = int(nodes[0]), int(nodes[-1]) + 1
    return among(np.flatnonzero(scores[low:high] > 0) + low, nodes)


def led(tree: Tree, nodes: Numbers, fused: Scores, walked: Walked, weights: Weights) -> Scores:
    """The hybrid scores of `nodes`: the fused ones with what leads to a chunk by names and neighbours."""
    chunks = nodes[: _chunks(tree, nodes)]
    scores, shares = fused.copy(), walked.on(chunks)
    if tree.names is not None and walked.trust and weights.name:
        gathered = best_name(tree.names, chunks, evidence_shares(fused[: len(chunks)], shares))
        scores[: len(chunks)] += weights.name * walked.trust * np.sqrt(gathered)
    scores[: len(chunks)] += weights.walk * np.sqrt(shares)
    return _lifted(tree, nodes, scores, weights)


def fused_and_walked(
    tree: Tree,
    query: str,
    by_words: Floats,
    vector: Floats | None,
    allowed: Numbers,
    k: int,
    weights: Weights,
) -> tuple[Numbers, Scores, Walked]:
    """Those of the nodes `allowed` that are worth a score, ascending, their fused scores, and the walk from the best.

    `by_words`: the lexical score of every node in the tree. `k`: how many are wanted.
    """
    vector, nodes, by_vector = _fitting(tree, vector), allowed, None
    if len(allowed) <= EXACT_NODES:
        by_vector = np.zeros(len(tree), dtype=np.float32)
        by_vector[allowed] = cosines(tree.vectors, allowed, vector)
    if by_vector is None or len(allowed) > SCORED:
        nodes = shortlist(tree, by_words, by_vector, vector, allowed, k, weights.reach)

    def fused(some: Numbers) -> Scores:
        dense = cosines(tree.vectors, some, vector) if by_vector is None else by_vector[some]
        chunks = _chunks(tree, some) or len(some)
        return fuse(dense.astype(np.float64), by_words[some].astype(np.float64), weights, chunks)

    scores = fused(nodes)
    walked = _walked(tree, query, nodes, scores, allowed, weights)
    if len(nodes) < len(allowed):
        reached = np.sort(walked.chunks[top(walked.shares, max(2 * k, SHORTLIST))])
        nodes = np.union1d(nodes, reached)
        scores = fused(nodes)
    return nodes, scores, walked


def _walked(
    tree: Tree, query: str, nodes: Numbers, fused: Scores, allowed: Numbers, weights: Weights
) -> Walked:
    """Where the names lead from the best chunks among `nodes`; nowhere in an index that keeps no names."""
    chunks = _chunks(tree, nodes)
    if tree.names is None or not weights.walk:
        return NOWHERE
    return walk(tree.names, query, nodes[:chunks], fused[:chunks], between(allowed, 0, tree.levels[0]))


def _lifted(tree: Tree, nodes: Numbers, fused: Scores, weights: Weights) -> Scores:
    """The scores of chunks with those of their neighbourhood; a summary is its own."""
    chunks = _chunks(tree, nodes)
    lifted = fused * (1 + weights.near)
    documents = _documents(tree, nodes[:chunks])
    near = nearby_best(fused[:chunks], nodes[:chunks], documents, weights.reach)
    lifted[:chunks] = fused[:chunks] + weights.near * near
    lifted[:chunks] -= weights.again * places_within(lifted[:chunks], documents)
    return lifted


def _chunks(tree: Tree, nodes: Numbers) -> int:
    """How many of `nodes`, ascending, are chunks."""
    return int(np.searchsorted(nodes, tree.levels[0]))


def _documents(tree: Tree, chunks: Numbers) -> npt.NDArray[np.int32]:
    return tree.leaf_documents[chunks]


def _fitting(tree: Tree, vector: Floats | None) -> Floats:
    if vector is None or vector.shape != (tree.vectors.shape[1],):
        shape = None if vector is None else vector.shape
        raise BadQuery(f"the query's vector has shape {shape}, the index has ({tree.vectors.shape[1]},)")
    return vector


def dense_candidates(tree: Tree, vector: Floats, nodes: Numbers, count: int) -> tuple[Numbers, Floats]:
    """About the `count` of `nodes` (ascending) nearest to `vector` (dim,): their numbers, ascending, and cosines.

    Exact but for what `Tree.nearest` leaves out.
    """
    nodes = tree.nearest(vector, nodes, count)
    scores = cosines(tree.vectors, nodes, vector)
    best = np.sort(largest(scores, count))
    return nodes[best], scores[best]


def standardise(scores: Scores, reference: Scores) -> Scores:
    """`scores` less the mean of `reference`, in its standard deviations; all zeros where `reference` is constant."""
    spread = reference.std()
    return (scores - reference.mean()) / spread if spread > 1e-12 else np.zeros_like(scores)


def fuse(dense: Scores, lexical: Scores, weights: Weights, chunks: int) -> Scores:
    """Convex combination of standardised scores (Bruch et al., "An Analysis of Fusion Functions", TOIS 2023).

    Each is standardised by the best of its first `chunks` scores. If it were by all of them, a word of few chunks would
    weigh more the more chunks are without it, and chunks would rank differently where summaries join.
    """
    by_dense, by_lexical = (
        standardise(scores, _best(scores[:chunks], weights.best)) for scores in (dense, lexical)
    )
    return weights.dense * by_dense + (1 - weights.dense) * by_lexical


def _best(scores: Scores, count: int) -> Scores:
    return np.partition(scores, len(scores) - count)[-count:] if count < len(scores) else scores


def nearby_best(scores: Scores, chunks: Numbers, documents: npt.NDArray[np.int32], reach: int) -> Scores:
    """For each chunk the best score at most `reach` chunks away in its document, its own included.

    So the surroundings of a good chunk rank with it, and a chunk without neighbours loses nothing. `chunks` (their
    numbers) ascend and may have gaps; `documents` are the numbers of their documents.
    """
    best = scores.copy()
    for step in range(1, min(reach, len(scores) - 1) + 1):
        # Numbers ascend: chunks at most `reach` apart stand at most `reach` places apart.
        near = (chunks[step:] - chunks[:-step] <= reach) & (documents[step:] == documents[:-step])
        np.maximum(best[step:], scores[:-step], out=best[step:], where=near)
        np.maximum(best[:-step], scores[step:], out=best[:-step], where=near)
    return best


def places_within(scores: Scores, documents: npt.NDArray[np.int32]) -> Numbers:
    """The rank of each chunk among those of its document, 0 for the best; ties in order. `documents` ascend.

    To subtract a constant times this rank orders chunks as a greedy choice would that subtracts the constant from all
    others of a document whenever it takes one of them: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998)
    in which two chunks are similar if they are of one document.
    """
    order = np.lexsort((-scores, documents))
    places = np.empty(len(scores), dtype=np.int64)
    places[order] = np.arange(len(scores)) - np.searchsorted(documents, documents)
    return places


def top(scores: npt.NDArray[np.floating], k: int) -> Numbers:
    """Places of the `k` largest scores (of any kind of float), best first, ties by place."""
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")
    floor = np.partition(scores, len(scores) - k)[len(scores) - k]
    above, level = np.flatnonzero(scores > floor), np.flatnonzero(scores == floor)
    return np.append(above[np.argsort(-scores[above], kind="stable")], level[: k - len(above)])
