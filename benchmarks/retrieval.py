"""Retrieval on the development sets: the default search beside the floors, and what each part of it adds.

The tree of each set is built once, by the real pipeline, and kept. Scores are those of the data's own `score.py`
for ten hits, as `rlm search INDEX --queries FILE --json` gives them.
"""

import json
import runpy
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import Options
from index_store.index import Index, open_index
from index_store.search import Weights
from index_store.types import MODES, Mode
from raptor import build_index

K = 10
RESAMPLES = 2000
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Floor:
    """A set's main metric, and what plain parts reach in it: see the data's README."""

    metric: str
    dense: float
    bm25: float
    rrf: float


FLOORS: Mapping[str, Floor] = {
    "musique": Floor("recall@5", 60.9, 50.6, 58.2),
    "hotpotqa": Floor("recall@5", 75.5, 76.5, 80.0),
    "codebase": Floor("recall@5", 71.9, 61.6, 76.5),
    "fairytaleqa": Floor("cover@4k", 64.2, 65.3, 66.7),
    "contractnli": Floor("cover@4k", 81.3, 81.3, 84.8),
    "chroma": Floor("cover@4k", 79.2, 81.0, 82.0),
    "qmsum": Floor("cover@4k", 28.0, 24.5, 26.6),
    "covidqa": Floor("cover@4k", 58.4, 68.8, 69.7),
    "filings": Floor("recall@5", 78.5, 66.9, 74.4),
}

