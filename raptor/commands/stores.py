"""`raptor push` and `raptor pull`: an index to a URL and from there."""

import argparse
from dataclasses import asdict

from index_store.stores.pulling import pull
from index_store.stores.pushing import push
from index_store.terminal import byte_size, count, print_json, say, spelled
from raptor.progress import show_progress


def push_index(args: argparse.Namespace) -> int:
    """Publish an index at a URL."""
    with show_progress(quiet=args.quiet) as progress:
        done = push(
            args.index, args.url, replace=args.replace, progress=lambda sent, all: progress("push", sent, all)
        )
    if args.json:
        print_json(asdict(done))
    else:
        again = "" if done.new else " (it was live already)"
        sent = f"{count(done.files, 'file')} sent, {byte_size(done.bytes)}"
        say(f"{spelled(done.url)}: generation {done.generation}, {done.digest[:12]}{again}; {sent}")
    return 0


def pull_index(args: argparse.Namespace) -> int:
    """Make what is live at a URL the live generation of an index folder."""
    with show_progress(quiet=args.quiet) as progress:
        done = pull(
            args.url, args.index, replace=args.replace, progress=lambda got, all: progress("pull", got, all)
        )
    if args.json:
        print_json(asdict(done) | {"index": args.index})
    else:
        again = "" if done.new else " (it was live already)"
        say(f"{spelled(args.index)}: generation {done.generation}, {done.digest[:12]}{again}")
    return 0
