"""Turn what a command line gives into the options of a question."""

import argparse
from pathlib import Path

from rlm.answers.demands import Demands
from rlm.asking.options import Options
from rlm.commands.given import Given
from rlm.limits import Route
from rlm.loop.recording import Watch, unwatched


def options_of(args: argparse.Namespace, given: Given, watch: Watch = unwatched) -> Options:
    """The options of a question from those of `rlm ask`, `rlm chat` or `rlm shell`, else their defaults."""
    demands = Demands(getattr(args, "require_citations", False), given.schema)
    runs = Path(getattr(args, "runs", Options().runs))
    route: Route = getattr(args, "route", "rlm")
    account = account_of(args)
    memo = not args.no_memo
    return Options(route, given.models, given.limits, demands, given.scope, runs, watch, **account, memo=memo)


def account_of(args: argparse.Namespace) -> dict[str, str]:
    """Who asks, for what, and until when the run is to be kept, as far as a command line says."""
    return {name: getattr(args, name, None) or "" for name in ("operator", "purpose", "retain")}
