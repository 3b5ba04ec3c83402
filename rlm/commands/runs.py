"""`rlm trace list`: many runs at a glance."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from index_store.terminal import count, one_line, print_json, say, visible
from rlm.audit.costs import in_dollars
from rlm.audit.listing import BROKEN, Listed, Wanted, list_runs, moment, ordered
from rlm.audit.reviewing import VERDICTS
from rlm.errors import RlmError

_HEADS = ["started", "stop", "cost", "cover", "regret", "unsup", "verdict", "signer", "run", "question"]
_WIDTHS = {"run": 100, "question": 60, "signer": 24, "stop": 10}


def runs(args: argparse.Namespace) -> int:
    """List the runs below a folder. Returns the exit code."""
    if args.verdict not in (None, *VERDICTS, "none"):
        raise RlmError(f"--verdict is {args.verdict!r}; give one of {', '.join(VERDICTS)}, none")
    since = None if args.since is None else moment(args.since)
    wanted = Wanted(args.stop, args.verdict, args.signer, since, args.search or "")
    found = ordered(list_runs(args.runs, wanted), args.sort, reverse=args.reverse)
    print_json([asdict(one) for one in found]) if args.json else say(_table(found, Path(args.runs)))
    return 0


def _table(found: Sequence[Listed], folder: Path) -> str:
    rows = [_HEADS, *(_row(one, folder) for one in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return visible("\n".join([*lines, f"{count(len(found), 'run')}; nothing of this is verified here"]))


def _row(one: Listed, folder: Path) -> list[str]:
    cells = [
        (one.started or "")[:16].replace("T", " "),
        one.stop,
        "" if one.cost is None else in_dollars(one.cost),
        _figure(one.coverage),
        _figure(one.regret),
        "" if one.unsupported is None else f"{one.unsupported:,}",
        one.verdict or "",
        one.signer or "",
        str(Path(one.run).relative_to(folder)) if Path(one.run) != folder else folder.name,
        one.question if one.stop != BROKEN and one.question else one.problem or "",
    ]
    return [one_line(cell, _WIDTHS.get(name, 20)) for name, cell in zip(_HEADS, cells, strict=True)]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
