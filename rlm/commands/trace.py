"""`rlm trace` and `rlm review`: show a run as text, verify its trace, write its page."""

import argparse
import re
import sys

from index_store.index import open_any
from index_store.terminal import count, one_line, print_json, say, spelled
from rlm.audit import Verdict, read, verify
from rlm.audit.events import RecordedEvent
from rlm.audit.page import render
from rlm.audit.timeline import show
from rlm.commands.pages import write_page
from rlm.errors import RlmError


def trace(args: argparse.Namespace) -> int:
    """Show a run as text, verify its trace, or check it. Returns the exit code: 1 where the trace is not as it was
    written, or the run lacks what was demanded of it."""
    if args.action == "check":
        from rlm.commands import check  # a judge needs what asks models

        return check.run(args)
    head = _checked(args.head)
    if args.action == "verify":
        index = None if args.index is None else open_any(args.index)
        verdict = verify(args.run_folder, expected_head=head, index=index)
        facts = {
            "ok": verdict.ok,
            "events": verdict.events,
            "line": verdict.first_bad_line,
            "reason": f"{verdict.reason}{_compared(verdict)}",
        }
        print_json(facts | {"head": verdict.head}) if args.json else say(_sentence(verdict))
        return 0 if verdict.ok else 1
    events, verdict = _read(args.run_folder, head)
    if args.json:
        for event in events:
            print_json(event)
    else:
        say(show(events, verdict, full=args.full))
    return 0 if verdict.ok else 1


def review(args: argparse.Namespace) -> int:
    """Write the audit page of a run, over an old one only once it is whole. Returns the exit code as `trace` does."""
    events, verdict = _read(args.run_folder, _checked(args.head))
    write_page(args.output, render(events, verdict, args.run_folder))
    say(spelled(args.output))
    if not verdict.ok:
        say(f"rlm: the trace is not as it was written: {_sentence(verdict)}", file=sys.stderr)
    return 0 if verdict.ok else 1


def _checked(head: str | None) -> str | None:
    """The hash that was kept elsewhere, if one was given. Raises RlmError where it is none."""
    if head is not None and not re.fullmatch(r"[0-9a-f]{64}", head):
        raise RlmError(f"--head is {head[:80]!r}; give all 64 hex digits of the hash")
    return head


def _read(run: str, head: str | None) -> tuple[list[RecordedEvent], Verdict]:
    """The events before the first that is not as it was written or contradicts those before it, and the verdict."""
    (events, _), verdict = read(run), verify(run, head)
    return events[: verdict.events], verdict


def _sentence(verdict: Verdict) -> str:
    if verdict.ok:
        chain = "an unbroken chain without contradictions"
        return f"ok: {count(verdict.events, 'event')}, {chain}; head {verdict.head}{_compared(verdict)}"
    line = f"line {verdict.first_bad_line}: " if verdict.first_bad_line else ""
    return one_line(f"{line}{verdict.reason}", 2_000)


def _compared(verdict: Verdict) -> str:
    compared = f"; {verdict.compared}" if verdict.compared else ""
    return f"{compared}; not checked: {'; '.join(verdict.unchecked)}" if verdict.unchecked else compared
