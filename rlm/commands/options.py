"""Turn the options of a command line into the options of a question."""

import argparse
from dataclasses import replace
from pathlib import Path

from index_store.types import Scope
from rlm.answers.demands import Demands
from rlm.answers.schema import load_schema
from rlm.asking.options import Options
from rlm.errors import RlmError
from rlm.gateway.models import give_price
from rlm.gateway.naming import Named, named_by
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
    models, window = models_of(args.model, args.child_model, args)
    limits = limits_of(args)
    limits = limits if limits.window else replace(limits, window=window)
    return Options(route, models, limits, demands, scope_of(args), runs, watch)


def scope_of(args: argparse.Namespace) -> Scope:
    """The part of an index that --doc, --where and --section name. Raises RlmError."""
    pairs = args.where
    if wrong := [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]:
        raise RlmError(f"--where is {wrong[0]!r}; write it as KEY=VALUE, for example year=2021")
    where = {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
    return Scope(args.doc, where, args.section)


def models_of(root: str, child: str | None, args: argparse.Namespace) -> tuple[Models, int | None]:
    """The models that a command line calls so, and the window of the root model, where that is told."""
    named = _named(root, args)
    return _models(named, None if child is None else _named(child, args)), named.window


def _named(name: str, args: argparse.Namespace) -> Named:
    """The model of this name, whose price is known from now on where its short name tells it."""
    named = named_by(name, args)
    give_price(named.model, named.usd_per_million)
    return named


def _models(root: Named, child: Named | None) -> Models:
    if child is None:
        return Models(root.model, options=root.options)
    return Models(root.model, child.model, root.options, child.options)


def limits_of(args: argparse.Namespace) -> Limits:
    """The limits that a command line sets, else their defaults. Raises RlmError."""
    values = {limit: getattr(args, option, None) for option, limit in _LIMITS.items()}
    limits = {name: value for name, value in values.items() if value is not None}
    if getattr(args, "questions", None) is not None:
        limits.setdefault("calls", None)  # without a cap on all together, each question has its own
    return Limits(**limits)
