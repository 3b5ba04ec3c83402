"""A text file read as a tree of one level, held in memory: its chunks under one root, no vectors, no summaries.

Nothing is built and nothing is written. Offsets are those of the file's own text: no character is changed.
"""

import codecs
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store import lexical
from index_store.documents import Documents
from index_store.errors import BadQuery, BrokenIndex
from index_store.manifest import FileEntry, Manifest
from index_store.reader import Index, open_index
from index_store.search import NO_VECTORS
from index_store.tables import MARK_BYTES, NODE, chars_before, count_chars
from index_store.types import Document

MAX_BYTES = 256 << 20  # it is held in memory; an index is mapped
CHUNK_BYTES = 1_000  # about 200 words of English
HEAD_BYTES = 400
_BREAKS = (b"\n\n", b"\n\r\n", b"\n", b" ")
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def open_any(path: str | Path) -> Index:
    """The index in a folder, or a text file as a tree of one level. Raises BrokenIndex, in one sentence."""
    return open_index(path) if os.path.isdir(path) else open_text(path)  # noqa: PTH112  (it never raises)


def open_text(path: str | Path) -> "PlainText":
    """A UTF-8 text file as a tree of one level. Raises BrokenIndex, in one sentence, for all that is none."""
    path = Path(path)
    raw = _read(path)
    if fault := _fault(raw):
        raise BrokenIndex(f"cannot read {path} as text: {fault}")
    return PlainText(path, raw)


def _read(path: Path) -> bytes:
    """The bytes of a regular file, and never more of them than are let in."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer would wait for one
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
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return (
                f"it is {name} by its byte order mark, not UTF-8; convert it with: iconv -f {name} -t UTF-8"
            )
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


class PlainText(Index):
    """The text as an index: level 0 are its chunks, level 1 is the file. The digest is the sha256 of the file."""

    def __init__(self, path: Path, raw: bytes) -> None:
        self._raw = np.frombuffer(raw, dtype=np.uint8)
        starts = np.array(list(cuts(raw)), dtype=np.int64)
        marks = chars_before(self._raw)
        chars = int(marks[-1]) + count_chars(self._raw[len(raw) // MARK_BYTES * MARK_BYTES :])
        self._document = _document(path, raw, chars)
        self._root_text = _said(self._document, raw, len(starts)).encode()
        file = FileEntry(len(raw), self._document.sha256)
        manifest = Manifest(
            0,
            None,
            1,
            (len(starts), 1),
            {},
            {"chunk_bytes": CHUNK_BYTES},
            {"text.bin": file},
            digest=file.sha256,
        )
        super().__init__(path, path, manifest, self._tables(starts, marks))

    def _tables(self, starts: npt.NDArray[np.int64], marks: npt.NDArray[np.int64]) -> dict[str, Any]:
        n0, size, row = len(starts), len(self._raw), self._document_line
        return {
            "documents_lines.npy": np.array([0, len(row)]),
            "documents_order.npy": np.zeros(1, dtype=np.int32),
            "documents_text.npy": np.array([0, size]),
            "text_marks.npy": marks,
            "nodes.npy": self._rows(starts),
            "children.npy": np.arange(n0, dtype=np.int32),
            "children_offsets.npy": np.append(np.zeros(n0 + 1, dtype=np.int64), n0),
            "parents.npy": np.full(n0, n0, dtype=np.int32),
            "parents_offsets.npy": np.append(np.arange(n0 + 1), n0),
            "vectors.npy": np.empty((n0 + 1, 0), dtype=np.float32),
        }

    def _rows(self, starts: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        rows = np.zeros(len(starts) + 1, dtype=NODE)
        rows["start"][:-1], rows["end"][:-1] = starts, np.append(starts[1:], len(self._raw))
        rows["end"][-1], rows["label_end"][-1] = len(self._root_text), len(self._labels)
        rows["level"][-1], rows["document"][-1] = 1, -1
        rows["tokens"] = (rows["end"] - rows["start"] + 3) // 4  # a rule of thumb: no embedder counts them
        return rows

    @property
    def _document_line(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(json.dumps(asdict(self._document)).encode(), dtype=np.uint8)

    @cached_property
    def whole(self) -> str:
        """The file's text."""
        return self._raw.tobytes().decode()

    # -- where an index has files ------------------------------------------------------------------------

    @cached_property
    def documents(self) -> Documents:
        a = self._arrays
        return Documents(self._document_line, a["documents_lines.npy"], a["documents_order.npy"], self.path)

    @cached_property
    def _text(self) -> npt.NDArray[np.uint8]:
        return self._raw

    @cached_property
    def _summaries(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._root_text, dtype=np.uint8)

    @cached_property
    def _labels(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._document.title.encode(), dtype=np.uint8)

    @cached_property
    def lexicon(self) -> lexical.Lexicon:
        """Made at the first search: for a large text it takes seconds, and not every question searches."""
        texts = (self.text_at(number) for number in range(self.levels[0]))
        scores, nodes, offsets, listed = lexical.columns(texts)
        return lexical.Lexicon(scores, nodes, offsets, self.path, listed)

    def embed_queries(self, queries: Sequence[str]) -> npt.NDArray[np.float32]:
        raise BadQuery(NO_VECTORS.format(path=self.path))


def _document(path: Path, raw: bytes, chars: int) -> Document:
    name = path.name.encode("utf-8", "replace").decode()
    return Document(name, name, str(path), hashlib.sha256(raw).hexdigest(), chars)


def _said(document: Document, raw: bytes, chunks: int) -> str:
    """What stands in place of a summary: how large the text is, and how it begins."""
    lines = raw.count(b"\n") + (not raw.endswith(b"\n"))
    size = f"{document.chars:,} characters in {lines:,} lines, cut into {chunks:,} chunks"
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
