"""`rlm overview`: what is in an index, as nested areas."""

import argparse
from dataclasses import asdict
from shutil import get_terminal_size

from index_store.areas import area_of
from index_store.index import open_any
from index_store.terminal import one_line, print_json, say, spelled
from rlm.commands.pages import write_page
from rlm.errors import RlmError
from rlm.overview.page import render
from rlm.overview.text import as_text

WORDS_CHARS = 1_200  # of a node's text on the page


def overview(args: argparse.Namespace) -> int:
    """Show the areas of an index, or write their page. Returns the exit code."""
    if args.depth < 0:
        raise RlmError(f"--depth is {args.depth}; give 0, which tells of the whole alone, or more")
    index = open_any(args.index, access=args.access, lazy=args.lazy)
    area = area_of(index, args.under, args.depth)
    if args.output is not None:
        name = one_line(index.path.name, 200)
        write_page(
            args.output, render(area, name, lambda node: index.head_at(index.number_of(node), WORDS_CHARS))
        )
        say(spelled(args.output))
    if args.json:
        print_json({"index": args.index, "digest": index.digest, "area": asdict(area)})
    elif args.output is None:
        say(as_text(area, get_terminal_size().columns))
    return 0
