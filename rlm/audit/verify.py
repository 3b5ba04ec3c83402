"""Whether a trace is as it was written, from its file alone, or from that and the index it was asked of.

What this shows: no character of the file was changed, and no line removed, moved, added, repeated or cut off, by anyone
who did not also rewrite every line after it; and its events do not contradict each other (`rlm.audit.consistency`), nor
its citations the texts that it holds, or those of the index (`rlm.audit.sources`).

What this cannot show: that the whole file, or everything from some line on, was not rewritten with new hashes, and
without a contradiction, by someone who could write to it. Against that, keep the head (`Trace.head`, `Verdict.head`)
where that person cannot write, and pass it as `expected_head`. Nor does it show that what was written was true: for
that, the trace is written by the parent process, which answers every call of the worker itself.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rlm.audit.consistency import Story
from rlm.audit.events import FORMAT, RecordedEvent, event_problem
from rlm.audit.log import FILE_NAME, FIRST_PREV, MAX_LINE_BYTES, TraceError, canonical, digest
from rlm.audit.sources import Citations, another_generation, generation_asked, index_problem, named

if TYPE_CHECKING:
    from index_store.index import Index

#: What a reader is told where no head was given.
UNVOUCHED = (
    "Nobody has vouched for the end of this trace: whoever can write the file can rewrite all of it, or cut it off and "
    "close it anew. Compare its head with the one that was printed when the run ended, or give that as --head."
)

#: What a chain alone leaves open.
NOT_VOUCHED = "whether all of it was rewritten"

_SEAL = re.compile(rb',"prev":"([0-9a-f]{64})","hash":"([0-9a-f]{64})"\}\n\Z')
_PART_BYTES = 1 << 20  # of a file that are read at a time to count its lines
_SEAL_BYTES = len(',"prev":"","hash":""}\n') + 128


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trace file is worth.

    `events`: how many lines are as they were written, from the first on; `head`: the hash of the last of these.
    `first_bad_line` counts from 1; it is None where `ok`, and where nothing is wrong but that the head is not the
    expected one, or the index another. `reason` is one sentence. `unchecked`: what was not checked, each in a few
    words. `vouched`: the head is the expected one. `unread`: how many lines there are from the first bad one on.
    `compared`: what the citations and passages were held against; '' where no index was given.
    """

    ok: bool
    events: int
    first_bad_line: int | None
    reason: str
    head: str
    unchecked: tuple[str, ...] = ()
    vouched: bool = False
    unread: int = 0
    compared: str = ""


class _Bad(Exception):
    """Why a line is not what was written."""


def verify(run: str | Path, expected_head: str | None = None, index: "Index | None" = None) -> Verdict:
    """The verdict on a run folder, or a trace file; raises TraceError only where there is no file to read.

    `index`: the one that was asked, whose texts are then held against those in the trace: its generation with the
    digest that the run names, live or not. A contradiction goes before a head that is not the expected one: it says
    where.
    """
    story, citations = Story(), Citations()

    def contradiction(event: RecordedEvent) -> str:
        citations.add(event)
        problem = story.hear(event)
        return f"the event contradicts those before it: {problem}" if problem else ""

    with _open(Path(run)) as file:
        verdict = check(file, expected_head, problem=contradiction)
        if verdict.first_bad_line:
            return verdict
        asked = None if index is None else generation_asked(index, story.opened)
        wrong = _misquoted(file, citations) or (
            asked and index_problem(asked, story.opened, _events(file), citations)
        )
    if wrong:
        line, reason = wrong
        left = verdict.events - line + 1
        return replace(
            verdict, ok=False, events=line - 1, first_bad_line=line, reason=reason, unread=left, vouched=False
        )
    if not verdict.ok:
        return verdict
    if index is not None and asked is None:
        return replace(verdict, ok=False, reason=another_generation(index, story.opened))
    compared = "" if asked is None else f"citations and passages compared with {named(asked)}"
    return replace(verdict, unchecked=tuple(_unchecked(expected_head, index, citations)), compared=compared)


def read(run: str | Path, expected_head: str | None = None) -> tuple[list[RecordedEvent], Verdict]:
    """The events before the first bad line (all of them where the verdict is ok), and the verdict on the chain alone:
    what its events say of each other is for `verify`."""
    events: list[RecordedEvent] = []
    with _open(Path(run)) as file:
        verdict = check(file, expected_head, events.append)
    return events, verdict


def check(
    file: BinaryIO,
    expected_head: str | None = None,
    on_event: Callable[[RecordedEvent], object] = lambda event: None,
    problem: Callable[[RecordedEvent], str] = lambda event: "",
) -> Verdict:
    """The verdict on the chain of an open file. `on_event` is called with each event whose line is as it was written,
    and in which `problem` has found none."""
    count, head, kept = 0, FIRST_PREV, 0
    try:
        for event, line_hash in _sealed_events(file):
            if wrong := problem(event):
                raise _Bad(wrong)
            count, head = count + 1, line_hash
            kept = count if head == expected_head else kept
            on_event(event)
    except _Bad as bad:
        return Verdict(False, count, count + 1, str(bad), head, unread=_lines(file) - count)
    if expected_head not in (None, head):
        return Verdict(False, count, None, _other_head(count, kept), head)
    return Verdict(
        True, count, None, "every line is as it was written", head, vouched=expected_head is not None
    )


