"""reStructuredText: the text is the file's own, and its underlined titles are the sections."""

import re
from collections.abc import Iterator

from raptor.loading.plain import read_headed
from raptor.loading.types import Loaded, Section, SourceFile

_ADORNMENT = re.compile(r"([!-/:-@[-`{-~])\1+[ \t\r]*")
_SHORT = 4  # an underline that is shorter than its title counts from here on


def read_rst(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document, titled by its first heading. Raises OSError."""
    return read_headed(file, rst_sections)


def rst_sections(text: str) -> Iterator[Section]:
    """The titles of `text`; a style (its mark, whether a line stands above too) is of the level that is next."""
    lines, levels = text.split("\n"), dict[tuple[str, bool], int]()
    at, starts = 0, []
    for line in lines:
        starts.append(at)
        at += len(line) + 1
    for number in range(1, len(lines)):
        title, under = lines[number - 1], lines[number].rstrip()
        above = lines[number - 2].rstrip() if number > 1 else ""
        over = bool(above) and above == under
        if not _is_title(title, under) or not (over or (not above and title[0] not in " \t")):
            continue
        level = levels.setdefault((under[0], over), len(levels) + 1)
        yield Section(starts[number - 2 if over else number - 1], level, title.strip())


def _is_title(title: str, under: str) -> bool:
    return (
        bool(title.strip())
        and bool(_ADORNMENT.fullmatch(under))
        and not _ADORNMENT.fullmatch(title)
        and len(under) >= min(len(title.strip()), _SHORT)
    )
