"""Many runs at a glance: of each trace only the first line and the last ones are read, and what lies beside it.

So nothing here is verified: a run says of itself what stands in the list, and `rlm trace verify` says whether that is
so.

What a check found is taken from `check.json` in a run's folder, where that is of its head: {"head", "verdict",
"coverage": {"offered", "entered", "read", "cited"}, "regret", "unsupported"}, as `rlm trace check --index` keeps it. Of
the coverage what was cited is listed.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from index_store.terminal import brief
from rlm.audit.beside import bytes_of, opened
from rlm.audit.lines import MAX_LINE_BYTES
from rlm.audit.log import FILE_NAME
from rlm.audit.reviewing import REVIEW
from rlm.audit.signing import statements
from rlm.errors import RlmError

CHECK = "check.json"
UNCLOSED, BROKEN = "unclosed", "broken"
REDACTED = "[redacted]"
#: Bytes of a trace that are read from its start and from its end; as many again, and again, where a line is longer.
PART_BYTES = 32 * 1024
_MOST_BYTES = 4 * 1024 * 1024
_BESIDE_BYTES = 8 * 1024 * 1024
_TEXT_CHARS = 2_000
_HASH = re.compile(rb'"hash":"([0-9a-f]{64})"\}\n\Z')


@dataclass(frozen=True, slots=True)
class Listed:
    """A run as a list has it; None where it does not say.

    `run`: its folder. `stop`: what ended it, "unclosed" or "broken", and then `problem` says how. `cost`: dollars.
    `coverage`, `regret`, `unsupported` and `checked`, its verdict, are those of a check that was kept. `verdict` and
    `by`: the last of a reviewer. `signer`: who signed its head, as the statements say. `key`: whose money it was;
    `access`: the labels of what could be read, None for all.
    """

    run: str
    started: str | None = None
    question: str | None = None
    answer: str | None = None
    stop: str = BROKEN
    problem: str | None = None
    cost: float | None = None
    calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    coverage: float | None = None
    regret: float | None = None
    unsupported: int | None = None
    checked: str | None = None
    verdict: str | None = None
    by: str | None = None
    signer: str | None = None
    index: str | None = None
    models: str | None = None
    head: str | None = None
    key: str | None = None
    access: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs are wanted; None, or '' for words, wants all. `verdict` may be "none"."""

    stop: str | None = None
    verdict: str | None = None
    signer: str | None = None
    since: datetime | None = None
    words: str = ""

    def wants(self, one: Listed) -> bool:
        """Whether it is one of them, as far as its words are not asked for."""
        signers = (one.signer or "").split(", ")
        return (
            self.stop in (None, one.stop)
            and self.verdict in (None, one.verdict or "none")
            and (self.signer is None or self.signer in signers)
            and (self.since is None or _is_since(one.started, self.since))
        )


def list_runs(folder: str | Path, wanted: Wanted | None = None) -> list[Listed]:
    """The wanted runs at and below a folder, by their names. Raises RlmError where there is no such folder."""
    if not Path(folder).is_dir():
        raise RlmError(f"there is no folder {folder}; name one that holds runs, such as rlm-runs")
    wanted = wanted or Wanted()
    found = (listed(run) for run in runs_below(Path(folder)))
    return [one for one in found if wanted.wants(one) and _has_words(Path(one.run), wanted.words)]


def ordered(runs: Sequence[Listed], field: str = "started", *, reverse: bool = False) -> list[Listed]:
    """The runs by one of their fields: times and numbers from the largest on, words by the alphabet, and last those
    that do not say. `reverse`: the other way round, but for those."""
    names = [one.name for one in fields(Listed)]
    if field not in names:
        raise RlmError(f"no run has a field {brief(field)}; sort by one of {', '.join(names)}")
    known = [one for one in runs if getattr(one, field) is not None]
    falls = field == "started" or any(isinstance(getattr(one, field), int | float) for one in known)
    known.sort(key=lambda one: getattr(one, field), reverse=falls != reverse)
    return [*known, *(one for one in runs if getattr(one, field) is None)]


def runs_below(folder: Path) -> Iterator[Path]:
    """The folders of runs at and below a folder, by their names; no link is followed."""
    for path, below, files in os.walk(folder):
        if FILE_NAME in files:
            below.clear()  # what lies in a run is its own
            yield Path(path)
        below.sort()


def listed(run: Path) -> Listed:
    """What the ends of a trace say of its run, and what lies beside it."""
    try:
        with opened(run / FILE_NAME) as file:
            first = _first_line(file)
            lines = _last_lines(file)
    except (RlmError, OSError) as error:
        return Listed(str(run), problem=str(error))
    facts = _told(first, lines)
    for beside in (_check, _verdict, _signer):
        try:
            facts |= beside(run, facts.get("head"))
        except (RlmError, OSError) as error:
            facts["problem"] = str(error)
    return Listed(str(run), **facts)


# -- the ends of a trace -----------------------------------------------------------------------------------


def _first_line(file: BinaryIO) -> bytes:
    return file.readline(_MOST_BYTES)


def _last_lines(file: BinaryIO) -> list[bytes]:
    """The last lines of a file, whole ones but perhaps the last, as far back as the last answer, within a bound."""
    size, part = file.seek(0, os.SEEK_END), PART_BYTES
    while True:
        start = max(size - part, 0)
        file.seek(start)
        lines = file.read(size - start).splitlines(keepends=True)
        whole = lines[1:] if start else lines
        if start == 0 or part >= _MOST_BYTES or any(map(_is_answer, whole)):
            return whole
        part *= 4


