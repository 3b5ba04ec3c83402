"""What reviewers say of a run: `review.jsonl` beside its trace, a note a line, each sealed to the one before.

The first line is sealed to the head of the trace, so notes belong to this trace and no other, and none can be changed,
moved or taken out without those after it; but the last can be cut off. They never go into the trace: that is what
happened, this is what somebody thought of it. A line, as canonical JSON, sealed as a line of a trace is:

    {"at": "2026-01-31T10:00:00+00:00", "by": "jane", "head": "<64 hex>", "step": 12, "text": "wrong year",
     "verdict": "rejected", "prev": "<64 hex>", "hash": "<64 hex>"}

`verdict` and `step` may be null; with a step the verdict is of that event, without one of the run. What a page saves,
and `add_from` takes, is {"head": ..., "notes": [{"at", "by", "step", "text", "verdict"}, ...]}.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from index_store.files import hold, opening
from index_store.terminal import brief, count, one_line, visible
from rlm.audit.beside import bytes_of, folder_of, now
from rlm.audit.lines import canonical, seal
from rlm.audit.signing import vouchable
from rlm.errors import RlmError

REVIEW = "review.jsonl"
VERDICTS = ("accepted", "rejected", "needs another look")
TEXT_CHARS = 20_000
_NAME_CHARS = 200
_MAX_BYTES = 32 * 1024 * 1024
_IMPORT_BYTES = 8 * 1024 * 1024
_FIELDS = ("at", "by", "step", "text", "verdict")


@dataclass(frozen=True, slots=True)
class Note:
    """What one reviewer says: of a run, or of its event `step`. `at`: when, in ISO form."""

    by: str
    at: str
    verdict: str | None = None
    step: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    """The notes beside a trace, as far as they are as they were written. `line`: the first that is not, from 1, and the
    `reason`; None where all are."""

    file: Path
    notes: tuple[Note, ...]
    line: int | None = None
    reason: str = ""

    @property
    def verdict(self) -> Note | None:
        """The last note with a verdict of the run."""
        return next((note for note in reversed(self.notes) if note.verdict and note.step is None), None)

    def facts(self) -> dict[str, Any]:
        """What a program is told of them."""
        last = self.verdict
        return {
            "ok": self.line is None,
            "notes": len(self.notes),
            "line": self.line,
            "reason": self.reason,
            "verdict": last and last.verdict,
            "by": last and last.by,
        }


def note(by: str, verdict: str | None = None, step: int | None = None, text: str = "") -> Note:
    """A note of this moment."""
    return Note(by, now(), verdict, step, text)


def add(run: str | Path, notes: Sequence[Note]) -> tuple[int, Review]:
    """Write notes beside a trace that is whole: (how many were not there yet, all that are there now).

    Two processes may do so at once. Raises RlmError where a note says nothing, or of no event of the trace; where the
    trace, or what was noted before, is not as it was written; and where it cannot be written. Then none is written.
    """
    events, head, _ = vouchable(run)
    for one in notes:
        if wrong := problem(asdict(one), len(events)):
            raise RlmError(f"the note {wrong}")
    file = folder_of(run) / REVIEW
    try:
        # Held until it is closed: who comes second waits, and goes on from the last line of the first.
        handle = os.open(file, opening("RDWR", "CREAT", "APPEND", "NOFOLLOW", "CLOEXEC"), 0o666)
        with os.fdopen(handle, "ab") as out:
            hold(handle, wait=True)
            before, prev = _read(file, head)
            if before.line:
                raise RlmError(
                    f"line {before.line} of {file}: {before.reason}; move the file away to note anew"
                )
            known = set(before.notes)
            new = tuple(one for one in dict.fromkeys(notes) if one not in known)
            size = os.fstat(handle).st_size
            try:
                out.write(_lines(new, head, prev))
                out.flush()
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, size)  # no half a line, after which nothing could follow
                raise
    except OSError as error:
        raise RlmError(f"cannot write {file}: {error.strerror}; the run's folder must be yours") from error
    return len(new), Review(file, before.notes + new)


def add_from(run: str | Path, file: str | Path, by: str | None = None) -> tuple[int, Review]:
    """Write the notes that a page saved, as `add` does. `by`: who reviewed, where the file does not say."""
    content = bytes_of(Path(file), _IMPORT_BYTES)
    if content is None:
        raise RlmError(f"there is no file {file}; name what the page saved")
    _, head, _ = vouchable(run)
    try:
        saved = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RlmError(f"{file} is no JSON; name what the page saved") from error
    if not isinstance(saved, dict) or not isinstance(saved.get("head"), str):
        raise RlmError(f'{file} is not what a page saves: {{"head": ..., "notes": [...]}}')
    if saved["head"] != head:
        raise RlmError(f"{file} is about another trace, whose head is {brief(saved['head'])}; name its run")
    listed = saved.get("notes", [{name: saved[name] for name in _FIELDS if name in saved}])
    if not isinstance(listed, list):
        raise RlmError(f'{file} is not what a page saves: "notes" is no list')
    return add(run, [_taken(one, by, f"{file}, note {i}") for i, one in enumerate(listed, 1)])


def _taken(one: Any, by: str | None, where: str) -> Note:
    if not isinstance(one, dict) or set(one) - set(_FIELDS):
        raise RlmError(f"{where}: it is no object with some of the fields {', '.join(_FIELDS)}")
    told = {"by": by or "", "at": now(), "verdict": None, "step": None, "text": ""}
    given = told | {name: value for name, value in one.items() if value is not None and value != ""}
    if wrong := problem(given):
        raise RlmError(f"{where}: it {wrong}")
    return Note(**given)


def problem(one: dict[str, Any], events: int | None = None) -> str:
    """'' where a note can stand beside a trace of so many events, else what is wrong with it, in a few words."""
    by, at, verdict, step, text = (one[name] for name in ("by", "at", "verdict", "step", "text"))
    if not isinstance(by, str) or not by.strip() or len(by) > _NAME_CHARS or not by.isprintable():
        return f"is by {brief(by)}; say who reviewed, in one line"
    if verdict is not None and verdict not in VERDICTS:
        return f"has the verdict {brief(verdict)}; give one of {', '.join(VERDICTS)}"
    if step is not None and (not isinstance(step, int) or isinstance(step, bool) or step < 0):
        return f"is about step {brief(step)}; give the number of an event"
    if step is not None and events is not None and step >= events:
        return f"is about step {brief(step)}, and the trace has the events 0 to {events - 1}"
    if not isinstance(text, str) or len(text) > TEXT_CHARS:
        return f"has more than {TEXT_CHARS:,} characters, or no text as its text"
    if verdict is None and not text.strip():
        return "says nothing; give a verdict or a text"
    return "" if _is_time(at) else f"is of the time {brief(at)}; give it in ISO form"


def _is_time(at: Any) -> bool:
    try:
        return isinstance(at, str) and len(at) <= 40 and at.isascii() and bool(datetime.fromisoformat(at))
    except ValueError:
        return False


def reviewed(run: str | Path, head: str) -> Review | None:
    """The notes beside a trace with this head; None for none. Raises TraceError where they cannot be read."""
    file = folder_of(run) / REVIEW
    return _read(file, head)[0] if file.exists() or file.is_symlink() else None


def _read(file: Path, head: str) -> tuple[Review, str]:
    """The notes in a file, and the hash that the next line is sealed to."""
    notes, prev = list[Note](), head
    lines = (bytes_of(file, _MAX_BYTES) or b"").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        one = _unsealed(line, head, prev)
        if isinstance(one, str):
            return Review(file, tuple(notes), number, one), prev
        notes.append(one)
        prev = line[-67:-3].decode("ascii")
    return Review(file, tuple(notes)), prev


def _unsealed(line: bytes, head: str, prev: str) -> Note | str:
    """The note of a line, or why it is not what was written there."""
    try:
        said = json.loads(line)
        sealed = {name: said.pop(name) for name in ("prev", "hash")}
        exact = seal(sealed["prev"], canonical(said)) == line
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
        exact = False
    if not exact:
        return "it is not as it was written: it was changed, or cut"
    if sealed["prev"] != prev or said.pop("head", None) != head:
        return "it does not follow the one before it, or is about another trace"
    if set(said) != set(_FIELDS):
        return f"it has not the fields {', '.join(_FIELDS)}"
    if wrong := problem(said):
        return f"it {wrong}"
    return Note(**said)


def _lines(notes: Sequence[Note], head: str, prev: str) -> bytes:
    lines = []
    for one in notes:
        lines.append(seal(prev, canonical({**asdict(one), "head": head})))
        prev = lines[-1][-67:-3].decode("ascii")
    return b"".join(lines)


def in_words(review: Review) -> str:
    """The notes as text, and which line of them is not as it was written."""
    lines = [line for number, one in enumerate(review.notes, 1) for line in _told(number, one)]
    wrong = [f"line {review.line} of {review.file.name}: {review.reason}"] if review.line else []
    return "\n".join([f"{count(len(review.notes), 'note')} of reviewers", *lines, *wrong])


def _told(number: int, one: Note) -> Iterator[str]:
    about = "the run" if one.step is None else f"step {one.step}"
    verdict = f": {one.verdict}" if one.verdict else ""
    yield f"[{number}] {one_line(one.at, 40)}  {one_line(one.by, _NAME_CHARS)}, of {about}{verdict}"
    yield from (f"    {line}" for line in visible(one.text).split("\n") if one.text)
