"""Ranked search: dense and lexical scores, fused, over any level, below any node, in any document.

Pure arithmetic over score arrays; the index only supplies them. Modes:

dense    cosine of the query's vector with each node's
lexical  BM25
hybrid   both, standardised and added; then a chunk gains by the best chunk near it and gives way, a little, to
         other documents (the default, over the chunks)
tree     hybrid over all levels in one pool, RAPTOR's collapsed tree (arXiv 2401.18059, section 4), in which
         summaries take no chunk's place
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from index_store.errors import BadQuery
from index_store.filters import filtered
from index_store.tree import Tree
from index_store.types import MODES, Hit, Mode
from index_store.vectors import COMPARED, EXACT_NODES, cosines, largest, near, whole_levels

Scores = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
#: Texts to their (n, dim) float32 unit rows.
Embed = Callable[[Sequence[str]], Floats]

SHORTLIST = 500
NO_VECTORS = (
    "{path} has no vectors, so it is not searched by meaning; search it by words (mode lexical), or grep it"
)


@dataclass(frozen=True, slots=True)
class Weights:
    """Chosen for the mean over the development sets; `python -m benchmarks retrieval` varies them one by one.

    `dense`: share of the dense score, the rest is lexical. `best`: scores are standardised by so many of the best.
    `near`: weight of the best chunk at most `reach` chunks away. `again`: what each further chunk of a document
    loses.
    """

    dense: float = 0.5
    best: int = 200
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
    weights: Weights | None = None,
    embed: Embed | None = None,
) -> list[Hit]:
    """At most `k` hits, best first; ties by node order. Raises BadQuery or NoSuchNode.

    Where an index has no vectors every mode is `lexical`, but `dense`, which is refused.
    Mode `tree` gives the `k` best chunks and, beside them, the summaries that are among the `k` best nodes: so it
    finds what mode `hybrid` finds, and at most `k` hits more.
    `level` None means the chunks, or every level in mode `tree`. `doc` keeps to the nodes that stand on that
    document alone, `where` and `section` to those that `index_store.filters` lets through. `vector` is the query's
    (dim,) unit vector; without it `embed` makes one, unless the mode is lexical.
    """
    if mode not in MODES:
        raise BadQuery(f"no search mode {mode!r}; there are {', '.join(MODES)}")
    if not query.strip():
        raise BadQuery("the query is empty; ask with at least one word")
    if k < 1:
        raise BadQuery(f"k is {k}; ask for at least one hit")
    if not tree.vectors.shape[1]:
        mode = _by_words(tree, mode)
    nodes = filtered(tree, candidates(tree, mode, level, under, doc), where or {}, section)
    if not len(nodes):
        return []
    if vector is None and mode != "lexical":
        vector = embed([query])[0] if embed else None
    weights = weights or Weights()
    by_words = tree.lexicon.score("" if mode == "dense" else query, len(tree))
    if mode == "lexical":
        nodes = among(np.flatnonzero(by_words > 0), nodes)
    elif len(nodes) > EXACT_NODES:
        nodes = shortlist(tree, by_words, vector, nodes, mode, k, weights.reach)
    scores = score(tree, by_words, vector, nodes, mode, weights)
    best = top(scores, k)
    if mode == "tree":
        best = with_chunks(best, scores, _chunks(tree, nodes), k)
    return [hit(tree, int(nodes[i]), float(scores[i])) for i in best]


def _by_words(tree: Tree, mode: Mode) -> Mode:
    """How an index without vectors is searched: by its words, unless that was not asked for."""
    if mode == "dense":
        raise BadQuery(NO_VECTORS.format(path=tree.path))
    return "lexical"


def with_chunks(best: Numbers, scores: Scores, chunks: int, k: int) -> Numbers:
    """`best` places and those of the `k` best of the first `chunks` scores, best first, ties by place."""
    places = np.union1d(best, top(scores[:chunks], k))
    return places[np.argsort(-scores[places], kind="stable")]


def hit(tree: Tree, number: int, score: float) -> Hit:
    level = next(i for i in range(len(tree.levels)) if number in tree.level_range(i))
    return Hit(tree.id_of(number), level, tree.span_at(number), round(score, 6))


def candidates(tree: Tree, mode: Mode, level: int | None, under: str | None, doc: str | None) -> Numbers:
    """Numbers of the nodes that may be found, ascending. In one document: its chunks and their summaries."""
    chosen = (
        range(len(tree))
        if level is None and mode == "tree"
        else tree.level_range(0 if level is None else level)
    )
    nodes = np.arange(chosen.start, chosen.stop, dtype=np.int64)
    if under is not None:
        nodes = np.intersect1d(nodes, tree.below(tree.number_of(under)), assume_unique=True)
    if doc is not None:
        leaves = tree.document_leaves(tree.document_number(doc))
        inside = (nodes >= leaves.start) & (nodes < leaves.stop)
        if len(nodes) and nodes[-1] >= tree.levels[0]:
            inside |= np.isin(nodes, summaries_of(tree, leaves))
        nodes = nodes[inside]
    return nodes


def shortlist(
    tree: Tree,
    by_words: Floats,
    vector: Floats | None,
    nodes: Numbers,
    mode: Mode,
    k: int,
    reach: int,
) -> Numbers:
    """Of many nodes those that can be among the best: the nearest, those with the query's words, and what is around.

    SHORTLIST of each kind, of the chunks and of the summaries, and the chunks at most `reach` away from such a chunk.
    """
    vector = _fitting(tree, vector)
    if mode == "dense":
        return dense_candidates(tree, vector, nodes, k)[0]
    kept, count = [], max(2 * k, SHORTLIST)
    with_words = among(np.flatnonzero(by_words > 0), nodes)
    for low, high in ((0, tree.levels[0]), (tree.levels[0], len(tree))):
        part, worded = between(nodes, low, high), between(with_words, low, high)
        if len(worded) < count:
            worded = np.union1d(worded, part[:count])
        kept.append(dense_candidates(tree, vector, part, count)[0])
        kept.append(worded[top(by_words[worded], count)])
    best = np.unique(np.concatenate(kept))
    around = np.unique(best[: _chunks(tree, best), None] + np.arange(-reach, reach + 1))
    wanted = np.union1d(best, around[around < tree.levels[0]])
    return among(wanted, nodes)


def between(nodes: Numbers, low: int, high: int) -> Numbers:
    """Those of `nodes`, ascending, from `low` to below `high`."""
    start, stop = np.searchsorted(nodes, [low, high])
    return nodes[start:stop]


def among(found: Numbers, nodes: Numbers) -> Numbers:
    """Those of `found` that are in `nodes`, both ascending and each once; quick where no node is left out."""
    if not len(nodes):
        return nodes
    found = between(found, int(nodes[0]), int(nodes[-1]) + 1)
    whole = int(nodes[-1]) - int(nodes[0]) + 1 == len(nodes)
    return found if whole else found[np.isin(found, nodes, assume_unique=True)]


def summaries_of(tree: Tree, leaves: range) -> Numbers:
    """Numbers of the summaries that stand on these chunks and on no others, ascending."""
    inside, layer = set(leaves), set(leaves)
    for _ in tree.levels[1:]:
        above = {p for n in layer for p in tree.neighbours(n, "parents")}
        layer = {p for p in above if inside.issuperset(tree.neighbours(p, "children"))}
        inside |= layer
    return np.array(sorted(inside.difference(leaves)), dtype=np.int64)


def score(
    tree: Tree,
    by_words: Floats,
    vector: Floats | None,
    nodes: Numbers,
    mode: Mode,
    weights: Weights,
) -> Scores:
    """A score for each candidate, shape (len(nodes),). `by_words`: the lexical score of every node."""
    lexical = by_words[nodes].astype(np.float64)
    if mode == "lexical":
        return lexical
    dense = _dense(tree, vector, nodes)
    if mode == "dense":
        return dense
    chunks = _chunks(tree, nodes)
    fused = fuse(dense, lexical, weights, chunks or len(nodes))
    lifted = fused * (1 + weights.near)  # a summary is its own neighbourhood
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
        found = None if vector is None else vector.shape
        raise BadQuery(f"the query's vector has shape {found}, the index has ({tree.vectors.shape[1]},)")
    return vector


def _dense(tree: Tree, vector: Floats | None, nodes: Numbers) -> Scores:
    return cosines(tree.vectors, nodes, _fitting(tree, vector)).astype(np.float64)


def dense_candidates(tree: Tree, vector: Floats, nodes: Numbers, count: int) -> tuple[Numbers, Floats]:
    """About the `count` nodes of `nodes`, ascending, nearest to `vector` (dim,): numbers, ascending, and cosines.

    Exact where there is no inverted file, where `nodes` are few, or where they are not all of some levels.
    """
    inverted, levels = tree.inverted_file, whole_levels(tree.levels, nodes)
    if inverted and levels and len(nodes) > EXACT_NODES:
        nodes = near(inverted, vector, levels, max(count, COMPARED))
    scores = cosines(tree.vectors, nodes, vector)
    best = np.sort(largest(scores, count))
    return nodes[best], scores[best]


def standardise(scores: Scores, reference: Scores) -> Scores:
    """`scores` less the mean of `reference`, in its standard deviations; all zeros when it does not vary."""
    spread = reference.std()
    return (scores - reference.mean()) / spread if spread > 1e-12 else np.zeros_like(scores)


def fuse(dense: Scores, lexical: Scores, weights: Weights, chunks: int) -> Scores:
    """Convex combination of standardised scores (Bruch et al., "An Analysis of Fusion Functions", TOIS 2023).

    Each is standardised by the best of its first `chunks` scores. By all of them, the one word that few chunks
    hold would weigh more the more chunks do not hold it; and chunks would rank differently where summaries join.
    """
    by_dense, by_lexical = (
        standardise(scores, _best(scores[:chunks], weights.best)) for scores in (dense, lexical)
    )
    return weights.dense * by_dense + (1 - weights.dense) * by_lexical


def _best(scores: Scores, count: int) -> Scores:
    return np.partition(scores, len(scores) - count)[-count:] if count < len(scores) else scores


def nearby_best(scores: Scores, chunks: Numbers, documents: npt.NDArray[np.int32], reach: int) -> Scores:
    """For each chunk the best score at most `reach` chunks away in its document, its own included.

    So what stands around a good chunk is read with it, and a chunk that stands alone loses nothing by it. `chunks`
    ascend and may have gaps; `documents` are theirs.
    """
    best = scores.copy()
    for step in range(1, min(reach, len(scores) - 1) + 1):
        # Numbers ascend: chunks at most `reach` apart stand at most `reach` places apart.
        near = (chunks[step:] - chunks[:-step] <= reach) & (documents[step:] == documents[:-step])
        np.maximum(best[step:], scores[:-step], out=best[step:], where=near)
        np.maximum(best[:-step], scores[step:], out=best[:-step], where=near)
    return best


def places_within(scores: Scores, documents: npt.NDArray[np.int32]) -> Numbers:
    """Each chunk's place among its document's, 0 for the best; ties in order. `documents` ascend.

    Less a constant for each place, scores come in the order of a greedy choice that takes the constant from a
    document's other chunks whenever one of them is taken: maximal marginal relevance (Carbonell and Goldstein,
    SIGIR 1998) with sameness of document for similarity.
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
