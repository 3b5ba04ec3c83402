"""Turn the options of a command line into the options of a question."""

import argparse
from pathlib import Path

from rlm.answers.demands import Demands
from rlm.answers.schema import load_schema
from rlm.asking.options import Options
from rlm.limits import Limits, Models
from rlm.loop.recording import Watch, unwatched

#: The limit that each option of the command line sets.
_LIMITS = {
    "max_usd": "usd",
    "max_calls": "calls",
    "max_tokens": "tokens",
    "max_turns": "turns",
    "timeout": "timeout_s",
    "depth": "depth",
    "reply_tokens": "reply_tokens",
    "concurrency": "concurrency",
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "window": "window",
    "allow_unpriced": "allow_unpriced",
    "cell_timeout": "cell_timeout_s",
    "backend": "backend",
}


def options_of(args: argparse.Namespace, watch: Watch = unwatched) -> Options:
    """The options of a question from those of `rlm ask`, `rlm chat` or `rlm shell`, else their defaults."""
    schema = None if getattr(args, "schema", None) is None else load_schema(args.schema)
    demands = Demands(getattr(args, "require_citations", False), schema)
    runs = Path(getattr(args, "runs", Options().runs))
    return Options(getattr(args, "route", "rlm"), _models(args), _limits(args), demands, runs, watch)


def _models(args: argparse.Namespace) -> Models:
    child = Models().child if args.model.startswith("offline/") else args.model
    return Models(args.model, args.child_model or child)


def _limits(args: argparse.Namespace) -> Limits:
    values = {limit: getattr(args, option, None) for option, limit in _LIMITS.items()}
    limits = {name: value for name, value in values.items() if value is not None}
    if getattr(args, "questions", None) is not None:
        limits.setdefault("calls", None)  # without a cap on all together, each question has its own
    return Limits(**limits)
