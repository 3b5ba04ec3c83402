"""Verify a whole index: every file against its sha256, then every edge, span and vector, and the way from the root.

Opening an index checks sizes only. This reads everything, and names each thing that is wrong.
"""

import hashlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from index_store.errors import BrokenIndex
from index_store.reader import Index, current_generation, generation_folder, open_generation, read_manifest

#: Told (done, total) bytes as files are read.
Progress = Callable[[int, int], None]
MOST = 20


def verify(path: str | Path, progress: Progress = lambda done, total: None) -> list[str]:
    """What is wrong with the live generation of the index at `path`, a sentence each; [] where it is whole.

    Raises BrokenIndex only where there is no index to speak of.
    """
    path = Path(path)
    number = current_generation(path)
    if number is None:
        raise BrokenIndex(f"there is no index at {path}; build one with: raptor build SOURCE -o {path}")
    folder = generation_folder(path, number)
    try:
        damaged = list(damaged_files(folder, progress))
        return damaged or [*_problems(open_generation(path, number))]
    except (BrokenIndex, OSError) as e:
        return [str(e)]


def damaged_files(folder: Path, progress: Progress) -> Iterator[str]:
    """Each file of a generation that is not the one that was published."""
    manifest = read_manifest(folder)
    done, total = 0, sum(f.size for f in manifest.files.values())
    for name, entry in manifest.files.items():
        file = folder / name
        size = file.stat().st_size if file.is_file() else None
        if size != entry.size:
            found = "is missing" if size is None else f"has {size:,} bytes, expected {entry.size:,}"
            yield f"{file} {found}"
        elif _sha256(file) != entry.sha256:
            yield f"{file} does not have the sha256 that the manifest gives"
        done += entry.size
        progress(done, total)


def _sha256(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _problems(index: Index) -> Iterator[str]:
    checks = chain(_levels(index), _spans(index), _edges(index), _reachable(index), _vectors(index))
    for count, problem in enumerate(checks):
        if count == MOST:
            yield "there is more; these are the first"
            return
        yield problem


def _levels(index: Index) -> Iterator[str]:
    expected = np.repeat(np.arange(len(index.levels)), index.levels)
    for number in np.flatnonzero(index.rows["level"] != expected)[:MOST].tolist():
        yield f"node {index.id_of(number)} says that it is of level {index.rows['level'][number]}"


def _spans(index: Index) -> Iterator[str]:
    """Chunks tile their documents, in order, on character borders; summaries lie in their file."""
    rows, n0 = index.rows, index.levels[0]
    for d in range(len(index.documents)):
        leaves = index.document_leaves(d)
        start, end = index.document_bytes(d)
        starts, ends = rows["start"][leaves.start : leaves.stop], rows["end"][leaves.start : leaves.stop]
        whole = len(leaves) and starts[0] == start and ends[-1] == end and (starts[1:] == ends[:-1]).all()
        if not whole or (starts >= ends).any():
            yield f"the chunks of document {index.documents[d].id!r} do not tile it"
        elif ((index.text_bytes[starts] & 0xC0) == 0x80).any():
            yield f"a chunk of document {index.documents[d].id!r} begins inside a character"
    size = index.manifest.files["summaries.bin"].size
    for number in np.flatnonzero((rows["start"][n0:] > rows["end"][n0:]) | (rows["end"][n0:] > size))[:MOST]:
        yield f"node {index.id_of(n0 + int(number))} points outside the summaries"


def _edges(index: Index) -> Iterator[str]:
    """Children are one level down, and both directions tell the same."""
    down: set[tuple[int, int]] = set()
    for number in range(index.levels[0], len(index)):
        children = index.neighbours(number, "children")
        below = index.level_range(int(index.rows["level"][number]) - 1)
        if not children or any(c not in below for c in children):
            yield f"node {index.id_of(number)} has no children, or some that are not one level below it"
        down |= {(number, c) for c in children}
    up = {(p, n) for n in range(len(index)) for p in index.neighbours(n, "parents")}
    for parent, child in sorted(down ^ up)[:MOST]:
        yield f"the edge {index.id_of(parent)} to {index.id_of(child)} stands in one direction only"


def _reachable(index: Index) -> Iterator[str]:
    reached = index.below(len(index) - 1)
    lost = np.setdiff1d(np.arange(len(index)), reached)
    for number in lost[:MOST].tolist():
        yield f"node {index.id_of(number)} cannot be reached from the root"


def _vectors(index: Index) -> Iterator[str]:
    for start in range(0, len(index), 10_000):
        lengths = np.linalg.norm(index.vectors[start : start + 10_000], axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3) & (lengths != 0))
        for place in wrong[:MOST].tolist():
            yield f"the vector of node {index.id_of(start + place)} has length {lengths[place]:.4g}, expected 1"
