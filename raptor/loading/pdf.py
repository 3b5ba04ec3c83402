"""PDF: the text that can be extracted of each page, in order; its outline, or else large print, are its sections."""

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from index_store.terminal import count
from raptor.loading.types import (
    MAX_PACKED_BYTES,
    Failure,
    Loaded,
    Section,
    SourceFile,
    Text,
    TooLarge,
    own_title,
    title_of,
)

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

MAX_PAGES = 20_000
_MAX_HEADINGS = 10_000
_LARGE = 1.15  # times the size of most of the text: a heading, if it is short
_HEADING_CHARS = 150
_LOCKED = "it is encrypted; decrypt it first, for example with: qpdf --decrypt, or give --password"
_WRONG = "it is encrypted, and --password does not open it; check it, or leave the file out"
_NO_AES = (
    "it is encrypted with AES, which takes a package that is not installed; "
    "install it with: pip install 'raptor-rlm[pdf]'"
)
_GAP = re.compile(r"(?<=\S) {2,}(?=\S)")
_MIN_ROWS = 3
_CELL_CHARS = 40  # columns of prose are wider than those of a table


@dataclass(slots=True)
class _Page:
    """The text of a page, and its runs of characters with the size that they are printed in."""

    text: str
    runs: list[tuple[float, str]] = field(default_factory=list)


def read_pdf(file: SourceFile) -> Iterator[Loaded]:
    """The file as one document, with the place where each page starts."""
    from pypdf.errors import DependencyError

    try:
        with _quiet("pypdf"):
            yield _pdf(file)
    except DependencyError:
        yield Failure(str(file.path), _NO_AES)
    except TooLarge:
        raise
    # A parser of hostile files fails in ways its own base error does not cover (KeyError, RecursionError, ...).
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {str(error)[:200]}".split())
        yield Failure(
            str(file.path), f"it cannot be read as PDF ({fault}); open it in a viewer and print it anew"
        )


def _pdf(file: SourceFile) -> Loaded:
    reader = _opened(file)
    source = str(file.path)
    if isinstance(reader, Failure):
        return reader
    if len(reader.pages) > MAX_PAGES:
        return Failure(source, f"it has {len(reader.pages):,} pages, more than {MAX_PAGES:,}; split it")
    pages = [_page(page) for page in reader.pages]
    texts = [page.text for page in pages]
    starts = page_starts(texts)
    empty = [number for number, text in enumerate(texts, 1) if not text.strip()]
    sections: list[Section] = []
    with suppress(Exception):  # a damaged outline is none
        sections = _outline(reader, texts, starts)
    sections = sections or _large_print(pages, starts)
    title = storable(str((reader.metadata and reader.metadata.title) or ""))
    notes = (without_text(empty, len(pages)),) if empty else ()
    title = title_of(own_title(title), file.path.name)
    return Text(file.id, title, source, "\n".join(texts), starts, tuple(sections), notes=notes)


def _opened(file: SourceFile) -> "PdfReader | Failure":
    from pypdf import PasswordType, PdfReader

    reader = PdfReader(io.BytesIO(file.raw(MAX_PACKED_BYTES)))
    if not reader.is_encrypted or reader.decrypt("") != PasswordType.NOT_DECRYPTED:
        return reader
    if not file.password:
        return Failure(str(file.path), _LOCKED)
    wrong = reader.decrypt(file.password) == PasswordType.NOT_DECRYPTED
    return Failure(str(file.path), _WRONG) if wrong else reader


def page_starts(pages: Sequence[str]) -> tuple[int, ...]:
    """The character offset of each page in the pages joined by line ends."""
    starts = [0]
    for page in pages[:-1]:
        starts.append(starts[-1] + len(page) + 1)
    return tuple(starts)


def without_text(empty: Sequence[int], pages: int) -> str:
    """What to tell of pages, from 1, that hold no text."""
    what = (
        f"its {count(pages, 'page holds', 'pages hold')} no text, perhaps scanned images"
        if len(empty) == pages
        else f"it holds no text on page{'s' if len(empty) > 1 else ''} {ranges(empty)} of {pages:,}, "
        "which may be scanned"
    )
    return f"{what}; install tesseract, and pip install 'raptor-rlm[ocr]', to have them read"


