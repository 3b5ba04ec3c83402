"""The command `python -m benchmarks`: run the parts that are named, or all, and write BENCHMARKS.md."""

import argparse
import importlib
import os
import pkgutil
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import benchmarks
from benchmarks import REPOSITORY, Options, _page, _targets
from benchmarks._report import (
    Claim,
    Item,
    NotRun,
    Part,
    as_text,
    keep,
    kept,
    loss_rows,
    markdown_part,
    markdown_table,
)
from benchmarks._spent import commit

RESULTS = REPOSITORY / "benchmarks" / "results"
PAGE = REPOSITORY / "BENCHMARKS.md"
DOCS = REPOSITORY / "docs"
#: The order of a whole run: the sets are built first, and what may cost money comes last.
ORDER = (
    "build",
    "retrieval",
    "tree",
    "topics",
    "growth",
    "reduce",
    "shards",
    "speed",
    "index",
    "estimates",
    "sandbox",
    "audit",
    "map",
    "serve",
    "scale",
    "models",
)
#: Not in a run of all: it takes half an hour, and what it measures does not change from day to day.
BY_NAME = ("scale",)
PAID = ("models",)
ON_ALL_CORES = ("build", "retrieval", "tree", "growth", "reduce", "shards", "audit", "map", "serve")
WHOLE, CORES, MOST_MINUTES = "whole", 2, 40
HEAD = """\
# Benchmarks

Written by `make bench`; every figure is measured by the code in `benchmarks/`, and what a figure is held against is
measured in the same run unless its row says otherwise. Times are of machines that other programs used too: processor
seconds say more than the clock. Intervals are 95 %, by a paired bootstrap over the questions. "More than noise" means
that the interval does not hold 0. The questions and texts are not part of the repository; without them the parts that
need them are not run, and say so. Nothing here was measured on a model that costs money, but for the part `models`.
"""


