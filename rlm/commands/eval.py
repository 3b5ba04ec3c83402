"""`rlm eval`: a user's own questions by several routes and models, side by side; or drafts of such questions."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from index_store.index import open_any
from index_store.terminal import count, one_line, print_json, say, spelled
from rlm.answers.demands import Demands
from rlm.asking.many import Outcome
from rlm.commands.answers import UNFINISHED, amounts
from rlm.commands.ask import line
from rlm.commands.drafts import make
from rlm.commands.given import check_many, limits_of, named_models
from rlm.commands.options import account_of
from rlm.errors import RlmError
from rlm.evaluating.cases import read_cases
from rlm.evaluating.evaluating import Grid, Report, evaluate
from rlm.evaluating.folder import System
from rlm.evaluating.measures import COSTS, QUALITIES
from rlm.gateway.ledger import Caps
from rlm.gateway.models import price


def compare(args: argparse.Namespace) -> int:
    """Ask the questions by each system and write the page, or draft questions. Returns the exit code."""
    if args.make is not None:
        return make(args)
    check_many(args)
    judge = None if args.judge is None else named_models(args, args.judge, None)[0]
    cases = read_cases(args.questions)
    grid = Grid(
        cases,
        [System(route, models, window) for models, window in _model_sets(args) for route in _routes(args)],
        limits_of(args),
        Caps(args.each_usd, args.each_tokens, args.each_calls),
        Demands(args.require_citations),
        None if judge is None else judge.root,
        {} if judge is None else judge.options,
        args.at_once,
        args.by,
        **account_of(args),
    )
    folder = Path(args.output or f"{Path(args.questions[0]).stem}.eval")
    opened = open_any(args.index, args.embedder, args.access, lazy=args.lazy)
    report = evaluate(opened, grid, folder) if args.quiet else evaluate(opened, grid, folder, _tell)
    if args.json:
        print_json(report.figures)
    else:
        say("\n".join(_lines(report, grid)))
    for what, thing, reasons in (
        ("no result", "run", report.left),
        ("no judgement", "answer", report.unjudged),
    ):
        for why, number in reasons.items():
            say(f"{what} of {count(number, thing)}: {one_line(why, 200)}", file=sys.stderr)
    if report.capped:
        caps = " and ".join(f"--max-{name}" for name in report.capped)
        say(f"give a higher {caps} with the same command: it goes on where this one ended", file=sys.stderr)
    if report.again:
        others = "the others" if report.capped else "these"
        say(f"run the same command again to ask for {others} once more", file=sys.stderr)
    priced = all(system.is_priced for system in grid.systems)
    priced = priced and (grid.judge is None or price(grid.judge, 1, 1) is not None)
    say(f"spent, by all commands together: {amounts(report.spent, priced)}", file=sys.stderr)
    say(f"page: {spelled(str(folder / 'page.html'))}", file=sys.stderr)
    return UNFINISHED if report.left or report.unjudged else 0


def _routes(args: argparse.Namespace) -> list[Any]:
    return [name.strip() for name in args.routes.split(",")]


def _model_sets(args: argparse.Namespace) -> Iterator[Any]:
    for name in args.model_sets.split(","):
        root, _, child = name.strip().partition("+")
        if not root:
            raise RlmError(
                f"--models is {args.model_sets!r}; name models with commas between, ROOT or ROOT+CHILD"
            )
        yield named_models(args, root, child or None)


def _tell(system: System, outcome: Outcome, number: int, total: int) -> None:
    say(f"{number:,} of {total:,} · {system} · {line(outcome)}", file=sys.stderr, flush=True)
    if number == total:
        say("writing the page of each run", file=sys.stderr, flush=True)


def _lines(report: Report, grid: Grid) -> Iterator[str]:
    """The table of the systems, as a terminal shows it."""
    f: Any = report.figures
    own = [f["all"][system.name] for system in grid.systems]
    qualities = [name for name in QUALITIES if any(one["quality"][name]["n"] for one in own)]
    heads = ["", *(f"[{number}]" for number, _ in enumerate(own, 1))]
    yield from (f"[{number}] {system}" for number, system in enumerate(grid.systems, 1))
    rows = [heads, ["answered", *(f"{one['answered']}/{one['questions']}" for one in own)]]
    rows += [[QUALITIES[name], *(_mean(one["quality"][name]["mean"]) for one in own)] for name in qualities]
    for name, words in COSTS.items():
        for part in ("mean", "median", "p95"):
            rows.append([f"{words}, {part}", *(_amount(one["cost"][name][part], name) for one in own)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        yield f"{row[0].ljust(widths[0])}  {'  '.join(cells)}".rstrip()
    by = grid.by
    for number, one in enumerate(own[1:], 2):
        if by and (compared := one["against_first"].get(by)):
            low, high = compared["low"], compared["high"]
            yield (
                f"[{number}] less [1], {QUALITIES[by]}: {compared['difference']:+.3f} [{low:+.3f}, {high:+.3f}] "
                f"over {count(compared['n'], 'question')}"
            )


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _amount(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if name == "usd" else f"{value:,.1f}"
