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
from itertools import accumulate
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
        self._ends = array("q", [0])
        # The last records, which are not written yet: the number of the first, they, and what they take.
        self._first, self._held, self._size = 0, list[bytes](), 0
        self._file: BinaryIO | None = None
        self._map = memoryview(b"")

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, record: bytes) -> None:
        """Add a record."""
        self._held.append(record)
        self._ends.append(self._ends[-1] + len(record))
        self._size += len(record) + _RECORD
        if self._size > IN_MEMORY:
            self._write()

    def view(self, number: int) -> memoryview:
        """The bytes of a record, without a copy."""
        if number >= self._first:
            return memoryview(self._held[number - self._first])
        start, end = self._ends[number], self._ends[number + 1]
        if end > len(self._map) and self._file is not None:
            self._map = memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        return self._map[start:end]

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
        with _disk(self._folder):
            if self._file is None:
                self._file = _nameless(self._folder)
                weakref.finalize(self, self._file.close)
            self._file.writelines(self._held)
            self._file.flush()
        self._first, self._held, self._size = len(self), [], 0


def strings(texts: Iterable[str], folder: Path | None) -> Sequence[str]:
    """The texts, kept in a spool and decoded when they are asked for."""
    spool = Spool(folder)
    for text in texts:
        spool.append(text.encode())
    return Lazy(len(spool), spool.text)


def room(shape: tuple[int, ...], dtype: npt.DTypeLike, folder: Path | None) -> npt.NDArray[Any]:
    """An array of zeros, mapped from a file where it is large. Raises IndexStoreError where the disk is full."""
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype)
    with _disk(folder), _nameless(folder) as file:
        _reserve(file, size)
        return np.memmap(file, dtype, "r+", shape=shape)


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
