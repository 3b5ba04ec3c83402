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

KEPT = 4096
# How many ids a wrong one is compared with: all of them up to here, beyond it those next to it in order.
COMPARED = 2_000
# Inside a JSON string each quote follows a backslash: so no text can hold the bytes of a name and what it names.
_META = b'"meta": {'
_OWN = {"id", "title", "source", "sha256"}

Numbers = npt.NDArray[np.int64]


class Documents(Sequence[Document]):
    """Documents in order. Raises BrokenIndex where a line is not what was written.

    `lines`: the bytes of documents.jsonl; `offsets` (n + 1,): where each line begins; `order` (n,): document
    numbers by id.
    """

    def __init__(
        self, lines: npt.NDArray[Any], offsets: npt.NDArray[Any], order: npt.NDArray[Any], path: Path
    ) -> None:
        self._lines, self._offsets, self._order, self._path = lines, offsets, order, path
        self._read = lru_cache(KEPT)(self._parsed)
        self._having = lru_cache(64)(self._pairs)

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
        """The id most like `doc`; None where none is like it."""
        place = 0 if len(self) <= COMPARED else max(self._place(doc) - COMPARED // 2, 0)
        ids = [self[self._by_id(i)].id for i in range(place, min(place + COMPARED, len(self)))]
        return next(iter(difflib.get_close_matches(doc, ids, n=1, cutoff=0.5)), None)

    def having(self, name: str, value: str | None = None) -> Numbers:
        """Numbers of the documents whose metadata has the field `name`, with this value where one is given."""
        return self._having(name, value)

    def field_names(self) -> set[str]:
        """The metadata fields of all documents; this reads each of them."""
        return {name for document in self for name in document.meta}

    def _pairs(self, name: str, value: str | None) -> Numbers:
        pair = json.dumps(name) + ": " + ('"' if value is None else json.dumps(value))
        places = [match.start() for match in re.finditer(re.escape(pair.encode()), self._lines.data)]
        numbers = np.searchsorted(self._offsets, places, side="right") - 1
        inside = (numbers >= 0) & (numbers < len(self))
        found = zip(numbers[inside].tolist(), np.array(places, dtype=np.int64)[inside].tolist(), strict=True)
        return np.array([n for n, place in found if self._is_said(n, place, name)], dtype=np.int64)

    def _is_said(self, number: int, place: int, name: str) -> bool:
        """Whether what stands at `place` is metadata, and not what every document has under that name."""
        start = int(self._offsets[number])
        return name not in _OWN or _META in bytes(self._lines.data[start:place])

    def may_say(self, numbers: Numbers, words: str) -> Iterator[int]:
        """Those of `numbers` whose line may hold `words` (case folded): an escaped letter may fold to any other."""
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
