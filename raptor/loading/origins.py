"""Where the documents of an index came from: the sources that were named, and the file that each was read from.

A document says its file as it was typed, so a relative one needs the folder in which that was. This folder and the
sources stand in `build.sqlite`, not in the index, which may be given away.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from glob import has_magic
from pathlib import Path, PurePath
from typing import Any

from index_store.paths import file_of, is_below, matches
from index_store.types import Document, Json
from raptor.errors import RaptorError
from raptor.loading.find import roots_of
from raptor.loading.kinds import PACKED
from raptor.loading.picking import ALL, Picked

FILE, FOLDER, PATTERN = "file", "folder", "pattern"
#: A folder that an earlier version recorded: it names files, and nothing says which of them are documents.
ROOT = "root"


@dataclass(frozen=True, slots=True)
class Source:
    """A file, folder or pattern as it was named. `root`: the folder, absolute, below which its files have their ids; ""
    for a file. `follow_links`: whether links in it that lead out of it are read. `picked`: which files of a folder are
    taken."""

    given: str
    kind: str
    root: str = ""
    follow_links: bool = False
    picked: Picked = ALL


@dataclass(frozen=True, slots=True)
class Origins:
    """Where an index came from. `folder`: the one from which relative paths count; "" where that is not known, and the
    working folder stands in for it. `removed`: ids of documents that were taken out and may still be in a source."""

    folder: str = ""
    sources: tuple[Source, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def roots(self) -> list[str]:
        """The folders below which files have their ids, in the order in which they were named."""
        return [source.root for source in self.sources if source.root]

    def written(self, path: str) -> str:
        """A path as an absolute one, no link looked at."""
        return os.path.normpath(self._joined(path))

    def place(self, path: str) -> str:
        """The one absolute path of a file, or of what was one: links among its folders are followed."""
        return self.placing()(path)

    def placing(self) -> Callable[[str], str]:
        """`place`, for many files of few folders."""
        real = cache(os.path.realpath)

        @cache
        def place(path: str) -> str:
            joined = self._joined(path)
            is_folder = joined.name in ("", os.pardir)
            return real(joined) if is_folder else str(Path(real(joined.parent), joined.name))

        return place

    def _joined(self, path: str) -> Path:
        return Path(self.folder or Path.cwd(), _file_name(path))

    def places(self, documents: Iterable[Document]) -> dict[str, str]:
        """The place of each document's file, by the document's id."""
        place = self.placing()
        return {document.id: place(file_of(document.source)) for document in documents}

    def owners(self, path: str) -> list[Source]:
        """The sources of which a file is one, or would be if it were there."""
        return self.owning()(path)

    def owning(self) -> Callable[[str], list[Source]]:
        """`owners`, for many files."""
        place = self.placing()
        alone: dict[str, list[Source]] = {}
        many = [source for source in self.sources if source.kind in (FOLDER, PATTERN)]
        for source in self.sources:
            if source.kind == FILE:
                for path in {self.written(source.given), place(source.given)}:
                    alone.setdefault(path, []).append(source)

        @cache
        def owners(path: str) -> list[Source]:
            paths = {self.written(path), place(path)}
            paths |= {holder(place(path)), *(up for path in paths for up in _archives(path))}
            found = {source.given: source for path in paths for source in alone.get(path, ())}
            found |= {source.given: source for source in many if self._fits(source, paths)}
            return list(found.values())

        return owners

    def without_source(self, documents: Iterable[Document]) -> tuple[str, ...]:
        """The ids of the documents whose file is none of any source, nor would be if it were there."""
        owners = self.owning()
        return tuple(doc for doc, place in self.places(documents).items() if not owners(place))

    def _fits(self, source: Source, paths: Iterable[str]) -> bool:
        at = self.written(source.given)
        if source.kind == FOLDER:
            return any(is_below(path, [source.root, at]) for path in paths)
        below = str(Path(source.root, *_wild_parts(source.given)))
        return any(matches(pattern, path) for pattern in (at, below) for path in paths)

    def leaves_out(self, place: str) -> bool:
        """Whether patterns leave a file out of every folder that it lies in, where nothing else was named for it."""
        if all(source.picked == ALL for source in self.sources):
            return False
        file = holder(place)
        owners = self.owners(place)
        return bool(owners) and not any(
            source.picked == ALL
            or not is_below(file, [source.root])
            or source.picked.takes(PurePath(file).relative_to(source.root).as_posix())
            for source in owners
        )

    def outside(self) -> list[str]:
        """The paths of those sources that lie neither in the working folder nor below it."""
        return outside_of_here(
            self.place(source.given) if source.kind == FILE else source.root for source in self.sources
        )

    def folder_of(self, source: Source) -> Path:
        """The folder without which nothing of a source can be found."""
        return Path(source.root or Path(self.place(source.given)).parent)

    def spelled(self, path: str, here: str) -> str:
        """A file that was named in the folder `here`, as the index is to write it: as it was typed, but counted from
        `folder`, and relative where the source that holds it is."""
        return self.spelling(here)(path)

    def spelling(self, here: str) -> Callable[[str], str]:
        """`spelled`, for many files."""
        owners, is_ours = self.owning(), self.folder in ("", here)

        @cache
        def spelled(path: str) -> str:
            if not Path(path).is_absolute():
                return path if is_ours else os.path.relpath(Path(here, path), self.folder)
            is_relative = any(not Path(source.given).is_absolute() for source in owners(path))
            return os.path.relpath(path, self.folder) if self.folder and is_relative else path

        return spelled

    def adding(self, sources: Sequence[str], *, follow_links: bool, picked: Picked = ALL) -> "Origins":
        """These, and sources that were named in the working folder; but for what a folder among these holds anyway."""
        if not sources:
            return self
        here = str(Path.cwd())
        ours = replace(self, folder=self.folder or here)
        spelled, all_named = ours.spelling(here), {source.given: source for source in self.sources}
        for typed in map(str, map(Path, sources)):
            root = next(iter(roots_of([typed])), "")
            kind = FOLDER if Path(typed).is_dir() else PATTERN if root else FILE
            new = Source(spelled(typed), kind, root, follow_links, picked if kind == FOLDER else ALL)
            if new.given in all_named or not any(ours._holds(old, new) for old in self.sources):
                all_named[new.given] = new
        return replace(ours, sources=tuple(all_named.values()))

    def following_links(self) -> "Origins":
        """These, with links read that lead out of the sources."""
        return replace(self, sources=tuple(replace(source, follow_links=True) for source in self.sources))

    def _holds(self, folder: Source, new: Source) -> bool:
        """Whether a walk through a folder that was named comes by all that a new source stands for."""
        if folder.kind != FOLDER or new.kind == PATTERN or folder.picked != ALL:
            return False
        place = new.root if new.kind == FOLDER else self.place(new.given)
        if not is_below(place, [folder.root]):
            return False
        hidden = any(part.startswith(".") for part in PurePath(place).relative_to(folder.root).parts)
        linked = not is_below(os.path.realpath(place), [folder.root])
        return not hidden and (folder.follow_links or not (linked or new.follow_links))

    def as_json(self) -> Json:
        """The fields as JSON has them."""
        sources: list[Json] = [asdict(source) for source in self.sources]
        return {"folder": self.folder, "sources": sources, "removed": list(self.removed)}

    @classmethod
    def from_json(cls, given: Any, roots: Any = None) -> "Origins":
        """What was recorded, by this version or, as `roots`, by an earlier one; nothing where it is neither."""
        try:
            if given is None:
                return cls("", tuple(Source(str(root), ROOT, str(root)) for root in roots or ()))
            sources = tuple(
                Source(
                    str(row["given"]),
                    str(row["kind"]),
                    str(row["root"]),
                    bool(row["follow_links"]),
                    Picked(**{name: tuple(map(str, ones)) for name, ones in row.get("picked", {}).items()}),
                )
                for row in given["sources"]
            )
            return cls(str(given["folder"]), sources, tuple(map(str, given.get("removed", ()))))
        except (TypeError, KeyError, AttributeError, RaptorError):  # the file may be a stranger's
            return cls()


def typed_here() -> Origins:
    """The origins by which a path counts from the working folder."""
    return Origins(str(Path.cwd()))


# -- names of files ----------------------------------------------------------------------------------------


def outside_of_here(places: Iterable[str]) -> list[str]:
    """The paths that lead neither into the working folder nor below it, wherever a link leads."""
    here = [os.path.realpath(Path.cwd())]
    return [place for place in places if not is_below(os.path.realpath(place), here)]


def holder(path: str) -> str:
    """The file that an absolute path leads to, or into: what is packed in a file has a path below it, and a line of
    JSON in a file without a suffix the number of the line after its name."""
    while True:
        try:
            os.lstat(path)
        except NotADirectoryError:
            path = str(Path(path).parent)
        except OSError:
            named, _, line = path.rpartition(":")
            return named if line.isdecimal() and Path(named).is_file() else path
        else:
            return path


def _archives(path: str) -> list[str]:
    """The folders of a path that may be archives which are not there any more."""
    return [str(up) for up in Path(path).parents if up.suffix.lower() in PACKED]


def is_gone(path: str) -> bool:
    """Whether no file is there, nor one that it is packed in; one that cannot be looked at may be there."""
    try:
        os.lstat(holder(path))
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


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
