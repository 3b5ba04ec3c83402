"""The documents of an index, a line of JSON each, read when asked for: opening many costs nothing."""

import difflib
import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex
from index_store.types import Document

CACHED = 4096  # parsed documents in memory
# An unknown id is compared with this many ids at most, those next to it in order.
COMPARED = 2_000
# Inside a JSON string a backslash stands before each quote, so that no text contains the bytes of a key and its value.
_META = b'"meta": {'
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
        self._read = lru_cache(CACHED)(self._parsed)
        self._having = lru_cache(64)(self._search_metadata)

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

    def number(self, doc: str) -> int | None:
        """The number of the document with this id; None where there is none."""
        place = self._place(doc)
        if place == len(self):
            return None
        number = self._by_id(place)
        return number if self[number].id == doc else None

    def nearest_id(self, doc: str) -> str | None:
        """The id most similar to `doc`, for a hint; None where none is similar."""
        place = 0 if len(self) <= COMPARED else max(self._place(doc) - COMPARED // 2, 0)
        ids = [self[self._by_id(i)].id for i in range(place, min(place + COMPARED, len(self)))]
        return next(iter(difflib.get_close_matches(doc, ids, n=1, cutoff=0.5)), None)

    def having(self, name: str, value: str | None = None) -> Numbers:
        """Numbers, ascending, of the documents that have the metadata field `name`, with this value if one is given."""
        return self._having(name, value)

    def field_names(self) -> set[str]:
        """The names of all metadata fields; every document is parsed for this."""
        return {name for document in self for name in document.meta}

    def _search_metadata(self, name: str, value: str | None) -> Numbers:
        pair = json.dumps(name) + ": " + ('"' if value is None else json.dumps(value))
        places = [match.start() for match in re.finditer(re.escape(pair.encode()), self._lines.data)]
        numbers = np.searchsorted(self._offsets, places, side="right") - 1
        inside = (numbers >= 0) & (numbers < len(self))
        matches = zip(
            numbers[inside].tolist(), np.array(places, dtype=np.int64)[inside].tolist(), strict=True
        )
        return np.array([n for n, place in matches if self._in_metadata(n, place, name)], dtype=np.int64)

    def _in_metadata(self, number: int, place: int, name: str) -> bool:
        """Whether the field `name` at byte `place` is one of the metadata, and not the document's own key."""
        start = int(self._offsets[number])
        return name not in _KEYS or _META in bytes(self._lines.data[start:place])

    def may_contain(self, numbers: Numbers, words: str) -> Iterator[int]:
        """Those of the documents `numbers` whose line may contain `words` (case folded), without parsing it.

        A line with an escaped letter is always among them, as any letter may fold to it.
        """
        wanted = json.dumps(words)[1:-1].encode()
        lines = self._lines.data
        for number in numbers.tolist():
            line = bytes(lines[int(self._offsets[number]) : int(self._offsets[number + 1])])
            if b"\\u" in line or wanted in line.lower():
                yield number

    def _damage(self, number: int, error: Exception) -> BrokenIndex:
        return BrokenIndex(
            f"{self._path} is damaged at document {number} ({type(error).__name__}: {error}); "
            "copy or build the index again"
        )

    def _place(self, doc: str) -> int:
        return bisect_left(range(len(self)), doc, key=lambda place: self[self._by_id(place)].id)

    def _by_id(self, place: int) -> int:
        number = int(self._order[place])
        if not 0 <= number < len(self):
            raise BrokenIndex(f"the order of the documents beside {self._path} is damaged; build it again")
        return number

    def _parsed(self, number: int) -> Document:
        line = self._lines[int(self._offsets[number]) : int(self._offsets[number + 1])].tobytes()
        try:
            row = json.loads(line)
            sections = tuple((int(start), int(level), str(words)) for start, level, words in row["sections"])
            meta = {str(name): str(value) for name, value in row["meta"].items()}
            return Document(
                str(row["id"]),
                str(row["title"]),
                str(row["source"]),
                str(row["sha256"]),
                int(row["chars"]),
                tuple(int(p) for p in row["pages"]),
                sections,
                meta,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as e:
            raise self._damage(number, e) from e
