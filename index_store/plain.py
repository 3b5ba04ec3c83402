"""A text file read as a tree of one level, held in memory: its chunks under one root, no vectors, no summaries.

Nothing is built and nothing is written. Offsets are those of the file's own text: no character is changed.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex
from index_store.files import byte_order_fault, opening
from index_store.store import Store
from index_store.tables import MARK_BYTES, NODE, chars_before, count_chars
from index_store.terminal import count
from index_store.types import Document

MAX_BYTES = 256 << 20  # it is held in memory; an index is mapped
CHUNK_BYTES = 1_000  # about 200 words of English
HEAD_BYTES = 400
_BREAKS = (b"\n\n", b"\n\r\n", b"\n", b" ")


def read_text_file(path: Path) -> bytes:
    """The bytes of a UTF-8 text file. Raises BrokenIndex where it cannot be read, is no such text, or is too large."""
    raw = _read(path)
    if fault := _fault(raw):
        raise BrokenIndex(f"cannot read {path} as text: {fault}")
    return raw


def _read(path: Path) -> bytes:
    """The bytes of a regular file; of one with more than MAX_BYTES no more than that is read."""
    try:
        handle = os.open(path, opening("RDONLY", "NONBLOCK"))  # a pipe without a writer would wait for one
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise BrokenIndex(f"{path} is neither a file nor a folder; name a text file or an index")
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as e:
        raise BrokenIndex(
            f"there is no index folder at {path}, and no text file; "
            f"build an index with: raptor build SOURCE -o {path}"
        ) from e
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) and e.strerror else e
        raise BrokenIndex(f"cannot read {path}: {why}; name a text file or an index") from e
    if len(raw) > MAX_BYTES:
        raise BrokenIndex(
            f"{path} has more than {MAX_BYTES:,} bytes; build an index of it: raptor build {path} -o INDEX"
        )
    return raw


def _fault(raw: bytes) -> str:
    """Why the bytes are no text; "" where they are."""
    if fault := byte_order_fault(raw):
        return fault
    if (nul := raw.find(0)) >= 0:
        return (
            f"it holds a NUL at byte {nul:,}, so it is binary; raptor build reads PDF, HTML and office files"
        )
    try:
        blank = not raw.decode().strip()
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        return f"it is not UTF-8 (byte 0x{raw[e.start]:02x} at byte {e.start:,}, line {line:,}); convert it with iconv"
    return "it holds no text; check that the right file was named" if blank else ""


def store_of(path: Path, raw: bytes) -> tuple[Store, str]:
    """What the tree of a text is read from, and the sha256 of its bytes. Level 0: its chunks. Level 1: the whole."""
    text = np.frombuffer(raw, dtype=np.uint8)
    starts = np.array(list(cuts(raw)), dtype=np.int64)
    marks = chars_before(text)
    chars = int(marks[-1]) + count_chars(text[len(raw) // MARK_BYTES * MARK_BYTES :])
    document = _document(path, raw, chars)
    summary, label = _summary(document, raw, len(starts)).encode(), document.title.encode()
    line = json.dumps(asdict(document)).encode()
    arrays = {
        "documents_lines.npy": np.array([0, len(line)]),
        "documents_order.npy": np.zeros(1, dtype=np.int32),
        "documents_text.npy": np.array([0, len(raw)]),
        "text_marks.npy": marks,
        "nodes.npy": _rows(starts, len(raw), len(summary), len(label)),
        **_edges(len(starts)),
        "vectors.npy": np.empty((len(starts) + 1, 0), dtype=np.float32),
    }
    summaries, labels, lines = (np.frombuffer(blob, dtype=np.uint8) for blob in (summary, label, line))
    return Store(path, path, (len(starts), 1), 1, arrays, text, summaries, labels, lines), document.sha256


def _rows(starts: npt.NDArray[np.int64], size: int, summary: int, label: int) -> npt.NDArray[Any]:
    """The table of nodes; `size`, `summary` and `label` are lengths in bytes."""
    rows = np.zeros(len(starts) + 1, dtype=NODE)
    rows["start"][:-1], rows["end"][:-1] = starts, np.append(starts[1:], size)
    rows["end"][-1], rows["label_end"][-1] = summary, label
    rows["level"][-1], rows["document"][-1] = 1, -1
    rows["tokens"] = (
        rows["end"] - rows["start"] + 3
    ) // 4  # a rule of thumb, as there is no embedder to count them
    return rows


def _edges(chunks: int) -> dict[str, npt.NDArray[Any]]:
    """All chunks under one root."""
    return {
        "children.npy": np.arange(chunks, dtype=np.int32),
        "children_offsets.npy": np.append(np.zeros(chunks + 1, dtype=np.int64), chunks),
        "parents.npy": np.full(chunks, chunks, dtype=np.int32),
        "parents_offsets.npy": np.append(np.arange(chunks + 1), chunks),
    }


def _document(path: Path, raw: bytes, chars: int) -> Document:
    name = path.name.encode("utf-8", "replace").decode()
    return Document(name, name, str(path), hashlib.sha256(raw).hexdigest(), chars)


def _summary(document: Document, raw: bytes, chunks: int) -> str:
    """What stands in place of a summary: how large the text is, and how it begins."""
    lines = raw.count(b"\n") + (not raw.endswith(b"\n"))
    held, cut = count(document.chars, "character"), count(chunks, "chunk")
    size = f"{held} in {count(lines, 'line')}, cut into {cut}"
    head = raw[:HEAD_BYTES].decode("utf-8", "ignore")
    return f"{document.title}: a text of {size}; it has no summaries. It begins:\n{head}"


def cuts(raw: bytes) -> Iterator[int]:
    """Where each chunk of UTF-8 text begins, in bytes: the chunks tile it, none is longer than CHUNK_BYTES.

    A chunk ends after the last blank line in its second half, else after a line, else after a word; where there
    is none of them, between two characters.
    """
    start = 0
    while start < len(raw):
        yield start
        start = _cut(raw, start)


def _cut(raw: bytes, start: int) -> int:
    end = start + CHUNK_BYTES
    if end >= len(raw):
        return len(raw)
    for mark in _BREAKS:
        if (at := raw.rfind(mark, start + CHUNK_BYTES // 2, end)) >= 0:
            return at + len(mark)
    while raw[end] & 0xC0 == 0x80:
        end -= 1
    return end
