"""Markdown: the text is the file's own, and its ATX headings are the sections."""

import re
from collections.abc import Iterator

from raptor.loading.plain import read_headed
from raptor.loading.types import Loaded, Section, SourceFile

_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t\r]|\Z)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def read_markdown(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document, titled by its first heading. Raises OSError."""
    return read_headed(file, markdown_sections)


def markdown_sections(text: str) -> Iterator[Section]:
    """The ATX headings (`# one` to `###### six`) of `text`, those inside fenced code left out."""
    at, fence = 0, ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence = mark[1]
        elif (opening := _ATX.match(line)) and (words := _heading_words(line[opening.end() :])):
            yield Section(at, len(opening[1]), words)
        at += len(line) + 1


def _heading_words(rest: str) -> str:
    """What follows the opening `#`s, without closing ones, which must stand apart."""
    words = rest.strip()
    open_end = words.rstrip("#")
    return open_end.strip() if open_end != words and open_end[-1:] in ("", " ", "\t") else words
