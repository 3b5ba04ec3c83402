"""What a command line that asks gives, checked without the index, and before anything heavy is loaded."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from index_store.types import Json, Scope
from rlm.answers.schema import load_schema
from rlm.asking.offline import check_schema
from rlm.asking.questions import STANDARD_INPUT, Question, check_text, read_questions, standard_input
from rlm.errors import RlmError
from rlm.gateway.models import give_price
from rlm.gateway.naming import Named, embedder_named, named_by
from rlm.limits import MAP_LIMITS, MOST, Limits, Models

EACH = ("usd", "tokens", "calls")
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


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of a command that asks. `questions`: of `rlm ask`, one or those of a file; else none."""

    models: Models
    limits: Limits
    scope: Scope
    schema: Mapping[str, Json] | None = None
    questions: Sequence[Question] = ()


def name_embedder(args: argparse.Namespace) -> None:
    """Put litellm's name for the embedder that a command line names in the place of a short one."""
    named = embedder_named(args.embedder, getattr(args, "models_file", None) or getattr(args, "models", None))
    give_price(named.model, named.usd_per_million)
    args.embedder = named.model


def given_by(args: argparse.Namespace) -> Given:
    """What a command line gives. Raises RlmError, in one sentence, for what cannot be."""
    asks = args.command == "ask"
    if asks:
        _check_together(args)
    scope = scope_of(args)
    if args.command != "shell":
        _check_a_call_fits(args)
    models, window = named_models(args, *_names(args))
    schema = None if getattr(args, "schema", None) is None else load_schema(args.schema)
    check_schema(models, schema)
    return Given(models, limits_of(args, window), scope, schema, _questions(args) if asks else ())


def _names(args: argparse.Namespace) -> tuple[str, str | None]:
    """What a command line calls the root model and the child. In a map the child reads, and the root is the strong one,
    where there is one."""
    return (
        (args.strong or args.model, args.model) if args.command == "map" else (args.model, args.child_model)
    )


def scope_of(args: argparse.Namespace) -> Scope:
    """The part of an index that --doc, --where and --section name. Raises RlmError."""
    pairs = args.where
    if wrong := [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]:
        raise RlmError(f"--where is {wrong[0]!r}; write it as KEY=VALUE, for example year=2021")
    where = {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
    return Scope(args.doc, where, args.section)


def typed_text(words: str, what: str) -> str:
    """The text of an argument, or of standard input where it is "-". Raises RlmError as `check_text` does."""
    if words == STANDARD_INPUT:
        words = standard_input().read().decode("utf-8", "surrogateescape").rstrip("\r\n")
    return check_text(words, what)


def _check_together(args: argparse.Namespace) -> None:
    """Raise RlmError where `rlm ask` is given what does not go together."""
    if (args.question is None) == (args.questions is None):
        raise RlmError('give one question, or --questions FILE: rlm ask INDEX "words"')
    for name in EACH:
        if getattr(args, f"each_{name}") is not None and args.questions is None:
            raise RlmError(f"--each-{name} goes with --questions; for one question there is --max-{name}")
    if args.questions is None:
        if args.answers is not None:
            raise RlmError("--answers goes with --questions; one answer is printed")
        return
    if args.answers is None:
        raise RlmError("name the file that answers go to: --answers answers.jsonl")
    check_many(args)
    asked, answers = Path(args.questions), Path(args.answers)
    if args.questions != STANDARD_INPUT and asked.exists() and answers.exists() and answers.samefile(asked):
        raise RlmError(f"{args.answers} holds the questions; name another file for the answers")


def check_many(args: argparse.Namespace) -> None:
    """Raise RlmError where an option for many questions is out of range."""
    if args.at_once < 1:
        raise RlmError(f"--at-once is {args.at_once}; give at least 1")
    for name in EACH:
        if (most := getattr(args, f"each_{name}")) is not None and not 0 < most <= MOST:
            raise RlmError(f"--each-{name} is {most}; give more than 0 and at most {MOST:g}")


def _check_a_call_fits(args: argparse.Namespace) -> None:
    """Raise RlmError where a cap lets no call be made, without which nothing is answered."""
    for option in ("max_calls", "max_tokens"):
        if getattr(args, option) == 0:
            name = option.replace("_", "-")
            raise RlmError(f"--{name} is 0, and no question is answered without a call; give at least 1")


def _questions(args: argparse.Namespace) -> Sequence[Question]:
    if args.questions is not None:
        return read_questions(args.questions)
    return [Question(None, typed_text(args.question, "question"))]


def models_of(args: argparse.Namespace, name: str) -> Models:
    """The models where the root is the one of this name, short or litellm's, with what is sent with their calls."""
    return named_models(args, name, args.child_model)[0]


def named_models(
    args: argparse.Namespace, root_name: str, child_name: str | None
) -> tuple[Models, int | None]:
    """The models of these names, and the window of the root model, where that is told."""
    root, child = _named(root_name, args), None if child_name is None else _named(child_name, args)
    if child is None:
        return Models(root.model, options=root.options), root.window
    return Models(root.model, child.model, root.options, child.options), root.window


def _named(name: str, args: argparse.Namespace) -> Named:
    """The model of this name, whose price is known from now on where its short name tells it."""
    named = named_by(name, args)
    give_price(named.model, named.usd_per_million)
    return named


def limits_of(args: argparse.Namespace, window: int | None = None) -> Limits:
    """The limits that a command line sets, else their defaults; `window` where it sets none. Raises RlmError."""
    values = {limit: getattr(args, option, None) for option, limit in _LIMITS.items()}
    limits = {name: value for name, value in values.items() if value is not None}
    if getattr(args, "questions", None) is not None:
        limits.setdefault("calls", None)  # without a cap on all together, each question has its own
    found = replace(MAP_LIMITS if args.command == "map" else Limits(), **limits)
    return found if found.window else replace(found, window=window)
