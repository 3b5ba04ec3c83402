"""Sources to files: folders, globs and .jsonl, each file with the id that its document will have."""

import os
from collections.abc import Sequence
from dataclasses import replace
from glob import escape, glob, has_magic
from itertools import pairwise
from pathlib import Path, PurePath

from raptor.errors import RaptorError
from raptor.loading.kinds import KNOWN
from raptor.loading.picking import ALL, Picked
from raptor.loading.readers import READERS
from raptor.loading.types import SourceFile


def find(sources: Sequence[str], *, follow_links: bool = False, picked: Picked = ALL) -> list[SourceFile]:
    """The files that `sources` (files, folders, patterns) stand for, sorted by id; each file once.

    Folders are walked to the bottom; names that start with a dot are skipped, unless named themselves. A link among
    them that leads out of its folder, to a file or a folder, is `outside`, unless `follow_links`: then it is read.
    What `picked` leaves out of a folder is `excluded`.
    Raises RaptorError for a source that does not exist, and where no file is of a known type.
    """
    if not sources:
        raise RaptorError(
            "no documents were named; name at least one file, folder or pattern such as 'docs/**/*.md'"
        )
    files = [
        file for source in sources for file in files_of(source, follow_links=follow_links, picked=picked)
    ]
    taken = [file for file in files if not file.excluded]
    if files and not taken:
        raise RaptorError(f"include and exclude leave none of {len(files):,} files; mend these patterns")
    if not any(file.suffix in READERS or not file.suffix for file in taken):
        raise RaptorError(_nothing_known(sources, taken))
    return once_each(files)


def once_each(files: Sequence[SourceFile]) -> list[SourceFile]:
    """The files sorted by id, each once, named as it is first."""
    unique: dict[str, SourceFile] = {}
    # What was itself named is neither excluded nor outside; of a file and a link to it the file is read.
    for file in sorted(files, key=lambda file: (file.excluded, file.outside, file.path.is_symlink())):
        unique.setdefault(os.path.realpath(file.path), file)
    return sorted(unique.values(), key=lambda file: file.id)


def roots_of(sources: Sequence[str]) -> list[str]:
    """The folders, absolute, that files of `sources` are named below: each folder, and each pattern's fixed part."""
    bases = [Path(s) if Path(s).is_dir() else _base(s) for s in sources if _is_many(s)]
    return [str(base.resolve()) for base in bases]


def named_below(files: Sequence[SourceFile], roots: Sequence[str]) -> list[SourceFile]:
    """The files sorted by id, which of a file below one of `roots` is its path below the first that holds it."""
    return sorted((_named(file, roots) for file in files), key=lambda file: file.id)


def _named(file: SourceFile, roots: Sequence[str]) -> SourceFile:
    path = file.path.parent.resolve() / file.path.name
    root = next((root for root in roots if path.is_relative_to(root)), None)
    return file if root is None else replace(file, id=path.relative_to(root).as_posix())


def files_of(source: str, *, follow_links: bool, picked: Picked = ALL) -> list[SourceFile]:
    """The files that one source stands for, as `find` has them. Raises RaptorError where there is no such source."""
    try:
        files = _expand(source, follow_links)
        if picked != ALL and Path(source).is_dir():
            files = [replace(file, excluded=not picked.takes(file.id)) for file in files]
        return [replace(file, outside=False) for file in files] if follow_links else files
    except OSError as error:
        raise RaptorError(f"{source!r} cannot be looked at ({error.strerror}); check the path") from error
    except RecursionError as error:
        raise RaptorError(f"{source!r} holds folders nested too deep to walk; name those inside") from error


def _expand(source: str, follow_links: bool) -> list[SourceFile]:
    path = Path(source)
    if not source:
        raise RaptorError("one of the documents named is ''; name a file, a folder or a pattern")
    if path.is_dir():
        return [_below(path, file) for file in _walk(path, follow_links)]
    if path.exists():
        return [SourceFile(path, path.name)]
    if has_magic(source):
        return _matches(source, follow_links)
    raise RaptorError(f"there is no file or folder {source!r}; check the path")


