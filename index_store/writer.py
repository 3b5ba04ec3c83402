"""Publish a generation: write it beside the old one, sync, then switch by one atomic rename.

A reader sees the old generation or the new one, never a mix. A writer that dies leaves a `*.partial` folder, which
the next publish deletes.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store import inverted_write, lexical, name_table, vectors
from index_store.arguments import checked
from index_store.documents import line_of
from index_store.errors import BrokenIndex, IndexStoreError
from index_store.files import Lock, lock, refuse_links, sha256_of, sync, write_new
from index_store.folder import (
    CURRENT,
    check_sizes,
    current_generation,
    generation_folder,
    pointer_line,
    read_manifest,
)
from index_store.manifest import (
    ALIKE,
    FILES,
    GUESTS,
    MAX_BYTES,
    NAME as MANIFEST,
    OPTIONAL,
    SHARDS,
    FileEntry,
    Manifest,
    digest_of,
    dumps,
)
from index_store.name_table import NameTable
from index_store.outline import Outline
from index_store.tables import NODE, bytes_at, chars_before
from index_store.types import Document


@dataclass(frozen=True, slots=True)
class Draft:
    """The content of a generation. Sequences are read in order, and may be made as they are read.

    Nodes (n, of which n0 chunks) are in order of level, chunks of document.

    documents   (Document, canonical text) pairs
    chunks      (n0, 3) int64: document number, start, end in characters; chunks tile each document
    labels      n - n0 strings: the summaries' labels
    summaries   n - n0 strings: the summaries' texts
    levels      nodes at each level; the last is 1
    children    n - n0 arrays of node numbers, each from the level below
    guests      n - n0 arrays of those of the children that the summary is not about; () for none
    tokens      (n,) int: tokens of each node as the embedder counts them
    vectors     (n, dim) float32 unit rows
    alike       number of the first document that says nearly the same as each, its own where none does; () for none
    names       which chunk bears which name; None to leave names out
    is_shard    whether it is a part of an index of indexes, or the upper tree of one: then words are counted for each
                node, and scored when they are asked for; `names` should hold those of one chunk too (`name_table`)
    of_shards   of an upper tree: writes the files of the folder `shards` of the generation's folder that it is given
    """

    documents: Sequence[tuple[Document, str]]
    chunks: npt.NDArray[np.int64]
    labels: Sequence[str]
    summaries: Sequence[str]
    levels: Sequence[int]
    children: Sequence[npt.NDArray[np.int64]]
    tokens: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    alike: Sequence[int] = ()
    names: NameTable | None = None
    guests: Sequence[npt.NDArray[np.int64]] = ()
    is_shard: bool = False
    of_shards: Callable[[Path], None] | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What `publish` did. `bytes`: of all files of the live generation, shared ones included.

    `new`: False where the generation that was live has the same content, undamaged, so that none was added.
    """

    generation: int
    digest: str
    bytes: int
    new: bool


@checked(IndexStoreError)
def publish(path: Path, draft: Draft, models: Mapping[str, str], settings: Mapping[str, Any]) -> Published:
    """Write `draft` as the next generation of the index at `path` and make it the live one.

    `models`: names and fingerprints of what made the content, at least `embedder` and `embedder_fingerprint`, by which
    searches find the same embedder. `settings`: those of the build; JSON values. Both are part of the digest.
    Raises IndexStoreError where the folder cannot be written or another process writes it; the live generation is
    unchanged then, and nothing half-written is left.
    """
    try:
        return _publish(path, draft, models, settings)
    except OSError as e:
        raise IndexStoreError(
            f"cannot write the index {path}: {e.strerror or e}; free the space or choose another folder"
        ) from e


def _publish(path: Path, draft: Draft, models: Mapping[str, str], settings: Mapping[str, Any]) -> Published:
    (path / "generations").mkdir(parents=True, exist_ok=True)
    with sole_writer(path):
        parent = _live(path)
        number = max([0, *numbers(path)]) + 1
        partial = _new_partial(path, number)
        try:
            manifest = _written(partial, number, parent, draft, models, settings)
            same = parent is not None and _holds(generation_folder(path, parent), manifest)
            if not same:
                if parent is not None:
                    _share(partial, generation_folder(path, parent), manifest)
                _make_live(path, partial, manifest)
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # gone already where it was published
    size = sum(entry.size for entry in manifest.files.values())
    return Published(parent if same and parent else number, manifest.digest, size, new=not same)


