"""The figures of each run, of each system over all questions, and of each system against the first.

mean          over the questions that have the figure; a question that ended without an answer scores 0 where an answer
              is held against given ones
median, p95   of what runs took; the 95th percentile by nearest rank: of n values in order, the ceil(0.95 n)-th
difference    the mean, over the questions that both systems have the figure of, of its figure less that of the first
low, high     a 95% interval of it by a paired bootstrap (Efron and Tibshirani 1993, section 13.3): RESAMPLES times n of
              the n questions are drawn with replacement by numpy's default_rng(SEED).integers(0, n, (RESAMPLES, n)), a
              row a resample; of the means in order, the values of nearest rank 2.5% and 97.5%
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from index_store.index import Index
from index_store.types import Json
from rlm.audit.claims import STANDING
from rlm.audit.events import RecordedEvent
from rlm.errors import RlmError
from rlm.evaluating import scoring
from rlm.evaluating.cases import Case
from rlm.evaluating.judging import Alce
from rlm.evaluating.measures import COSTS, QUALITIES, REACHED
from rlm.evaluating.reach import citations_of, precision, reach

RESAMPLES, SEED = 2_000, 0


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one question by one system, each None where it does not apply.

    `run`: its folder, below that of the evaluation. `head`: the hash of its trace's last line. `stop`: why it ended.
    `gold`: for each gold place how far the run came. `values`: the figures by the names of QUALITIES and COSTS, the
    first in [0, 1].
    """

    system: str
    case: Case
    run: str
    head: str
    stop: str
    content: str
    gold: tuple[Mapping[str, Json], ...] = ()
    values: Mapping[str, float | None] = field(default_factory=dict)
    error: str = ""

    def as_json(self) -> dict[str, Json]:
        """The row as it is in the figures."""
        return {
            "system": self.system,
            "_id": self.case.id,
            "set": self.case.set,
            "question": self.case.question.text,
            "answers": list(self.case.answers),
            "run": self.run,
            "head": self.head,
            "stop": self.stop,
            **({"error": self.error} if self.error else {}),
            "answer": self.content,
            "gold": [dict(one) for one in self.gold],
            **self.values,
        }


def row_of(
    index: Index,
    system: str,
    case: Case,
    events: Sequence[RecordedEvent],
    run: str,
    head: str,
    alce: Alce | None,
) -> Row:
    """The row of a run that is closed, from its events. `alce`: what a judge found of it, None where none was asked."""
    closed, content = events[-1], answer_of(events)
    came = reach(index, events, case.gold)
    cited = citations_of(events)
    standing = [one["supported"] in STANDING for one in cited]
    values: dict[str, float | None] = {
        **answer_values(content, case),
        "citation_recall": _mean([one.cited for one in came]),
        "citation_precision": precision(events, case.gold),
        "standing": _mean(standing),
        "alce_recall": None if alce is None else alce.recall,
        "alce_precision": None if alce is None else alce.precision,
        **{name: _mean([getattr(one, name) for one in came]) for name in REACHED},
        **cost_values(closed),
    }
    gold = tuple(one.gold.as_json() | {n: getattr(one, n) for n in REACHED} for one in came)
    return Row(system, case, run, head, closed["stop"], content, gold, values, str(closed.get("error") or ""))


def answer_of(events: Sequence[RecordedEvent]) -> str:
    """The answer of a run; '' where it has none."""
    answered = (
        event for event in reversed(events) if event["kind"] == "answered" and event["conversation"] == "0"
    )
    return next((str(event["content"]) for event in answered), "")


def answer_values(content: str, case: Case) -> dict[str, float | None]:
    """What an answer scores against the given ones; each None where there are none."""
    if not case.answers:
        return {"exact": None, "f1": None, "numbers": None}
    words = scoring.words_of(content)
    return {
        "exact": scoring.exact(words, case.answers) if content else 0.0,
        "f1": scoring.f1(words, case.answers) if content else 0.0,
        "numbers": scoring.same_numbers(words, case.answers),
    }


def cost_values(closed: RecordedEvent) -> dict[str, float | None]:
    """What a run took, as its last event says."""
    used = closed["usage"]
    tokens = used["prompt_tokens"] + used["completion_tokens"]
    return {"calls": used["calls"], "tokens": tokens, "usd": used["usd"], "seconds": closed["seconds"]}


# -- which figures there can be ----------------------------------------------------------------------------


