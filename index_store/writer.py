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
from index_store.spool import Spool, borders, order_of, order_of_texts, pieces, room
from index_store.tables import NODE, bytes_at, chars_before, save
from index_store.types import Document

Numbers = npt.NDArray[np.int64]


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
    alike: Sequence[int] | Numbers = ()
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


def mend(path: Path, number: int, fill: Callable[[Path], object]) -> None:
    """Replace files of a generation by those that `fill` writes into a folder, each whole. Raises as `adopt`; a file
    that is not replaced stays as it is."""
    with sole_writer(path):
        partial = _new_partial(path, number)
        try:
            partial.mkdir()
            fill(partial)
            for file in [file for file in partial.rglob("*") if file.is_file()]:
                place = generation_folder(path, number) / file.relative_to(partial)
                refuse_links(path, str(place.relative_to(path)))
                place.parent.mkdir(exist_ok=True)
                file.replace(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


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
    chunks = borders(draft.chunks[:, 0], len(draft.documents), folder)
    texts = _write_text(folder, draft)
    _write_documents(folder, draft)
    _write_nodes(folder, draft, chunks, texts)
    _write_edges(folder, draft)
    save(folder / "vectors.npy", draft.vectors, np.float32)
    if len(draft.vectors) > vectors.EXACT_NODES:
        inverted_write.write(folder / "ivf", draft.vectors, draft.levels)
    lexical.write(folder / "lexical", _node_texts(draft, chunks), draft.levels[0], counted=draft.is_shard)
    if draft.names is not None:
        (folder / "names").mkdir()
        name_table.write(folder / "names", draft.names)
    if draft.of_shards is not None:
        (folder / SHARDS).mkdir()
        draft.of_shards(folder)


def _write_lines(path: Path, lines: Iterable[bytes], count: int) -> Numbers:
    """Write lines one after another, with one in memory at a time; where each begins, and the end of the last."""
    ends, end = room((count + 1,), np.int64, path.parent), 0
    with path.open("wb") as f:
        for place, line in enumerate(lines, 1):
            end += f.write(line)
            ends[place] = end
    return ends


def _write_text(folder: Path, draft: Draft) -> Numbers:
    texts = (text.encode() for _, text in draft.documents)
    ends = _write_lines(folder / "text.bin", texts, len(draft.documents))
    save(folder / "documents_text.npy", ends, np.int64)
    empty = not ends[-1]  # an empty file cannot be mapped
    blob = np.empty(0, np.uint8) if empty else np.memmap(folder / "text.bin", np.uint8, "r")
    save(folder / "text_marks.npy", chars_before(blob, folder), np.int64)
    return ends


def _write_documents(folder: Path, draft: Draft) -> None:
    ids = Spool(folder)

    def lines() -> Iterator[bytes]:
        for document, _ in draft.documents:
            ids.append(document.id.encode())
            yield line_of(document)

    ends = _write_lines(folder / "documents.jsonl", lines(), len(draft.documents))
    save(folder / "documents_lines.npy", ends, np.int64)
    save(folder / "documents_order.npy", order_of_texts(map(ids.text, range(len(ids))), folder), np.int32)
    alike = np.asarray(draft.alike, dtype=np.int32)
    if (alike != np.arange(len(alike))).any():
        save(folder / ALIKE, alike, np.int32)


def _write_nodes(folder: Path, draft: Draft, chunks: Numbers, texts: Numbers) -> None:
    nodes, first, n0 = room((sum(draft.levels),), NODE, folder), 0, len(draft.chunks)
    for level, count in enumerate(draft.levels):
        nodes["level"][first : first + count] = level
        first += count
    nodes["tokens"] = draft.tokens
    nodes["document"][:n0], nodes["document"][n0:] = draft.chunks[:, 0], -1
    for d, (rows, (_, text)) in enumerate(zip(_slices(chunks), draft.documents, strict=True)):
        places = texts[d] + bytes_at(text, draft.chunks[rows, 1:])
        nodes["start"][rows], nodes["end"][rows] = places.T
    for name, start, end, own in (
        ("summaries", "start", "end", draft.summaries),
        ("labels", "label_start", "label_end", draft.labels),
    ):
        ends = _write_lines(folder / f"{name}.bin", (text.encode() for text in own), len(own))
        nodes[start][n0:], nodes[end][n0:] = ends[:-1], ends[1:]
    save(folder / "nodes.npy", nodes, NODE)


def _slices(ends: Numbers) -> Iterator[slice]:
    return (slice(start, end) for start, end in pairwise(map(int, ends)))


def _write_edges(folder: Path, draft: Draft) -> None:
    """Children by their parents, and parents by their children."""
    n, n0 = sum(draft.levels), len(draft.chunks)
    ends = room((n + 1,), np.int64, folder)
    for parent, below in enumerate(draft.children, n0):
        ends[parent + 1] = ends[parent] + len(below)
    edges = (int(ends[-1]),)
    children, flags = room(edges, np.int32, folder), room(edges, np.uint8, folder)
    for rows, own in zip(_slices(ends[n0:]), draft.children, strict=True):
        children[rows] = own
    for rows, guests in zip(_slices(ends[n0:]), draft.guests, strict=False):
        flags[rows] = np.isin(children[rows], guests)
    order, parents = order_of(children, folder), room(edges, np.int32, folder)
    for some in pieces(len(order)):
        parents[some] = np.searchsorted(ends, order[some], side="right") - 1
    save(folder / "children_offsets.npy", ends, np.int64)
    save(folder / "children.npy", children, np.int32)
    save(folder / "parents_offsets.npy", borders(children, n, folder), np.int64)
    save(folder / "parents.npy", parents, np.int32)
    if flags.any():
        save(folder / GUESTS, flags, np.uint8)


def _node_texts(draft: Draft, chunks: Numbers) -> Iterator[str]:
    """The text of each node for lexical search: a chunk with the headings over it, a summary with its label."""
    for rows, (document, text) in zip(_slices(chunks), draft.documents, strict=True):
        outline = Outline(document)
        for start, end in draft.chunks[rows, 1:].tolist():
            yield f"{outline.heading(start)}\n{text[start:end]}"
    for label, summary in zip(draft.labels, draft.summaries, strict=True):
        yield f"{label}\n{summary}"
