"""The fenced blocks of a model's reply, found by one set of rules for whoever runs them and whoever shows them.

As in CommonMark 0.31, section 4.5: a fence is three or more backticks or tildes on a line of their own, perhaps with
an info string; it is closed by a line with nothing but at least as many of the same; one left open ends with the text.
Unlike there, a fence may be indented by any number of spaces, since models put code under the points of a list.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# What is repeated is never given back: a fence of a megabyte is read once.
_FENCE = re.compile(r"[ \t]*+(`{3,}+|~{3,}+)([^`]*+)")


@dataclass(frozen=True, slots=True)
class Fenced:
    """The characters `start:end` of a text, both fences and the line's end after the second included.

    `name` is the first word of the info string, in lower case; `code` what stands between the fences, without the
    margin its lines share and without empty lines around it. `closed`: False where the text ends before the fence is.
    """

    name: str
    code: str
    start: int
    end: int
    closed: bool


def fenced_blocks(text: str) -> list[Fenced]:
    """The fenced blocks of a text in order; [] where there are none."""
    return list(_blocks(text))


def without_blocks(text: str, blocks: Iterable[Fenced]) -> str:
    """The text without these of its fenced blocks, which are in order."""
    parts, at = [], 0
    for block in blocks:
        parts.append(text[at : block.start])
        at = block.end
    return "".join([*parts, text[at:]])


def _blocks(text: str) -> Iterator[Fenced]:
    name, marks, lines, start, at = "", "", list[str](), 0, 0
    for line in text.split("\n"):
        bare = line.rstrip("\r")
        fence = _FENCE.fullmatch(bare)
        info = fence[2].strip(" \t") if fence else ""
        end = min(at + len(line) + 1, len(text))
        if not marks and fence:
            name, marks, lines, start = info.lower().partition(" ")[0], fence[1], [], at
        elif marks and fence and not info and fence[1].startswith(marks):
            yield Fenced(name, _code(lines), start, end, True)
            marks = ""
        elif marks:
            lines.append(bare)
        at = end
    if marks:
        if lines:  # perhaps closed on the line of its last code
            lines[-1] = lines[-1].rstrip().removesuffix(marks)
        yield Fenced(name, _code(lines), start, len(text), False)


def _code(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines)).strip("\n")
