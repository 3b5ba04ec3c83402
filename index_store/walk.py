"""A walk from what a search found first, over the names that texts share: personalised PageRank.

After HippoRAG (arXiv 2405.14831): it reaches the second passage that a question needs, which says none of the
question's words, and is joined to the first one by a name. The walk stays among the seeds, their names, the names in
the question, and the chunks that bear these: beyond them so little is reached that no ranking differs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from index_store.branches import softmax
from index_store.name_table import Names, Pairs

SEEDS = 30
TEMPERATURE = 0.25  # of the softmax over the seeds' scores, in standard deviations
DAMPING, ROUNDS = 0.7, 12
TITLED = 0.1  # of the weight around the seeds, the share on titles from which on a walk is trusted

Numbers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Walked:
    """Where a walk went. `chunks`: (n,) numbers, ascending. `shares`: (n,) of its mass, each above 0, times `trust`.

    `trust`: how far names lead among these texts, from 0 to 1.
    """

    chunks: Numbers
    shares: Scores
    trust: float

    def on(self, chunks: Numbers) -> Scores:
        """The shares of these chunks, (n,); 0 where the walk did not go."""
        shares = np.zeros(len(chunks))
        here, places = np.isin(chunks, self.chunks), np.searchsorted(self.chunks, chunks)
        shares[here] = self.shares[places[here]]
        return shares


NOWHERE = Walked(np.empty(0, dtype=np.int64), np.empty(0), 0.0)


def walk(names: Names, question: str, chunks: Numbers, scores: Scores, allowed: Numbers) -> Walked:
    """The walk from the best of `chunks` by their `scores`, and from the names in the question, half each.

    `allowed`: the chunks that it may enter, ascending. It goes nowhere, and `chunks` of the result is empty, where the
    seeds and the question bear no name that is another chunk's too. Names lead where texts are about what others name,
    which shows in names that are titles: where fewer than TITLED are, shares are smaller in proportion.
    """
    best = np.argsort(-scores, kind="stable")[:SEEDS]
    if not len(best):
        return NOWHERE
    seeds, mass = chunks[best], softmax(scores[best] / TEMPERATURE)
    asked = names.asked(question)
    joining = np.union1d(names.of_chunks(seeds), asked)
    pairs = names.bearers(joining, allowed)
    trust = min(_titled(pairs) / TITLED, 1.0)
    if not trust:
        return NOWHERE
    places = np.union1d(pairs.chunks, seeds)
    start, start_names = np.zeros(len(places)), np.zeros(len(joining))
    start[np.searchsorted(places, seeds)] = mass
    if len(asked):
        rarity = names.rarity(asked)
        start_names[np.searchsorted(joining, asked)] = rarity / rarity.sum() / 2
        start /= 2
    at = np.searchsorted(places, pairs.chunks)
    shares = trust * _page_rank(at, pairs, start, start_names)
    return Walked(places[shares > 0], shares[shares > 0], trust)


def best_name(names: Names, chunks: Numbers, shares: Scores) -> Scores:
    """For each of `chunks` (ascending) what the one of its names gathers that gathers most, (n,).

    A name gathers the evidence (`shares`, (n,)) of those that bear it, divided by the bits of how many chunks of the
    corpus do: a name of few says more. What clusters the chunks are in does not count, so shards rank as one index.
    """
    borne, bearers, _ = names.borne(chunks)
    distinct, own = np.unique(borne, return_inverse=True)
    at, best = np.searchsorted(chunks, bearers), np.zeros(len(chunks))
    held = np.bincount(own, shares[at], len(distinct)) / np.log2(1 + names.sizes(distinct))
    np.maximum.at(best, at, held[own])
    return best


def _titled(pairs: Pairs) -> float:
    """Of the weight of some pairs, the share on names that are the title of one of the chunks."""
    titled = np.bincount(pairs.names, pairs.is_title, minlength=1) > 0
    return float(pairs.weights[titled[pairs.names]].sum() / max(pairs.weights.sum(), 1e-12))


def _page_rank(at: Numbers, pairs: Pairs, start: Scores, start_names: Scores) -> Scores:
    """The mass on each chunk after ROUNDS steps; `at`: the place of each pair's chunk in `start`."""
    own, weight = pairs.names, pairs.weights
    up = weight / np.bincount(at, weight, len(start))[at]
    down = weight / np.bincount(own, weight, len(start_names))[own]
    mass, names = start, start_names
    for _ in range(ROUNDS):
        mass, names = (
            (1 - DAMPING) * start + DAMPING * np.bincount(at, down * names[own], len(start)),
            (1 - DAMPING) * start_names + DAMPING * np.bincount(own, up * mass[at], len(start_names)),
        )
    return mass
