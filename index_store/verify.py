"""Verify a whole index: every file against its sha256, then every edge, span and vector, and what the root reaches.

Opening an index checks sizes only. This reads everything, and names each fault.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from index_store.arguments import checked
from index_store.errors import BrokenIndex, IndexStoreError
from index_store.folder import (
    CURRENT,
    check_links,
    check_pointer,
    current_generation,
    generation_folder,
    read_manifest,
)
from index_store.index import Index, Sharded, open_index
from index_store.manifest import NAME as MANIFEST, SHARDS, FileEntry, Manifest
from index_store.paths import is_url
from index_store.shards.layout import shards_in
from index_store.stores.layout import objects_at, the_live
from index_store.stores.objects import Objects
from index_store.stores.verifying import damaged_objects
from index_store.terminal import count
from index_store.tree import Tree
from index_store.writer import numbers

#: Called with the bytes read so far and those there are in all.
Progress = Callable[[int, int], None]
MOST = 20
PIECE = 16 * 2**20


@checked(IndexStoreError)
def verify_index(path: str | Path, progress: Progress = lambda done, total: None) -> list[str]:
    """The faults of the index at `path`, a sentence each; [] where it is whole.

    Every file of every generation is compared with its sha256; if all fit, the live generation's edges, spans and
    vectors are checked. What builds leave beside the generations (`build.sqlite`) is not looked at. Raises BrokenIndex
    only where there is no index at all, StoreError where a store at a URL cannot be used.
    """
    if is_url(path):
        return _verified_at(objects_at(path), progress)
    path = Path(path)
    if not (path / CURRENT).exists():
        raise BrokenIndex(f"there is no index at {path}; build one with: raptor build SOURCE -o {path}")
    try:
        places = [path, *_shards(path)]
        folders = [generation_folder(place, number) for place in places for number in sorted(numbers(place))]
        # Both read the live manifest, and say the same of one that is broken.
        faults = chain.from_iterable(map(_pointer_fault, places))
        damaged = list(dict.fromkeys([*faults, *damaged_files(folders, progress)]))
        return damaged or [*_problems_of(open_index(path))]
    except (BrokenIndex, OSError) as e:
        return [_in_words(e)]


def _shards(path: Path) -> list[Path]:
    """The folders of the shards of an index; [] where it has none, or its manifest is broken, which others say."""
    try:
        number = current_generation(path)
        folder = generation_folder(path, number or 0)
        shards = shards_in(read_manifest(folder), str(folder / MANIFEST)) if number else []
    except (BrokenIndex, OSError):
        return []
    for shard in shards:
        check_links(path, f"{SHARDS}/{shard.name}")
    return [path / SHARDS / shard.name for shard in shards]


def _problems_of(index: Index) -> Iterator[str]:
    """The faults of the content of an index; of one of shards, of the upper tree and of each shard."""
    if not isinstance(index, Sharded):
        yield from _problems(index)
        return
    yield from _problems(index.upper)
    try:
        index.check()
    except BrokenIndex as e:
        yield str(e)
    for number, shard in enumerate(index.shards):
        try:
            yield from (f"shard {shard.name}: {problem}" for problem in _problems(index.shard(number)))
        except BrokenIndex as e:
            yield str(e)


def _verified_at(objects: Objects, progress: Progress) -> list[str]:
    the_live(objects)  # raises where there is no index
    try:
        damaged = list(damaged_objects(objects, progress))
        return damaged or [*_problems_of(open_index(str(objects.url)))]
    except BrokenIndex as e:
        return [_in_words(e)]


def _in_words(error: BrokenIndex | OSError) -> str:
    if isinstance(error, BrokenIndex) or error.filename is None:
        return str(error)
    return f"cannot read {error.filename}: {error.strerror}"


def _pointer_fault(path: Path) -> list[str]:
    try:
        check_pointer(path)
    except BrokenIndex as e:
        return [str(e)]
    return []


def damaged_files(folders: Sequence[Path], progress: Progress) -> Iterator[str]:
    """A sentence for each file of some generations that is not as published; a file that they share is read once."""
    manifests = dict[Path, Manifest]()
    for folder in folders:
        try:
            manifests[folder] = read_manifest(folder)
        except (BrokenIndex, OSError) as e:
            yield _in_words(e)
    hashed = dict[tuple[int, int], str]()
    done, total = 0, sum(f.size for m in manifests.values() for f in m.files.values())
    for folder, manifest in manifests.items():
        for name, entry in manifest.files.items():
            if fault := _fault(folder / name, entry, hashed, partial(_report, progress, done, total)):
                yield f"{folder / name} {fault}"
            done += entry.size
            progress(done, total)


def _report(progress: Progress, done: int, total: int, read: int) -> None:
    progress(done + read, total)


def _fault(
    file: Path, entry: FileEntry, hashed: dict[tuple[int, int], str], report: Callable[[int], None]
) -> str:
    """What is wrong with a file; "" for nothing. `hashed`: the sha256 of the files read before, by device and inode."""
    if file.is_symlink() or file.parent.is_symlink():
        return "is a link, or lies behind one, and none is followed here; put the file itself in its place"
    status = file.stat() if file.is_file() else None
    if status is None or status.st_size != entry.size:
        return (
            "is missing"
            if status is None
            else f"has {count(status.st_size, 'byte')}, expected {entry.size:,}"
        )
    place = status.st_dev, status.st_ino
    if place not in hashed:
        hashed[place] = _sha256(file, report)
    return "" if hashed[place] == entry.sha256 else "does not have the sha256 that the manifest gives"


def _sha256(file: Path, report: Callable[[int], None]) -> str:
    digest, read = hashlib.sha256(), 0
    with file.open("rb") as f:
        while part := f.read(PIECE):
            digest.update(part)
            read += len(part)
            report(read)
    return digest.hexdigest()


def _problems(index: Tree) -> Iterator[str]:
    checks = chain(_levels(index), _spans(index), _edges(index), _reachable(index), _vectors(index))
    for number, problem in enumerate(checks):
        if number == MOST:
            yield "there is more; these are the first"
            return
        yield problem


def _levels(index: Tree) -> Iterator[str]:
    expected = np.repeat(np.arange(len(index.levels)), index.levels)
    for number in np.flatnonzero(index.rows["level"] != expected)[:MOST].tolist():
        yield f"node {index.id_of(number)} says that it is of level {index.rows['level'][number]}"


def _spans(index: Tree) -> Iterator[str]:
    """Chunks tile their documents, in order, on character borders."""
    rows = index.rows
    for d, document in enumerate(index.documents):
        leaves = index.document_leaves(d)
        start, end = index.document_bytes(d)
        starts, ends = rows["start"][leaves.start : leaves.stop], rows["end"][leaves.start : leaves.stop]
        whole = len(leaves) and starts[0] == start and ends[-1] == end and (starts[1:] == ends[:-1]).all()
        if not whole or (starts >= ends).any():
            yield f"the chunks of document {document.id!r} do not tile it"
        elif ((index.text_bytes[starts] & 0xC0) == 0x80).any():
            yield f"a chunk of document {document.id!r} begins inside a character"


def _edges(index: Tree) -> Iterator[str]:
    """Every summary has children, none twice, and children and parents are the same edges."""
    n = len(index)
    down, up = (parents * n + children for parents, children in (index.edges(), index.edges_up()))
    for number in np.setdiff1d(np.arange(index.levels[0], n), down // n)[:MOST].tolist():
        yield f"node {index.id_of(number)} has no children"
    for edge in np.setxor1d(down, up)[:MOST].tolist():
        parent, child = map(index.id_of, divmod(edge, n))
        yield f"the edge {parent} to {child} stands in one direction only"
    if len(np.unique(down)) < len(down) or len(np.unique(up)) < len(up):
        yield "some edges stand twice"


def _reachable(index: Tree) -> Iterator[str]:
    reached = index.below(len(index) - 1)
    lost = np.setdiff1d(np.arange(len(index)), reached)
    for number in lost[:MOST].tolist():
        yield f"node {index.id_of(number)} cannot be reached from the root"


def _vectors(index: Tree) -> Iterator[str]:
    for start in range(0, len(index), 10_000):
        with np.errstate(over="ignore", invalid="ignore"):  # what is too long for a float has no length of 1
            lengths = np.linalg.norm(index.vectors[start : start + 10_000], axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3) & (lengths != 0))
        for place in wrong[:MOST].tolist():
            yield f"the vector of node {index.id_of(start + place)} has length {lengths[place]:.4g}, expected 1"
