"""`raptor verify`, `generations` and `prune`: check an index, list what was published, delete what is old."""

import argparse
from dataclasses import asdict

from index_store.generations import Generation, list_generations, rollback
from index_store.terminal import byte_size, count, one_line, print_json, say
from index_store.verify import verify_index
from raptor.progress import show_progress
from raptor.pruning import prune_index


def verify(args: argparse.Namespace) -> int:
    """Check every byte and edge of an index; exit code 1 where something is wrong."""
    with show_progress() as progress:
        problems = verify_index(args.index, lambda done, total: progress("verify", done, total))
    if args.json:
        print_json({"ok": not problems, "problems": problems})
    else:
        say("\n".join(one_line(problem, 2_000) for problem in problems) or "ok")
    return 1 if problems else 0


def generations(args: argparse.Namespace) -> int:
    """List the generations of an index, after going back to one if that was asked for."""
    if args.rollback is not None:
        rollback(args.index, args.rollback)
    published = list_generations(args.index)
    if args.json:
        print_json([asdict(g) for g in published])
    else:
        say("\n".join(map(_line, published)))
    return 0


def _line(g: Generation) -> str:
    levels = " -> ".join(f"{n:,}" for n in g.levels)
    live = "*" if g.live else " "
    return f"{live} {g.number:6}  {count(g.documents, 'document')}  {levels}  {byte_size(g.bytes)}  {g.digest[:12]}"


def prune(args: argparse.Namespace) -> int:
    """Delete old generations of an index and what only they need."""
    deleted, dropped = prune_index(args.index, args.keep)
    if args.json:
        print_json({"deleted": deleted, "dropped": dropped})
    else:
        results = f"; {count(dropped, 'recorded result')} no longer needed" if dropped else ""
        say(f"deleted: {', '.join(map(str, deleted)) or 'none'}{results}")
    return 0