def page_picture(file: SourceFile, number: int) -> bytes:
    """The largest picture on a page, counted from 1, as PNG in shades of grey; b"" where there is none that opens."""
    try:
        with _quiet("pypdf"):
            reader = _opened(file)
            if isinstance(reader, Failure):
                return b""
            page = reader.pages[number - 1]
            pictures = [item.image for item in page.images if item.image is not None]
            largest = max(pictures, key=lambda image: image.width * image.height)
            out = io.BytesIO()
            largest.convert("L").rotate(-page.rotation, expand=True).save(out, "PNG")
            return out.getvalue()
    except Exception:  # as above; the page then is one without text
        return b""


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as people write them: `3, 7-9`."""
    groups = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in group] for _, group in groups]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


# -- pages -------------------------------------------------------------------------------------------------


def _page(page: "PageObject") -> _Page:
    runs: list[tuple[float, str]] = []

    def seen(text: str, outer: Sequence[float], inner: Sequence[float], _: Any, size: float) -> None:
        if text.strip():
            runs.append((round(size * _scale(outer) * _scale(inner), 1), text))

    text = storable(page.extract_text(visitor_text=seen))
    rows: list[str] = []
    if _is_chopped(text):
        with suppress(
            Exception
        ):  # the layout is pypdf's guess, and fails on pages that its text does not fail on
            rows = _rows(storable(page.extract_text(extraction_mode="layout")))
    return _Page("\n".join(rows) if rows and _same_words(rows, text) else text, runs)


def _scale(matrix: Sequence[float]) -> float:
    return float((matrix[2] ** 2 + matrix[3] ** 2) ** 0.5)


def _is_chopped(text: str) -> bool:
    """Whether a good part of a page is short lines one after another, as the cells of a table are."""
    lines = [line for line in text.split("\n") if line.strip()]
    return (
        sum(len(a) <= _CELL_CHARS and len(b) <= _CELL_CHARS for a, b in pairwise(lines)) >= 2 * _MIN_ROWS - 1
    )


def _rows(layout: str) -> list[str]:
    """The lines of a page as they stand on it, cells apart by tabs; [] where no lines of it are rows of a table."""
    rows = [_GAP.split(line.strip()) for line in layout.split("\n")]
    groups = [(is_row, list(group)) for is_row, group in groupby(rows, key=_is_row)]
    tables = [is_row and len(group) >= _MIN_ROWS for is_row, group in groups]
    lines = (
        ("\t" if is_table else " ").join(row)
        for is_table, (_, group) in zip(tables, groups, strict=True)
        for row in group
    )
    return list(lines) if any(tables) else []


def _is_row(cells: Sequence[str]) -> bool:
    return len(cells) > 1 and max(map(len, cells)) <= _CELL_CHARS


def _same_words(rows: Sequence[str], text: str) -> bool:
    """Whether the lines hold the characters of the text, neither fewer nor more, in whatever order."""
    return Counter("".join("".join(rows).split())) == Counter("".join(text.split()))


# -- sections ----------------------------------------------------------------------------------------------


def _outline(reader: "PdfReader", texts: Sequence[str], starts: Sequence[int]) -> list[Section]:
    """The entries of the outline, each where its words stand on its page, or else at the start of that."""
    sections: list[Section] = []
    for level, entry in _entries(reader.outline, 1):
        number = reader.get_destination_page_number(entry)
        words = title_of(storable(str(entry.title or "")))
        if number is not None and 0 <= number < len(texts) and words and len(sections) < _MAX_HEADINGS:
            at = _place(words, texts[number], 0)
            sections.append(Section(starts[number] + max(at, 0), min(level, 6), words))
    return sorted(sections, key=lambda section: section.start)


def _entries(outline: Sequence[Any], level: int) -> Iterator[tuple[int, Any]]:
    for entry in outline:
        if isinstance(entry, list):
            yield from _entries(entry, level + 1)
        else:
            yield level, entry


def _large_print(pages: Sequence[_Page], starts: Sequence[int]) -> list[Section]:
    """Short lines in print larger than most of the text; the larger, the further out."""
    chars = Counter[float]()
    for page in pages:
        for size, text in page.runs:
            chars[size] += len(text)
    body = chars.most_common(1)[0][0] if chars else 0.0
    found: list[tuple[float, int, str]] = []
    for page, start in zip(pages, starts, strict=True):
        at = 0
        for size, group in groupby(page.runs, key=lambda run: run[0]):
            words = " ".join("".join(text for _, text in group).split())
            if size > _LARGE * body and len(words) <= _HEADING_CHARS and any(map(str.isalpha, words)):
                place = _place(storable(words), page.text, at)
                if place >= 0:
                    found.append((size, start + place, title_of(storable(words))))
                    at = place + len(words)
    levels = {size: level for level, size in enumerate(sorted({f[0] for f in found}, reverse=True), 1)}
    return [Section(at, min(levels[size], 6), words) for size, at, words in found[:_MAX_HEADINGS]]


def _place(words: str, text: str, at: int) -> int:
    """Where words stand in a text from `at` on, whatever white space is between them; -1 where they do not."""
    match = re.compile(r"\s+".join(map(re.escape, words.split()))).search(text, at)
    return match.start() if match else -1


def storable(text: str) -> str:
    """Extracted text that can be stored: surrogate pairs joined, stray halves replaced, NULs dropped."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "")


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a library's remarks on a damaged file off a terminal that asked for no log; what matters is raised."""
    logger, nowhere = logging.getLogger(name), logging.NullHandler()
    logger.addHandler(nowhere)
    try:
        yield
    finally:
        logger.removeHandler(nowhere)
