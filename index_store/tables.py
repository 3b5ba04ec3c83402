"""The shapes of the arrays on disk, and the pure arithmetic between bytes and characters."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.spool import pieces, room

NODE = np.dtype(
    [
        ("level", "u1"),
        ("document", "<i4"),  # -1: a summary
        ("start", "<i8"),  # bytes: into text.bin for a chunk, into summaries.bin for a summary
        ("end", "<i8"),
        ("label_start", "<i8"),  # bytes into labels.bin; 0:0 for a chunk, whose label is its first words
        ("label_end", "<i8"),
        ("tokens", "<i4"),
    ]
)
# The same row for reading one: ten times as fast as numpy's record.
NODE_ROW = struct.Struct("<Biqqqqi")

MARK_BYTES = 1024
_MARKS = 4096  # that are counted together
_CONTINUATION = bytes(range(0x80, 0xC0))


def chars_before(blob: npt.NDArray[np.uint8], folder: Path | None = None) -> npt.NDArray[np.int64]:
    """Characters that start before byte 0, 1024, 2048, ... of a UTF-8 blob; shape (len(blob) // 1024 + 1,). Many are
    mapped from a file in `folder`."""
    marks = len(blob) // MARK_BYTES
    counts: npt.NDArray[np.int64] = room((marks + 1,), np.int64, folder)
    for first in range(0, marks, _MARKS):
        past = min(first + _MARKS, marks)
        starts = (blob[first * MARK_BYTES : past * MARK_BYTES] & 0xC0) != 0x80
        counts[first + 1 : past + 1] = np.count_nonzero(starts.reshape(-1, MARK_BYTES), axis=1)
    return np.cumsum(counts, out=counts)


def count_chars(part: npt.NDArray[np.uint8]) -> int:
    """Characters that start in a piece of UTF-8, that is its bytes but for continuation bytes."""
    return len(part.tobytes().translate(None, _CONTINUATION))


def char_at(blob: npt.NDArray[np.uint8], marks: npt.NDArray[np.int64], byte: int) -> int:
    """The character offset of a byte offset that starts a character (or is the end)."""
    mark, rest = divmod(byte, MARK_BYTES)
    before = int(marks[mark])
    if mark + 1 < len(marks) and int(marks[mark + 1]) - before == MARK_BYTES:
        return before + rest  # ASCII throughout
    return before + count_chars(blob[byte - rest : byte])


def chars_at(
    blob: npt.NDArray[np.uint8], marks: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """As `char_at`, of many byte offsets."""
    mark, rest = np.divmod(places, MARK_BYTES)
    chars = marks[mark] + rest
    is_ascii = np.append(np.diff(marks) == MARK_BYTES, False)[mark]
    for i in np.flatnonzero(~is_ascii & (rest > 0)).tolist():
        chars[i] = char_at(blob, marks, int(places[i]))
    return np.asarray(chars)


def byte_at(blob: npt.NDArray[np.uint8], marks: npt.NDArray[np.int64], char: int) -> int:
    """The byte offset at which character `char` starts; the inverse of `char_at`."""
    mark = max(int(np.searchsorted(marks, char, side="left")) - 1, 0)
    start = mark * MARK_BYTES
    # A character can begin up to the next mark, so one stretch past it always holds the answer.
    part = blob[start : start + 2 * MARK_BYTES]
    firsts = np.flatnonzero((part & 0xC0) != 0x80)
    k = char - int(marks[mark])
    return start + int(firsts[k]) if k < len(firsts) else min(start + len(part), len(blob))


def bytes_at(text: str, chars: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Byte offset of each character offset; a text's end counts as the offset after its last character."""
    if text.isascii():
        return chars
    raw = np.frombuffer(text.encode(), dtype=np.uint8)
    return np.append(np.flatnonzero((raw & 0xC0) != 0x80), len(raw))[chars].astype(np.int64)


def ranges(offsets: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """All places offsets[row]:offsets[row + 1] of some rows, those of the first row first."""
    starts, sizes = offsets[rows], sizes_of(offsets, rows)
    return np.asarray(np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes))


def sizes_of(offsets: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many places each of some rows has."""
    return np.asarray(offsets[rows + 1] - offsets[rows])


def each_once(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Each of some numbers once, ascending. It takes memory for the stretch that they lie in alone; to mark a million
    is faster than to sort some."""
    if not len(numbers):
        return numbers
    low = int(numbers.min())
    is_one = np.zeros(int(numbers.max()) - low + 1, dtype=np.bool_)
    is_one[numbers - low] = True
    return np.flatnonzero(is_one) + low


def save(path: Path, rows: npt.NDArray[Any], dtype: npt.DTypeLike) -> None:
    """Write an array as `numpy.save` does, as another type, a piece at a time. Raises OSError."""
    with rows_written(path, dtype, rows.shape) as write:
        for some in pieces(len(rows)):
            write(rows[some])


@contextmanager
def rows_written(
    path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> Iterator[Callable[[npt.NDArray[Any]], object]]:
    """Write an array as `numpy.save` does, from its rows as they come, a few at a time: a function that takes the next.
    Raises OSError."""
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    with path.open("wb") as file:
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda rows: file.write(np.ascontiguousarray(rows, dtype).data)
