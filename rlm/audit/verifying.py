"""Whether a trace is as it was written, from its file alone, or from that and the index it was asked of.

What this shows: no character of the file was changed, and no line removed, moved, added, repeated or cut off, by anyone
who did not also rewrite every line after it; and its events do not contradict each other (`rlm.audit.consistency`), nor
its citations the texts that it holds, or those of the index (`rlm.audit.sources`).

What this cannot show: that the whole file, or everything from some line on, was not rewritten with new hashes, and
without a contradiction, by someone who could write to it. Against that, keep the head (`Trace.head`, `Verdict.head`)
where that person cannot write, and pass it as `expected_head`. Nor does it show that what was written was true: for
that, the trace is written by the parent process, which answers every call of the worker itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from index_store.terminal import count as count_of
from rlm.audit.consistency.hearing import hear
from rlm.audit.consistency.story import Story
from rlm.audit.events import RecordedEvent
from rlm.audit.lines import FIRST_PREV, MAX_LINE_BYTES, BadLine, Opener, Unfinished
from rlm.audit.log import TraceError, trace_file
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
#: How it is told that a trace has no end. Somebody who cut off the tail leaves the same file as a run that was killed.
UNCLOSED = (
    "unclosed: all before is as it was written, and then {how}: the run was killed or its tail was cut off, which of "
    "the two the file cannot tell"
)

_CUT_OFF = "the tail was cut off: a redaction took out contents of lines that are gone"

_PART_BYTES = 1 << 20  # of a file that are read at a time to count its lines
_MOST_TOLD = 100  # fields that a redaction is said to have taken out


@dataclass(frozen=True, slots=True)
class TakenOut:
    """What a redaction took out of a trace: by whom, why, when (ISO 8601, UTC), of how many contents, and where, as
    (seq, path), the first of them. `hash`: kept elsewhere, that of the last shows that none was changed since."""

    by: str
    why: str
    at: str
    contents: int
    places: tuple[tuple[int, str], ...]
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trace file is worth.

    `events`: how many lines are as they were written, from the first on; `head`: the hash of the last of these.
    `first_bad_line` counts from 1; it is None where `ok`, and where nothing is wrong but that the head is not the
    expected one, or the index another. `reason` is one sentence. `closed`: whether the trace has its last event; one
    that has not is not `ok`, and where nothing else is wrong with it, `reason` begins with "unclosed". `unchecked`:
    what was not checked, each in a few words. `vouched`: the head is the expected one. `unread`: how many lines there
    are from the first bad one on. `compared`: what the citations and passages were held against; '' where no index was
    given. `taken_out`: the redactions of the trace, in order.
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
    closed: bool = True
    taken_out: tuple[TakenOut, ...] = ()
    besides: str = ""

    @property
    def holds(self) -> bool:
        """Each line that the trace has is as it was written, whether or not the last one is its end."""
        return self.first_bad_line is None or (not self.closed and self.reason.startswith("unclosed"))

    @property
    def only_unclosed(self) -> bool:
        """Nothing is wrong with the trace but that it has no end: it verifies up to its last line."""
        return self.holds and not self.closed and not self.besides


def verify(
    run: str | Path,
    expected_head: str | None = None,
    index: "Index | None" = None,
    on_event: Callable[[RecordedEvent], object] = lambda event: None,
) -> Verdict:
    """The verdict on a run folder, or a trace file; raises TraceError only where there is no file to read.

    `index`: the one that was asked, whose texts are then held against those in the trace: its generation with the
    digest that the run names, live or not. A contradiction goes before a head that is not the expected one: it says
    where. `on_event` is called with each event before the first that is not as it was written or is contradictory.
    """
    story, citations = Story(), Citations()

    def contradiction(event: RecordedEvent) -> str:
        citations.add(event)
        problem = hear(story, event)
        return f"the event contradicts those before it: {problem}" if problem else ""

    with _open(Path(run)) as file:
        verdict = check(file, expected_head, on_event, contradiction)
        if not verdict.holds:
            return verdict
        asked = None if index is None else generation_asked(index, story.opened)
        events = partial(_events, file, verdict.events)
        wrong = _misquoted(events, citations) or (
            asked and index_problem(asked, story.opened, events(), citations)
        )
    if wrong:
        line, reason = wrong
        left = verdict.events + verdict.unread - line + 1
        return replace(
            verdict, ok=False, events=line - 1, first_bad_line=line, reason=reason, unread=left, vouched=False
        )
    unchecked = tuple(_unchecked(expected_head, index, citations, verdict, story))
    compared = "" if asked is None else f"citations and passages compared with {named(asked)}"
    if index is not None and asked is None and (verdict.ok or verdict.only_unclosed):
        verdict = _as_of_another(verdict, another_generation(index, story.opened))
    if not verdict.ok and verdict.closed:
        return verdict
    return replace(verdict, unchecked=unchecked, compared=compared)


def _as_of_another(verdict: Verdict, wrong: str) -> Verdict:
    """The verdict on a trace that was asked of another index than the one that was given."""
    if verdict.ok:
        return replace(verdict, ok=False, reason=wrong)
    return replace(verdict, reason=_joined(verdict.reason, wrong), besides=wrong)


def read(run: str | Path, expected_head: str | None = None) -> tuple[list[RecordedEvent], Verdict]:
    """The events before the first bad line (all of them where the verdict is ok), and the verdict on the chain alone:
    what its events say of each other is for `verify`."""
    events: list[RecordedEvent] = []
    with _open(Path(run)) as file:
        verdict = check(file, expected_head, events.append)
    return events[: verdict.events], verdict


def read_verified(run: str | Path, expected_head: str | None = None) -> tuple[list[RecordedEvent], Verdict]:
    """The events before the first that is not as it was written or contradicts those before it, and the verdict of
    `verify`."""
    events: list[RecordedEvent] = []
    verdict = verify(run, expected_head, on_event=events.append)
    return events[: verdict.events], verdict


def check(
    file: BinaryIO,
    expected_head: str | None = None,
    on_event: Callable[[RecordedEvent], object] = lambda event: None,
    problem: Callable[[RecordedEvent], str] = lambda event: "",
) -> Verdict:
    """The verdict on the chain of an open file. `on_event` is called with each event whose line is as it was written,
    and in which `problem` has found none."""
    opener, count, head, kept, unclosed = Opener(), 0, FIRST_PREV, 0, ""
    try:
        for event in _sealed_events(file, opener):
            if wrong := problem(event):
                raise BadLine(wrong)
            count, head = opener.count, opener.head
            kept = count if head == expected_head else kept
            on_event(event)
    except BadLine as bad:
        closed = bad.args[0] == _FOLLOWED
        return Verdict(False, count, count + 1, str(bad), head, unread=_lines(file) - count, closed=closed)
    except _Unclosed as end:
        unclosed = str(end)
    if unsound := opener.unsound():
        if not unclosed:
            taken, reason = unsound
            left = _lines(file) - taken.line + 1
            return Verdict(False, taken.line - 1, taken.line, reason, taken.head, unread=left)
        unclosed = _CUT_OFF  # each line by itself is sound, and what is missing stood behind them
    other = "" if expected_head in (None, head) else _other_head(count, kept)
    return Verdict(
        not unclosed and not other,
        count,
        count + 1 if unclosed else None,
        _joined(unclosed, other) or "every line is as it was written",
        head,
        vouched=expected_head == head,
        unread=_lines(file) - count,
        closed=not unclosed,
        taken_out=_taken_out(opener),
        besides=other if unclosed else "",
    )


def _joined(*reasons: str) -> str:
    return "; and ".join(filter(None, reasons))


def _taken_out(opener: Opener) -> tuple[TakenOut, ...]:
    listed = (opener.taken[number] for number in sorted(opener.taken))
    return tuple(
        TakenOut(
            one.redaction.by,
            one.redaction.why,
            one.redaction.at,
            len(one.fields),
            tuple(one.fields[:_MOST_TOLD]),
            one.redaction.hash,
        )
        for one in listed
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


def _events(file: BinaryIO, most: int) -> Iterator[RecordedEvent]:
    """The first events of a file whose chain is whole so far."""
    file.seek(0)
    return islice(_sealed_events(file, Opener()), most)


def _misquoted(events: Callable[[], Iterator[RecordedEvent]], citations: Citations) -> tuple[int, str] | None:
    """(line, sentence) of a citation that has other words than the trace shows in its place."""
    if not citations.listed:
        return None
    return next((wrong for event in events() if (wrong := citations.against(event))), None)


def _unchecked(
    expected_head: str | None, index: "Index | None", citations: Citations, verdict: Verdict, story: Story
) -> Iterator[str]:
    if expected_head is None:
        yield f"{NOT_VOUCHED} (no head was given, and no signature was checked)"
    if index is None:
        yield "the digest and the texts of the index (it was not given)"
    if citations.passed_over:
        yield "some of its many citations and passages"
    if contents := sum(one.contents for one in verdict.taken_out):
        yield f"what was taken out, and what other events say of it ({count_of(contents, 'content')})"
    if story.unheard:
        yield story.unheard


def _open(run: Path) -> BinaryIO:
    path = trace_file(run)
    try:
        return path.open("rb")
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror}") from error


class _Unclosed(Exception):
    """The trace ends before its last event, and nothing is wrong before."""


_FOLLOWED = "something follows run_closed, which ends a trace"


def _sealed_events(file: BinaryIO, opener: Opener) -> Iterator[RecordedEvent]:
    """Each event, in order; raises BadLine at the first line that is not as it was written, _Unclosed at the end of a
    trace that has no last event."""
    kind, time_s = "", 0.0
    while line := file.readline(MAX_LINE_BYTES + 1):
        if kind == "run_closed":
            raise BadLine(_FOLLOWED)
        try:
            event = opener.event(line, MAX_LINE_BYTES)
        except Unfinished as cut:
            if not kind:
                raise
            raise _Unclosed(UNCLOSED.format(how=cut)) from cut
        _check_place(event, opener.count - 1, time_s)
        yield event
        kind, time_s = event["kind"], event["time_s"]
    if not kind:
        raise BadLine("the trace is empty: the run ended before its first event, or all of it was cut off")
    if kind != "run_closed":
        raise _Unclosed(UNCLOSED.format(how="the file ends without run_closed"))


def _check_place(event: RecordedEvent, seq: int, time_s: float) -> None:
    if event["seq"] != seq:
        raise BadLine(f"the event says it is number {event['seq']}, and number {seq} belongs here")
    if (event["kind"] == "run_opened") != (seq == 0):
        raise BadLine(f"{event['kind']} cannot be event {seq}: run_opened is the first event, and only it")
    if event["time_s"] < time_s:
        raise BadLine(f"the event is timed at {event['time_s']} s, before the event before it at {time_s} s")
