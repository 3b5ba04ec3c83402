"""`rlm trace export`: give a run to other tools."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from index_store.files import replace_file
from index_store.terminal import brief, count, one_line, say, spelled
from rlm.audit.markdown import markdown
from rlm.audit.posting import checked, post
from rlm.audit.reviewing import reviewed
from rlm.audit.signing import vouchable
from rlm.audit.spans import requests, spans_of
from rlm.audit.verifying import read_verified
from rlm.commands.trace import checked_head
from rlm.errors import RlmError

_PATH = "/v1/traces"
#: Where OpenTelemetry's exporters look for headers, such as a key: NAME=VALUE, NAME=VALUE.
_HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")


def export(args: argparse.Namespace) -> int:
    """Write a run as Markdown, or send it as spans. Returns the exit code: 1 for a trace not as it was written."""
    if args.otlp is not None:
        return _sent(args)
    if args.with_contents:
        raise RlmError(
            "--with-contents goes with --otlp; the Markdown holds the question and the answer anyway"
        )
    events, verdict = read_verified(args.run_folder, checked_head(args.head))
    text = markdown(events, verdict, reviewed(args.run_folder, verdict.head))
    if args.output is None:
        say(text, end="")
        return 0 if verdict.ok else 1
    try:
        replace_file(Path(args.output), text.encode("utf-8", "replace"))
    except OSError as error:
        raise RlmError(f"cannot write {args.output}: {error.strerror}; name another file") from error
    say(spelled(args.output))
    return 0 if verdict.ok else 1


def _sent(args: argparse.Namespace) -> int:
    if args.output is not None:
        raise RlmError("-o goes with --markdown; spans are sent to the address that --otlp names")
    url, headers = _address(args.otlp), _headers()
    events, head, _ = vouchable(args.run_folder)
    if args.head is not None and checked_head(args.head) != head:
        raise RlmError("the head of the trace is not the one that was given, so nothing was sent")
    spans = spans_of(events, head, contents=args.with_contents)
    opened = events[0]
    bodies = list(requests(spans, head, opened["started"], opened["code_version"]))
    for number, body in enumerate(bodies):
        try:
            refused = _refused(post(url, body, headers))
        except RlmError as error:
            raise RlmError(f"{error}{_before(number, len(bodies))}") from error
        if refused:
            raise RlmError(f"{checked(url)} {refused}{_before(number, len(bodies))}")
    say(f"{count(len(spans), 'span')} sent to {checked(url)}", file=sys.stderr)
    return 0


def _before(number: int, of: int) -> str:
    return f"; {number} of {of} requests were taken before" if number else ""


def _address(url: str) -> str:
    """Where spans go: an address without a path is that of a collector, which takes them at /v1/traces."""
    checked(url)
    parts = urlsplit(url)
    return urlunsplit(parts if parts.path not in ("", "/") else parts._replace(path=_PATH))


def _headers() -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    for variable in _HEADERS:
        for pair in filter(None, (pair.strip() for pair in os.environ.get(variable, "").split(","))):
            name, found, value = pair.partition("=")
            name, value = name.strip(), unquote(value.strip())
            if not found or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise RlmError(f"{variable} is not written as NAME=VALUE,NAME=VALUE; mend it")
            if not value.isprintable() or not value.isascii():
                raise RlmError(f"{variable} has a value for {brief(name)} that no header can have; mend it")
            headers[name] = value
    return headers


def _refused(reply: bytes) -> str:
    """Which spans a collector did not take, as it says; '' where it took all."""
    try:
        said: Any = json.loads(reply or b"{}")
        part = said.get("partialSuccess") or {}
        rejected, why = int(part.get("rejectedSpans", 0)), str(part.get("errorMessage", ""))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ""
    return (
        f"refused {count(rejected, 'span')}: {one_line(why, 200) or 'it does not say why'}"
        if rejected > 0
        else ""
    )
