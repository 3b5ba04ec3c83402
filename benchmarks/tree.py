"""What the tree is good for: whether passages that are needed together share a branch, and what is found in reading.

Of two documents that a question needs, the first table says how often a branch of level 1 holds both, in this project's
tree and in others over the same chunks. The second reads so many characters in several ways, and counts the gold among
them.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

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
    cover,
    each,
    interval,
    span_of,
    there,
    trial_of,
)
from index_store.index import Index
from index_store.search import Weights
from index_store.types import Scope
from index_store.view import View
from raptor.clustering.cluster import cluster
from raptor.clustering.settings import ClusterSettings
from rlm.loop.navigator import LOOKED, SHARE

CHARS = (2_000, 4_000, 8_000)
FLAT = Weights(walk=0.0, name=0.0)
HITS = 200  # more than 8,000 characters hold
TWICE, PARENTS, GAIN = 2.0, 1.5, 5.0

Members = Sequence[npt.NDArray[np.integer[Any]]]
#: Rows and claims of a set.
Pairs = tuple[list[tuple[str, ...]], list[Claim]]
#: A set's name, characters read, and the gold found by each way of reading.
Place = tuple[str, int, Mapping[str, Values]]
#: From a question, its vector and a number of characters to what is read.
Read = Callable[[Query, Any, int], Spans]


def measure(options: Options) -> Iterator[Item]:
    """Pairs of passages with a common branch, and gold found at equal characters."""
    found = each(partial(_of_set, options), there(options))
    yield from _pairs([of_pairs for of_pairs, _ in found])
    yield from _equal_characters([place for _, places in found for place in places])


def _of_set(options: Options, name: str) -> tuple[Pairs, list[Place]]:
    trial = trial_of(options, name)
    return _pairs_of(trial, options), _places_of(trial)


# -- pairs of passages -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Branches:
    """Clusters of the chunks of an index. `members[i]`: chunks that the summary of cluster i is about; `all_of[i]`:
    with guests. `cpu_s`: what it took to find them, None where they were there."""

    name: str
    members: Members
    all_of: Members
    cpu_s: float | None = None

    @property
    def places(self) -> int:
        """How many memberships there are in all."""
        return sum(map(len, self.all_of))


MEANING, OURS, NEXT, PAPER = (
    "by meaning alone",
    "by meaning and name (ours)",
    "as many places, by meaning",
    "the paper's: posterior above 0.1",
)


def _pairs_of(trial: Trial, options: Options) -> Pairs:
    pairs = list(gold_pairs(trial))
    if not pairs:
        return [], []
    ways = [of_the_index(trial.index), by_meaning(trial.index), next_nearest(trial.index)]
    if trial.name in MULTI_HOP:
        ways.append(as_published(trial.index, options.work))
    claims = list(_pairs_claims(trial, pairs, ways[0], ways[1]))
    return [_pairs_row(trial, pairs, way) for way in ways], claims


def _pairs(found: Sequence[Pairs]) -> Iterator[Item]:
    note = (
        "Shared: of each two gold documents of a question, percent of which a branch of level 1 holds a chunk of both. "
        "Tightness: mean cosine of what is in a branch to the centroid of what its summary is about. Summaries: of "
        f"level 1, each of which is a paid call. `{NEXT}`: the clusters by meaning, with as many further places as "
        "names give, for the chunks nearest to the centroid of another cluster. The paper's method takes its own "
        "number of clusters."
    )
    columns = ("set", "branches", "pairs", "shared", "parents", "tightness", "summaries", "processor s")
    if rows := tuple(row for rows, _ in found for row in rows):
        yield Table("Pairs of passages with a common branch", columns, rows, note)
    yield from (claim for _, claims in found for claim in claims)


def _pairs_row(trial: Trial, pairs: Sequence[tuple[int, int]], way: Branches) -> tuple[str, ...]:
    index = trial.index
    return (
        trial.name,
        way.name,
        str(len(pairs)),
        percent(100 * float(np.mean(shared(index, pairs, way)))),
        f"{way.places / index.levels[0]:.2f}",
        f"{tightness(index, way):.3f}",
        f"{len(way.members):,}",
        "-" if way.cpu_s is None else f"{way.cpu_s:.0f}",
    )


def _pairs_claims(
    trial: Trial, pairs: Sequence[tuple[int, int]], ours: Branches, before: Branches
) -> Iterator[Claim]:
    if trial.name not in MULTI_HOP:
        return
    was, now = (100 * np.array(shared(trial.index, pairs, way), dtype=float) for way in (before, ours))
    times = now.mean() / max(was.mean(), 1e-9)
    told, peer = f"{percent(now.mean())} ({times:.1f} times)", f"{percent(was.mean())} {before.name}"
    text, wanted = f"pairs on {trial.name}", f"at least {TWICE:g} times"
    yield Claim("pairs", text, wanted, told, peer, gained(*interval(now - was)), bool(times >= TWICE))
    parents = ours.places / trial.index.levels[0]
    text, wanted = f"parents of a chunk of {trial.name}, mean", f"at most {PARENTS:g}"
    yield Claim("pairs", text, wanted, f"{parents:.2f}", holds=bool(round(parents, 2) <= PARENTS))
    paid, without = len(ours.members), len(before.members)
    text = f"summaries of level 1 of {trial.name}"
    yield Claim("pairs", text, "as many", f"{paid:,}", f"{without:,} {before.name}", holds=paid == without)


def gold_pairs(trial: Trial) -> Iterator[tuple[int, int]]:
    """The numbers of each two documents that a question needs, for each question that needs more than one."""
    for query in trial.queries:
        needed = sorted({trial.index.document_number(gold["doc"]) for gold in query["gold"]})
        yield from combinations(needed, 2)


def of_the_index(index: Index) -> Branches:
    """The branches of level 1 as they are, guests included."""
    members = [np.array(index.members(number)) for number in index.level_range(1)]
    all_of = [np.unique(index.neighbours(number, "children")) for number in index.level_range(1)]
    return Branches(OURS, members, all_of)


def by_meaning(index: Index) -> Branches:
    """The same without guests: what clustering by meaning gave, with the chunks that it gave two clusters."""
    members = of_the_index(index).members
    return Branches(MEANING, members, members)


def next_nearest(index: Index) -> Branches:
    """Clusters by meaning with as many further places as the index has guests, the nearest to a centroid first."""
    own, places = by_meaning(index), of_the_index(index).places
    rows = index.vectors[: index.levels[0]]
    cosines = np.stack([rows @ _centre(index, members) for members in own.members], axis=1)
    for at, members in enumerate(own.members):
        cosines[members, at] = -np.inf
    best, second = cosines.max(axis=1), cosines.argmax(axis=1)
    chosen = np.argsort(-best, kind="stable")[: places - own.places]
    all_of = [np.union1d(members, chosen[second[chosen] == at]) for at, members in enumerate(own.members)]
    return Branches(NEXT, own.members, all_of)


def as_published(index: Index, work: Path) -> Branches:
    """The clusters that the paper's own procedure gives of the chunks. It takes minutes, so they are kept in `work`."""
    rows = np.array(index.vectors[: index.levels[0]])
    file = work / f"paper-{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}.npz"
    if not file.exists():
        began = time.process_time()
        tokens = np.asarray(index.rows["tokens"][: index.levels[0]], dtype=np.int64)
        found = cluster(rows, tokens, ClusterSettings(method="paper"))
        sizes = np.cumsum([len(members) for members in found])
        np.savez(file, members=np.concatenate(found), ends=sizes, cpu_s=time.process_time() - began)
    with np.load(file) as held:
        found = np.split(held["members"], held["ends"][:-1])
        return Branches(PAPER, found, found, float(held["cpu_s"]))


