"""What speaks for a question, found by the check itself: from the texts and vectors of the index alone.

It knows nothing of what the run recorded, and nothing of names or branches, which lift a passage in the searches that
the run itself made: two ways that fail alike would confirm each other.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from index_store.errors import IndexStoreError
from index_store.folding import folded
from index_store.index import Index
from index_store.lexical import K1, B, words
from index_store.search import Weights, fuse
from index_store.types import Span
from index_store.vectors import cosines

#: Chunks that hold all evidence: those that scores are standardised by, too.
MOST = 200
#: Of the softmax: its temperature as a share of how far the best stands out, which says how much a difference means.
NOISE = 0.2
#: What a word around a chunk counts, of one in it.
NEAR = 0.5
#: Places that count together for what a run came to: an answer may need several.
MOST_PLACES = 3
_HALVES = Weights(dense=0.5, best=MOST)
#: Characters on either side that belong to a passage: where a text was cut says little about what stands together.
AROUND = 250
#: A document that is no longer is one passage.
SHORT = 1_000
#: Characters of a question that are looked for; what is longer quotes a text.
QUERY_CHARS = 2_000

Numbers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk with what stands around it. `number`: of the chunk, in the index; `numbers`: of all chunks in it,
    those of near-duplicates that say the same among them. `share`: of all evidence, from 0 to 1."""

    number: int
    numbers: tuple[int, ...]
    share: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a question, in at most MOST chunks.

    `chunks`: (n,) numbers, most evidence first; `shares`: (n,), they add up to 1. `mass`: by the number of a node, what
    the chunks below it hold together, a chunk its own; nodes without any are left out; `by_id`: the same by its id.
    `by_words`: whether it was found by words alone, since the index has no vectors or its embedder is not at hand.
    `asked`: of the question's words, each by how rare it is, the share that the best chunk and its surroundings hold.
    """

    query: str
    chunks: Numbers
    shares: Scores
    mass: Mapping[int, float]
    by_id: Mapping[str, float]
    by_words: bool
    asked: float = 0.0

    def at(self, number: int) -> float:
        """The share of the evidence that a node holds, from 0 to 1."""
        return self.mass.get(number, 0.0)


def evidence_for(index: Index, query: str, allowed: Numbers) -> Evidence:
    """The evidence for a question among the chunks `allowed`, ascending numbers.

    The MOST best by cosine and BM25, half each, are scored again, with the words around them; the shares are a softmax.
    """
    query = query[:QUERY_CHARS].encode("utf-8", "replace").decode()
    by_words = index.by_words(query, allowed)[allowed].astype(np.float64)
    vector = _vector(index, query)
    dense = by_words if vector is None else cosines(index.vectors, allowed, vector).astype(np.float64)
    best = np.argsort(-fuse(dense, by_words, _HALVES, len(allowed)), kind="stable")[:MOST]
    around, asked = _by_words_around(index, query, allowed[best])
    scores = fuse(dense[best], around, _HALVES, len(best))
    order = np.argsort(-scores, kind="stable")
    chunks, scores = allowed[best[order]], scores[order]
    most = scores.max(initial=0)
    shares = np.exp((scores - most) / (NOISE * (1 + most)))
    shares = shares / max(float(shares.sum()), 1e-300)
    mass = _mass(index, chunks, shares)
    by_id = {index.id_of(number): share for number, share in mass.items()}
    held = float(asked[order[0]]) if len(order) else 0.0
    return Evidence(query, chunks, shares, mass, by_id, vector is None, held)


def _by_words_around(index: Index, query: str, chunks: Numbers) -> tuple[Scores, Scores]:
    """BM25 of a query's words in each chunk with its surroundings, whose words count NEAR each, and the share of these
    words that occurs there, each by how rare it is in these chunks."""
    stems = cache(lambda number: Counter(words(index.text_at(number))))
    asked, numbers = sorted({*words(query)}), chunks.tolist()
    times, lengths = np.zeros((len(numbers), len(asked))), np.zeros(len(numbers))
    for row, number in enumerate(numbers):
        for near in surroundings(index, number):
            weight, own = 1.0 if near == number else NEAR, stems(near)
            times[row] += [weight * own[word] for word in asked]
            lengths[row] += weight * own.total()
    holders = np.array([sum(word in stems(number) for number in numbers) for word in asked])
    rarity = np.log(1 + (len(numbers) - holders + 0.5) / (holders + 0.5))
    relative = lengths / max(float(lengths.sum()) / max(len(numbers), 1), 1e-9)
    scores: Scores = (rarity * times / (times + K1 * (1 - B + B * relative[:, None]))).sum(axis=1)
    return scores, (times > 0) @ rarity / max(float(rarity.sum()), 1e-9)


def _vector(index: Index, query: str) -> npt.NDArray[np.float32] | None:
    """The query's vector; None where the index has none, or its embedder is not at hand."""
    if not index.vectors.shape[1] or not query.strip():
        return None
    try:
        vector: npt.NDArray[np.float32] = index.embed_queries([query])[0]
        return vector
    except IndexStoreError:
        return None


