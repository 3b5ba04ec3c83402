"""`rlm trace note`: what a reviewer says of a run, beside its trace."""

import argparse
from dataclasses import asdict

from index_store.terminal import count, print_json, say, spelled
from rlm.audit import read, reviewing
from rlm.errors import RlmError


def note(args: argparse.Namespace) -> int:
    """Write a note, take those that a page saved, or list them. Returns the exit code: 1 where a line is not as it was
    written."""
    says = args.verdict is not None or args.step is not None or args.text is not None
    if args.list + (args.file is not None) + says != 1:
        raise RlmError("say one thing: a note (--by with --verdict or --text), --import FILE, or --list")
    if args.list:
        return _list(args)
    if args.file is not None:
        added, review = reviewing.add_from(args.run_folder, args.file, args.by)
    else:
        one = reviewing.note(args.by or "", args.verdict, args.step, args.text or "")
        added, review = reviewing.add(args.run_folder, [one])
    if args.json:
        print_json({"added": added, "notes": len(review.notes), "file": str(review.file)})
    else:
        say(f"{count(added, 'note')} added, {len(review.notes):,} in {spelled(str(review.file))}")
    return 0


def _list(args: argparse.Namespace) -> int:
    review = reviewing.reviewed(args.run_folder, read(args.run_folder)[1].head)
    if args.json:
        print_json([asdict(one) for one in review.notes] if review else [])
    else:
        say(reviewing.in_words(review) if review else "nobody has noted anything")
    return 1 if review and review.line else 0
