"""The data of loading: a file to load, the document in it, or why there is none."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from index_store import access
from index_store.errors import IndexStoreError
from index_store.terminal import brief

MAX_BYTES = 128 << 20  # of a file of text, which is held in memory
MAX_PACKED_BYTES = 1 << 30  # of one that may be mostly pictures, or what is passed over


class TooLarge(Exception):
    """A file has more bytes than are read of one: the rest of a sentence that begins with the file."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading: the character offset where it starts, its level (1 is outermost), its words."""

    start: int
    level: int
    heading: str


@dataclass(frozen=True, slots=True)
class Text:
    """One loaded document.

    `pages`: the character offset at which each page starts, () when unpaged. `meta`: its metadata, by field. `notes`:
    what a user should know of how it was read, each a sentence that begins with "it".
    """

    id: str
    title: str
    source: str
    text: str
    pages: tuple[int, ...] = ()
    sections: tuple[Section, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be loaded. `reason`: one sentence: what is wrong with it, and what to do."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """What to know of a source that was loaded. `words`: one sentence, with what to do where it is wrong."""

    source: str
    words: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to load. `id`: its path below the folder that was named, or below the fixed part of the pattern.

    `outside`: whether it lies elsewhere, behind a link there, and so is not to be read. `excluded`: whether patterns
    leave it out of its folder. `encoding`: that of its text,
    where the user named one, else "". `kind`: the suffix that its content has, where its name has none.
    `password`: what opens it, "" where the user gave none. `content`: its bytes, where it was packed in another file
    and `path` only says where. `ocr_language`: that of pictures of its pages, where the user named one, else "".
    """

    path: Path
    id: str
    outside: bool = False
    encoding: str = ""
    kind: str = ""
    password: str = field(default="", repr=False)
    content: bytes | None = field(default=None, repr=False)
    ocr_language: str = ""
    excluded: bool = False

    @property
    def suffix(self) -> str:
        """The suffix in lower case that says how to read it; "" where only its content does."""
        return self.kind or self.path.suffix.lower()

    def raw(self, most: int = MAX_BYTES) -> bytes:
        """All of its bytes, at most so many: a file of zeros takes no room on a disk. Raises OSError, TooLarge."""
        raw, is_larger = self.content, False
        if raw is None:
            with self.path.open("rb") as opened:
                is_larger = os.fstat(opened.fileno()).st_size > most  # nothing of such a file is read
                raw = b"" if is_larger else opened.read(most + 1)
        if is_larger or len(raw) > most:
            raise TooLarge(f"it has more than {most:,} bytes; split it")
        return raw

    def member(self, name: str, content: bytes, id: str = "") -> "SourceFile":
        """A file that is packed in this one, under `id`, or else under this one's and its own name."""
        path = Path(f"{self.path}/{name}")
        return SourceFile(
            path, id or f"{self.id}/{name}", encoding=self.encoding, password=self.password, content=content
        )


Loaded = Text | Failure
_MAX_TITLE_CHARS = 200


def title_of(*candidates: str | None) -> str:
    """The first that has words, on one line and of a length to show beside every hit."""
    folded = (" ".join((title or "").split()) for title in candidates)
    return next((title[:_MAX_TITLE_CHARS] for title in folded if title), "")


# What programs write where their user gave no title: reportlab, Word, PowerPoint and editors of pages; and the name of
# what was printed, after that of the program that printed it.
_NO_TITLE = re.compile(
    r"\W*(?:anonymous|no title|powerpoint presentation|(?:untitled|unnamed|unspecified|new|blank)?[ _-]?"
    r"(?:document|page|presentation)|untitled|unnamed|unspecified)[\W\d_]*|(?:microsoft|libreoffice) \w+ - .*",
    re.IGNORECASE,
)


def own_title(title: str) -> str:
    """The title that a file gives itself; "" where a program wrote it and nobody meant it: `(anonymous)`, `untitled`,
    `Microsoft Word - x.doc`."""
    shown = title_of(title)
    return "" if _NO_TITLE.fullmatch(shown) else shown


def state_of(path: Path) -> tuple[int, ...] | None:
    """Inode, size and time of change, which differ when a file was changed; None where it cannot be looked at."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def meta_of(
    row: Mapping[str, Any], whose: str, without: Sequence[str] = ("_id", "title", "text")
) -> dict[str, str]:
    """The metadata in a JSON object: its fields that are strings or numbers, as strings, without some.

    The fields of an object `meta` or `metadata` in it count too; where both have a field, the row's own value counts.
    What says who may read a document may be a list too. Raises IndexStoreError where it is malformed, or the field's
    name nearly so written: a document is not to become open to all by a slip. `whose`: for the message.
    """
    inner = [row[name] for name in ("metadata", "meta") if isinstance(row.get(name), dict)]
    fields: dict[str, str] = {}
    for part in inner:
        fields |= _plain_fields(part, (), whose)
    return fields | _plain_fields(row, without, whose)


def _plain_fields(row: Mapping[str, Any], without: Sequence[str], whose: str) -> dict[str, str]:
    for name in row:
        if access.is_meant(name):
            raise IndexStoreError(
                f"{whose} has a field {brief(name)}; did you mean {access.KEY}? write it so, or rename the field"
            )
    said = {access.KEY: access.written(row[access.KEY], whose)} if access.KEY in row else {}
    return said | {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in row.items()
        if name not in (*without, access.KEY) and isinstance(value, str | int | float)
    }
