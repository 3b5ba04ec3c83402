"""Ask whoever sits at the terminal for leave, where an index that came from elsewhere names files of theirs."""

import sys
from collections.abc import Sequence

from index_store.terminal import count, say, spelled

SHOWN = 20  # paths


def may_be_read(index: str, paths: Sequence[str], then: str = "") -> bool:
    """Whether someone at a terminal says that sources of an index that came from elsewhere may be read.

    `then`: what becomes of their text. Without a terminal nobody says so.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    listed = "\n".join(f"  {spelled(path)}" for path in paths[:SHOWN])
    more = f"\n  and {count(len(paths) - SHOWN, 'more', 'more')}" if len(paths) > SHOWN else ""
    say(f"{spelled(index)} was not built here, and names sources outside of this folder:", file=sys.stderr)
    say(f"{listed}{more}\nread them{then}? [y/N]", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
