"""`raptor verify`, `generations` and `prune`: whether an index is whole, what was published, what goes."""

import argparse
import json

from index_store.terminal import count, human_size


def _verify(args: argparse.Namespace) -> int:
    from index_store.verify import verify_index
    from raptor.progress import show_progress

    with show_progress() as progress:
        problems = verify_index(args.index, lambda done, total: progress("verify", done, total))
    print(
        json.dumps({"ok": not problems, "problems": problems}) if args.json else "\n".join(problems) or "ok"
    )
    return 1 if problems else 0


def _generations(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from index_store.generations import list_generations, rollback

    if args.rollback is not None:
        rollback(args.index, args.rollback)
    found = list_generations(args.index)
    if args.json:
        print(json.dumps([asdict(g) for g in found]))
        return 0
    for g in found:
        levels = " -> ".join(f"{n:,}" for n in g.levels)
        live = "*" if g.live else " "
        print(
            f"{live} {g.number:6}  {count(g.documents, 'document')}  {levels}  {human_size(g.bytes)}  {g.digest[:12]}"
        )
    return 0


def _prune(args: argparse.Namespace) -> int:
    from raptor.pruning import prune_index

    gone, dropped = prune_index(args.index, args.keep)
    said = f"deleted: {', '.join(map(str, gone)) or 'none'}"
    said += f"; {count(dropped, 'recorded result')} no longer needed" if dropped else ""
    print(json.dumps({"deleted": gone, "dropped": dropped}) if args.json else said)
    return 0
