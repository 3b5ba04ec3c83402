"""A sorted list of words in a file, one a line, in which one is looked up and no other decoded."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from heapq import merge
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex

# What is read of a list, which is held in memory; a million nodes have one of some MB.
MOST_BYTES, MOST_WORDS, PIECE = 256 << 20, 1 << 24, 16 << 20
# Each STEP-th word, the first MARK bytes of it, is at hand: between two of them a look takes few steps of Python.
STEP, MARK = 64, 64


# Bytes that are read of a list at a time, and, where they are many, of all lists together.
_LINES, _OF_ALL, _LEAST = 1 << 16, 1 << 23, 1 << 10


def merged(lists: Sequence[memoryview]) -> Iterator[tuple[bytes, int]]:
    """The words of several lists, in the order of their bytes, each with the number of its list; none of one that is
    empty."""
    lines = max(min(_LINES, _OF_ALL // max(len(lists), 1)), _LEAST)
    return merge(*(_numbered(raw, number, lines) for number, raw in enumerate(lists)))


def _numbered(raw: memoryview, number: int, lines: int) -> Iterator[tuple[bytes, int]]:
    start, last = 0, len(raw)
    while start <= last and raw:
        size = lines
        while (end := start + size) < last and b"\n" not in bytes(raw[start:end]):
            size *= 2
        piece = bytes(raw[start:end])
        whole = piece[: piece.rindex(b"\n")] if end < last else piece
        yield from ((line, number) for line in whole.split(b"\n"))
        start += len(whole) + 1


class WordList:
    """`count` words, in the order of their bytes. `listed`: them, where they are in memory; else `path` is read once.

    Looking up raises BrokenIndex where there are more or fewer words.
    """

    def __init__(self, path: Path, count: int, listed: bytes | None = None) -> None:
        self._path, self._count, self._in_memory = path, count, listed

    def place(self, word: str) -> int | None:
        """The place of a word in the list, from 0; None where it is not there."""
        raw, starts = self._lines
        wanted = word.encode("utf-8", "surrogatepass")

        def listed(place: int) -> bytes:  # no more of it than decides
            return raw[starts[place] : min(starts[place + 1] - 1, starts[place] + len(wanted) + 1)]

        last = len(starts) - 1
        low = max(bisect_left(self._marks, wanted[:MARK]) - 1, 0) * STEP
        high = min(bisect_right(self._marks, wanted[:MARK]) * STEP, last)
        at = bisect_left(range(last), wanted, low, high, key=listed)
        return at if at < last and listed(at) == wanted else None

    def word(self, place: int, most: int) -> str:
        """The word at a place, from 0; of a stranger's that is longer the first `most` bytes."""
        raw, starts = self._lines
        start = int(starts[place])
        return raw[start : min(int(starts[place + 1]) - 1, start + most)].decode("utf-8", "ignore")

    @cached_property
    def _marks(self) -> list[bytes]:
        raw, starts = self._lines
        return [
            raw[start : min(end - 1, start + MARK)]
            for start, end in zip(starts[:-1:STEP].tolist(), starts[1::STEP].tolist(), strict=True)
        ]

    @cached_property
    def _lines(self) -> tuple[bytes, npt.NDArray[np.int64]]:
        """The list, and where each line of it begins, with the end of the last."""
        raw = self._file() if self._in_memory is None else self._in_memory
        count = raw.count(b"\n") + 1
        if count != self._count or count > MOST_WORDS:
            raise BrokenIndex(
                f"{self._path} has {count:,} words, expected {self._count:,}, of {MOST_WORDS:,} at most; "
                "build the index again"
            )
        listed = np.frombuffer(raw, dtype=np.uint8)
        newlines = [i + np.flatnonzero(listed[i : i + PIECE] == ord("\n")) for i in range(0, len(raw), PIECE)]
        return raw, np.concatenate([[0], *(part + 1 for part in newlines), [len(raw) + 1]])

    def _file(self) -> bytes:
        if (size := self._path.stat().st_size) > MOST_BYTES:
            raise BrokenIndex(
                f"{self._path} has {size:,} bytes, more than the {MOST_BYTES:,} that are read; build the index again"
            )
        return self._path.read_bytes()
