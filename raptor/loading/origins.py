"""Where the documents of an index came from: the sources that were named, and the file that each was read from.

A document says its file as it was typed, so a relative one needs the folder in which that was. This folder and the
sources stand in `build.sqlite`, not in the index, which may be given away.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from glob import has_magic
from pathlib import Path, PurePath
from typing import Any

from index_store.types import Document, Json
from raptor.loading.find import is_below, roots_of

FILE, FOLDER, PATTERN = "file", "folder", "pattern"
#: A folder that an earlier version recorded: it names files, and nothing says which of them are documents.
ROOT = "root"


@dataclass(frozen=True, slots=True)
class Source:
    """A file, folder or pattern as it was named. `root`: the folder, absolute, below which its files have their ids; ""
    for a file. `follow_links`: whether links in it that lead out of it are read."""

    given: str
    kind: str
    root: str = ""
    follow_links: bool = False


@dataclass(frozen=True, slots=True)
class Origins:
    """Where an index came from. `folder`: the one from which relative paths count; "" where that is not known, and the
    working folder stands in for it."""

    folder: str = ""
    sources: tuple[Source, ...] = ()

    @property
    def roots(self) -> list[str]:
        """The folders below which files have their ids, in the order in which they were named."""
        return [source.root for source in self.sources if source.root]

    def written(self, path: str) -> str:
        """A path as an absolute one, no link looked at."""
        return os.path.normpath(self._joined(path))

    def place(self, path: str) -> str:
        """The one absolute path of a file, or of what was one: links among its folders are followed."""
        joined = self._joined(path)
        if joined.name in ("", os.pardir):
            return os.path.realpath(joined)
        return str(Path(os.path.realpath(joined.parent), joined.name))

    def _joined(self, path: str) -> Path:
        return Path(self.folder or Path.cwd(), _file_name(path))

    def places(self, documents: Iterable[Document]) -> dict[str, str]:
        """The place of each document's file, by the document's id."""
        place = cache(self.place)  # many lines of one file
        return {document.id: place(file_of(document.source)) for document in documents}

    def contains(self, source: Source, path: str) -> bool:
        """Whether a file is, or would be, one of those that a source stands for."""
        at, written, place = self.written(source.given), self.written(path), self.place(path)
        if source.kind == FOLDER:
            return is_below(place, [source.root]) or is_below(written, [at])
        if source.kind == PATTERN:
            below = str(Path(source.root, *_wild_parts(source.given)))
            return matches(below, place) or matches(at, written)
        return source.kind == FILE and (written == at or place == self.place(source.given))

    def owners(self, path: str) -> list[Source]:
        """The sources that a file is one of."""
        return [source for source in self.sources if self.contains(source, path)]

    def spelled(self, path: str, here: str) -> str:
        """A file that was named in the folder `here`, as the index is to write it: as it was typed, but counted from
        `folder`, and relative where the source that holds it is."""
        if not Path(path).is_absolute():
            is_ours = self.folder in ("", here)
            return path if is_ours else os.path.relpath(Path(here, path), self.folder)
        is_relative = any(not Path(source.given).is_absolute() for source in self.owners(path))
        return os.path.relpath(path, self.folder) if self.folder and is_relative else path

    def adding(self, sources: Sequence[str], *, follow_links: bool) -> "Origins":
        """These, and sources that were named in the working folder; but for what a folder among these holds anyway."""
        here = str(Path.cwd())
        ours = Origins(self.folder or here, self.sources)
        for typed in map(str, map(Path, sources)):
            root = next(iter(roots_of([typed])), "")
            kind = FOLDER if Path(typed).is_dir() else PATTERN if root else FILE
            new = Source(ours.spelled(typed, here), kind, root, follow_links)
            ours = replace(ours, sources=ours._with(new))
        return ours

    def _with(self, new: Source) -> tuple[Source, ...]:
        if any(old.given == new.given for old in self.sources):
            return tuple(new if old.given == new.given else old for old in self.sources)
        held = any(self._holds(old, new) for old in self.sources)
        return self.sources if held else (*self.sources, new)

    def _holds(self, folder: Source, new: Source) -> bool:
        """Whether a walk through a folder that was named comes by all that a new source stands for."""
        place = new.root if new.kind == FOLDER else self.place(new.given)
        if folder.kind != FOLDER or new.kind == PATTERN or not is_below(place, [folder.root]):
            return False
        hidden = any(part.startswith(".") for part in PurePath(place).relative_to(folder.root).parts)
        linked = not is_below(os.path.realpath(place), [folder.root])
        return not hidden and (folder.follow_links or not (linked or new.follow_links))

    def as_json(self) -> Json:
        """The fields as JSON has them."""
        return {"folder": self.folder, "sources": [asdict(source) for source in self.sources]}

    @classmethod
    def from_json(cls, given: Any, roots: Any = None) -> "Origins":
        """What was recorded, by this version or, as `roots`, by an earlier one; nothing where it is neither."""
        try:
            if given is None:
                return cls("", tuple(Source(str(root), ROOT, str(root)) for root in roots or ()))
            sources = tuple(
                Source(str(row["given"]), str(row["kind"]), str(row["root"]), bool(row["follow_links"]))
                for row in given["sources"]
            )
            return cls(str(given["folder"]), sources)
        except (TypeError, KeyError):  # the file may be a stranger's
            return cls()


def typed_here() -> Origins:
    """The origins by which a path counts from the working folder."""
    return Origins(str(Path.cwd()))


# -- names of files ----------------------------------------------------------------------------------------


def file_of(source: str) -> str:
    """The file in the `source` of a document, which for a line of .jsonl ends with the line's number."""
    return re.sub(r"(?i)(\.jsonl):\d+\Z", r"\1", source)


def is_gone(path: str) -> bool:
    """Whether no file is there; one that cannot be looked at may be there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def matches(pattern: str, path: str) -> bool:
    """Whether `glob`, with ** for any folders, would give this path for this pattern, if it were there."""
    wanted, parts = PurePath(pattern).parts, PurePath(path).parts

    @cache
    def match(i: int, j: int) -> bool:
        if i == len(wanted):
            return j == len(parts)
        if wanted[i] == "**" and match(i + 1, j):
            return True
        if j == len(parts):
            return False
        if wanted[i] == "**":
            return not parts[j].startswith(".") and match(i, j + 1)
        is_seen = wanted[i].startswith(".") or not parts[j].startswith(".")
        return is_seen and fnmatchcase(parts[j], wanted[i]) and match(i + 1, j + 1)

    return match(0, 0)


def _wild_parts(pattern: str) -> tuple[str, ...]:
    """The parts of a pattern from the first with a wildcard on."""
    parts = PurePath(pattern).parts
    return parts[next((i for i, part in enumerate(parts) if has_magic(part)), len(parts)) :]


def _file_name(source: str) -> str:
    """The file in a document's source; what no file can be named, as a stranger may write it, with ? for it."""
    name = file_of(source).replace("\0", "?")
    return os.fsdecode(name.encode("utf-8", "replace")) if _is_torn(name) else name


def _is_torn(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return True
    return False
