"""How a person names a model on a command line: by litellm's name, or by a short one from a file of their own.

    [fast]
    model = "openai/gpt-5-mini"
    temperature = 0
    reasoning_effort = "low"

A table's other fields are options that are sent with each call, but for `window` (tokens that the model takes) and
`usd_per_million` ([dollars for a million tokens in, and out]), which say what litellm does not know. The file is
`raptor-rlm/models.toml` in the user's folder for configuration, or the one that --models names; none is looked for
beside an index or documents, which strangers may have written.
"""

import argparse
import errno
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rlm.gateway.embeddings import EMBEDS, embeds, litellms
from rlm.gateway.errors import GatewayError
from rlm.gateway.options import EFFORTS, check_options, parse_option

MOST_BYTES = 1 << 20
MOST_USD = 1e6  # for a million tokens
MOST_WINDOW = 10**9
_FOLDER = "raptor-rlm"
#: Where files were kept before, by the variable of the environment and the folder below home.
_XDG = {
    "config": ("XDG_CONFIG_HOME", ".config"),
    "data": ("XDG_DATA_HOME", ".local/share"),
    "state": ("XDG_STATE_HOME", ".local/state"),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Named:
    """A model that was named: litellm's name for it, the options to send, and what is known of it otherwise."""

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    usd_per_million: tuple[float, float] | None = None
    window: int | None = None


def add_model_options(command: argparse.ArgumentParser, file_option: str = "--models") -> None:
    """The options of a command that names models: what is sent with each call, and where short names are."""
    command.add_argument("--temperature", type=float, metavar="T", help="sent with each model call (0)")
    command.add_argument(
        "--reasoning-effort",
        choices=EFFORTS,
        metavar="E",
        help=f"of models that reason: {', '.join(EFFORTS)}",
    )
    command.add_argument(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another parameter to send, by litellm's name, its value JSON or text; may be repeated",
    )
    add_file_option(command, file_option)


def add_file_option(command: argparse.ArgumentParser, option: str = "--models") -> None:
    """The option that names the file of short names."""
    command.add_argument(
        option,
        dest="models",
        metavar="FILE",
        help="short names of models with their options, as TOML (models.toml in your folder for configuration)",
    )


def typed_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that a command line sends with each call. Raises GatewayError for one that cannot be sent."""
    own = {"temperature": args.temperature, "reasoning_effort": args.reasoning_effort}
    given = {name: value for name, value in own.items() if value is not None}
    for name, value in map(parse_option, args.model_option):
        if name in given:
            raise GatewayError(f"the model option {name!r} is given twice; give it once")
        given[name] = value
    return check_options(given)


def named_by(name: str, args: argparse.Namespace) -> Named:
    """The model that a command line calls `name`, with the options given there before those of its short name."""
    found = aliases(args.models).get(name, Named(name))
    return replace(found, options={**found.options, **typed_options(args)})


def embedder_named(name: str, file: str | Path | None = None) -> Named:
    """The embedder that a command line calls `name`. Of one that is called, `litellm/NAME`, NAME is litellm's or a
    short name; any other is no model of a gateway's, and stays as it is."""
    if not embeds(name):
        return Named(name)
    found = aliases(file).get(litellms(name), Named(litellms(name)))
    return replace(found, model=EMBEDS + found.model)


def aliases(file: str | Path | None = None) -> dict[str, Named]:
    """The short names in a file; without one those in the user's own file, if there is one.

    Raises GatewayError for a file that cannot be read or holds anything else than short names: one sentence.
    """
    try:
        path = user_file() if file is None else Path(file)
    except FileNotFoundError:
        return {}
    try:
        with path.open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
    except OSError as error:
        if file is None and isinstance(error, FileNotFoundError | NotADirectoryError):
            return {}
        raise GatewayError(f"cannot read the models {path}: {error.strerror or error}") from error
    if len(raw) > MOST_BYTES:
        raise GatewayError(f"the models {path} have more than {MOST_BYTES:,} bytes; name a shorter file")
    import tomllib  # here, as most users have no such file

    try:
        tables = tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise GatewayError(f"the models {path} are not TOML: {error}") from error
    return {name: _alias(name, table, tables.keys(), path) for name, table in tables.items()}


def user_file() -> Path:
    """Where the user's short names are. Raises FileNotFoundError as `own_file` does."""
    return own_file("config", "models.toml")


def own_file(kind: Literal["config", "data", "state"], name: str) -> Path:
    """A file of ours where this system keeps a user's files of that kind; or, while only that is there, where it was
    kept before: by the XDG Base Directory Specification on every system. Raises FileNotFoundError without a home.
    """
    import platformdirs  # here, as --help needs none

    folder = {
        "config": platformdirs.user_config_dir,
        "data": platformdirs.user_data_dir,
        "state": platformdirs.user_state_dir,
    }[kind]
    try:
        new = Path(folder(_FOLDER, appauthor=False), name)
    except RuntimeError:  # platformdirs: nothing names a home
        new = Path()
    if not new.is_absolute():  # as earlier versions of it say so
        raise FileNotFoundError(errno.ENOENT, "there is no home folder")
    old = _before(kind) / _FOLDER / name
    is_old = old.is_absolute() and old != new and old.exists() and not new.exists()
    return old if is_old else new


def _before(kind: str) -> Path:
    variable, below_home = _XDG[kind]
    named = Path(os.environ.get(variable, ""))
    home = os.path.expanduser("~")  # noqa: PTH111  (Path.home raises where there is none)
    return named if named.is_absolute() else Path(home, below_home)


def _alias(name: str, table: Any, names: Sequence[str] | Any, path: Path) -> Named:
    def wrong(what: str) -> GatewayError:
        return GatewayError(f"the models {path}: {name[:80]!r} {what}")

    if not isinstance(table, Mapping):
        raise wrong(f'is no table; write [{name[:80]}] and below it model = "..."')
    if not _NAME.fullmatch(name):
        raise wrong("is no short name; use letters, digits, '.', '-' and '_', at most 64")
    rest = dict(table)
    model, prices, window = (rest.pop(key, None) for key in ("model", "usd_per_million", "window"))
    if not isinstance(model, str) or not model.strip():
        raise wrong('names no model; write model = "openai/gpt-5-mini", for example')
    if model in names:
        raise wrong(f"names {model[:80]!r}, which is a short name too; name the model itself")
    if prices is not None and not _are_prices(prices):
        raise wrong("sets usd_per_million to something else than [dollars in, dollars out]")
    if window is not None and not (type(window) is int and 0 < window <= MOST_WINDOW):
        raise wrong("sets window to something else than a number of tokens")
    try:
        options = check_options(rest)
    except GatewayError as error:
        raise wrong(f"cannot be used: {error}") from error
    return Named(model, options, None if prices is None else (float(prices[0]), float(prices[1])), window)


def _are_prices(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_price, value))


def _is_price(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 <= value <= MOST_USD