def lacking(cases: Sequence[Case], is_judged: bool) -> dict[str, str]:
    """The qualities that no run of these cases can have, each with what it is held against and is not there."""
    answers = [answer for case in cases for answer in case.answers]
    there = {
        "given answers": bool(answers),
        "given answers with numbers in digits": any(map(scoring.numbers, answers)),
        "gold": any(case.gold for case in cases),
        "a judge": is_judged,
    }
    needed = dict.fromkeys(("exact", "f1"), "given answers") | {
        "numbers": "given answers with numbers in digits",
        **dict.fromkeys(("citation_recall", "citation_precision", *REACHED), "gold"),
        **dict.fromkeys(("alce_recall", "alce_precision"), "a judge"),
    }
    return {name: what for name, what in needed.items() if not there[what]}


def chosen(by: str | None, cases: Sequence[Case], is_judged: bool) -> str | None:
    """The quality by which questions are won: `by`, else the first of f1, cited and alce_recall that there can be, None
    for none of them. Raises RlmError where `by` is no quality, or these cases cannot have it."""
    missing = lacking(cases, is_judged)
    if by is None:
        return next((name for name in ("f1", "cited", "alce_recall") if name not in missing), None)
    if by not in QUALITIES:
        raise RlmError(f"there is no figure {by[:40]!r}; there are {', '.join(QUALITIES)}")
    if by in missing:
        possible = ", ".join(name for name in QUALITIES if name not in missing)
        raise RlmError(f"the figure {by} needs {missing[by]}, and there is none; choose of {possible}")
    return by


# -- over all questions ------------------------------------------------------------------------------------


def summary_of(rows: Sequence[Row], first: Sequence[Row]) -> dict[str, Json]:
    """The figures of one system over its questions, and against those of the first system."""
    return {
        "questions": len(rows),
        "answered": sum(bool(row.content) for row in rows),
        "stops": dict(Counter(row.stop for row in rows).most_common()),
        "quality": {name: _quality(_values(rows, name)) for name in QUALITIES},
        "cost": {name: _cost(_values(rows, name)) for name in COSTS},
        "against_first": {
            name: compared
            for name in (*QUALITIES, *COSTS)
            if rows is not first and (compared := against(rows, first, name)) is not None
        },
    }


def against(rows: Sequence[Row], first: Sequence[Row], name: str) -> dict[str, Json] | None:
    """One figure of a system less that of the first, over the questions that both have it of; None where there are
    none."""
    base = {row.case.id: value for row in first if (value := row.values.get(name)) is not None}
    pairs = [
        (v, base[r.case.id]) for r in rows if r.case.id in base and (v := r.values.get(name)) is not None
    ]
    if not pairs:
        return None
    differences = [ours - theirs for ours, theirs in pairs]
    low, high = interval(differences)
    won = sum(d > 0 for d in differences)
    lost = sum(d < 0 for d in differences)
    mean = sum(differences) / len(differences)
    return {"n": len(pairs), "difference": mean, "low": low, "high": high, "higher": won, "lower": lost}


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the mean of paired differences, as above; at least one is given."""
    n = len(differences)
    drawn = np.random.default_rng(SEED).integers(0, n, (RESAMPLES, n))
    means = sorted(np.asarray(differences, dtype=np.float64)[drawn].mean(axis=1).tolist())
    return nearest_rank(means, 0.025), nearest_rank(means, 0.975)


def nearest_rank(ascending: Sequence[float], share: float) -> float:
    """The percentile by nearest rank: of n values in order, the ceil(share n)-th; at least one is given."""
    # A share such as 0.95 is a little more than it says in floating point: 0.95 of 20 is the 19th.
    return ascending[max(math.ceil(round(share * len(ascending), 9)), 1) - 1]


def frontier(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names of the points (cost, quality) that no other beats: none costs no more and is no worse, and differs."""
    return [
        name
        for name, (cost, quality) in points.items()
        if not any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points.values())
    ]


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [value for row in rows if (value := row.values.get(name)) is not None]


def _quality(values: Sequence[float]) -> dict[str, Json]:
    return {"n": len(values), "mean": _mean(values)}


def _cost(values: Sequence[float]) -> dict[str, Json]:
    if not values:
        return {"n": 0, "sum": 0, "mean": None, "median": None, "p95": None}
    ascending = sorted(values)
    return {
        "n": len(values),
        "sum": sum(values),
        "mean": _mean(values),
        "median": statistics.median(ascending),
        "p95": nearest_rank(ascending, 0.95),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
