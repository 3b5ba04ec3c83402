"""The files of an index folder: which generation is live, and its arrays and texts, mapped.

Nothing is unpickled. Opening checks names, sizes and array headers, which costs milliseconds; content is checked where
it is used.
"""

import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex
from index_store.files import refuse_links, sha256_of
from index_store.manifest import (
    ALIKE,
    ALIKE_OF_SHARDS,
    GUESTS,
    LENGTHS,
    MAX_BYTES,
    NAME as MANIFEST,
    Manifest,
    loads,
)
from index_store.tables import NODE
from index_store.terminal import count

CURRENT = "CURRENT"
POINTER_BYTES = 80
_POINTER = re.compile(r"(\d{6})(?: ([0-9a-f]{64}))?\n", re.ASCII)

HEADER_BYTES = 1024  # of an array file; numpy writes 128, of the table of nodes 256
MOST_COLUMNS = 1 << 16  # of a matrix; embedders have some thousand
#: A file of so many bytes is read and not mapped: a map keeps a file open, and an index of small shards has many.
SMALL_BYTES = 1 << 14

Array = npt.NDArray[Any]

# name -> (dtype, dimensions) of every array of a generation; those of ivf/ exist where there are many nodes, that of
# documents that are alike where there are some, those of names/ but in an index of before there were any,
# those of shards/ in an index of indexes, and lengths of nodes in its parts
_ARRAYS: Mapping[str, tuple[Any, int]] = {
    "documents_lines.npy": (np.dtype("<i8"), 1),
    "documents_order.npy": (np.dtype("<i4"), 1),
    "documents_text.npy": (np.dtype("<i8"), 1),
    "text_marks.npy": (np.dtype("<i8"), 1),
    "nodes.npy": (NODE, 1),
    "children.npy": (np.dtype("<i4"), 1),
    "children_offsets.npy": (np.dtype("<i8"), 1),
    "parents.npy": (np.dtype("<i4"), 1),
    "parents_offsets.npy": (np.dtype("<i8"), 1),
    "vectors.npy": (np.dtype("<f4"), 2),
    "lexical/scores.npy": (np.dtype("<f4"), 1),
    "lexical/nodes.npy": (np.dtype("<i4"), 1),
    "lexical/offsets.npy": (np.dtype("<i8"), 1),
    ALIKE: (np.dtype("<i4"), 1),
    GUESTS: (np.dtype("u1"), 1),
    "ivf/axes.npy": (np.dtype("<f4"), 2),
    "ivf/centroids.npy": (np.dtype("<f4"), 2),
    "ivf/offsets.npy": (np.dtype("<i8"), 1),
    "ivf/nodes.npy": (np.dtype("<i4"), 1),
    "ivf/codes.npy": (np.dtype("i1"), 2),
    "names/offsets.npy": (np.dtype("<i8"), 1),
    "names/bearers.npy": (np.dtype("<i4"), 1),
    "names/titles.npy": (np.dtype("u1"), 1),
    "names/chunk_offsets.npy": (np.dtype("<i8"), 1),
    "names/pairs.npy": (np.dtype("<i4"), 1),
    LENGTHS: (np.dtype("<i4"), 1),
    ALIKE_OF_SHARDS: (np.dtype("<i4"), 1),
    "shards/holders.npy": (np.dtype("<i4"), 1),
    "shards/bearers.npy": (np.dtype("<i4"), 1),
    "shards/name_offsets.npy": (np.dtype("<i8"), 1),
    "shards/name_shards.npy": (np.dtype("<i4"), 1),
    "shards/name_places.npy": (np.dtype("<i4"), 1),
    "shards/name_numbers.npy": (np.dtype("<i4"), 1),
    "shards/id_hashes.npy": (np.dtype("<u8"), 1),
    "shards/id_documents.npy": (np.dtype("<i4"), 1),
}


def generation_folder(path: Path, number: int) -> Path:
    """The folder of a generation of the index at `path`, whether it exists or not."""
    return path / "generations" / f"{number:06d}"


def current_generation(path: Path) -> int | None:
    """The live generation's number; None where nothing has been published. Raises BrokenIndex."""
    pointer = live_pointer(path)
    return None if pointer is None else pointer[0]


def live_pointer(path: Path) -> tuple[int, str | None] | None:
    """The live generation's number, and its digest unless an earlier version wrote it; None where nothing is live.

    Raises BrokenIndex where the file CURRENT cannot be parsed.
    """
    check_links(path, CURRENT)
    file = path / CURRENT
    if not file.exists():
        return None
    if not file.is_file():  # to open a pipe would wait for its writer
        raise BrokenIndex(f"{file} is no file; copy or build the index again")
    with file.open("rb") as pointer:
        line = pointer.read(POINTER_BYTES)
    if (found := pointer_of(line)) is None:
        raise BrokenIndex(
            f"{file} names no generation ({line.decode('ascii', 'replace')!r}); copy or build the index again"
        )
    return found


def pointer_of(line: bytes) -> tuple[int, str | None] | None:
    """The number and the digest that the content of the file CURRENT gives; None where it gives none."""
    match = _POINTER.fullmatch(line.decode("ascii", "replace"))
    return None if match is None else (int(match[1]), match[2])


def is_store(path: Path) -> bool:
    """Whether a folder is the place of a store at a URL file:///, whose generations have their digests for names."""
    digest = re.compile(r"[0-9a-f]{64}", re.ASCII)
    try:
        return any(digest.fullmatch(folder.name) for folder in (path / "generations").iterdir())
    except OSError:
        return False


