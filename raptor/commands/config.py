"""`raptor init` and `raptor config`: a new raptor.toml, and what holds here."""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from index_store.config import NAME, Value, found_above, settled, template
from index_store.files import opening
from index_store.paths import is_url
from index_store.stores.urls import url_of
from index_store.terminal import print_json, say, spelled
from raptor.errors import RaptorError
from raptor.settings import Spending, settings_of


def init(args: argparse.Namespace) -> int:
    """Write a raptor.toml with every setting as a comment, where there is none."""
    path = Path(args.folder) / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # What others may write is not believed, whatever the user's mask is.
        handle = os.open(path, opening("WRONLY", "CREAT", "EXCL", "NOFOLLOW"), 0o644)
    except FileExistsError as error:
        raise RaptorError(f"{path} exists already, and stays as it is; change it, or move it away") from error
    except OSError as error:
        raise RaptorError(f"cannot write {path}: {error.strerror or error}; name another folder") from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(template())
    say(f"{spelled(str(path))}: every setting stands there as a comment; raptor config shows what holds")
    return 0


def show(args: argparse.Namespace) -> int:
    """Print every setting, its value, and where that is from."""
    file = args.config or found_above(Path.cwd())
    values = settled(file)
    found = {value.key.name: value.value for value in values}
    _check_build(found, file or "the environment")
    for place in (str(found[name]) for name in ("index", "runs") if found[name]):
        if is_url(place):
            url_of(place)  # one that could hold a password is not shown
    if args.json:
        print_json(
            {value.key.name: {"value": value.value, "from": value.origin or "default"} for value in values}
        )
    else:
        say("\n".join(map(_line, values)))
    return 0


def _check_build(found: Mapping[str, Any], origin: str | Path) -> None:
    """Raise RaptorError for settings of a build that it would refuse; those of a question are checked when read."""
    last = {name.removeprefix("build."): value for name, value in found.items() if name.startswith("build.")}
    settings_of(last, origin)
    Spending(last["max_usd"], last["max_errors"])


def _line(value: Value) -> str:
    shown = "-" if value.value is None else json.dumps(value.value, ensure_ascii=False)
    return spelled(f"{value.key.name:<24} {shown:<24} {value.origin or 'default'}")
