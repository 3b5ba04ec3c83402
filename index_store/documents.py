"""The documents of an index, a line of JSON each, read when asked for: opening many costs nothing."""

import difflib
import json
import os
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from glob import has_magic
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex, IndexStoreError
from index_store.paths import file_of, is_below, matches
from index_store.terminal import brief
from index_store.types import MOST_LEVEL, Document

LINE_BYTES = 8 << 20  # of a document: some hundred thousand headings
ID_CHARS = 1_000
_INT64 = 2**63
# Parsed documents in memory: those with short lines, and the last few with longer ones, which take a hundred MB each.
CACHED, SHORT_BYTES, CACHED_LONG = 4096, 8 << 10, 4
# An unknown id is compared with this many ids at most, those next to it in order.
COMPARED = 2_000
COMPARED_CHARS = 100_000  # of the unknown id, each time it is compared: comparing long ones takes long
# Inside a JSON string a backslash stands before each quote, so that no text contains the bytes of a key and its value.
_META = re.compile(rb'"meta": \{')
_KEYS = {
    "id",
    "title",
    "source",
    "sha256",
}  # which stand in a line outside of its metadata, with a string each

Numbers = npt.NDArray[np.int64]


class Documents(Sequence[Document]):
    """The documents of an index in order, each parsed when it is first asked for.

    `lines`: the bytes of documents.jsonl; `offsets` (n + 1,): where each line begins, and the end of the last;
    `order` (n,): document numbers sorted by id. Reading raises BrokenIndex where a line cannot be parsed.
    """

    def __init__(
        self, lines: npt.NDArray[Any], offsets: npt.NDArray[Any], order: npt.NDArray[Any], path: Path
    ) -> None:
        self._lines, self._offsets, self._order, self._path = lines, offsets, order, path
        self._read_short = lru_cache(CACHED)(self._parsed)
        self._read_long = lru_cache(CACHED_LONG)(self._parsed)
        self._having = lru_cache(64)(self._search_metadata)
        self._named = lru_cache(64)(self._search_names)

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, place: int) -> Document: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Document]: ...
    def __getitem__(self, place: int | slice) -> Document | Sequence[Document]:
        if isinstance(place, slice):
            return [self._read(i) for i in range(len(self))[place]]
        return self._read(range(len(self))[place])

    def _read(self, number: int) -> Document:
        start, end = self._line(number)
        return self._read_short(number) if end - start <= SHORT_BYTES else self._read_long(number)

    def _line(self, number: int) -> tuple[int, int]:
        """Where a document's line lies."""
        return int(self._offsets[number]), int(self._offsets[number + 1])

    def number(self, doc: str) -> int | None:
        """The number of the document with this id; None where there is none."""
        place = self._place(doc)
        if place == len(self):
            return None
        number = self._by_id(place)
        return number if self[number].id == doc else None

    def nearest_id(self, doc: str) -> str | None:
        """The id most similar to `doc`, for a hint; None where none is similar."""
        compared = min(COMPARED, COMPARED_CHARS // max(len(doc), 1))
        place = 0 if len(self) <= compared else max(self._place(doc) - compared // 2, 0)
        ids = [self[self._by_id(i)].id for i in range(place, min(place + compared, len(self)))]
        return next(iter(difflib.get_close_matches(doc, ids, n=1, cutoff=0.6)), None)

    def named(self, name: str) -> Numbers:
        """Numbers, ascending, of the documents that a name stands for: the one with this id; else those in a folder of
        ids, or that a pattern of ids fits, as in a shell; else those whose source is this file, or is in this folder,
        or fits this pattern, from the working folder. None where there is no such document."""
        number = self.number(name)
        return self._named(name) if number is None else np.array([number], dtype=np.int64)

    def _search_names(self, name: str) -> Numbers:
        plain = os.path.normpath(name) if name and "\0" not in name else "."
        if plain != ".":
            found = [number for number, document in enumerate(self) if _fits(plain, document.id)]
            here = os.path.abspath(plain)  # noqa: PTH100  (it follows no link)
            for number, document in enumerate(() if found else self):
                source = file_of(document.source).replace("\0", "?")
                if _fits(plain, os.path.normpath(source)) or _fits(here, os.path.abspath(source)):  # noqa: PTH100
                    found.append(number)
            return np.array(found, dtype=np.int64)
        return np.array([], dtype=np.int64)

    def having(self, name: str, value: str | None = None) -> Numbers:
        """Numbers, ascending, of the documents that have the metadata field `name`, with this value if one is given."""
        return self._having(name, value)

    def field_names(self) -> set[str]:
        """The names of all metadata fields; every document is parsed for this."""
        return {name for document in self for name in document.meta}

    def values(self, name: str) -> set[str]:
        """The values of the metadata field `name`; every document that has it is parsed for this."""
        metas = (self[int(number)].meta for number in self.having(name))
        return {meta[name] for meta in metas if name in meta}  # a stranger's line may have the name elsewhere

    def _search_metadata(self, name: str, value: str | None) -> Numbers:
        pair = re.compile(
            re.escape((json.dumps(name) + ": " + ('"' if value is None else json.dumps(value))).encode())
        )
        lines, at, having = self._lines.data, 0, []
        while match := pair.search(lines, at):  # once a document, however often its line has the pair
            number = int(np.searchsorted(self._offsets, match.start(), side="right")) - 1
            start, at = self._line(number)
            if name not in _KEYS or _after_meta(pair, lines, start, at):
                having.append(number)
        return np.array(having, dtype=np.int64)

    def may_contain(self, numbers: Numbers, words: str) -> Iterator[int]:
        """Those of the documents `numbers` whose line may contain `words` (case folded), without parsing it.

        A line with an escaped letter is always among them, as any letter may fold to it.
        """
        wanted = json.dumps(words)[1:-1].encode()
        lines = self._lines.data
        for number in numbers.tolist():
            start, end = self._line(number)
            line = bytes(lines[start:end])
            if b"\\u" in line or wanted in line.lower():
                yield number

    def _place(self, doc: str) -> int:
        return bisect_left(range(len(self)), doc, key=lambda place: self[self._by_id(place)].id)

    def _by_id(self, place: int) -> int:
        number = int(self._order[place])
        if not 0 <= number < len(self):
            raise BrokenIndex(f"the order of the documents beside {self._path} is damaged; build it again")
        return number

    def _parsed(self, number: int) -> Document:
        start, end = self._line(number)
        try:
            return document_in(self._lines[start:end].tobytes())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise BrokenIndex(
                f"{self._path} is damaged at document {number} ({type(e).__name__}: {e}); "
                "copy or build the index again"
            ) from e


def line_of(d: Document) -> bytes:
    """A document as a line of JSON. Raises IndexStoreError where it is longer than is read."""
    row: dict[str, Any] = {
        "id": d.id,
        "title": d.title,
        "source": d.source,
        "sha256": d.sha256,
        "chars": d.chars,
    }
    row |= {"pages": list(d.pages), "sections": d.sections, "meta": dict(sorted(d.meta.items()))}
    line = (json.dumps(row) + "\n").encode("ascii")
    if len(line) > LINE_BYTES:
        raise IndexStoreError(
            f"the headings, pages and metadata of document {d.id!r} take {len(line):,} bytes, more than the "
            f"{LINE_BYTES:,} that are read; split it"
        )
    return line


def document_in(line: bytes | memoryview) -> Document:
    """The document of a line. Raises ValueError, KeyError, TypeError, AttributeError where it is none."""
    return _document(json.loads(bytes(line)))


def _fits(name: str, path: str) -> bool:
    """Whether a path is one that is named, or below it, or fits it."""
    return is_below(path, [name]) or (has_magic(name) and matches(name, path))


def _after_meta(pair: re.Pattern[bytes], lines: Any, start: int, end: int) -> bool:
    """Whether a line has `pair` in its metadata, and not only as one of the document's own keys."""
    meta = _META.search(lines, start, end)
    return meta is not None and pair.search(lines, meta.end(), end) is not None


def _document(row: Any) -> Document:
    """A parsed line as a document. Raises ValueError, KeyError, TypeError, AttributeError where it is none."""
    document = Document(
        _text(row["id"], ID_CHARS),
        _text(row["title"]),
        _text(row["source"]),
        _text(row["sha256"]),
        _number(row["chars"]),
        tuple(_number(page) for page in row["pages"]),
        tuple(
            (_number(at), _number(level, MOST_LEVEL), _text(words)) for at, level, words in row["sections"]
        ),
        {_text(name): _text(value) for name, value in row["meta"].items()},
    )
    headings = (words for _, _, words in document.sections)
    shown = chain((document.id, document.title), headings, document.meta.keys(), document.meta.values())
    "".join(shown).encode()  # half a surrogate pair, which nothing could print, is a ValueError
    return document


def _number(value: Any, below: int = _INT64) -> int:
    if type(value) is not int or not 0 <= value < below:
        raise ValueError(f"found {brief(value)} where a number from 0 to {below - 1} belongs")
    return value


def _text(value: Any, most: int = LINE_BYTES) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"found {brief(value)} where a text of at most {most:,} characters belongs")
    return value