def generation_of(path: Path, digest: str) -> int | None:
    """The number of a generation of the index at `path` that has this digest; None where none has. Raises OSError."""
    pointer = live_pointer(path)
    if pointer is not None and pointer[1] == digest:
        return pointer[0]
    check_links(path, "generations")
    for folder in sorted((path / "generations").iterdir(), reverse=True):
        if re.fullmatch(r"\d{6}", folder.name, re.ASCII) and read_manifest(folder).digest == digest:
            return int(folder.name)
    return None


def pointer_line(number: int, digest: str) -> bytes:
    """The content of the file CURRENT; with the digest a damaged number leads to no other generation."""
    return f"{number:06d} {digest}\n".encode()


def check_pointer(path: Path) -> None:
    """Raise BrokenIndex where the generation that CURRENT names is missing or has another digest."""
    if pointer := live_pointer(path):
        if not generation_folder(path, pointer[0]).is_dir():
            raise BrokenIndex(
                f"{path / CURRENT} names generation {pointer[0]}, which is missing; copy the index again"
            )
        check_digest(path, *pointer, read_manifest(generation_folder(path, pointer[0])))


def check_digest(path: Path, number: int, digest: str | None, manifest: Manifest) -> None:
    """Raise BrokenIndex where a manifest has another digest than CURRENT gives; None fits any."""
    if digest not in (None, manifest.digest):
        raise BrokenIndex(
            f"{path / CURRENT} gives another digest of generation {number} than it has; copy the index again"
        )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a generation's folder; raises BrokenIndex."""
    path = folder / MANIFEST
    check_links(folder.parents[1], str(path.relative_to(folder.parents[1])))
    if not path.is_file():
        raise BrokenIndex(f"{folder} is half copied: {MANIFEST} is missing; copy or build the index again")
    if path.stat().st_size > MAX_BYTES:
        raise BrokenIndex(
            f"{path} has {path.stat().st_size} bytes, which no manifest has; build the index again"
        )
    return loads(path.read_bytes(), path)


def check_links(folder: Path, *names: str) -> None:
    """Raise BrokenIndex where one of the files `names` below a folder is, or lies behind, a link."""
    try:
        refuse_links(folder, *names)
    except OSError as e:
        raise BrokenIndex(f"{e.strerror or e}; put the file itself in its place") from e


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Raise BrokenIndex, with the file's name, where one is missing, a link, or not of the size that is given."""
    check_links(folder, *manifest.files)
    for name, entry in manifest.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.size:
            what = "is missing" if size is None else f"has {count(size, 'byte')}, expected {entry.size:,}"
            raise BrokenIndex(f"the index is half copied or damaged: {path} {what}; copy or build it again")


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise BrokenIndex, with the file's name, where one has not the sha256 that is given. Reads every byte."""
    for name, entry in manifest.files.items():
        if sha256_of(folder / name) != entry.sha256:
            raise BrokenIndex(
                f"the index is damaged: {folder / name} is not as it was written; copy or build it again"
            )


def without(manifest: Manifest, names: Collection[str]) -> Manifest:
    """A manifest as if there were not these files; its digest is that of the whole."""
    return replace(manifest, files={name: one for name, one in manifest.files.items() if name not in names})


def read_arrays(folder: Path, manifest: Manifest) -> dict[str, Array]:
    """The arrays of a generation, mapped, by the names of their files. Raises BrokenIndex."""
    return {name: _array(folder / name, *_ARRAYS[name]) for name in _ARRAYS if name in manifest.files}


def _array(path: Path, dtype: Any, dimensions: int) -> npt.NDArray[Any]:
    """An array file, mapped. To cut such a file short while it is open ends the process; nothing can catch that.

    Its header is compared with the one that numpy writes for such an array, and parsed by nothing cleverer.
    """
    with path.open("rb") as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(HEADER_BYTES)
        small = head + file.read(SMALL_BYTES) if size <= SMALL_BYTES else b""
    if not size:
        raise BrokenIndex(f"{path} is empty; copy or build the index again")
    match = _header(dtype, dimensions).match(head)
    shape = tuple(int(n) for n in match.groups()) if match else ()
    start = int.from_bytes(head[8:10], "little") + 10
    if not match or start != match.end():
        raise BrokenIndex(f"{path} is not the array file that a build writes; copy or build the index again")
    if start + math.prod(shape) * dtype.itemsize != size or max(shape[1:], default=0) > MOST_COLUMNS:
        raise BrokenIndex(f"{path} does not hold an array of shape {shape}; copy or build the index again")
    if size == start:
        return np.empty(shape, dtype)  # nothing cannot be mapped
    if len(small) == size:
        return np.frombuffer(small, dtype, offset=start).reshape(shape)
    return np.asarray(
        np.memmap(path, dtype, "r", start, shape)
    )  # each slice of np.memmap takes ten times as long


@cache
def _header(dtype: Any, dimensions: int) -> re.Pattern[bytes]:
    """What an array file of numpy's version 1.0 begins with; its groups are the shape."""
    kind = re.escape(repr(np.lib.format.dtype_to_descr(dtype)).encode())
    shape = rb"(\d{1,19})," if dimensions == 1 else rb", ".join([rb"(\d{1,19})"] * dimensions)
    return re.compile(
        rb"\x93NUMPY\x01\x00..\{'descr': %b, 'fortran_order': False, 'shape': \(%b\), \} *\n" % (kind, shape),
        re.DOTALL,
    )


def read_bytes(path: Path) -> npt.NDArray[np.uint8]:
    """A file's bytes, mapped, or read where they are few."""
    if path.stat().st_size <= SMALL_BYTES:
        return np.frombuffer(path.read_bytes(), dtype=np.uint8)
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
