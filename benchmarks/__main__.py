"""The command `python -m benchmarks`: run the parts that are named, or all of them."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmarks
from benchmarks import Options

REPOSITORY = Path(__file__).resolve().parent.parent


def parts() -> list[str]:
    """The names of the modules here, in order."""
    return sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts one after another; bad input is one sentence on standard error and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure speed, memory and retrieval.",
        epilog="example:\n  python -m benchmarks retrieval --sets musique chroma",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="*", metavar="PART", help=f"{', '.join(parts())} (all)")
    parser.add_argument(
        "--data",
        type=Path,
        default=REPOSITORY.parent / "shared" / "data",
        metavar="DIR",
        help="the development data (%(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=REPOSITORY / "build" / "benchmarks",
        metavar="DIR",
        help="where indexes are kept between runs; remove it to build them again (%(default)s)",
    )
    parser.add_argument("--sets", nargs="+", default=(), metavar="SET", help="development sets (all)")
    parser.add_argument(
        "--nodes", type=int, default=1_000_000, help="nodes of the made-up index (%(default)s)"
    )
    parser.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of the reference RAPTOR")
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.part) - set(parts())):
        print(f"no part {', '.join(unknown)}; there are {', '.join(parts())}", file=sys.stderr)
        return 2
    options = Options(args.data, args.work, tuple(args.sets), args.nodes, args.reference)
    for name in args.part or parts():
        print(f"== {name}\n", flush=True)
        importlib.import_module(f"benchmarks.{name}").run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
