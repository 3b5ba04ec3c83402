"""The shapes of the arrays on disk, and the pure arithmetic between bytes and characters."""

import numpy as np
import numpy.typing as npt

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

MARK_BYTES = 1024


def chars_before(blob: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Characters that start before byte 0, 1024, 2048, ... of a UTF-8 blob; shape (len(blob) // 1024 + 1,)."""
    marks = np.zeros(len(blob) // MARK_BYTES + 1, dtype=np.int64)
    for i in range(1, len(marks)):
        part = blob[(i - 1) * MARK_BYTES : i * MARK_BYTES]
        marks[i] = marks[i - 1] + count_chars(part)
    return marks


def count_chars(part: npt.NDArray[np.uint8]) -> int:
    """Characters that start in a piece of UTF-8: every byte that is not a continuation byte."""
    return int(np.count_nonzero((part & 0xC0) != 0x80))


def char_at(blob: npt.NDArray[np.uint8], marks: npt.NDArray[np.int64], byte: int) -> int:
    """The character offset of a byte offset that starts a character (or is the end)."""
    mark = byte // MARK_BYTES
    return int(marks[mark]) + count_chars(blob[mark * MARK_BYTES : byte])


def byte_at(blob: npt.NDArray[np.uint8], marks: npt.NDArray[np.int64], char: int) -> int:
    """The byte offset at which character `char` starts; the inverse of `char_at`."""
    mark = max(int(np.searchsorted(marks, char, side="left")) - 1, 0)
    start = mark * MARK_BYTES
    # A character can begin up to the next mark, so one stretch past it always holds the answer.
    part = blob[start : start + 2 * MARK_BYTES]
    firsts = np.flatnonzero((part & 0xC0) != 0x80)
    k = char - int(marks[mark])
    return start + int(firsts[k]) if k < len(firsts) else min(start + len(part), len(blob))