def adopt(path: Path, manifest: Manifest, fill: Callable[[Path], None]) -> int:
    """Make a generation that comes from elsewhere the live one of the index at `path`, and give its number there.

    `fill`: writes the files that the manifest names into a folder. A folder without generations gets the number that it
    had. Raises IndexStoreError where another process writes the index, OSError, and what `fill` raises; the live
    generation is unchanged then, and nothing half-written is left.
    """
    (path / "generations").mkdir(parents=True, exist_ok=True)
    with sole_writer(path):
        if before := numbers(path):
            manifest = replace(manifest, generation=max(before) + 1, parent=_live(path))
        partial = _new_partial(path, manifest.generation)
        try:
            partial.mkdir()
            fill(partial)
            (partial / MANIFEST).write_bytes(dumps(manifest))
            _make_live(path, partial, manifest)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return manifest.generation


def _new_partial(path: Path, number: int) -> Path:
    """Where a generation is written before it is there; what writers left that died is deleted."""
    for stale in (path / "generations").glob("*.partial"):
        stale.unlink() if stale.is_symlink() else shutil.rmtree(stale)
    return generation_folder(path, number).with_suffix(".partial")


def sole_writer(path: Path) -> Lock:
    """Take the lock of the index at `path`, for who publishes, rolls back or prunes.

    Raises IndexStoreError where another process has it, OSError where there is no index.
    """
    refuse_links(path, "generations")
    folder = (path / "generations").resolve(strict=True)  # where it is missing, no file is to take its place
    return lock(folder, IndexStoreError(f"another build is writing the index {path}; wait for its end"))


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
    names = FILES | {name for name in OPTIONAL if (partial / name).is_file()}
    entries = {name: _entry(partial / name) for name in sorted(names)}
    manifest = Manifest(
        number, parent, len(draft.documents), tuple(draft.levels), dict(models), dict(settings), entries
    )
    manifest = replace(manifest, digest=digest_of(manifest))
    raw = dumps(manifest)
    if len(raw) > MAX_BYTES:
        raise IndexStoreError(
            f"the manifest of the index would have {len(raw):,} bytes, and none with more than {MAX_BYTES:,} is read; "
            "give the index fewer shards"
        )
    (partial / MANIFEST).write_bytes(raw)
    return manifest


def _share(partial: Path, parent: Path, manifest: Manifest) -> None:
    """Replace files that the parent generation has too by hard links to its own, where the file system has those."""
    for name, entry in manifest.files.items():
        old, new = parent / name, partial / name
        if (
            old.is_symlink()
            or old.parent.is_symlink()
            or not old.is_file()
            or old.stat().st_size != entry.size
            or _entry(old) != entry
        ):
            continue
        link = new.with_name(f"{new.name}.link")
        try:
            os.link(old, link)
        except OSError:
            return  # no hard links here, or none across these folders: the copies serve as well
        link.replace(new)


def _make_live(path: Path, partial: Path, manifest: Manifest) -> None:
    for file in [partial, *partial.rglob("*")]:
        sync(file)
    partial.rename(generation_folder(path, manifest.generation))
    sync(path / "generations")
    switch(path, manifest.generation)


def switch(path: Path, number: int) -> None:
    """Make a generation the live one, by one atomic rename. The caller holds the lock (`sole_writer`)."""
    temporary = path / f"{CURRENT}.partial"
    digest = read_manifest(generation_folder(path, number)).digest
    write_new(temporary, pointer_line(number, digest))
    sync(temporary)
    temporary.rename(path / CURRENT)
    sync(path)


def numbers(path: Path) -> list[int]:
    """The numbers of all published generations."""
    names = [p.name for p in (path / "generations").iterdir()]
    return [int(name) for name in names if re.fullmatch(r"\d{6}", name, re.ASCII)]


def _live(path: Path) -> int | None:
    """The live generation's number; None where there is none, or where CURRENT is damaged and will be replaced."""
    try:
        return current_generation(path)
    except BrokenIndex:
        return None


def _holds(folder: Path, manifest: Manifest) -> bool:
    """Whether a generation has the content of this manifest, and every file is still as it was written."""
    try:
        published = read_manifest(folder)
        check_sizes(folder, published)
        return published.digest == manifest.digest and all(
            _entry(folder / name) == entry for name, entry in manifest.files.items()
        )
    except (OSError, BrokenIndex):
        return False


def _entry(path: Path) -> FileEntry:
    return FileEntry(path.stat().st_size, sha256_of(path))


def _write_files(folder: Path, draft: Draft) -> None:
    (folder / "lexical").mkdir(parents=True)
    borders = _write_text(folder, (text for _, text in draft.documents))
    _write_documents(folder, draft)
    _write_nodes(folder, draft, borders)
    _write_edges(folder, draft)
    rows = np.ascontiguousarray(draft.vectors, dtype=np.float32)
    _save(folder / "vectors.npy", rows)
    if len(rows) > vectors.EXACT_NODES:
        inverted_write.write(folder / "ivf", rows, draft.levels)
    lexical.write(folder / "lexical", _node_texts(draft), counted=draft.is_shard)
    if draft.names is not None:
        (folder / "names").mkdir()
        name_table.write(folder / "names", draft.names)
    if draft.of_shards is not None:
        (folder / SHARDS).mkdir()
        draft.of_shards(folder)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    np.save(path, array, allow_pickle=False)


