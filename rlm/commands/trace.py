"""`rlm trace` and `rlm review`: show a run as text, verify its trace, write its page."""

import argparse
import re
import sys

from index_store.index import open_any
from index_store.terminal import count, one_line, print_json, say, spelled
from rlm.audit import Verdict, read, verify
from rlm.audit.events import RecordedEvent
from rlm.audit.page import render
from rlm.audit.schema import trace_schema
from rlm.audit.timeline import show
from rlm.audit.verify import TakenOut
from rlm.commands.pages import write_page
from rlm.errors import RlmError

_TOLD = 5  # redactions, and contents of each, that a sentence names


def trace(args: argparse.Namespace) -> int:
    """Show a run as text, or verify its trace. Returns the exit code: 1 where the trace is not as it was written."""
    head = _checked(args.head)
    if args.action == "verify":
        index = None if args.index is None else open_any(args.index)
        verdict = verify(args.run_folder, expected_head=head, index=index)
        facts = {
            "ok": verdict.ok,
            "events": verdict.events,
            "line": verdict.first_bad_line,
            "reason": f"{verdict.reason}{_compared(verdict)}",
            "closed": verdict.closed,
            "redacted": [_as_json(one) for one in verdict.taken_out],
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


def schema(args: argparse.Namespace) -> int:
    """Print the JSON Schema of an event, as `read` gives it and `trace show --json` prints it."""
    print_json(trace_schema())
    return 0


def _as_json(one: TakenOut) -> dict[str, object]:
    places = [{"event": seq, "field": field} for seq, field in one.places]
    told = {"by": one.by, "why": one.why, "at": one.at, "contents": one.contents, "places": places}
    return {**told, "redaction": one.hash}


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
        taken = "".join(f"; {_taken(one)}" for one in verdict.taken_out[:_TOLD])
        more = len(verdict.taken_out) - _TOLD
        taken += f"; {count(more, 'redaction')} more" if more > 0 else ""
        facts = f"{count(verdict.events, 'event')}, {chain}; head {verdict.head}"
        return f"ok: {facts}{taken}{_compared(verdict)}"
    line = f"line {verdict.first_bad_line}: " if verdict.first_bad_line else ""
    end = f"; {count(verdict.events, 'event')}, head {verdict.head}" if verdict.only_unclosed else ""
    return one_line(f"{line}{verdict.reason}{end}", 2_000)


def _taken(one: TakenOut) -> str:
    """What a redaction took out, in words."""
    places = ", ".join(f"{field} of event {seq}" for seq, field in one.places[:_TOLD])
    more = f" and {one.contents - _TOLD:,} more" if one.contents > _TOLD else ""
    why = one_line(f"by {one.by}: {one.why}", 300)
    taken = f"{count(one.contents, 'content')} taken out on {one_line(one.at[:10], 10)}"
    return f"{taken} {why} ({one_line(places, 200)}{more})"


def _compared(verdict: Verdict) -> str:
    compared = f"; {verdict.compared}" if verdict.compared else ""
    return f"{compared}; not checked: {'; '.join(verdict.unchecked)}" if verdict.unchecked else compared
