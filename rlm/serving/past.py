"""Runs that have ended, as their folders tell of them; the folder is the truth."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from index_store.types import Json
from rlm.audit import read
from rlm.audit.checking import check_read
from rlm.audit.checking.verdict import LIMITS
from rlm.audit.events import RecordedEvent
from rlm.audit.listing import BROKEN, UNCLOSED, Listed, listed
from rlm.audit.log import FILE_NAME
from rlm.audit.page import Beside, render
from rlm.audit.reviewing import REVIEW, Review, add, note, reviewed
from rlm.audit.signing import held, signatures
from rlm.audit.verifying import read_verified
from rlm.errors import RlmError
from rlm.serving.jobs import slim
from rlm.serving.problems import Problem
from rlm.serving.types import RunRow

RUNNING = "running"
#: What is said of a run without a trace, by what the list says of its end.
NO_TRACE = {
    None: "the run has not begun",
    "failed": "the run failed before it began",
    "cancelled": "the run was cancelled before it began",
}
GONE = "the folder of the run is no longer there"
#: Runs of a key that a filter looks through, the newest.
MOST_SEARCHED = 5_000


def listed_json(row: RunRow, runs: Path) -> dict[str, Json]:
    """A run as a list shows it, from the ends of its trace."""
    folder = runs / row.folder
    traced, reviewed_at = (_changed(folder / name) for name in (FILE_NAME, REVIEW))
    one = _listed(folder, traced, reviewed_at)
    told = asdict(one) | {
        "run": row.folder,
        "folder": row.folder,
        "index": row.index,
        "question": row.question or one.question,
        "started": one.started or row.began,
        "stop": _stop(row, one, has_trace=bool(traced)),
    }
    if not traced:
        told["problem"] = NO_TRACE.get(row.stop, GONE)
    elif one.problem is not None:
        told["problem"] = one.problem.replace(str(folder), row.folder)
    return told


def _stop(row: RunRow, one: Listed, *, has_trace: bool) -> str:
    """What ended a run: its trace says, where it has an end; a run without a trace never began."""
    if row.stop is None:
        return RUNNING if one.stop in (UNCLOSED, BROKEN) else one.stop
    return one.stop if has_trace else row.stop


@lru_cache(2 * MOST_SEARCHED)
def _listed(folder: Path, *changed: int) -> Listed:
    return listed(folder)


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def why_ended(stop: str, why: str | None, *, has_answer: bool) -> str | None:
    """The sentence about the end of a run: `why`, or that it reached a limit; None for one that had finished."""
    if why or stop not in LIMITS:
        return why or None
    told = "the answer is what it had until then" if has_answer else "it has no answer"
    return f"the run was stopped by {LIMITS[stop]}: {told}"


def run_json(row: RunRow, folder: Path, why: str | None = None) -> dict[str, Json]:
    """A run with its answer, from its whole trace. `why`: what ended one that never began, where that is known."""
    if row.stop is not None and not (folder / FILE_NAME).exists():
        told = listed_json(row, folder.parent)
        return {**told, "answer": None, "citations": [], "why": why or told["problem"], "events": 0}
    events, verdict = _events(folder)
    opening = events[0] if events else {}
    closing = events[-1] if events and events[-1]["kind"] == "run_closed" else {}
    answered: Any = next(
        (e for e in reversed(events) if e["kind"] == "answered" and e["conversation"] == "0"), {}
    )
    return {
        **listed_json(row, folder.parent),
        "answer": answered.get("content"),
        "citations": answered.get("citations") or [],
        "lacks": answered.get("lacks"),
        "why": why_ended(
            closing.get("stop", ""), closing.get("error"), has_answer=bool(answered.get("content"))
        ),
        "usage": closing.get("usage"),
        "route": opening.get("route"),
        "scope": opening.get("scope"),
        "generation": (opening.get("index") or {}).get("generation"),
        "digest": (opening.get("index") or {}).get("digest"),
        "models": opening.get("models"),
        "events": len(events),
        "is_whole": verdict.ok,
        "head": verdict.head,
    }


def _events(folder: Path) -> tuple[Sequence[RecordedEvent], Any]:
    if not (folder / FILE_NAME).exists():
        raise Problem(404, f"the run {folder.name} has not begun", "not_found")
    return read(folder)


def events_json(folder: Path) -> list[dict[str, Json]]:
    """The events of a run as they were told while it went on."""
    return [{name: slim(value) for name, value in event.items()} for event in _events(folder)[0]]


def page(folder: Path) -> str:
    """The review page of a run."""
    events, verdict = read_verified(folder)
    signed = signatures(str(folder), None, None) if events else []
    beside = Beside(
        check_read(events, verdict, None) if events else None,
        {},
        reviewed(folder, verdict.head),
        [held(one, events, verdict.head) for one in signed],
        {},
    )
    return render(events, verdict, folder.name, beside)


def review_json(folder: Path) -> dict[str, Json]:
    """What reviewers have said of a run."""
    _, verdict = _events(folder)
    return _review(reviewed(folder, verdict.head))


def add_review(folder: Path, by: str, verdict: str | None, step: int | None, text: str) -> dict[str, Json]:
    """Write a note beside a run, and tell of all. Raises RlmError, which names the run as clients do."""
    try:
        return _review(add(folder, [note(by, verdict, step, text)])[1])
    except RlmError as e:
        raise RlmError(str(e).replace(str(folder), folder.name)) from e


def _review(review: Review | None) -> dict[str, Json]:
    if review is None:
        return {"ok": True, "verdict": None, "by": None, "notes": []}
    notes: list[Json] = [asdict(one) for one in review.notes]
    return review.facts() | {"notes": notes}