DEFAULT = Weights()
# Each weight taken away, then moved to both sides.
VARIANTS: Mapping[str, Weights] = {
    "without the tree": replace(DEFAULT, branch=0.0),
    "without names": replace(DEFAULT, walk=0.0),
    "near 0": replace(DEFAULT, near=0.0),
    "again 0": replace(DEFAULT, again=0.0),
    "best all": replace(DEFAULT, best=10**9),
    "dense 0.4": replace(DEFAULT, dense=0.4),
    "dense 0.6": replace(DEFAULT, dense=0.6),
    "walk 12": replace(DEFAULT, walk=12.0),
    "walk 36": replace(DEFAULT, walk=36.0),
    "branch 1": replace(DEFAULT, branch=1.0),
    "branch 4": replace(DEFAULT, branch=4.0),
    "best 100": replace(DEFAULT, best=100),
    "best 400": replace(DEFAULT, best=400),
    "near 1": replace(DEFAULT, near=1.0),
    "near 2": replace(DEFAULT, near=2.0),
    "reach 2": replace(DEFAULT, reach=2),
    "reach 4": replace(DEFAULT, reach=4),
    "again 0.1": replace(DEFAULT, again=0.1),
    "again 0.3": replace(DEFAULT, again=0.3),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """An open index with the questions that have gold, their (n, dim) vectors, and the data's scoring functions."""

    name: str
    index: Index
    queries: Sequence[Mapping[str, Any]]
    vectors: npt.NDArray[np.float32]
    score: Mapping[str, Any]


def run(options: Options) -> None:
    """Print the tables; a sentence where there is no data."""
    wanted = options.sets or tuple(FLOORS)
    sets = [name for name in wanted if name in FLOORS and (options.data / name / "corpus.jsonl").is_file()]
    if missing := [name for name in wanted if name not in sets]:
        print(f"left out, not in {options.data}: {', '.join(missing)}\n")
    scorer = options.data.parent / "score.py"
    if not scorer.is_file():
        print(f"nothing is measured without the data's scoring script {scorer}\n")
    if not sets or not scorer.is_file():
        return
    trials = [trial_of(options, name) for name in sets]
    for lines in (_modes(trials), _ablations(trials), _latency(trials)):
        for line in lines:
            print(line, flush=True)
        print()


# -- what is measured --------------------------------------------------------------------------------------


def trial_of(options: Options, name: str) -> Trial:
    """The index of a set, built if it is not there yet, with its questions."""
    index = built_index(options.data / name / "corpus.jsonl", options.work / name)
    with (options.data / name / "queries.jsonl").open(encoding="utf-8", newline="\n") as lines:
        queries = [q for q in map(json.loads, lines) if q["gold"]]
    vectors = index.embed_queries([q["text"] for q in queries])
    return Trial(name, index, queries, vectors, _scoring(options.data.parent / "score.py"))


def built_index(corpus: Path, folder: Path) -> Index:
    if not (folder / "CURRENT").is_file():
        build_index(corpus, folder)
    return open_index(folder)


def _scoring(path: Path) -> Mapping[str, Any]:
    """The functions of the script that scores a run, for one value a question."""
    return runpy.run_path(str(path))


def values(trial: Trial, mode: Mode, weights: Weights) -> Values:
    """The set's main metric in percent, for each question. A summary, which has no span, counts for nothing."""
    metric, limit = FLOORS[trial.name].metric.split("@")
    scores = []
    for query, vector in zip(trial.queries, trial.vectors, strict=True):
        where = {"mode": mode, "weights": weights, "doc": query["scope"], "vector": vector}
        spans = [h.span for h in trial.index.search(query["text"], K, **where) if h.span]
        hits = [{"doc": s.doc, "start": s.start, "end": s.end} for s in spans]
        if metric == "recall":
            scores.append(trial.score["recall"](query["gold"], hits, int(limit)))
        else:
            scores.append(trial.score["cover"](query["gold"], hits, int(limit.rstrip("k")) * 1000))
    return 100 * np.array(scores)


def interval(differences: Values) -> tuple[float, float, float]:
    """Mean of paired differences, and its 95 % percentile bootstrap interval over the questions."""
    picks = np.random.default_rng(0).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


# -- tables ------------------------------------------------------------------------------------------------


def _modes(trials: Sequence[Trial]) -> Iterator[str]:
    yield f"{K} hits; the metric's mean over the questions in percent: first the floors, then the modes.\n"
    columns = ("dense", "BM25", "RRF", *MODES)
    yield f"{'set':12}{'metric':10}{'questions':>10}" + "".join(f"{c:>9}" for c in columns)
    for trial in trials:
        floor = FLOORS[trial.name]
        means = [float(values(trial, mode, DEFAULT).mean()) for mode in MODES]
        row = "".join(f"{v:9.1f}" for v in (floor.dense, floor.bm25, floor.rrf, *means))
        yield f"{trial.name:12}{floor.metric:10}{len(trial.queries):10}{row}"


def _ablations(trials: Sequence[Trial]) -> Iterator[str]:
    yield f"Mode hybrid with one weight changed, less the default ({_weights_text(DEFAULT)}); [95 % interval].\n"
    base = {t.name: values(t, "hybrid", DEFAULT) for t in trials}
    yield f"{'':18}" + "".join(f"{t.name:>21}" for t in trials)
    for label, weights in VARIANTS.items():
        cells = (_cell(*interval(values(t, "hybrid", weights) - base[t.name])) for t in trials)
        yield f"{label:18}" + "".join(f"{c:>21}" for c in cells)


def _weights_text(weights: Weights) -> str:
    return ", ".join(f"{f} {getattr(weights, f)}" for f in weights.__slots__)


def _cell(mean: float, low: float, high: float) -> str:
    return f"{mean:+.1f} [{low:+.1f} {high:+.1f}]"


def _latency(trials: Sequence[Trial]) -> Iterator[str]:
    yield "Median time of one search, the query's vector given.\n"
    for trial in trials:
        times = []
        for query, vector in list(zip(trial.queries, trial.vectors, strict=True))[:100]:
            began = time.perf_counter()
            trial.index.search(query["text"], K, doc=query["scope"], vector=vector)
            times.append(1000 * (time.perf_counter() - began))
        where = "one document" if trial.queries[0]["scope"] else "all documents"
        yield f"{trial.name:12}{trial.index.levels[0]:8,} chunks{statistics.median(times):8.2f} ms  {where}"
