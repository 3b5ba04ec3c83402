"""`rlm trace diff`: how two runs differ."""

import argparse

from index_store.terminal import print_json, say
from rlm.audit import read
from rlm.audit.difference import difference, in_text
from rlm.audit.events import RecordedEvent
from rlm.audit.log import TraceError
from rlm.errors import RlmError


def diff(args: argparse.Namespace) -> int:
    """Print how two runs differ. Returns the exit code: 1 where they do."""
    if args.other is None:
        raise RlmError("name two runs: rlm trace diff RUN OTHER")
    found = difference(_events(args.run_folder), _events(args.other))
    print_json(found.as_json()) if args.json else say(in_text(found, (args.run_folder, args.other)))
    return 0 if found.is_same else 1


def _events(run: str) -> list[RecordedEvent]:
    """The events of a run as far as they are as they were written."""
    events, verdict = read(run)
    if not events:
        raise TraceError(f"there is nothing to compare in {run}: {verdict.reason}")
    return events
