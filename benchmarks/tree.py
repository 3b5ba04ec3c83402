"""What the tree is good for: whether passages that are needed together share a branch, and what is found in reading.

Of two passages that a question needs, the first table says how often a branch of level 1 holds both: by meaning alone,
which is what summaries are about, and with guests. The second reads so many characters by flat search, without names
and tree, and by `gather`, and counts the gold among them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from benchmarks import Options
from benchmarks.retrieval import FLOORS, Trial, Values, interval, trial_of
from index_store.index import Index
from index_store.search import Weights
from index_store.types import Scope
from index_store.view import View

CHARS = (2_000, 4_000, 8_000)
FLAT = Weights(walk=0.0, branch=0.0)
HITS = 200  # more than 8,000 characters hold

Read = Callable[[Mapping[str, Any], Any, int], list[dict[str, Any]]]


def run(options: Options) -> None:
    """Print the tables; a sentence where there is no data."""
    names = [n for n in options.sets or tuple(FLOORS) if (options.data / n / "corpus.jsonl").is_file()]
    if not names or not (options.data.parent / "score.py").is_file():
        print(f"nothing is measured without the development data, expected in {options.data}\n")
        return
    trials = [trial_of(options, name) for name in names]
    for lines in (_pairs(trials), _equal_characters(trials)):
        for line in lines:
            print(line, flush=True)
        print()


# -- pairs of passages -------------------------------------------------------------------------------------


def _pairs(trials: Sequence[Trial]) -> Iterator[str]:
    yield "Pairs of gold documents with a common branch of level 1, in percent.\n"
    yield f"{'set':12}{'pairs':>7}{'by meaning':>12}{'with guests':>13}{'parents':>9}{'tightness':>11}"
    for trial in trials:
        pairs = list(gold_pairs(trial))
        if not pairs:
            continue
        index = trial.index
        own, all_of_it = branches_of(index, guests=False), branches_of(index, guests=True)
        shares = [100 * np.mean([bool(held[a] & held[b]) for a, b in pairs]) for held in (own, all_of_it)]
        parents = len(index.edges_up()[1][index.edges_up()[1] < index.levels[0]]) / index.levels[0]
        row = f"{len(pairs):7}{shares[0]:12.1f}{shares[1]:13.1f}{parents:9.2f}{tightness(index):11.3f}"
        yield f"{trial.name:12}{row}"


def gold_pairs(trial: Trial) -> Iterator[tuple[int, int]]:
    """The numbers of each two documents that a question needs, for each question that needs more than one."""
    for query in trial.queries:
        needed = sorted({trial.index.document_number(gold["doc"]) for gold in query["gold"]})
        yield from combinations(needed, 2)


def branches_of(index: Index, *, guests: bool) -> list[set[int]]:
    """The branches of level 1 that hold a chunk of each document, with or without those where it is a guest."""
    held: list[set[int]] = [set() for _ in index.documents]
    for number in index.level_range(1):
        for chunk in index.neighbours(number, "children") if guests else index.members(number):
            held[int(index.leaf_documents[chunk])].add(number)
    return held


def tightness(index: Index) -> float:
    """The mean cosine of a chunk to the centroid of its own members' branch."""
    cosines = []
    for number in index.level_range(1):
        rows = index.vectors[index.members(number)]
        centre = rows.mean(axis=0)
        cosines += (rows @ (centre / max(float(np.linalg.norm(centre)), 1e-9))).tolist()
    return float(np.mean(cosines))


# -- at equal characters -----------------------------------------------------------------------------------


def _equal_characters(trials: Sequence[Trial]) -> Iterator[str]:
    yield "Gold found when so many characters are read, in percent; what is gained over flat search [95 % interval].\n"
    yield f"{'set':12}{'chars':>7}{'flat':>8}{'gather':>8}  gained"
    for trial in trials:
        for chars in CHARS:
            flat, ours = (found_in(trial, read(trial), chars) for read in (by_flat_search, by_gather))
            mean, low, high = interval(ours - flat)
            gained = f"{mean:+.1f} [{low:+.1f} {high:+.1f}]"
            yield f"{trial.name:12}{chars:7,}{flat.mean():8.1f}{ours.mean():8.1f}  {gained}"


def by_flat_search(trial: Trial) -> Read:
    """Hits of hybrid search without names and tree, one after another, as far as they fit."""

    def read(query: Mapping[str, Any], vector: Any, chars: int) -> list[dict[str, Any]]:
        where = {"doc": query["scope"], "vector": vector, "weights": FLAT}
        spans, left = [], chars
        for hit in trial.index.search(query["text"], HITS, **where):
            if hit.span and hit.span.end - hit.span.start <= left:
                left -= hit.span.end - hit.span.start
                spans.append({"doc": hit.span.doc, "start": hit.span.start, "end": hit.span.end})
        return spans

    return read


def by_gather(trial: Trial) -> Read:
    """The pieces that `context.gather` gives; a summary has no span, and so finds nothing."""
    views: dict[str | None, View] = {}

    def read(query: Mapping[str, Any], vector: Any, chars: int) -> list[dict[str, Any]]:
        scope = query["scope"]
        if scope not in views:
            views[scope] = View(trial.index, None, Scope(doc=scope))
        pieces = views[scope].gather(query["text"], (), chars)
        spans = [trial.index.span_at(number) for piece in pieces for number in piece.nodes]
        return [{"doc": s.doc, "start": s.start, "end": s.end} for s in spans if s]

    return read


def found_in(trial: Trial, read: Read, chars: int) -> Values:
    """The gold among the first `chars` characters read, in percent, for each question.

    Of gold that is whole documents, those of which a chunk is read; of gold that is spans, their characters.
    """
    values = []
    for query, vector in zip(trial.queries, trial.vectors, strict=True):
        hits, gold = read(query, vector, chars), query["gold"]
        if gold[0]["start"] is None:
            values.append(_documents_read(gold, hits, chars))
        else:
            values.append(trial.score["cover"](gold, hits, chars))
    return 100 * np.array(values)


def _documents_read(
    gold: Sequence[Mapping[str, Any]], hits: Sequence[Mapping[str, Any]], chars: int
) -> float:
    wanted, read, left = {g["doc"] for g in gold}, set(), chars
    for hit in hits:
        left -= hit["end"] - hit["start"]
        if left < 0:
            break
        read.add(hit["doc"])
    return len(wanted & read) / len(wanted)