def _mass(index: Index, chunks: Numbers, shares: Scores) -> dict[int, float]:
    """What each node holds of the shares of chunks below it; a chunk counts once in each node that it stands below."""
    mass: dict[int, float] = dict(zip(chunks.tolist(), shares.tolist(), strict=True))
    nodes, rows, counted = chunks, np.arange(len(chunks)), set[tuple[int, int]]()
    while len(nodes):
        parents, places = index.parents_of(nodes)
        pairs = [*zip(parents.tolist(), rows[places].tolist(), strict=True)]
        new = sorted(set(pairs) - counted)
        counted.update(new)
        for node, row in new:
            mass[node] = mass.get(node, 0.0) + float(shares[row])
        nodes, rows = (np.array([pair[i] for pair in new], dtype=np.int64) for i in (0, 1))
    return mass


def strong_passages(index: Index, evidence: Evidence, least: float, most: int) -> list[Passage]:
    """The passages with at least `least` times the share of the best, at most so many, best first.

    What stands around a better passage is a part of it, and so is what says the same in a near-duplicate.
    """
    if not len(evidence.chunks):
        return []
    order = evidence.chunks[evidence.shares >= least * evidence.shares[0]].tolist()
    same = folded(index, order, len(order)) if index.has_copies else {number: [number] for number in order}
    found: dict[int, set[int]] = {}
    for hit, copies in same.items():
        if not any(hit in around for around in found.values()) and len(found) < most:
            found[hit] = {number for copy in [hit, *copies] for number in surroundings(index, copy)}
    return [
        Passage(hit, tuple(sorted(around)), sum(evidence.at(number) for number in around & {*order}))
        for hit, around in found.items()
    ]


def surroundings(index: Index, number: int) -> range:
    """The numbers of the chunks next to a chunk in its document, and of those that begin or end less than AROUND
    characters away from it, its own among them; of a document of SHORT characters at most, all."""
    chunks = index.document_leaves(int(index.leaf_documents[number]))
    if index.documents[int(index.leaf_documents[number])].chars <= SHORT:
        return chunks
    first, last = max(number - 1, chunks.start), min(number + 1, chunks.stop - 1)
    low, high = _span(index, number).start - AROUND, _span(index, number).end + AROUND
    while first > chunks.start and _span(index, first - 1).end > low:
        first -= 1
    while last < chunks.stop - 1 and _span(index, last + 1).start < high:
        last += 1
    return range(first, last + 1)


def _span(index: Index, number: int) -> Span:
    return index.span_at(number) or Span("", 0, 0)


def held_by(index: Index, evidence: Evidence, chunks: Iterable[int]) -> float:
    """What the MOST_PLACES strongest places among these chunks hold together, from 0 to the share of the best chunk.

    A place is a chunk; in a document of SHORT characters at most, its strongest.
    """
    places = {max(_place(index, number), key=evidence.at) for number in chunks}
    best = sorted(map(evidence.at, places), reverse=True)[:MOST_PLACES]
    return min(sum(best), float(evidence.shares.max(initial=0)))


def _place(index: Index, number: int) -> range:
    document = int(index.leaf_documents[number])
    is_short = index.documents[document].chars <= SHORT
    return index.document_leaves(document) if is_short else range(number, number + 1)


def above(index: Index, number: int) -> Iterator[int]:
    """The numbers of a node and of all that it stands below but the root, which holds everything."""
    root = len(index) - 1
    yield number
    yield from (node for node in index.above(np.array([number])).tolist() if node != root)
