"""Turn the options of a command line into the options of a question."""

import argparse
from pathlib import Path

from index_store.types import Scope
from rlm.answers.demands import Demands
from rlm.answers.schema import load_schema
from rlm.asking.options import Options
from rlm.errors import RlmError
from rlm.limits import Limits, Models, Route
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
    route: Route = getattr(args, "route", "rlm")
    return Options(route, _models(args), _limits(args), demands, scope_of(args), runs, watch)


def scope_of(args: argparse.Namespace) -> Scope:
    """The part of an index that --doc, --where and --section name. Raises RlmError."""
    pairs = args.where
    if wrong := [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]:
        raise RlmError(f"--where is {wrong[0]!r}; write it as KEY=VALUE, for example year=2021")
    where = {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
    return Scope(args.doc, where, args.section)


def _models(args: argparse.Namespace) -> Models:
    return Models(args.model, args.child_model or "")


def _limits(args: argparse.Namespace) -> Limits:
    values = {limit: getattr(args, option, None) for option, limit in _LIMITS.items()}
    limits = {name: value for name, value in values.items() if value is not None}
    if getattr(args, "questions", None) is not None:
        limits.setdefault("calls", None)  # without a cap on all together, each question has its own
    return Limits(**limits)
