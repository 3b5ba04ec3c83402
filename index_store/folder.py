"""The files of an index folder: which generation is live, and its arrays and texts, mapped.

Nothing is unpickled. Opening checks names, sizes and array headers, which costs milliseconds; content is checked where
it is used.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex
from index_store.files import refuse_links
from index_store.manifest import MAX_BYTES, NAME as MANIFEST, Manifest, loads
from index_store.tables import NODE

CURRENT = "CURRENT"
_POINTER = re.compile(r"(\d{6})(?: ([0-9a-f]{64}))?\n", re.ASCII)

Array = npt.NDArray[Any]

# name -> (dtype, dimensions) of every array of a generation; those of ivf/ exist where there are many nodes
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
    "ivf/axes.npy": (np.dtype("<f4"), 2),
    "ivf/centroids.npy": (np.dtype("<f4"), 2),
    "ivf/offsets.npy": (np.dtype("<i8"), 1),
    "ivf/nodes.npy": (np.dtype("<i4"), 1),
    "ivf/codes.npy": (np.dtype("i1"), 2),
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
    try:
        line = (path / CURRENT).read_bytes()[:80].decode("ascii", "replace")
    except FileNotFoundError:
        return None
    match = _POINTER.fullmatch(line)
    if match is None:
        raise BrokenIndex(f"{path / CURRENT} names no generation ({line!r}); copy or build the index again")
    return int(match[1]), match[2]


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
            what = "is missing" if size is None else f"has {size:,} bytes, expected {entry.size:,}"
            raise BrokenIndex(f"the index is half copied or damaged: {path} {what}; copy or build it again")


def read_arrays(folder: Path, manifest: Manifest) -> dict[str, Array]:
    """The arrays of a generation, mapped, by the names of their files. Raises BrokenIndex."""
    return {name: _array(folder / name, *_ARRAYS[name]) for name in _ARRAYS if name in manifest.files}


def _array(path: Path, dtype: Any, dimensions: int) -> npt.NDArray[Any]:
    """An array file, mapped. To cut such a file short while it is open ends the process; nothing can catch that."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError) as e:
        if path.stat().st_size and "mmap an empty file" not in str(e):
            raise BrokenIndex(f"{path} is not an array file ({e}); copy or build the index again") from e
        raise BrokenIndex(f"{path} is empty; copy or build the index again") from e
    if array.dtype != dtype or array.ndim != dimensions:
        raise BrokenIndex(f"{path} holds {array.dtype} with {array.ndim} dimensions; build the index again")
    return np.asarray(array)  # not as np.memmap, each slice of which takes ten times as long


def read_bytes(path: Path) -> npt.NDArray[np.uint8]:
    """A file's bytes, mapped; an empty file cannot be mapped and is an empty array."""
    if not path.stat().st_size:
        return np.empty(0, dtype=np.uint8)
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
