"""Publish a generation: write beside the old one, sync, then switch by one atomic rename.

The only place that changes an index folder. A reader sees the old generation or the new one, never a mix;
a writer that dies leaves a `*.partial` folder which the next publish removes.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store import lexical
from index_store.errors import BrokenIndex, IndexStoreError
from index_store.manifest import FILES, FileEntry, Manifest, digest_of, dumps, loads
from index_store.manifest import NAME as MANIFEST
from index_store.reader import CURRENT, current_generation, generation_folder
from index_store.tables import NODE, chars_before
from index_store.types import Document


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything a generation holds, in memory, nodes ordered by level, leaves in document order.

    documents   (Document, canonical text) pairs
    chunks      (n0, 3) int64: document number, start, end in characters; spans tile each document
    labels      n - n0 strings: the summaries' labels
    summaries   n - n0 strings: the summaries' texts
    levels      nodes at each level; the last is 1
    children    n - n0 arrays of node numbers, each from the level below
    tokens      (n,) int: tokens of each node as the embedder counts them
    vectors     (n, dim) float32 unit rows
    """

    documents: Sequence[tuple[Document, str]]
    chunks: npt.NDArray[np.int64]
    labels: Sequence[str]
    summaries: Sequence[str]
    levels: Sequence[int]
    children: Sequence[npt.NDArray[np.int64]]
    tokens: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Published:
    generation: int
    digest: str
    bytes: int
    new: bool  # False: the live generation has the same content, whole, and stays


def publish(path: Path, draft: Draft, models: Mapping[str, str], settings: Mapping[str, Any]) -> Published:
    """Write `draft` as the next generation of the index at `path` and make it the live one.

    Raises IndexStoreError when the folder cannot be written or is being written by another; the live
    generation is untouched then, and nothing half-written is left.
    """
    try:
        return _publish(path, draft, models, settings)
    except OSError as e:
        raise IndexStoreError(
            f"cannot write the index {path}: {e.strerror or e}; free the space or choose another folder"
        ) from e


def _publish(path: Path, draft: Draft, models: Mapping[str, str], settings: Mapping[str, Any]) -> Published:
    (path / "generations").mkdir(parents=True, exist_ok=True)
    with _sole_writer(path):
        parent = _live(path)
        number = max([0, *_numbers(path)]) + 1
        for stale in (path / "generations").glob("*.partial"):
            shutil.rmtree(stale)
        partial = generation_folder(path, number).with_suffix(".partial")
        try:
            manifest = _written(partial, number, parent, draft, models, settings)
            same = parent is not None and _holds(generation_folder(path, parent), manifest)
            if not same:
                _make_live(path, partial, number)
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # gone already where it was published
    size = sum(entry.size for entry in manifest.files.values())
    return Published(parent if same and parent else number, manifest.digest, size, new=not same)


@contextmanager
def _sole_writer(path: Path) -> Iterator[None]:
    """Holds the lock of an index, which the system takes back from a writer that dies."""
    handle = os.open(path / "generations", os.O_RDONLY)
    try:
        _lock(handle, path)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise IndexStoreError(f"another build is writing the index {path}; wait for its end") from e


def _written(
    partial: Path,
    number: int,
    parent: int | None,
    draft: Draft,
    models: Mapping[str, str],
    settings: Mapping[str, Any],
) -> Manifest:
    """Write every file of a generation into the folder `partial`, and return its manifest."""
    _write_files(partial, draft)
    entries = {name: _entry(partial / name) for name in sorted(FILES)}
    manifest = Manifest(
        number, parent, len(draft.documents), tuple(draft.levels), dict(models), dict(settings), entries
    )
    manifest = replace(manifest, digest=digest_of(manifest))
    (partial / MANIFEST).write_bytes(dumps(manifest))
    return manifest


def _make_live(path: Path, partial: Path, number: int) -> None:
    for name in [*FILES, MANIFEST, "lexical", "."]:
        _sync(partial / name)
    partial.rename(generation_folder(path, number))
    _sync(path / "generations")
    _switch(path, number)


def _switch(path: Path, number: int) -> None:
    temporary = path / f"{CURRENT}.partial"
    temporary.write_text(f"{number:06d}\n")
    _sync(temporary)
    temporary.rename(path / CURRENT)
    _sync(path)


def _numbers(path: Path) -> list[int]:
    names = [p.name for p in (path / "generations").iterdir()]
    return [int(name) for name in names if re.fullmatch(r"\d{6}", name, re.ASCII)]


def _live(path: Path) -> int | None:
    """The live generation's number; None where there is none or it cannot be told, and is simply superseded."""
    try:
        return current_generation(path)
    except BrokenIndex:
        return None


def _holds(folder: Path, manifest: Manifest) -> bool:
    """Whether a generation has this manifest's content, every file of it still as it was written."""
    try:
        found = loads((folder / MANIFEST).read_bytes(), folder / MANIFEST)
        return found.digest == manifest.digest and all(
            _entry(folder / name) == entry for name, entry in manifest.files.items()
        )
    except (OSError, BrokenIndex):
        return False


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as f:
        return FileEntry(path.stat().st_size, hashlib.file_digest(f, "sha256").hexdigest())