def _below(folder: Path, path: Path) -> SourceFile:
    return SourceFile(path, path.relative_to(folder).as_posix(), _leads_outside(folder, path))


def _leads_outside(folder: Path, path: Path) -> bool:
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _walk(folder: Path, follow_links: bool) -> list[Path]:
    """Every file below `folder`, except in indexes; a folder that cannot be read is listed, to fail as a file.

    A link to a folder outside is listed too, unless it is followed; of one inside, the files are listed where they are.
    """
    unread: list[OSError] = []
    files: list[Path] = []
    walked = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, onerror=unread.append, followlinks=follow_links):
        below = [Path(parent, name) for name in sorted(folders) if not name.startswith(".")]
        below = [path for path in below if not _is_index(path)]
        links = [path for path in below if path.is_symlink()]
        if not follow_links:
            files += [path for path in links if _leads_outside(folder, path)]
            below, links = [path for path in below if path not in links], []
        # A link may lead to what is walked already, or back up, without end. What is no link goes first.
        new = {os.path.realpath(path): path.name for path in [*links, *(p for p in below if p not in links)]}
        folders[:] = sorted(name for real, name in new.items() if real not in walked)
        walked |= new.keys()
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(files + [Path(error.filename) for error in unread])


def _is_index(folder: Path) -> bool:
    try:
        return (folder / "CURRENT").is_file() and (folder / "generations").is_dir()
    except OSError:  # it cannot be looked into, which walking it says
        return False


def _is_many(source: str) -> bool:
    return Path(source).is_dir() or (not Path(source).exists() and has_magic(source))


def _base(pattern: str) -> Path:
    """The folder that a pattern's first parts name, up to the first with a wildcard."""
    parts = PurePath(pattern).parts
    return Path(*parts[: next(count for count, part in enumerate(parts) if has_magic(part))])


def _matches(pattern: str, follow_links: bool) -> list[SourceFile]:
    base = _base(pattern)
    files = [_below(base, path) for path in matching(pattern, follow_links=follow_links)]
    if not files:
        raise RaptorError(
            f"no file matches the pattern {pattern!r}; check it, and write ** to reach into subfolders"
        )
    return files


def matching(pattern: str, *, follow_links: bool) -> list[Path]:
    """The files that match a pattern, which may be none."""
    return [path for path in map(Path, _globbed(PurePath(pattern).parts, follow_links)) if path.is_file()]


def _globbed(parts: Sequence[str], follow_links: bool) -> list[str]:
    """What matches a pattern's parts. Of `**` the folders are walked here: glob goes through links too, and with two
    links to their own folder, through each way of a trillion."""
    if "**" not in parts:
        return glob(str(PurePath(*parts)))  # noqa: PTH207 (an absolute pattern is one too)
    at = parts.index("**")
    rest = [part for before, part in pairwise(parts[at:]) if not part == before == "**"]
    above = glob(str(PurePath(*parts[:at]))) if at else [os.curdir]  # noqa: PTH207
    folders = [folder for top in above for folder in _folders(top, follow_links)]
    return [name for folder in folders for name in _globbed([escape(folder), *(rest or ["*"])], follow_links)]


def _folders(top: str, follow_links: bool) -> list[str]:
    """A folder and all below it, each once, without those whose names start with a dot."""
    found, walked = list[str](), {os.path.realpath(top)}
    for parent, names, _ in os.walk(top, followlinks=follow_links):
        found.append(parent)
        below = {os.path.realpath(Path(parent, name)): name for name in sorted(names) if name[0] != "."}
        names[:] = [name for real, name in below.items() if real not in walked]
        walked |= below.keys()
    return found


def _nothing_known(sources: Sequence[str], files: Sequence[SourceFile]) -> str:
    where = " or ".join(repr(source) for source in sources[:3]) + (
        " or the others" if len(sources) > 3 else ""
    )
    if not files:
        return f"{where} holds no files; {KNOWN}"
    if unread := [file for file in files if file.path.is_dir()]:
        return f"{str(unread[0].path)!r} cannot be read; check its permissions"
    kinds = sorted({file.suffix or "none" for file in files})[:5]
    return f"{where} holds no file of a known type (suffixes found: {' '.join(kinds)}); {KNOWN}"
