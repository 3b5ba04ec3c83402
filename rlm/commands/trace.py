"""`rlm trace` and `rlm review`: a run as text, checked, and as a page."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm.audit.verify import Verdict


def _trace(args: argparse.Namespace) -> int:
    from rlm.audit import read, verify
    from rlm.errors import RlmError

    if args.head is not None and not re.fullmatch(r"[0-9a-f]{64}", args.head):
        raise RlmError(f"--head is {args.head[:80]!r}; give all 64 hex digits of the hash")
    if args.action == "verify":
        verdict = verify(args.run_folder, expected_head=args.head)
        facts = {
            "ok": verdict.ok,
            "events": verdict.events,
            "line": verdict.first_bad_line,
            "reason": verdict.reason,
        }
        print(json.dumps(facts | {"head": verdict.head}) if args.json else _verdict_said(verdict))
        return 0 if verdict.ok else 1
    from rlm.audit.timeline import show

    events, verdict = read(args.run_folder)
    print("\n".join(json.dumps(e) for e in events) if args.json else show(events, verdict))
    return 0 if verdict.ok else 1


def _verdict_said(verdict: "Verdict") -> str:
    if verdict.ok:
        return f"ok: {verdict.events} events, an unbroken chain; head {verdict.head}"
    line = f"line {verdict.first_bad_line}: " if verdict.first_bad_line else ""
    return f"{line}{verdict.reason}"


def _review(args: argparse.Namespace) -> int:
    from rlm.audit import read
    from rlm.audit.page import render

    events, verdict = read(args.run_folder)
    _write_page(Path(args.output), render(events, verdict))
    print(args.output)
    if not verdict.ok:
        print(f"rlm: the trace is not as it was written: {_verdict_said(verdict)}", file=sys.stderr)
    return 0 if verdict.ok else 1


def _write_page(page: Path, text: str) -> None:
    """Write beside it first, so that a page that was there stays whole until the new one is."""
    from rlm.errors import RlmError

    if not page.name or page.is_dir():
        raise RlmError(f"cannot write the page {page}: it is a folder; name a file in it")
    partial = page.with_name(f".{page.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(page)
    except OSError as e:
        raise RlmError(f"cannot write the page {page}: {e.strerror or e}") from e
