"""Room on a disk for what would take too much memory: files without a name, which end with the process that made them.

A build keeps in them what grows with its corpus. Their pages are the operating system's to hold or to drop.
"""

import mmap
import os
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from heapq import merge
from itertools import accumulate, islice
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, TypeVar, overload

import numpy as np
import numpy.typing as npt

from index_store.errors import IndexStoreError

#: What a spool or an array holds of memory before it takes a file, in bytes: a small build needs none.
IN_MEMORY = 4 << 20
_RECORD = 64  # bytes of memory that a record takes beside its own
PIECE = 1 << 16  # numbers of an array that are worked on together

T = TypeVar("T")


class Lazy(Sequence[T]):
    """`count` values, each made by `get` from its place whenever it is asked for; a slice is a list."""

    def __init__(self, count: int, get: Callable[[int], T]) -> None:
        self._count, self._get = count, get

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self._get(i) for i in range(self._count)[place]]
        return self._get(range(self._count)[place])


def only(values: Sequence[T], fits: Callable[[T], bool]) -> Sequence[T]:
    """Those of some values that fit; each is asked for again when it is read."""
    places = [place for place, value in enumerate(values) if fits(value)]
    return Lazy(len(places), lambda place: values[places[place]])


def chained(parts: Sequence[Sequence[T]]) -> Sequence[T]:
    """The values of all parts, one after another."""
    ends = list(accumulate(map(len, parts)))

    def get(place: int) -> T:
        number = bisect_right(ends, place)
        return parts[number][place - ends[number]]

    return Lazy(ends[-1] if ends else 0, get)


class Spool:
    """Records of bytes, appended one after another and read back by their number.

    `folder`: where the file is, which is made when it is needed; None for the system's folder of such files. What was
    read stays valid. Appending raises IndexStoreError where the disk is full.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        # The last records, which are not written yet: the number of the first, they, and what they take.
        self._first, self._held, self._size = 0, list[bytes](), 0
        # The file of those that are, where each of them ends in it, and both as far as they are mapped.
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        self._written, self._map, self._ends = 0, memoryview(b""), memoryview(b"").cast("q")

    def __len__(self) -> int:
        return self._first + len(self._held)

    def append(self, record: bytes) -> None:
        """Add a record."""
        self._held.append(record)
        self._size += len(record) + _RECORD
        if self._size > IN_MEMORY:
            self._write()

    def view(self, number: int) -> memoryview:
        """The bytes of a record, without a copy."""
        if number >= self._first:
            return memoryview(self._held[number - self._first])
        if number >= len(self._ends) and self._files is not None:
            records, ends = self._files
            self._map, self._ends = _mapped(records) if self._written else self._map, _mapped(ends).cast("q")
        return self._map[self._ends[number - 1] if number else 0 : self._ends[number]]

    def whole(self) -> memoryview:
        """The bytes of all records, one after another."""
        if not self._first:
            return memoryview(b"".join(self._held))
        self._write()
        self.view(self._first - 1)
        return self._map

    def text(self, number: int) -> str:
        """A record that is a text in UTF-8."""
        return str(self.view(number), "utf-8")

    def _write(self) -> None:
        ends = array("q", accumulate(map(len, self._held), initial=self._written))[1:]
        with _disk(self._folder):
            if self._files is None:
                self._files = _nameless(self._folder), _nameless(self._folder)
                for file in self._files:
                    weakref.finalize(self, file.close)
            for file, pieces in zip(self._files, (self._held, [ends.tobytes()]), strict=True):
                file.writelines(pieces)
                file.flush()
        self._first, self._held, self._size = len(self), [], 0
        self._written = ends[-1] if ends else self._written


def _mapped(file: BinaryIO) -> memoryview:
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def room(shape: tuple[int, ...], dtype: npt.DTypeLike, folder: Path | None) -> npt.NDArray[Any]:
    """An array of zeros, mapped from a file where it is large. Raises IndexStoreError where the disk is full."""
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype)
    with _disk(folder), _nameless(folder) as file:
        _reserve(file, size)
        return np.memmap(file, dtype, "r+", shape=shape)


def taken(rows: npt.NDArray[Any], places: npt.NDArray[np.integer], folder: Path | None) -> npt.NDArray[Any]:
    """Some rows of an array."""
    found = room((len(places), *rows.shape[1:]), rows.dtype, folder)
    for some in pieces(len(places)):
        found[some] = rows[places[some]]
    return found


def pieces(count: int) -> Iterator[slice]:
    """The places 0, 1, ... below `count`, so many together as are worked on in memory."""
    return (slice(start, min(start + PIECE, count)) for start in range(0, count, PIECE))


def order_of(keys: npt.NDArray[np.integer], folder: Path | None) -> npt.NDArray[np.int64]:
    """The places of keys in their order, those of equal ones ascending: as a stable argsort, which would take many
    times the memory. `keys`: (n,) from 0, of which the largest times n is below 2**63."""
    places: npt.NDArray[np.int64] = room(keys.shape, np.int64, folder)
    for some in pieces(len(keys)):
        places[some] = keys[some].astype(np.int64) * len(keys) + np.arange(some.start, some.stop)
    places.sort()
    for some in pieces(len(keys)):
        places[some] %= len(keys)
    return places


def order_of_texts(texts: Iterable[str], folder: Path | None) -> npt.NDArray[np.int64]:
    """The places of texts in the order of their characters; those of equal ones ascending."""
    runs, places = Spool(folder), Spool(folder)
    waiting = enumerate(text.encode() for text in texts)
    while run := sorted((text, place) for place, text in islice(waiting, PIECE)):
        for text, _ in run:
            runs.append(text)
        places.append(array("q", (place for _, place in run)).tobytes())
    count = len(runs)

    def sorted_run(number: int) -> Iterator[tuple[bytes, int]]:
        for at, place in enumerate(places.view(number).cast("q"), number * PIECE):
            yield bytes(runs.view(at)), place

    order: npt.NDArray[np.int64] = room((count,), np.int64, folder)
    for at, (_, place) in enumerate(merge(*map(sorted_run, range(len(places))))):
        order[at] = place
    return order


def borders(keys: npt.NDArray[np.integer], count: int, folder: Path | None) -> npt.NDArray[np.int64]:
    """(count + 1,) where each of the keys 0, 1, ... below `count` begins among all keys in their order, and the end of
    the last."""
    found: npt.NDArray[np.int64] = room((count + 1,), np.int64, folder)
    for some in pieces(len(keys)):
        own, times = np.unique(keys[some], return_counts=True)
        found[own + 1] += times
    return np.cumsum(found, out=found)


def _reserve(file: BinaryIO, size: int) -> None:
    """Take room for a file now: where a page of a map finds none later, the process is killed without a word."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    zeros = bytes(1 << 20)
    for start in range(0, size, len(zeros)):
        file.write(zeros[: size - start])
    file.flush()


def _nameless(folder: Path | None) -> BinaryIO:
    """A file of nobody else's, which has no name where the system allows that, and is gone when it is closed."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return TemporaryFile(dir=folder)


@contextmanager
def _disk(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        where = f" in {folder}" if folder else ""
        raise IndexStoreError(
            f"cannot keep what a build works with on disk{where}: {e.strerror or e}; free disk space there, or choose "
            "another folder"
        ) from e
