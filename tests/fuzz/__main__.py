"""python -m tests.fuzz [--minutes N] [--seed S] [--target NAME ...] [--example NUMBER]: exit 1 on any failure."""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.target import TARGETS
from tests.fuzz.watch import table, watch


def main(argv: Sequence[str] | None = None) -> int:
    """Play the targets one after another, each for its share of the time. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Play hostile input.")
    parser.add_argument("--minutes", type=float, default=5.0, help="of all targets together (default 5)")
    parser.add_argument("--seed", type=int, help="plays the same examples again (default: a new one)")
    parser.add_argument("--target", action="append", help=f"some of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--example", type=int, help="only the example of this number")
    parser.add_argument(
        "--out", type=Path, default=Path("fuzz-out"), help="where examples that fail are kept"
    )
    args = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    names = args.target or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS and ":" not in name]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    some = {} if args.example is None else {"first": args.example, "count": 1}
    tallies = []
    for name in names:
        share_s = args.minutes * 60 / len(names)
        print(f"{name}: {share_s:.0f} s, seed {seed}", flush=True)
        tallies.append(watch(name, seed, share_s, args.out, lambda text: print(text, flush=True), **some))
    print(f"\n{table(tallies)}")
    idle = [t.target for t in tallies if not t.examples]
    print("".join(f"{name}: it had no time for an example; give more minutes\n" for name in idle), end="")
    return 1 if any(t.failures for t in tallies) or idle else 0


if __name__ == "__main__":
    sys.exit(main())
