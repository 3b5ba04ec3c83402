"""Whether `rlm trace check` tells a run that goes right from one that goes wrong, and where it lost what it needed.

The runs are planted (`_planted`): a root model follows a script that knows the gold. Of each question one run goes
right, and one wrong in each of four ways: the gold is not offered, not entered, not read, or not cited. Each is
a real run through the engine and its sandbox. Every second four questions set the thresholds of
`rlm.audit.checking.Thresholds`; only the others are in these figures.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import Options
from benchmarks._planted import RIGHT, WAYS, Planted, cases_of, plant
from benchmarks._report import Claim, Item, Table
from benchmarks._sets import build_all, each, evenly, rows, there
from index_store.index import Index, open_index
from rlm.audit import Report, check

QUESTIONS = 36  # of a set, half of them held out
TURN = 4  # questions of one half that follow one another, so that each half has all scripts
WANTED, WANTED_STAGES = 0.9, 0.85
SKIPPED = frozenset({"filings", "covidqa"})  # their indexes take longer to build than all else here


@dataclass(frozen=True, slots=True)
class Judged:
    """What the check said of a planted run. `stage`: of the first gold passage in `lost`, '' where none is there;
    `first`: of the first passage of all."""

    kind: str
    verdict: str
    stage: str
    first: str


def measure(options: Options) -> Iterator[Item]:
    """The table and the claims, on the held-out half. Raises NotRun without data."""
    names = [name for name in there(options) if name not in SKIPPED]
    build_all(replace(options, sets=tuple(names)))
    found = dict(zip(names, each(partial(_of_set, options), names), strict=True))
    columns = ("set", "right", "wrong", "precision", "recall", "right: reasonable", "stage", *WAYS)
    told = [(name, *_row(judged)) for name, judged in found.items()]
    every = [one for judged in found.values() for one in judged]
    note = (
        "Precision and recall are of the verdict questionable, precision as if as many runs went right as wrong; "
        "stage: of the wrong ones, how often a gold passage is among the lost with the right stage; then by way. "
        "The thresholds were set on other questions of these sets."
    )
    yield Table("Planted routing", columns, (*told, ("all", *_row(every))), note)
    precision, recall, stage = precision_of(every), recall_of(every), stages_of(every)
    text = f"{len(every)} planted runs over {len(found)} sets, on questions that set no threshold"
    figure = f"precision {precision:.2f}, recall {recall:.2f}"
    yield Claim(
        "routing",
        text,
        f"at least {WANTED} each",
        figure,
        interval="",
        holds=min(precision, recall) >= WANTED,
    )
    yield Claim(
        "losing",
        text,
        f"at least {WANTED_STAGES}",
        f"{stage:.2f} of the ways named",
        interval="",
        holds=stage >= WANTED_STAGES,
    )


def _of_set(options: Options, name: str) -> list[Judged]:
    index = open_index(options.work / name)
    queries = [query for query in rows(options.data / name / "queries.jsonl") if query["gold"]]
    queries = evenly(queries, min(options.questions, QUESTIONS))
    with tempfile.TemporaryDirectory() as folder:
        return [_judged(index, one) for one in planted(index, queries, Path(folder), held_out=True)]


def planted(
    index: Index, queries: Sequence[Mapping[str, object]], runs: Path, held_out: bool
) -> Iterator[Planted]:
    """The planted runs of one half of the questions: of each kind the next script that the tree allows."""
    for i, case in enumerate(cases_of(index, queries, random.Random(1))):
        if (i // TURN % 2 == 1) == held_out:
            for kind in (RIGHT, *WAYS):
                tries = (plant(index, case, kind, i + more, runs) for more in range(3))
                if (one := next((one for one in tries if one), None)) is not None:
                    yield one


def _judged(index: Index, one: Planted) -> Judged:
    report: Report = check(one.run, index)
    gold = {index.id_of(number) for number in one.case.all_gold}
    stages = [lost.stage for lost in report.lost if lost.node in gold]
    first = report.lost[0].stage if report.lost else ""
    return Judged(one.kind, report.verdict, stages[0] if stages else "", first)


def precision_of(judged: Sequence[Judged]) -> float:
    """Of the runs that are called questionable, the share that go wrong, were there as many that go right."""
    right = [one for one in judged if one.kind == RIGHT]
    called = sum(one.verdict == "questionable" for one in right) / max(len(right), 1)
    return recall_of(judged) / max(recall_of(judged) + called, 1e-9)


def recall_of(judged: Sequence[Judged]) -> float:
    """Of the runs that go wrong, the share that are called questionable."""
    wrong = [one for one in judged if one.kind != RIGHT]
    return sum(one.verdict == "questionable" for one in wrong) / max(len(wrong), 1)


def stages_of(judged: Sequence[Judged], way: str = "") -> float:
    """Of the runs that go wrong, in this way or any, the share in which a gold passage is lost at the right stage."""
    wrong = [one for one in judged if one.kind != RIGHT and way in ("", one.kind)]
    return sum(one.stage == one.kind for one in wrong) / max(len(wrong), 1)


def _row(judged: Sequence[Judged]) -> tuple[str, ...]:
    kinds = Counter(one.kind == RIGHT for one in judged)
    reasonable = sum(one.kind == RIGHT and one.verdict == "reasonable" for one in judged)
    return (
        f"{kinds[True]:,}",
        f"{kinds[False]:,}",
        f"{precision_of(judged):.2f}",
        f"{recall_of(judged):.2f}",
        f"{reasonable / max(kinds[True], 1):.2f}",
        f"{stages_of(judged):.2f}",
        *(f"{stages_of(judged, way):.2f}" for way in WAYS),
    )
