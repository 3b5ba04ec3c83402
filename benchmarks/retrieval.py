"""Retrieval on the development sets: search beside the plain ways and RAPTOR's own, each part of it left out, and
whether its settings were fitted to a set.

All ways rank the same chunks by the same vectors and words. A summary that a way reads takes its place among the
documents, or its characters, and finds nothing: what it says cannot be cited.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from benchmarks import Options, _raptor
from benchmarks._report import Claim, Item, Loss, Table, bounds, gained, percent, worst_of
from benchmarks._sets import (
    MULTI_HOP,
    Query,
    Spans,
    Trial,
    Values,
    each,
    interval,
    scored,
    span_of,
    there,
    trial_of,
)
from index_store import search, walk
from index_store.index import Index
from index_store.name_table import Names
from index_store.search import Weights
from index_store.types import Mode

HITS = 20  # enough for five documents, and for 4,000 characters
RRF = 60  # Cormack, Clarke and Buettcher, SIGIR 2009
GAIN = 5.0  # points that names are to add on multi-hop sets
DEFAULT = Weights()

Vector = npt.NDArray[np.float32]
#: From an index, a question and its vector to what is read, best first.
Way = Callable[[Index, Query, Vector], Spans]


def searched(mode: Mode = "hybrid", weights: Weights = DEFAULT) -> Way:
    """The hits of a search."""

    def way(index: Index, query: Query, vector: Vector) -> Spans:
        hits = index.search(
            query["text"], HITS, mode=mode, weights=weights, doc=query["scope"], vector=vector
        )
        return [span_of(index, index.number_of(hit.node)) for hit in hits]

    return way


def by_ranks(index: Index, query: Query, vector: Vector) -> Spans:
    """Reciprocal rank fusion of dense search and BM25."""
    ranks: dict[str, float] = defaultdict(float)
    for mode in ("dense", "lexical"):
        where: dict[str, Any] = {"mode": mode, "doc": query["scope"], "vector": vector}
        for rank, hit in enumerate(index.search(query["text"], 100, **where), 1):
            ranks[hit.node] += 1 / (RRF + rank)
    best = sorted(ranks, key=lambda node: -ranks[node])[:HITS]
    return [span_of(index, index.number_of(node)) for node in best]


def collapsed(index: Index, query: Query, vector: Vector) -> Spans:
    """RAPTOR's collapsed tree."""
    return [span_of(index, number) for number in _raptor.collapsed(index, vector, query["scope"])]


def traversed(index: Index, query: Query, vector: Vector) -> Spans:
    """RAPTOR's tree traversal."""
    return [span_of(index, number) for number in _raptor.traversed(index, vector, query["scope"])]


OURS, POOL = "ours", "ours, all levels"
#: What a user would use instead.
PLAIN: Mapping[str, Way] = {
    "flat dense": searched("dense"),
    "BM25": searched("lexical"),
    "RRF": by_ranks,
    "fusion": searched(weights=replace(DEFAULT, walk=0.0, name=0.0, near=0.0, again=0.0)),
    "RAPTOR collapsed": collapsed,
    "RAPTOR traversed": traversed,
}
#: Each part of the search left out.
LEFT_OUT: Mapping[str, Weights] = {
    "without what a name gathers": replace(DEFAULT, name=0.0),
    "without the walk": replace(DEFAULT, walk=1e-9),  # it still says how far names are trusted
    "without names": replace(DEFAULT, walk=0.0, name=0.0),
    "without neighbours": replace(DEFAULT, near=0.0),
    "without the spread over documents": replace(DEFAULT, again=0.0),
    "without standardising by the best": replace(DEFAULT, best=10**9),
}
BEFORE = "without names"
#: Each setting moved to both sides; with DEFAULT and LEFT_OUT the grid from which a left-out set's setting is chosen.
MOVED: Mapping[str, Weights] = {
    "dense 0.4": replace(DEFAULT, dense=0.4),
    "dense 0.6": replace(DEFAULT, dense=0.6),
    "walk 12": replace(DEFAULT, walk=12.0),
    "walk 36": replace(DEFAULT, walk=36.0),
    "name 1": replace(DEFAULT, name=1.0),
    "name 4": replace(DEFAULT, name=4.0),
    "near 1": replace(DEFAULT, near=1.0),
    "near 2": replace(DEFAULT, near=2.0),
    "again 0.1": replace(DEFAULT, again=0.1),
    "again 0.3": replace(DEFAULT, again=0.3),
}
#: What a branch of the tree gathers, in place of a name.
BRANCHES = "branches in place of names"
#: How many titles there must be around the first hits for a walk to be trusted.
TITLED = {"titled 0.05": 0.05, "titled 0.2": 0.2}

