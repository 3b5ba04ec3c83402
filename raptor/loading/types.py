"""What loading hands about: a file that was found, its text, or why there is none."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Section:
    """A heading: the character offset where it starts, its level (1 is outermost), its words."""

    start: int
    level: int
    heading: str


@dataclass(frozen=True, slots=True)
class Text:
    """One loaded document.

    `pages`: the character offset at which each page starts, () when unpaged. `meta`: what else its source says of it.
    """

    id: str
    title: str
    source: str
    text: str
    pages: tuple[int, ...] = ()
    sections: tuple[Section, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be loaded. `reason`: one sentence, what was found and what to do."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """A file to load. `id`: its path below the folder (or the fixed part of the pattern) that was asked for."""

    path: Path
    id: str


Loaded = Text | Failure


def state_of(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def meta_of(row: Mapping[str, Any], without: Sequence[str] = ("_id", "title", "text")) -> dict[str, str]:
    """The fields of a JSON object, some left out, that are a string or a number, as strings.

    Those of an object `meta` or `metadata` in it are fields as well; where both name one, the row's own counts.
    """
    inner = (row[name] for name in ("metadata", "meta") if isinstance(row.get(name), dict))
    return {name: value for part in inner for name, value in _said(part, ()).items()} | _said(row, without)


def _said(row: Mapping[str, Any], without: Sequence[str]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in row.items()
        if name not in without and isinstance(value, str | int | float)
    }
