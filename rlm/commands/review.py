"""`rlm review`: the page of a run, that of two side by side, and a static site of many."""

import argparse
import sys
from collections.abc import Sequence

from index_store.errors import IndexStoreError
from index_store.index import Index, open_any
from index_store.terminal import say, spelled
from index_store.types import Span
from rlm.audit import Verdict
from rlm.audit.check import Report, check_read
from rlm.audit.events import RecordedEvent
from rlm.audit.page import Beside, render
from rlm.audit.reviewing import reviewed
from rlm.audit.signing import held, signatures
from rlm.audit.sources import generation_asked
from rlm.commands.pages import write_page
from rlm.commands.trace import checked_head, in_a_sentence, read_verified
from rlm.errors import RlmError

_MOST_PASSAGES, _PASSAGE_CHARS = 200, 2_000  # of lost evidence, whose words are shown


def review(args: argparse.Namespace) -> int:
    """Write the page of a run, of two side by side, or the site of many. Returns the exit code: 1 where a trace is not
    as it was written."""
    head = checked_head(args.head)
    if len(args.runs) > 1:
        raise RlmError(f"{len(args.runs)} runs are given; name one")
    return _page(args, args.runs[0], head)


def _page(args: argparse.Namespace, run: str, head: str | None) -> int:
    events, verdict = read_verified(run, head)
    index = None if args.index is None else open_any(args.index, args.embedder)
    page = render(events, verdict, run, beside(args, run, events, verdict, index))
    write_page(args.output, page)
    say(spelled(args.output))
    if not verdict.ok:
        say(f"rlm: the trace is not as it was written: {in_a_sentence(verdict)}", file=sys.stderr)
    return 0 if verdict.ok else 1


def beside(
    args: argparse.Namespace,
    run: str,
    events: Sequence[RecordedEvent],
    verdict: Verdict,
    index: Index | None,
) -> Beside:
    """What is known of a run beside its trace: the check, with the index where that is given, notes, signatures."""
    report = check_read(events, verdict, index) if events else None
    asked = generation_asked(index, events[0]) if events and index is not None else None
    signed = signatures(run, args.allowed_signers, args.timestamp_ca) if events else []
    return Beside(
        report,
        _passages(report, asked) if report and asked is not None else {},
        reviewed(run, verdict.head),
        [held(one, events, verdict.head) for one in signed],
    )


def _passages(report: Report, index: Index) -> dict[str, str]:
    """The words of the evidence that was lost, by node."""
    words: dict[str, str] = {}
    for lost in report.lost[:_MOST_PASSAGES]:
        try:
            text = index.span_text(Span(lost.doc, lost.start, min(lost.end, lost.start + _PASSAGE_CHARS)))
        except IndexStoreError:
            continue
        words[lost.node] = text + (" …" if lost.end - lost.start > _PASSAGE_CHARS else "")
    return words