#: Values by way, for each set.
Found = Mapping[str, Mapping[str, Values]]
#: A set's name, its metric, how many questions it was asked, and the values by way.
Searched = tuple[str, str, int, dict[str, Values]]


def measure(options: Options) -> Iterator[Item]:
    """All ways, the parts left out, settings chosen without each set, and what follows from them."""
    sets = each(partial(_searched, options), there(options))
    found: Found = {name: values for name, _, _, values in sets}
    yield _ways_table(sets)
    yield _left_out_table(found)
    yield _published()
    yield from _gain_claims(found)
    yield from _tree_claims(found)
    yield from plain_claims(found)
    if len(found) > 1:
        chosen = {name: _chosen_without(name, found) for name in found}
        yield _chosen_table(found, chosen)
        yield _chosen_claim(found, chosen)


def _searched(options: Options, name: str) -> Searched:
    trial = trial_of(options, name)
    return name, trial.metric, len(trial.queries), _found(trial)


def _found(trial: Trial) -> dict[str, Values]:
    ways = dict(PLAIN) | {OURS: searched(), POOL: searched("tree")}
    ways |= {name: searched(weights=weights) for name, weights in {**LEFT_OUT, **MOVED}.items()}
    found = {name: _scored(trial, way) for name, way in ways.items()}
    for name, share in TITLED.items():
        with _trusted_from(share):
            found[name] = _scored(trial, searched())
    with _lifted_by_branches(trial.index):
        found[BRANCHES] = _scored(trial, searched())
    return found


def _scored(trial: Trial, way: Way) -> Values:
    return scored(trial, lambda query, vector: way(trial.index, query, vector))


@contextmanager
def _trusted_from(share: float) -> Iterator[None]:
    before = walk.TITLED
    walk.TITLED = share
    try:
        yield
    finally:
        walk.TITLED = before