def _write_lines(path: Path, pieces: Iterable[bytes]) -> npt.NDArray[np.int64]:
    """Write pieces one after another, with one in memory at a time; where each begins, and the end of the last."""
    with path.open("wb") as f:
        return np.cumsum([0, *(f.write(piece) for piece in pieces)], dtype=np.int64)


def _write_text(folder: Path, texts: Iterable[str]) -> npt.NDArray[np.int64]:
    borders = _write_lines(folder / "text.bin", (text.encode() for text in texts))
    _save(folder / "documents_text.npy", borders)
    empty = not borders[-1]  # an empty file cannot be mapped
    blob = np.empty(0, np.uint8) if empty else np.memmap(folder / "text.bin", np.uint8, "r")
    _save(folder / "text_marks.npy", chars_before(blob))
    return borders


def _write_documents(folder: Path, draft: Draft) -> None:
    lines = (line_of(document) for document, _ in draft.documents)
    _save(folder / "documents_lines.npy", _write_lines(folder / "documents.jsonl", lines))
    order = sorted(range(len(draft.documents)), key=lambda d: draft.documents[d][0].id)
    _save(folder / "documents_order.npy", np.array(order, dtype=np.int32))
    if any(first != own for own, first in enumerate(draft.alike)):
        _save(folder / ALIKE, np.array(draft.alike, dtype=np.int32))


def _write_nodes(folder: Path, draft: Draft, borders: npt.NDArray[np.int64]) -> None:
    nodes = np.zeros(sum(draft.levels), dtype=NODE)
    n0 = len(draft.chunks)
    nodes["level"] = np.repeat(np.arange(len(draft.levels)), draft.levels)
    nodes["tokens"] = draft.tokens
    nodes["document"] = -1
    nodes["document"][:n0] = draft.chunks[:, 0]
    nodes["start"][:n0], nodes["end"][:n0] = _byte_offsets(draft, borders).T
    nodes["start"][n0:], nodes["end"][n0:] = _write_blob(folder / "summaries.bin", draft.summaries)
    nodes["label_start"][n0:], nodes["label_end"][n0:] = _write_blob(folder / "labels.bin", draft.labels)
    _save(folder / "nodes.npy", nodes)


def _byte_offsets(draft: Draft, borders: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each chunk starts and ends in text.bin, (n0, 2)."""
    out = np.empty((len(draft.chunks), 2), dtype=np.int64)
    for d, (rows, (_, text)) in enumerate(zip(_rows_of(draft), draft.documents, strict=True)):
        out[rows] = borders[d] + bytes_at(text, draft.chunks[rows, 1:])
    return out


def _rows_of(draft: Draft) -> Iterator[slice]:
    """The chunks of each document."""
    bounds = np.searchsorted(draft.chunks[:, 0], np.arange(len(draft.documents) + 1))
    return (slice(*pair) for pair in pairwise(bounds.tolist()))


def _write_blob(path: Path, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    borders = _write_lines(path, (text.encode() for text in texts))
    return borders[:-1], borders[1:]


def _write_edges(folder: Path, draft: Draft) -> None:
    n, n0 = sum(draft.levels), len(draft.chunks)
    sizes = np.fromiter(map(len, draft.children), dtype=np.int64, count=len(draft.children))
    children = np.concatenate([np.empty(0, np.int64), *draft.children]).astype(np.int32)
    owners = np.repeat(np.arange(n0, n, dtype=np.int32), sizes)
    order = np.argsort(children, kind="stable")  # owners ascend already
    _write_csr(folder, "children", children, np.concatenate([np.zeros(n0, np.int64), sizes]))
    _write_csr(folder, "parents", owners[order], np.bincount(children, minlength=n))
    if any(map(len, draft.guests)):
        flags = map(np.isin, draft.children, draft.guests)
        _save(folder / GUESTS, np.concatenate([*flags]).astype(np.uint8))


def _write_csr(folder: Path, name: str, targets: npt.NDArray[np.int32], sizes: npt.NDArray[Any]) -> None:
    _save(folder / f"{name}_offsets.npy", np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    _save(folder / f"{name}.npy", targets)


def _node_texts(draft: Draft) -> Iterator[str]:
    """The text of each node for lexical search: a chunk with the headings over it, a summary with its label."""
    for rows, (document, text) in zip(_rows_of(draft), draft.documents, strict=True):
        outline = Outline(document)
        for start, end in draft.chunks[rows, 1:].tolist():
            yield f"{outline.heading(start)}\n{text[start:end]}"
    for label, summary in zip(draft.labels, draft.summaries, strict=True):
        yield f"{label}\n{summary}"