def parts() -> list[str]:
    """The names of the modules here, in the order of a whole run; those that this order does not name stand last."""
    names = {m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_")}
    return [*(name for name in ORDER if name in names), *sorted(names - {*ORDER})]


def main(
    argv: Sequence[str] | None = None, results: Path = RESULTS, page: Path = PAGE, docs: Path = DOCS
) -> int:
    """Run the parts one after another; bad input is one sentence on standard error and exit code 2."""
    args = _parser().parse_args(argv)
    if unknown := sorted(set(args.part) - set(parts())):
        print(f"no part {', '.join(unknown)}; there are {', '.join(parts())}", file=sys.stderr)
        return 2
    options = Options(
        args.data,
        args.work,
        tuple(args.sets),
        args.questions,
        args.nodes,
        args.reference,
        args.model,
        args.max_usd,
        args.seconds,
        args.embedded,
    )
    lacking: dict[str, str] = {}
    is_whole = not args.part and not args.sets and not args.only_write and not args.work.exists()
    everything = [name for name in parts() if name not in BY_NAME]
    for name in () if args.only_write else args.part or everything:
        print(f"== {name}\n", flush=True)
        try:
            keep(results, run(name, options))
        except NotRun as e:
            lacking[name] = str(e)
            print(f"not run: {e}\n", flush=True)
    if is_whole:
        keep(results, _whole(kept(results), lacking))
    done = kept(results)
    page.write_text("\n".join(lines(done, lacking)) + "\n", encoding="utf-8")
    if "scale" in done:
        _page.write(docs, done["scale"])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure retrieval, reading, growth, speed and memory, and write BENCHMARKS.md.",
        epilog="example:\n  python -m benchmarks retrieval --sets musique chroma",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("part", nargs="*", metavar="PART", help=f"{', '.join(parts())} (all but {', '.join(BY_NAME)})")
    data, work = REPOSITORY.parent / "shared" / "data", REPOSITORY / "build" / "benchmarks"
    add("--data", type=Path, default=data, metavar="DIR", help="the development data (%(default)s)")
    add(
        "--work",
        type=Path,
        default=work,
        metavar="DIR",
        help="where indexes are kept between runs; remove it to build them again (%(default)s)",
    )
    add("--sets", nargs="+", default=(), metavar="SET", help="development sets (all)")
    add("--questions", type=int, default=150, metavar="N", help="of each set, at most (%(default)s)")
    add("--nodes", type=int, default=100_000, help="nodes of the made-up index (%(default)s)")
    add("--reference", type=Path, metavar="DIR", help="a checkout of the reference RAPTOR")
    add(
        "--model", default="", help="the model of the part models (the first whose key is in the environment)"
    )
    add("--max-usd", type=float, default=5.0, help="what the part models may spend (%(default)s)")
    add(
        "--seconds",
        type=float,
        default=120.0,
        metavar="S",
        help="for which the part serve asks (%(default)s)",
    )
    add(
        "--embedded",
        type=int,
        default=512,
        metavar="N",
        help="texts that the part scale embeds by each way (%(default)s)",
    )
    add(
        "--only-write",
        action="store_true",
        help="run nothing, write BENCHMARKS.md and docs/scale.md from what is kept",
    )
    return parser


def run(name: str, options: Options) -> Part:
    """Run one part, printing what it gives as it comes. Raises NotRun."""
    cpu, began, at = os.times(), time.monotonic(), commit()  # others may commit meanwhile
    items = list(_printed(importlib.import_module(f"benchmarks.{name}").measure(options)))
    now = os.times()
    return Part(
        name,
        datetime.now(UTC).strftime("%Y-%m-%d"),
        at,
        machine(),
        round(sum(now[:4]) - sum(cpu[:4]), 1),
        round(time.monotonic() - began, 1),
        tuple(items),
    )


def _whole(done: Mapping[str, Part], lacking: Mapping[str, str]) -> Part:
    """What a run of all parts took that built everything; for a machine with CORES, all else idle."""
    ran = [part for name, part in done.items() if name in parts() and name not in {*lacking, *PAID, *BY_NAME}]
    minutes = sum(part.cpu_s / (CORES if part.name in ON_ALL_CORES else 1) for part in ran) / 60
    cpu_s, wall_s = (sum(getattr(part, name) for part in ran) for name in ("cpu_s", "wall_s"))
    text = f"a run of {', '.join(part.name for part in ran)}, everything built anew"
    told, peer = (
        f"{minutes:.0f} minutes by processor time",
        f"{wall_s / 60:.0f} by the clock",
    )
    claim = Claim("bench", text, f"less than {MOST_MINUTES}", told, peer, holds=minutes < MOST_MINUTES)
    return Part(WHOLE, ran[-1].date, commit(), machine(), cpu_s, wall_s, (claim,))


def _printed(items: Iterator[Item]) -> Iterator[Item]:
    for item in items:
        print(as_text(item), end="\n\n", flush=True)
        yield item


def machine() -> str:
    """What kind of machine this is, in words, by which nobody finds it."""
    python = f"Python {platform.python_version()}"
    return f"{platform.system()} on {platform.machine()} with {os.cpu_count()} cores, {python}"


def lines(done: Mapping[str, Part], lacking: Mapping[str, str]) -> Iterator[str]:
    """BENCHMARKS.md from the parts that are kept. `lacking`: why a part that was asked for was not run."""
    ran = {name: done[name] for name in (*parts(), WHOLE) if name in done}
    yield HEAD
    yield "## Targets\n"
    yield from markdown_table(_targets.COLUMNS, list(_targets.rows(ran)))
    yield "\n## Where something plainer wins\n"
    if losses := loss_rows(list(ran.values())):
        yield from markdown_table(
            ("plainer", "where", "its figure", "ours", "interval of the difference"), losses
        )
    else:
        yield "Nowhere that was measured."
    yield ""
    for name in parts():
        if name in ran:
            yield from markdown_part(ran[name])
        else:
            yield f"## {name.capitalize()}\n"
            yield f"Not run: {lacking.get(name, 'nobody asked for it yet; see `python -m benchmarks --help`')}.\n"


if __name__ == "__main__":
    sys.exit(main())
