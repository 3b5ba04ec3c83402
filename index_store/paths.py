"""Paths as text: what a pattern stands for, which file a document's source names, and what is a URL and no path.

Nothing here looks at a disk.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

#: What is meant as the URL of a store, also of none that is known: as a path it would be a folder of that name here.
#: pathlib makes one slash of two, so `Path("s3://a/b")` is taken for what it was. One letter is a drive.
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)(.*)", re.DOTALL)


def is_url(index: str | Path) -> bool:
    """Whether what names an index is meant as a URL (s3://, gs://, az://, file://, or one of no store), and no path."""
    return URL.match(str(index)) is not None


def file_of(source: str) -> str:
    """The file in the `source` of a document, which for a line of .jsonl ends with the line's number."""
    return re.sub(r"(?i)(\.jsonl):\d+\Z", r"\1", source)


def is_below(path: str | Path, roots: Iterable[str]) -> bool:
    """Whether a path lies in one of the folders `roots`, or is one."""
    return any(PurePath(path).is_relative_to(root) for root in roots)


def matches(pattern: str, path: str) -> bool:
    """Whether `glob`, with ** for any folders, would give this path for this pattern, if it were there."""
    wanted, last = PurePath(pattern).parts, len(PurePath(pattern).parts) - 1
    at = _with_none(wanted, {0})  # how many parts of the pattern may stand for the parts so far
    for part in PurePath(path).parts:
        hidden, after = part.startswith("."), set[int]()
        for i in at - {len(wanted)}:
            if wanted[i] == "**":
                after |= set() if hidden else {i, i + 1} if i == last else {i}
            elif (not hidden or wanted[i].startswith(".")) and fnmatchcase(part, wanted[i]):
                after.add(i + 1)
        at = _with_none(wanted, after)
    return len(wanted) in at


def _with_none(wanted: tuple[str, ...], at: set[int]) -> set[int]:
    """These places in a pattern, and those behind a ** that stands for no folder; at the end it stands for a file."""
    reached = set(at)
    for i in at:
        while i + 1 < len(wanted) and wanted[i] == "**" and i + 1 not in reached:
            i += 1
            reached.add(i)
    return reached
