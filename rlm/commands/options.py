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
    return Options(route, given.models, given.limits, demands, given.scope, runs, watch)
