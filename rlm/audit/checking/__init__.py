"""Whether a run was reasonable: its routing held against an independent search of the index, its claims against what
they cite. DEFINITIONS.md, beside this file, says what each figure means."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm.audit.checking.findings import ClaimCheck, Coverage, Findings, Lost, Option, Step
from rlm.audit.checking.verdict import DEFAULT, Judged, RunVerdict, Thresholds, judge
from rlm.audit.events import RecordedEvent, is_taken
from rlm.audit.log import TraceError
from rlm.audit.pairs import Pair, pairs_of
from rlm.audit.sources import another_generation, generation_asked
from rlm.audit.verifying import Verdict, read_verified

if TYPE_CHECKING:
    from index_store.index import Index

__all__ = [
    "ClaimCheck",
    "Coverage",
    "Lost",
    "Option",
    "Report",
    "Step",
    "Thresholds",
    "check",
    "check_read",
    "definitions",
]


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a check. `reasons`: each a sentence, the strongest first; of a chat those of all its questions.
    `is_chat`: whether there are several, so that each claim says of which it is. `says_not_found`: whether an answer
    says that the documents do not hold what was asked."""

    verdict: RunVerdict
    reasons: tuple[str, ...]
    coverage: Coverage
    steps: tuple[Step, ...]
    lost: tuple[Lost, ...]
    claims: tuple[ClaimCheck, ...]
    is_chat: bool = False
    says_not_found: bool = False

    @property
    def regret(self) -> float:
        """The most regret of a step that can be judged; 0 for none."""
        return max((step.regret or 0.0 for step in self.steps if step.verdict != "cannot tell"), default=0.0)

    @property
    def unsupported(self) -> int:
        """How many sentences have no support."""
        return sum(not claim.supported for claim in self.claims)

    def as_json(self) -> dict[str, Any]:
        """The report as the command line prints it."""
        coverage = {name: getattr(self.coverage, name) for name in ("offered", "entered", "read", "cited")}
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "coverage": {
                name: None if value is None else round(value, 4) for name, value in coverage.items()
            },
            "steps": _rows(self.steps, "seq", "taken", "rank", "of", "regret", "verdict", "why"),
            "lost": _rows(self.lost, "node", "doc", "start", "end", "stage"),
            "claims": _rows(self.claims, "text", "supported", "why", *["question"] * self.is_chat),
        }


def _rows(items: Sequence[object], *names: str) -> list[dict[str, Any]]:
    return [{name: getattr(item, name) for name in names} for item in items]


def definitions() -> str:
    """The page that says what each figure means, with formulas."""
    return Path(__file__).with_name("DEFINITIONS.md").read_text(encoding="utf-8")


def check(run: str | Path, index: "Index | None" = None, thresholds: Thresholds = DEFAULT) -> Report:
    """The report on a run folder, or a trace file. `index`: the one that was asked; its generation with the digest that
    the run names is taken, live or not.

    Raises TraceError where there is no trace to read, nothing in it, or where the index is another.
    """
    return check_read(*read_verified(run), index, thresholds)


def check_read(
    events: Sequence[RecordedEvent],
    verdict: Verdict,
    index: "Index | None" = None,
    thresholds: Thresholds = DEFAULT,
) -> Report:
    """As `check`, of a trace that was read and verified: its events before the first bad line."""
    if not events:
        raise TraceError(f"there is nothing to check in the trace: {verdict.reason}")
    asked = None
    if index is not None:
        asked = generation_asked(index, events[0])
        if asked is None:
            raise TraceError(another_generation(index, events[0]))
    report = report_of(events, asked, thresholds)
    if verdict.ok:
        return report
    line = f"line {verdict.first_bad_line}: " if verdict.first_bad_line else ""
    unsound = (
        "the trace has no end, as the run was killed or its tail was cut off; what follows is of what it recorded"
        if verdict.only_unclosed
        else f"the trace is not as it was written ({line}{verdict.reason}); what follows is of the lines before"
    )
    return replace(report, verdict="cannot tell", reasons=(unsound, *report.reasons))


def report_of(
    events: Sequence[RecordedEvent], index: "Index | None", thresholds: Thresholds = DEFAULT
) -> Report:
    """As `check`, of events that are as they were written, and the very index that they name."""
    from rlm.audit.checking.searching import with_index, without_index  # numpy and the index come with it

    pairs = pairs_of(events)
    look: Callable[[Pair, Thresholds], Findings]
    look = without_index(events) if index is None else with_index(index, events)
    taken = [_taken(pair) for pair in pairs]
    found = [
        _with_what_is_left(gone, look(pair, thresholds)) for pair, gone in zip(pairs, taken, strict=True)
    ]
    verdicts = [
        _unjudged(gone) if gone else judge(one, thresholds) for one, gone in zip(found, taken, strict=True)
    ]
    return Report(
        _worst([one.verdict for one in verdicts]),
        tuple(_reasons(verdicts)),
        _mean([one.coverage for one in found]),
        tuple(step for one in found for step in one.steps),
        tuple(lost for one in found for lost in one.lost),
        tuple(claim for one in found for claim in one.claims),
        len(pairs) > 1,
        any(one.says_not_found for one in found),
    )


def _taken(pair: Pair) -> list[str]:
    """What of a question, its answer and its citations was taken out of the trace, in words."""
    parts = ["the question"] * is_taken(pair.events[0], "question") if pair.events else []
    if pair.answered is not None:
        parts += ["the answer"] * is_taken(pair.answered, "content")
        parts += ["words of the citations"] * is_taken(pair.answered, "citations")
    return parts


def _with_what_is_left(taken: Sequence[str], found: Findings) -> Findings:
    """The findings without those that rest on what was taken out: the check would judge the words in its place."""
    if "the question" in taken:
        return replace(found, coverage=Coverage(None, None, None, None), lost=(), steps=(), claims=())
    return replace(found, claims=()) if taken else found


def _unjudged(taken: Sequence[str]) -> Judged:
    were = "were" if len(taken) > 1 or taken[0].startswith("words") else "was"
    return Judged("cannot tell", (f"{' and '.join(taken)} {were} taken out of the trace",))


def _reasons(verdicts: Sequence[Judged]) -> list[str]:
    """The reasons of each question; of several, each says which."""
    if len(verdicts) == 1:
        return list(verdicts[0].reasons)
    order = sorted(enumerate(verdicts, 1), key=lambda pair: _ORDER.index(pair[1].verdict))
    return [f"question {number}: {reason}" for number, one in order for reason in one.reasons]


_ORDER: tuple[RunVerdict, ...] = ("questionable", "cannot tell", "reasonable")


def _worst(verdicts: Sequence[RunVerdict]) -> RunVerdict:
    return min(verdicts, key=_ORDER.index)


def _mean(coverages: Sequence[Coverage]) -> Coverage:
    """The mean over the questions, None where one has none."""

    def mean(name: str) -> float | None:
        values = [getattr(one, name) for one in coverages]
        return None if None in values else sum(values) / len(values)

    return Coverage(mean("offered"), mean("entered"), mean("read"), mean("cited"))