def _is_answer(line: bytes) -> bool:
    return b'"kind":"answered"' in line and b'"conversation":"0"' in line


def _told(first: bytes, lines: Sequence[bytes]) -> dict[str, Any]:
    opening = _event(first)
    if opening.get("kind") != "run_opened":
        return {"problem": "its trace does not begin as one does"}
    index, models = opening.get("index"), opening.get("models")
    facts: dict[str, Any] = {
        "started": _text(opening.get("started")),
        "question": _words(opening.get("question")),
        "index": _text(index.get("name")) if isinstance(index, dict) else None,
        "models": _text(models.get("root")) if isinstance(models, dict) else None,
        "key": _text(opening.get("key")),
        "access": _labels(opening.get("access")),
    }
    whole = [line for line in lines if line.endswith(b"\n")]
    last = whole[-1] if whole else b""
    sealed = _HASH.search(last, max(len(last) - 200, 0))
    if not sealed:
        return facts | {"problem": "its last line is none of a trace"}
    answered = next((event for line in reversed(whole) if _is_answer(line) and (event := _event(line))), {})
    facts |= {
        "head": sealed[1].decode("ascii"),
        "answer": _words(answered.get("content")) if answered else None,
    }
    closed = _event(last) if b'"kind":"run_closed"' in last else {}
    if closed.get("kind") != "run_closed" or whole != list(lines):
        return facts | {
            "stop": UNCLOSED,
            "problem": "the run never ended, or the tail of its trace was cut off",
        }
    return facts | {"stop": _text(closed.get("stop")) or BROKEN} | _used(closed)


def _used(closed: Mapping[str, Any]) -> dict[str, Any]:
    usage = closed.get("usage")
    used = usage if isinstance(usage, dict) else {}
    tokens = [_number(used.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    return {
        "cost": _number(used.get("usd")),
        "calls": _number(used.get("calls")),
        "tokens": None if None in tokens else sum(n for n in tokens if n is not None),
        "seconds": _number(closed.get("seconds")),
    }


def _event(line: bytes) -> dict[str, Any]:
    """The event of a line; {} where it is none. Anyone may have written it."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _text(value: Any) -> str | None:
    return value[:_TEXT_CHARS] if isinstance(value, str) else None


def _words(value: Any) -> str:
    """A content, which a redaction may have taken out."""
    return value[:_TEXT_CHARS] if isinstance(value, str) else REDACTED


def _labels(value: Any) -> tuple[str, ...] | None:
    return tuple(filter(None, map(_text, value))) if isinstance(value, list) else None


def _number(value: Any) -> Any:
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 2**53
    return value if is_one and math.isfinite(value) else None


# -- what lies beside --------------------------------------------------------------------------------------


def _check(run: Path, head: str | None) -> dict[str, Any]:
    kept = _json_beside(run / CHECK)
    if head is None or kept.get("head") != head:
        return {}
    coverage = kept.get("coverage")
    return {
        "coverage": _number(coverage.get("cited") if isinstance(coverage, dict) else None),
        "regret": _number(kept.get("regret")),
        "unsupported": _number(kept.get("unsupported")),
        "checked": _text(kept.get("verdict")),
    }


def _verdict(run: Path, head: str | None) -> dict[str, Any]:
    """The last verdict of a reviewer of this head."""
    lines = (bytes_of(run / REVIEW, _BESIDE_BYTES) or b"").splitlines()
    for one in map(_event, reversed(lines)):
        if one.get("head") == head and one.get("step") is None and one.get("verdict") is not None:
            return {"verdict": _text(one.get("verdict")), "by": _text(one.get("by"))}
    return {}


def _signer(run: Path, head: str | None) -> dict[str, Any]:
    names = [one.said["signer"] for one in statements(run) if one.said.get("head") == head]
    return {"signer": ", ".join(names)} if names else {}


def _json_beside(path: Path) -> dict[str, Any]:
    content = bytes_of(path, _BESIDE_BYTES)
    return {} if content is None else _event(content)


# -- what is wanted ----------------------------------------------------------------------------------------


def moment(words: str) -> datetime:
    """A date, or a date and a time, in ISO form; UTC where it says no zone. Raises RlmError."""
    try:
        said = datetime.fromisoformat(words)
    except ValueError as error:
        raise RlmError(f"{brief(words)} is no date; write it as 2026-01-31 or 2026-01-31T10:00") from error
    return said if said.tzinfo else said.replace(tzinfo=UTC)


def _is_since(started: str | None, since: datetime) -> bool:
    try:
        return moment(started or "") >= since
    except (RlmError, OverflowError):
        return False


def _has_words(run: Path, words: str) -> bool:
    """Whether all these words stand in the questions and answers of a run; of its trace all lines are read for that."""
    wanted = words.lower().split()
    if not wanted:
        return True
    try:
        with opened(run / FILE_NAME) as file:
            texts = " ".join(_questions_and_answers(file)).lower()
    except (RlmError, OSError):
        return False
    return all(word in texts for word in wanted)


def _questions_and_answers(file: BinaryIO) -> Iterator[str]:
    while line := file.readline(MAX_LINE_BYTES):
        if _is_answer(line) or b'"kind":"question_put"' in line or b'"kind":"run_opened"' in line:
            event = _event(line)
            yield from (text for name in ("question", "content") if isinstance(text := event.get(name), str))