def shared(index: Index, pairs: Sequence[tuple[int, int]], way: Branches) -> list[bool]:
    """For each two documents whether a branch holds a chunk of both."""
    held: list[set[int]] = [set() for _ in index.documents]
    for at, chunks in enumerate(way.all_of):
        for document in np.unique(index.leaf_documents[chunks]).tolist():
            held[document].add(at)
    return [bool(held[a] & held[b]) for a, b in pairs]


def tightness(index: Index, way: Branches) -> float:
    """The mean cosine of what is in a branch to the centroid of what its summary is about."""
    pairs = zip(way.members, way.all_of, strict=True)
    return float(np.concatenate([index.vectors[held] @ _centre(index, own) for own, held in pairs]).mean())


def _centre(index: Index, chunks: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
    mean = index.vectors[chunks].mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), dtype=np.float32)


# -- at equal characters -----------------------------------------------------------------------------------


def by_flat_search(trial: Trial) -> Read:
    """Hits of hybrid search without names, one after another, as far as they fit."""

    def read(query: Query, vector: Any, chars: int) -> Spans:
        where = {"doc": query["scope"], "vector": vector, "weights": FLAT}
        hits = trial.index.search(query["text"], HITS, **where)
        return as_far_as_they_fit(trial.index, (trial.index.number_of(hit.node) for hit in hits), chars)

    return read


def by_collapsed_tree(trial: Trial) -> Read:
    """RAPTOR's collapsed tree over the same nodes, as far as they fit."""

    def read(query: Query, vector: Any, chars: int) -> Spans:
        numbers = _raptor.collapsed(
            trial.index, vector, query["scope"], chars
        )  # a token has a character or more
        return as_far_as_they_fit(trial.index, numbers, chars)

    return read


