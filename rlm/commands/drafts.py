"""`rlm eval --make N`: drafts of questions from an index, in a file for a person to correct."""

import argparse
import json
import sys
from pathlib import Path

from index_store.files import replace_file
from index_store.index import open_any
from index_store.terminal import count, one_line, print_json, say, spelled
from rlm.commands.answers import UNFINISHED, amounts
from rlm.commands.given import limits_of, named_models
from rlm.errors import RlmError
from rlm.evaluating.drafting import Drafts, draft_by_model, draft_by_patterns
from rlm.gateway.blocking import run_blocking
from rlm.gateway.models import price


def make(args: argparse.Namespace) -> int:
    """Write the drafts; an older file stays as it is. Returns the exit code."""
    if len(args.questions) != 1:
        raise RlmError("--make writes one file; name one")
    if not 0 < args.make <= 100_000:
        raise RlmError(f"--make is {args.make}; give from 1 to 100,000")
    path = Path(args.questions[0])
    if path.exists():
        raise RlmError(f"{path} exists, and may hold what you corrected; name another file for new drafts")
    index = open_any(args.index, args.embedder, args.access, lazy=args.lazy)
    if args.model is None:
        drafts = draft_by_patterns(index, args.make, args.seed)
    else:
        models, _ = named_models(args, args.model, None)
        limits, options = limits_of(args), dict(models.options)
        making = draft_by_model(
            index, args.make, models.root, options, limits, seed=args.seed, at_once=args.at_once
        )
        drafts = run_blocking(making)
    rows = [draft.as_json(number) for number, draft in enumerate(drafts.made, 1)]
    if rows:
        _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    priced = args.model is None or price(models.root, 1, 1) is not None
    _tell(args, drafts, path, priced)
    return 0 if len(rows) == args.make else UNFINISHED


def _write(path: Path, lines: str) -> None:
    try:
        replace_file(path, lines.encode("utf-8"))
    except OSError as e:
        raise RlmError(f"cannot write {path}: {e.strerror or e}") from e


def _tell(args: argparse.Namespace, drafts: Drafts, path: Path, priced: bool) -> None:
    made = len(drafts.made)
    if args.json:
        print_json({"drafts": made, "dropped": drafts.dropped, "stopped": drafts.stopped, "file": str(path)})
    elif made:
        say(f"{count(made, 'draft')}: {spelled(str(path))}; correct or strike each before you rely on it")
    if made < args.make:
        why = f": {one_line(drafts.stopped, 200)}" if drafts.stopped else ""
        say(f"{made:,} of {args.make:,} came{why}", file=sys.stderr)
    if not args.quiet:
        for why, number in drafts.dropped.items():
            say(f"no draft of {count(number, 'passage')}: {one_line(why, 200)}", file=sys.stderr)
    if args.model is not None:
        say(f"spent: {amounts(drafts.spent, priced)}", file=sys.stderr)