def _write_files(folder: Path, draft: Draft) -> None:
    (folder / "lexical").mkdir(parents=True)
    texts = [text.encode() for _, text in draft.documents]
    starts = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
    _write_text(folder, draft, texts, starts)
    _write_nodes(folder, draft, texts, starts)
    _write_edges(folder, draft)
    np.save(folder / "vectors.npy", np.ascontiguousarray(draft.vectors, dtype=np.float32), allow_pickle=False)
    lexical.write(folder / "lexical", _node_texts(draft))


def _write_text(folder: Path, draft: Draft, texts: list[bytes], starts: npt.NDArray[np.int64]) -> None:
    with (folder / "text.bin").open("wb") as f:
        f.writelines(texts)
    blob = np.frombuffer(b"".join(texts), dtype=np.uint8)
    np.save(folder / "text_marks.npy", chars_before(blob), allow_pickle=False)
    with (folder / "documents.jsonl").open("w", encoding="ascii", newline="\n") as f:
        for i, (d, _) in enumerate(draft.documents):
            row = {"id": d.id, "title": d.title, "source": d.source, "sha256": d.sha256, "chars": d.chars}
            row |= {"pages": list(d.pages), "start": int(starts[i]), "end": int(starts[i + 1])}
            f.write(json.dumps(row) + "\n")


def _write_nodes(folder: Path, draft: Draft, texts: list[bytes], starts: npt.NDArray[np.int64]) -> None:
    nodes = np.zeros(sum(draft.levels), dtype=NODE)
    n0 = len(draft.chunks)
    nodes["level"] = np.repeat(np.arange(len(draft.levels)), draft.levels)
    nodes["tokens"] = draft.tokens
    nodes["document"] = -1
    nodes["document"][:n0] = draft.chunks[:, 0]
    for column, bound in ((1, "start"), (2, "end")):
        nodes[bound][:n0] = _byte_offsets(draft, texts, starts, column)
    nodes["start"][n0:], nodes["end"][n0:] = _write_blob(folder / "summaries.bin", draft.summaries)
    nodes["label_start"][n0:], nodes["label_end"][n0:] = _write_blob(folder / "labels.bin", draft.labels)
    np.save(folder / "nodes.npy", nodes, allow_pickle=False)


def _byte_offsets(
    draft: Draft, texts: list[bytes], starts: npt.NDArray[np.int64], column: int
) -> npt.NDArray[np.int64]:
    """Absolute byte offsets in text.bin of one column of character offsets."""
    out = np.empty(len(draft.chunks), dtype=np.int64)
    bounds = np.searchsorted(draft.chunks[:, 0], np.arange(len(texts) + 1))
    for d, raw in enumerate(texts):
        rows = slice(bounds[d], bounds[d + 1])
        out[rows] = starts[d] + _bytes_at(raw, draft.chunks[rows, column])
    return out


def _bytes_at(raw: bytes, chars: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Byte offset of each character offset; a text's end counts as the offset after its last character."""
    if raw.isascii():
        return chars
    first_bytes = np.flatnonzero((np.frombuffer(raw, dtype=np.uint8) & 0xC0) != 0x80)
    return np.append(first_bytes, len(raw))[chars].astype(np.int64)


def _write_blob(path: Path, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    raw = [t.encode() for t in texts]
    ends = np.cumsum([len(r) for r in raw], dtype=np.int64)
    with path.open("wb") as f:
        f.writelines(raw)
    return np.concatenate([[0], ends[:-1]]).astype(np.int64) if raw else ends, ends


def _write_edges(folder: Path, draft: Draft) -> None:
    n, n0 = sum(draft.levels), len(draft.chunks)
    sizes = np.array([0] * n0 + [len(c) for c in draft.children], dtype=np.int64)
    children = np.concatenate(
        [np.asarray(c, dtype=np.int64) for c in draft.children] or [np.empty(0, np.int64)]
    )
    owners = np.repeat(np.arange(n), sizes)
    order = np.lexsort((owners, children))
    _write_csr(folder, "children", children, sizes)
    _write_csr(folder, "parents", owners[order], np.bincount(children, minlength=n))


def _write_csr(folder: Path, name: str, targets: npt.NDArray[Any], sizes: npt.NDArray[Any]) -> None:
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    np.save(folder / f"{name}_offsets.npy", offsets, allow_pickle=False)
    np.save(folder / f"{name}.npy", targets.astype(np.int32), allow_pickle=False)


def _node_texts(draft: Draft) -> list[str]:
    """What the words of each node are, for lexical search: a title belongs to all of a document's chunks."""
    chunks = [
        f"{draft.documents[d][0].title}\n{draft.documents[d][1][start:end]}"
        for d, start, end in draft.chunks.tolist()
    ]
    return chunks + [f"{a}\n{b}" for a, b in zip(draft.labels, draft.summaries, strict=True)]


__all__ = ["Draft", "Published", "publish"]
