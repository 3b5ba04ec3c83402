"""Where a passage stands, in words: the title of its document, the headings over it, its page."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from index_store.types import Document

ARROW = " › "
DEEPEST = 3  # headings that are told of a path, the innermost
HEADING_CHARS, TITLE_CHARS = 120, 200  # of each
PLACE_CHARS = 200  # of a place in a prompt
LABEL_CHARS, LABEL_PATH_CHARS, LABEL_PART_CHARS = 100, 60, 32
_MARKS = re.compile(
    r"[^\w\"'“‘(\[¿¡$€£§+-]+|[-+](?!\d)"
)  # of lists, headings and quotes, before a line's own words
_NO_BRACKETS = str.maketrans("<>[]", "‹›()")


@dataclass(frozen=True)
class Outline:
    """A document's title, headings and pages, laid out so that telling of one place takes no look at all others."""

    document: Document

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _, _ in self.document.sections]

    @cached_property
    def _above(self) -> list[int]:
        """For each heading the place of the one that it stands under; -1 for none."""
        above, opened = list[int](), list[int]()
        levels = [level for _, level, _ in self.document.sections]
        for place, level in enumerate(levels):
            while opened and levels[opened[-1]] >= level:
                opened.pop()
            above.append(opened[-1] if opened else -1)
            opened.append(place)
        return above

    def path(self, at: int) -> tuple[str, ...]:
        """The headings over character `at`, outermost first."""
        place, path = bisect_right(self._starts, at) - 1, list[str]()
        while place >= 0:
            path.append(self.document.sections[place][2])
            place = self._above[place]
        return tuple(reversed(path))

    def page(self, at: int) -> int | None:
        """The page, from 1, of character `at`; None where the document has no pages."""
        return bisect_right(self.document.pages, at) if self.document.pages else None

    @property
    def title(self) -> str:
        """The title in a prompt: as in `place`."""
        return in_place(self.document.title)

    def parts(self, at: int) -> list[str]:
        """The title and the innermost headings over character `at`, each on one line; none of them twice."""
        headings = (shortened(heading, HEADING_CHARS) for heading in self.path(at)[-DEEPEST:])
        parts = (shortened(self.document.title, TITLE_CHARS), *headings)
        return list({part.casefold(): part for part in reversed(parts) if part}.values())[::-1]

    def heading(self, at: int) -> str:
        """`Title › Section` over character `at`, which leads what is embedded and searched there; "" for none."""
        return ARROW.join(self.parts(at))

    def place(self, at: int) -> str:
        """`Title › Section, page 3`: where a passage that starts at `at` stands, for a model that reads it."""
        heading, page = in_place(self.heading(at)), self.page(at)
        return ", ".join(part for part in (heading, f"page {page}" if page else "") if part)

    def label(self, text: str, start: int) -> str:
        """`Title › Section: first words` of a passage whose text, from character `start`, begins with `text`.

        The words are of its first line that is not itself one of these headings; a heading that they begin with is
        left out, so that nothing is said twice.
        """
        at, words = self._first_words(text, start)
        parts = [part for part in self.parts(at) if not _begins_with(words, part)]
        path = _fitting(parts)
        left = LABEL_CHARS - len(path) - 2
        return ": ".join(part for part in (path, shortened(words, left)) if part)

    def _first_words(self, text: str, start: int) -> tuple[int, str]:
        """The first line that says more than the headings over it, and the character where it begins."""
        lines = [
            (line.start() + start, _unmarked(line[0]))
            for line in re.finditer(r"[^\r\n\u2028\u2029\f]+", text)
        ]
        lines = [(at, words) for at, words in lines if any(map(str.isalnum, words))]
        for at, words in lines:
            if words.casefold() not in {part.casefold() for part in self.parts(at)}:
                return at, words
        return (lines[0][0], "") if lines else (start, "")


def in_place(words: str) -> str:
    """Words as they may stand in the line that marks a passage: short, and without brackets, as marks have them."""
    return shortened(words.translate(_NO_BRACKETS), PLACE_CHARS)


def shortened(words: str, chars: int) -> str:
    """The words on one line, cut between two of them, where that is possible, to so many characters."""
    words = _line(words[: 4 * chars + 80])
    if len(words) <= chars:
        return words
    cut = words[: max(chars - 1, 0)]
    whole = cut if words[len(cut) : len(cut) + 1] == " " else cut.rpartition(" ")[0]
    return f"{(whole if 2 * len(whole) > len(cut) else cut).rstrip(' ,;:.–—-')}…"


def _fitting(parts: Sequence[str]) -> str:
    """The path as it leads a label: of a long one the ends are kept, and each is shortened."""
    path = ARROW.join(parts)
    if len(path) <= LABEL_PATH_CHARS:
        return path
    if len(parts) == 1:
        return shortened(path, LABEL_PATH_CHARS)
    return ARROW.join(shortened(part, LABEL_PART_CHARS) for part in (parts[0], parts[-1]))


def _line(words: str) -> str:
    return " ".join(words.split())


def _unmarked(line: str) -> str:
    """A line without what marks it as a heading, an item or emphasis."""
    words = _line(line.replace("**", "").replace("`", ""))
    mark = _MARKS.match(words)
    return words[mark.end() if mark else 0 :].rstrip("#* ")


def _begins_with(words: str, part: str) -> bool:
    rest = words[len(part) :]
    return words.casefold().startswith(part.casefold()) and not rest[:1].isalnum()
