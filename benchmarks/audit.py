"""Whether `rlm trace check` tells a run that goes right from one that goes wrong, and where it lost what it needed.

The runs are planted (`_planted`): a root model follows a script that knows the gold. Of each question one run goes
right, and one wrong in each of four ways: the gold is not offered, not entered, not read, or not cited. Each is
a real run through the engine and its sandbox. Each half of the questions sets `--cited` for the other, as the least
value that calls AIM of its wrong runs questionable, so that no run is judged by a threshold that it helped to set.
"""

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import Options
from benchmarks._planted import RIGHT, WAYS, Planted, cases_of, plant
from benchmarks._report import Claim, Item, Table
from benchmarks._sets import build_all, each, evenly, rows, there
from index_store.index import Index, open_index
from rlm.audit import read
from rlm.audit.checking.findings import Findings
from rlm.audit.checking.searching import with_index
from rlm.audit.checking.verdict import DEFAULT, judge
from rlm.audit.pairs import pairs_of

QUESTIONS = 36  # of a set
TURN = 4  # questions of one half that follow one another, so that each half has all scripts
WANTED, WANTED_STAGES = 0.9, 0.85
AIM = 0.94  # recall on the half that sets the threshold: more than is wanted, as on another half it will be less
VALUES = [i / 100 for i in range(1, 101)]
SKIPPED = frozenset({"filings", "covidqa"})  # their indexes take longer to build than all else here


@dataclass(frozen=True, slots=True)
class Looked:
    """What the check found of a planted run. `half`: of the questions, 0 or 1; `stage`: of the first gold passage that
    is lost, '' where none is."""

    kind: str
    half: int
    found: Findings
    stage: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A planted run by one value of `--cited`. `called`: whether it is questionable; `named`: whether a gold passage is
    lost at the stage at which it was."""

    kind: str
    called: bool
    named: bool


def measure(options: Options) -> Iterator[Item]:
    """The tables and the claims. Raises NotRun without data."""
    names = [name for name in there(options) if name not in SKIPPED]
    build_all(replace(options, sets=tuple(names)))
    found = dict(zip(names, each(partial(_of_set, options), names), strict=True))
    every = [one for looked in found.values() for one in looked]
    halves = [[one for one in every if one.half == half] for half in (0, 1)]
    values = [chosen(halves[1]), chosen(halves[0])]  # for each half, by the other
    judged = {name: [_judged(one, values[one.half]) for one in looked] for name, looked in found.items()}
    together = [one for runs in judged.values() for one in runs]
    told = [*judged.items(), ("all", together)]
    yield Table(
        "Planted routing",
        ("set", *COLUMNS, "stage"),
        tuple((n, *_row(r), _two(stages_of(r))) for n, r in told),
        NOTE,
    )
    by_way = tuple((name, *(_way(runs, way) for way in WAYS)) for name, runs in told)
    yield Table("Planted routing by way of losing", ("set", *WAYS), by_way, WAYS_NOTE)
    set_by = [
        (f"half {half + 1}, as the other half sets it", value, halves[half])
        for half, value in enumerate(values)
    ]
    thresholds = tuple(
        (of, f"{value:.2f}", *_row([_judged(one, value) for one in runs]))
        for of, value, runs in (*set_by, ("all, the default", DEFAULT.cited, every))
    )
    yield Table("Planted routing by threshold", ("runs", "--cited", *COLUMNS), thresholds)
    precision, recall, stage = precision_of(together), recall_of(together), stages_of(together)
    text = f"{len(every)} planted runs over {len(found)} sets, on questions that set no threshold"
    yield Claim(
        "routing",
        text,
        f"at least {WANTED} each",
        f"precision {precision:.2f}, recall {recall:.2f}",
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


COLUMNS = (
    "right",
    "wrong",
    "recall",
    "precision, 4 to 1",
    "precision, 1 to 1",
    "right: reasonable",
)
NOTE = (
    "Recall: of the runs that go wrong, how many are called questionable. Precision: of those called so, how many go "
    "wrong; were there as many runs of each of the five kinds (4 to 1), or as many right as wrong (1 to 1). Stage: "
    "of the wrong runs, how often a gold passage is among the lost with the right stage. Each half of the questions is "
    "judged by the threshold that the other half set."
)
WAYS_NOTE = "Of the runs that lose the gold in this way, how many are called questionable; how many by the right stage."


def _of_set(options: Options, name: str) -> list[Looked]:
    index = open_index(options.work / name)
    queries = [query for query in rows(options.data / name / "queries.jsonl") if query["gold"]]
    queries = evenly(queries, min(options.questions, QUESTIONS))
    with tempfile.TemporaryDirectory() as folder:
        return [_looked(index, half, one) for half, one in planted(index, queries, Path(folder))]


def planted(
    index: Index, queries: Sequence[Mapping[str, object]], runs: Path
) -> Iterator[tuple[int, Planted]]:
    """The planted runs of the questions, each with its half: of each kind the next script that the tree allows."""
    for i, case in enumerate(cases_of(index, queries, random.Random(1))):
        for kind in (RIGHT, *WAYS):
            tries = (plant(index, case, kind, i + more, runs) for more in range(3))
            if (one := next((one for one in tries if one), None)) is not None:
                yield i // TURN % 2, one


def _looked(index: Index, half: int, one: Planted) -> Looked:
    events, _ = read(one.run)
    found = with_index(index, events)(pairs_of(events)[0], DEFAULT)
    gold = {index.id_of(number) for number in one.case.all_gold}
    stages = [lost.stage for lost in found.lost if lost.node in gold]
    return Looked(one.kind, half, found, stages[0] if stages else "")


def chosen(runs: Sequence[Looked]) -> float:
    """The least `--cited` by which AIM of the runs that go wrong are called questionable: a higher one calls more of
    the right ones so."""
    return next(
        (value for value in VALUES if recall_of([_judged(one, value) for one in runs]) >= AIM), VALUES[-1]
    )


def _judged(one: Looked, cited: float) -> Judged:
    verdict = judge(one.found, replace(DEFAULT, cited=cited)).verdict
    return Judged(one.kind, verdict == "questionable", one.stage == one.kind)


def recall_of(judged: Sequence[Judged]) -> float:
    """Of the runs that go wrong, the share that are called questionable."""
    return _share([one.called for one in judged if one.kind != RIGHT])


def precision_of(judged: Sequence[Judged], wrong: int = len(WAYS)) -> float:
    """Of the runs that are called questionable, the share that go wrong, with so many wrong ones to a right one."""
    found = wrong * recall_of(judged)
    return found / max(found + _share([one.called for one in judged if one.kind == RIGHT]), 1e-9)


def stages_of(judged: Sequence[Judged]) -> float:
    """Of the runs that go wrong, the share in which a gold passage is lost at the right stage."""
    return _share([one.named for one in judged if one.kind != RIGHT])


def _row(judged: Sequence[Judged]) -> tuple[str, ...]:
    right = [not one.called for one in judged if one.kind == RIGHT]
    figures = (recall_of(judged), precision_of(judged), precision_of(judged, 1), _share(right))
    return f"{len(right):,}", f"{len(judged) - len(right):,}", *map(_two, figures)


def _way(judged: Sequence[Judged], way: str) -> str:
    runs = [one for one in judged if one.kind == way]
    return f"{_two(recall_of(runs))}; {_two(stages_of(runs))}"


def _share(these: Sequence[bool]) -> float:
    return sum(these) / max(len(these), 1)


def _two(share: float) -> str:
    return f"{share:.2f}"