@contextmanager
def _lifted_by_branches(index: Index) -> Iterator[None]:
    """With what the best branch directly above a chunk gathers, in place of the best of its names."""

    def best_branch(_: Names, chunks: npt.NDArray[Any], shares: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        parents, places = index.parents_of(chunks)
        best, held = np.zeros(len(chunks)), np.bincount(parents, shares[places], len(index))
        np.maximum.at(best, places, held[parents])
        return best

    with patch.object(search, "best_name", best_branch):
        yield


# -- tables ------------------------------------------------------------------------------------------------


def _ways_table(sets: Sequence[Searched]) -> Table:
    rows = [
        (name, metric, str(questions), *(percent(values[way].mean()) for way in (*PLAIN, OURS, POOL)))
        for name, metric, questions, values in sets
    ]
    note = (
        "The metric's mean over the questions, in percent. recall@5: of the gold documents, those among the first five "
        "that are read; cover@4k: of the gold characters, those among the first 4,000 read. `fusion`: dense and BM25 "
        f"scores standardised and added, nothing else. RAPTOR's ways read this project's tree: the same summaries "
        f"and vectors; collapsed to {_raptor.TOKENS:,} tokens, traversed with {_raptor.A_LEVEL} nodes a level."
    )
    return Table(
        "What is found, by way of searching",
        ("set", "metric", "questions", *PLAIN, OURS, POOL),
        tuple(rows),
        note,
    )


def _left_out_table(found: Found) -> Table:
    def row(way: str) -> tuple[str, ...]:
        return (way, *(gained(*interval(values[way] - values[OURS])) for values in found.values()))

    columns = ("left out or changed", *found)
    note = f"Less the default, which is {_weights_text(DEFAULT)}, titled {walk.TITLED:g}."
    rows = tuple(row(way) for way in (*LEFT_OUT, *MOVED, *TITLED, BRANCHES))
    return Table("Each part left out, and each setting moved: points gained [interval]", columns, rows, note)


def _weights_text(weights: Weights) -> str:
    return ", ".join(f"{name} {getattr(weights, name):g}" for name in weights.__slots__)


def _published() -> Table:
    rows = (("HippoRAG 2, a 7B embedder, a language model builds its graph", "74.7", "96.3", "90.4"),)
    note = (
        "As published (arXiv 2502.14802), over larger corpora and other questions of these sets: an anchor, no peer. "
        "Here a 22M embedder is used, and no model builds the graph of names."
    )
    return Table("Published recall@5", ("system", "MuSiQue", "HotpotQA", "2Wiki"), rows, note)


# -- claims ------------------------------------------------------------------------------------------------


def _gain_claims(found: Found) -> Iterator[Claim]:
    others: list[tuple[float, Claim]] = []
    for name, values in found.items():
        mean, low, high = interval(values[OURS] - values[BEFORE])
        text, peer = f"names on {name}", f"{percent(values[BEFORE].mean())} {BEFORE}"
        ours, told = percent(values[OURS].mean()), gained(mean, low, high)
        if name in MULTI_HOP:
            yield Claim("gain", text, f"at least +{GAIN:g}", ours, peer, told, mean >= GAIN)
        else:
            others.append((high, Claim("gain", text, "interval reaches 0", ours, peer, told, high >= 0)))
    if others:
        yield worst_of(others)


def _tree_claims(found: Found) -> Iterator[Item]:
    for name in (name for name in found if name in MULTI_HOP):
        ours, by_tree = found[name][OURS], found[name][BRANCHES]
        mean, low, high = interval(by_tree - ours)
        told = f"{percent(ours.mean())} by names, which is the default"
        text, wanted = f"{BRANCHES} on {name}", "more than noise"
        yield Claim(
            "tree counts", text, wanted, percent(by_tree.mean()), told, gained(mean, low, high), low > 0
        )
        if mean > 0:
            where = f"ranking on {name}"
            yield Loss(BRANCHES, where, percent(by_tree.mean()), percent(ours.mean()), bounds(low, high))


def plain_claims(found: Found) -> Iterator[Item]:
    """The set on which ours is worst beside the best plain way; a loss wherever a plain way finds more on average."""
    claims: list[tuple[float, Claim]] = []
    for name, values in found.items():
        best = max(PLAIN, key=lambda way: values[way].mean())
        mean, low, high = interval(values[OURS] - values[best])
        theirs, ours = percent(values[best].mean()), percent(values[OURS].mean())
        text, told = f"search on {name}", gained(mean, low, high)
        claim = Claim("plain", text, "interval reaches 0", ours, f"{theirs} {best}", told, high >= 0)
        claims.append((high, claim))
        for way in PLAIN:
            mean, low, high = interval(values[way] - values[OURS])
            if mean > 0:
                yield Loss(way, f"search on {name}", percent(values[way].mean()), ours, bounds(low, high))
    yield worst_of(claims)


# -- settings chosen without a set -------------------------------------------------------------------------


def _chosen_without(left_out: str, found: Found) -> str:
    """The setting with the best mean over the other sets."""
    others = [values for name, values in found.items() if name != left_out]
    return max(_grid(), key=lambda way: np.mean([values[way].mean() for values in others]))


def _grid() -> tuple[str, ...]:
    return (OURS, *LEFT_OUT, *MOVED, *TITLED)


def _chosen_table(found: Found, chosen: Mapping[str, str]) -> Table:
    def row(name: str) -> tuple[str, ...]:
        values, way = found[name], chosen[name]
        cells = (percent(values[one].mean()) for one in (BEFORE, OURS, way))
        least = min(_grid(), key=lambda one: values[one].mean())
        most = max(_grid(), key=lambda one: values[one].mean())
        spread = f"{percent(values[least].mean())} ({least}) to {percent(values[most].mean())} ({most})"
        difference = gained(*interval(values[way] - values[OURS]))
        return (name, "the default" if way == OURS else way, *cells, difference, spread)

    columns = (
        "left out",
        "chosen by the others",
        BEFORE,
        "default",
        "chosen",
        "chosen less default",
        "all settings",
    )
    note = (
        f"For each set, of {len(_grid())} settings the one with the best mean over all other sets, and its score on "
        "the set that had no part in the choice. Were the default fitted to a set, the setting that the others choose "
        "would be worse on it."
    )
    return Table("Settings chosen without the set", columns, tuple(map(row, found)), note)


def _chosen_claim(found: Found, chosen: Mapping[str, str]) -> Claim:
    differences = {name: interval(found[name][chosen[name]] - found[name][OURS]) for name in found}
    fitted = [name for name, (_, _, high) in differences.items() if high < 0]
    mean = float(np.mean([one for one, _, _ in differences.values()]))
    return Claim(
        "not fitted",
        "settings chosen on the other sets, less the default, mean over the sets",
        "on no set below the default by more than noise",
        f"{mean:+.1f}",
        "the default",
        f"fitted: {', '.join(fitted)}" if fitted else "",
        not fitted,
    )