def _other_head(events: int, kept: int) -> str:
    """Why a whole chain does not end in the head that was given, which is that of line `kept`, or of none for 0."""
    if not kept:
        return (
            "the chain is whole, but its head is not the expected one: the file was rewritten or is another"
        )
    added = "the line after it was" if events - kept == 1 else f"the {events - kept:,} lines after it were"
    return (
        f"the head that was given is that of line {kept}: up to there the trace is as it was kept, and {added} "
        "added later"
    )


def _lines(file: BinaryIO) -> int:
    """How many lines the file has, the last one perhaps without its end."""
    file.seek(0)
    lines, last = 0, b"\n"
    while part := file.read(_PART_BYTES):
        lines, last = lines + part.count(b"\n"), part[-1:]
    return lines + (last != b"\n")


def _events(file: BinaryIO) -> Iterator[RecordedEvent]:
    """The events of a file whose chain is whole."""
    file.seek(0)
    return (event for event, _ in _sealed_events(file))


def _misquoted(file: BinaryIO, citations: Citations) -> tuple[int, str] | None:
    """(line, sentence) of a citation that has other words than the trace shows in its place."""
    if not citations.listed:
        return None
    return next((wrong for event in _events(file) if (wrong := citations.against(event))), None)


def _unchecked(expected_head: str | None, index: "Index | None", citations: Citations) -> Iterator[str]:
    if expected_head is None:
        yield f"{NOT_VOUCHED} (no head was given, and no signature was checked)"
    if index is None:
        yield "the digest and the texts of the index (it was not given)"
    if citations.passed_over:
        yield "some of its many citations and passages"


def _open(run: Path) -> BinaryIO:
    path = run / FILE_NAME if run.is_dir() else run
    if not path.is_file():
        raise TraceError(f"no trace at {path}; name a run folder, which holds {FILE_NAME}")
    try:
        return path.open("rb")
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror}") from error


def _sealed_events(file: BinaryIO) -> Iterator[tuple[RecordedEvent, str]]:
    """Each event with its hash, in order; raises _Bad at the first line that is not as it was written."""
    seq, prev, kind, time_s = 0, FIRST_PREV, "", 0.0
    while line := file.readline(MAX_LINE_BYTES + 1):
        if kind == "run_closed":
            raise _Bad("something follows run_closed, which ends a trace")
        body, line_hash = _unseal(line, prev)
        event = _parse(body)
        _check_place(event, seq, time_s)
        yield event, line_hash
        seq, prev, kind, time_s = seq + 1, line_hash, event["kind"], event["time_s"]
    if not kind:
        raise _Bad("the trace is empty: the run ended before its first event, or all of it was cut off")
    if kind != "run_closed":
        raise _Bad("the file ends without run_closed: its tail was cut off, or the run never ended")


def _unseal(line: bytes, prev: str) -> tuple[bytes, str]:
    """The body of a line and its hash, both checked against the line before."""
    if len(line) > MAX_LINE_BYTES:
        raise _Bad(f"the line is longer than {MAX_LINE_BYTES} bytes")
    if not line.endswith(b"\n"):
        raise _Bad("the line does not end in a newline: it was cut, or never finished")
    sealed = _SEAL.search(line, max(0, len(line) - _SEAL_BYTES))
    if not sealed:
        raise _Bad('the line does not end in "prev" and "hash" as a trace line does')
    body = line[: sealed.start()] + b"}"
    line_prev, line_hash = sealed[1].decode("ascii"), sealed[2].decode("ascii")
    if digest(line_prev, body) != line_hash:
        raise _Bad("the line does not match its own hash: it was changed")
    if line_prev != prev:
        raise _Bad("the line does not follow the one before it: a line was removed, added, repeated or moved")
    return body, line_hash


def _parse(body: bytes) -> RecordedEvent:
    """The event of a body whose hash is right, yet may be anyone's work: nothing about it is trusted."""
    try:
        event = json.loads(body)
        exact = isinstance(event, dict) and canonical(event) == body
    except (ValueError, RecursionError) as error:
        raise _Bad(f"the line is not JSON that can be read ({type(error).__name__})") from error
    if not exact:
        raise _Bad("the line is not in the one form a trace is written in")
    if wrong := event_problem(event):
        raise _Bad(f"the event is not one a trace can hold: {wrong}")
    return dict(event)


def _check_place(event: RecordedEvent, seq: int, time_s: float) -> None:
    if event["seq"] != seq:
        raise _Bad(f"the event says it is number {event['seq']}, and number {seq} belongs here")
    if (event["kind"] == "run_opened") != (seq == 0):
        raise _Bad(f"{event['kind']} cannot be event {seq}: run_opened is the first event, and only it")
    if seq == 0 and event["format"] != FORMAT:
        raise _Bad(f"the trace has format {event['format']}; this version reads format {FORMAT}")
    if event["time_s"] < time_s:
        raise _Bad(f"the event is timed at {event['time_s']} s, before the event before it at {time_s} s")
