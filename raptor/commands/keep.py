"""`raptor verify`, `check-sources`, `generations`, `prune`: check an index and its files; list, delete generations."""

import argparse
import sys
from collections import Counter
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from index_store import cache
from index_store.generations import Changes, Generation, changes_of, list_generations, rollback
from index_store.paths import is_url
from index_store.stores.pruning import GRACE_H
from index_store.terminal import byte_size, count, one_line, print_json, say, spelled
from index_store.verify import verify_index
from raptor.checking import SourceState, check_sources as states_of_sources
from raptor.commands.leave import may_be_read
from raptor.errors import RaptorError
from raptor.progress import show_progress
from raptor.pruning import prune_at, prune_index


def verify(args: argparse.Namespace) -> int:
    """Check every byte and edge of an index; exit code 1 where something is wrong."""
    with show_progress(quiet=args.quiet) as progress:
        problems = verify_index(args.index, lambda done, total: progress("verify", done, total))
    if args.json:
        print_json({"ok": not problems, "problems": problems})
    else:
        say("\n".join(one_line(problem, 2_000) for problem in problems) or "ok")
    return 1 if problems else 0


def check_sources(args: argparse.Namespace) -> int:
    """Say which files changed or are gone since they were indexed; exit code 1 where not all say the same."""
    with show_progress(quiet=args.quiet) as progress:
        states = states_of_sources(
            args.index,
            args.run_folder,
            follow_links=args.follow_links,
            allow=lambda paths: args.yes or may_be_read(args.index, paths),
            password=args.password,
            progress=progress,
        )
    others = [state for state in states if state.state != "same"]
    counts = Counter(state.state for state in states)
    numbers = {name: counts[name] for name in ("same", "changed", "gone", "unread")}
    if args.json:
        print_json({"ok": not others, **numbers, "sources": [asdict(state) for state in others]})
    else:
        told = ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number or name == "same")
        cited = "chunk" if args.run_folder is None else "cited passage"
        say("\n".join([*(_state_line(state, cited) for state in others), told]))
    return 1 if others else 0


def _state_line(s: SourceState, passage: str) -> str:
    """What became of a document, and of a changed one how many passages are in the file still."""
    reason = f": {one_line(s.reason, 10_000)}" if s.reason else ""
    verb = "stands" if s.standing == 1 or s.passages == 1 else "stand"
    still = f"; {s.standing:,} of {count(s.passages, passage)} still {verb} there" if s.passages else ""
    return f"{s.state} {spelled(s.doc)}: {spelled(s.file)}{reason}{still}"


def generations(args: argparse.Namespace) -> int:
    """List the generations of an index, after going back to one if that was asked for."""
    if args.rollback is not None:
        rollback(args.index, args.rollback)
    published = [(g, changes_of(args.index, g)) for g in list_generations(args.index)]
    if args.json:
        print_json([asdict(g) | {"changes": c and asdict(c)} for g, c in published])
    else:
        whole = not is_url(args.index)  # to count at a URL what changed, all of it would have to come
        say("\n".join(_line(g, c, told=whole) for g, c in published))
    return 0


def _line(g: Generation, changes: Changes | None, *, told: bool) -> str:
    levels = " -> ".join(f"{n:,}" for n in g.levels)
    live = "*" if g.live else " "
    when = datetime.fromisoformat(g.published).astimezone().strftime("%Y-%m-%d %H:%M")
    size = f"{count(g.documents, 'document')}  {levels}  {byte_size(g.bytes)}"
    return f"{live} {g.number:6}  {when}  {size}  {g.digest[:12]}{f'  {_since(g, changes)}' if told else ''}"


def _since(g: Generation, changes: Changes | None) -> str:
    """What a generation changed, in words; a rollback may have made an older one than its neighbour its parent."""
    if g.parent is None:
        return "the first"
    if changes is None:
        return f"generation {g.parent}, which it changed, cannot be read any more"
    numbers = ((name, getattr(changes, name)) for name in ("added", "changed", "renamed", "removed"))
    words = [f"{number:,} {name}" for name, number in numbers if number]
    return f"{', '.join(words) or 'no document changed'} since {g.parent}"


def prune(args: argparse.Namespace) -> int:
    """Delete old generations of an index, what only they need, and its copies for readers."""
    if is_url(args.index):
        return _prune_at(args)
    if args.grace is not None:
        raise RaptorError("--grace goes with a URL; of a folder generations are deleted at once")
    deleted, dropped = prune_index(args.index, args.keep)
    if in_use := cache.copies(Path(args.index)):
        say(
            f"{count(len(in_use), 'copy', 'copies')} for readers in {spelled(str(cache.place()))} stay, as they are in "
            "use; end what reads them, and prune again",
            file=sys.stderr,
        )
    if args.json:
        print_json({"deleted": deleted, "dropped": dropped})
    else:
        results = f"; {count(dropped, 'recorded result')} no longer needed" if dropped else ""
        say(f"deleted: {', '.join(map(str, deleted)) or 'none'}{results}")
    return 0


def _prune_at(args: argparse.Namespace) -> int:
    pruned = prune_at(args.index, args.keep, GRACE_H if args.grace is None else args.grace)
    if args.json:
        print_json(asdict(pruned))
    else:
        young = f"; {count(pruned.young, 'younger one')} kept for now" if pruned.young else ""
        names = ", ".join(digest[:12] for digest in pruned.deleted) or "none"
        say(f"deleted: {names}, {byte_size(pruned.bytes)}{young}")
    return 0
