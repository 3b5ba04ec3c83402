"""`rlm trace redact`: take contents out of a trace that stays verifiable."""

import argparse
from collections.abc import Sequence

from index_store.terminal import count, one_line, print_json, say
from rlm.audit.redacting import Redacted, Where, redact_field, redact_words
from rlm.errors import RlmError

_LISTED = 20  # events whose fields are printed


def redact(args: argparse.Namespace) -> int:
    """Take out what the words are found in, or one field. Returns the exit code: 1 where there was nothing to take."""
    by_field = args.event is not None or args.field is not None
    if (args.words is None) != by_field or (args.event is None) != (args.field is None):
        raise RlmError("name what to take out: --words REGEX, or --event N with --field F")
    done = (
        redact_words(args.run_folder, args.words, args.by, args.why)
        if args.words is not None
        else redact_field(args.run_folder, args.event, args.field, args.by, args.why)
    )
    if done is None:
        print_json({"taken": [], "contents": 0, "events": 0}) if args.json else say(
            "nothing was taken out: there is no content that fits, or it is empty or gone; the trace is as it was"
        )
        return 1
    print_json(_as_json(done)) if args.json else say(_in_words(done))
    return 0


def _as_json(done: Redacted) -> dict[str, object]:
    return {
        "taken": _places(done.taken),
        "contents": len(done.taken),
        "events": len({seq for seq, _ in done.taken}),
        "by": done.by,
        "why": done.why,
        "at": done.at,
        "head": done.head,
        "redaction": done.redaction,
        "left": _places(done.left),
        "elsewhere": _places(done.elsewhere),
        "beside": list(done.beside),
    }


def _places(places: Sequence[Where]) -> list[dict[str, object]]:
    return [{"event": seq, "field": field} for seq, field in places]


def _in_words(done: Redacted) -> str:
    events = len({seq for seq, _ in done.taken})
    lines = [
        f"taken out: {count(len(done.taken), 'content')} of {count(events, 'event')}, by {one_line(done.by, 200)}: "
        f"{one_line(done.why, 1_000)}",
        *_listed(done.taken),
        f"the head is as it was: {done.head}",
        f"this redaction, to be kept elsewhere: {done.redaction}",
    ]
    if done.left:
        lines += ["the words still stand in fields that hold no contents:", *_listed(done.left)]
    if done.elsewhere:
        lines += [
            "what was taken out still stands in other contents; --words takes out each that has some words:",
            *_listed(done.elsewhere),
        ]
    if done.beside:
        files = one_line(", ".join(done.beside), 500)
        lines.append(f"the words still stand beside the trace, in what is as it was: {files}")
    return "\n".join(lines)


def _listed(places: Sequence[Where]) -> list[str]:
    by_event: dict[int, list[str]] = {}
    for seq, field in places:
        by_event.setdefault(seq, []).append(field)
    lines = [f"  event {seq}: {one_line(', '.join(fields), 200)}" for seq, fields in by_event.items()]
    return (
        lines
        if len(lines) <= _LISTED
        else [*lines[:_LISTED], f"  … {count(len(lines) - _LISTED, 'event')} more"]
    )