def by_gather(trial: Trial) -> Read:
    """The pieces that `context.gather` gives; a summary is read, and finds nothing."""
    return _gathered(trial, lambda view, question: ())


def by_navigator(trial: Trial) -> Read:
    """What the offline navigator reads: `gather` below the branches that have SHARE of the evidence or more."""

    def taken(view: View, question: str) -> Sequence[int]:
        return [b.number for b in view.best_branches(question, None, LOOKED) if b.share >= SHARE]

    return _gathered(trial, taken)


def _gathered(trial: Trial, under: Callable[[View, str], Sequence[int]]) -> Read:
    views: dict[str | None, View] = {}

    def read(query: Query, vector: Any, chars: int) -> Spans:
        view = views.setdefault(query["scope"], View(trial.index, None, Scope(doc=query["scope"])))
        pieces = view.gather(query["text"], under(view, query["text"]), chars)
        return [span_of(trial.index, number) for piece in pieces for number in piece.nodes]

    return read


FLAT_SEARCH = "flat"
#: The ways of reading; those but the first are ours where OURS_READS names them, with the target that they answer.
READS: Mapping[str, Callable[[Trial], Read]] = {
    FLAT_SEARCH: by_flat_search,
    "RAPTOR collapsed": by_collapsed_tree,
    "gather": by_gather,
    "navigator": by_navigator,
}
OURS_READS: Mapping[str, str] = {"gather": "equal characters", "navigator": "pool"}


def as_far_as_they_fit(index: Index, numbers: Any, chars: int) -> Spans:
    """Nodes one after another; one that does not fit into what is left is passed over."""
    spans, left = [], chars
    for number in numbers:
        if (size := index.chars_at(number)) <= left:
            left -= size
            spans.append(span_of(index, number))
    return spans


def _places_of(trial: Trial) -> list[Place]:
    reads = {name: way(trial) for name, way in READS.items()}
    return [
        (trial.name, chars, {name: found_in(trial, read, chars) for name, read in reads.items()})
        for chars in CHARS
    ]


def _equal_characters(places: Sequence[Place]) -> Iterator[Item]:
    def row(name: str, chars: int, found: Mapping[str, Values]) -> tuple[str, ...]:
        means = (percent(values.mean()) for values in found.values())
        less = (gained(*interval(found[ours] - found[FLAT_SEARCH])) for ours in OURS_READS)
        return (name, f"{chars:,}", *means, *less)

    note = (
        "Gold found when so many characters are read, in percent of it. Flat: hybrid search without names. A "
        "summary takes its characters, and finds nothing."
    )
    columns = ("set", "characters", *READS, *(f"{name} less flat" for name in OURS_READS))
    rows = tuple(row(*place) for place in places)
    yield Table("Gold found at equal characters read", columns, rows, note)
    for name in OURS_READS:
        yield from _characters_claims(name, places)


def _characters_claims(name: str, places: Sequence[Place]) -> Iterator[Item]:
    others: list[tuple[float, Claim]] = []
    for trial, chars, found in places:
        mean, low, high = interval(found[name] - found[FLAT_SEARCH])
        ours, flat = percent(found[name].mean()), percent(found[FLAT_SEARCH].mean())
        told, peer, where = (
            gained(mean, low, high),
            f"{flat} flat",
            f"{name}, {chars:,} characters of {trial}",
        )
        if trial in MULTI_HOP:
            yield Claim(OURS_READS[name], where, f"at least +{GAIN:g}", ours, peer, told, mean >= GAIN)
        else:
            claim = Claim(OURS_READS[name], where, "interval reaches 0", ours, peer, told, high >= 0)
            others.append((high, claim))
        if mean < 0:
            yield Loss("flat search", where, flat, ours, bounds(-high, -low))
    if others:
        yield worst_of(others)


def found_in(trial: Trial, read: Read, chars: int) -> Values:
    """The gold among the first `chars` characters read, in percent, for each question.

    Of gold that is whole documents, those of which a chunk is read; of gold that is spans, their characters.
    """
    values = []
    for query, vector in zip(trial.queries, trial.vectors, strict=True):
        spans, gold = read(query, vector, chars), query["gold"]
        whole = gold[0]["start"] is None
        values.append(_documents_read(gold, spans, chars) if whole else cover(gold, spans, chars))
    return 100 * np.array(values)


def _documents_read(gold: Spans, spans: Spans, chars: int) -> float:
    wanted, read, left = {one["doc"] for one in gold}, set(), chars
    for one in spans:
        left -= one["end"] - one["start"]
        if left < 0:
            break
        read.add(one["doc"])
    return len(wanted & read) / len(wanted)
