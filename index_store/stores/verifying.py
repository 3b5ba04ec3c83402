"""Read every object of a store, and name those that are not as they were published."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from index_store.errors import BrokenIndex
from index_store.manifest import NAME as MANIFEST, FileEntry, Manifest
from index_store.stores.layout import in_generation, key_of, listed, manifest_at, part_at, parts_of, the_live
from index_store.stores.objects import PIECE, Missing, Objects, Told
from index_store.stores.transfers import SPAN, Progress


@dataclass(frozen=True, slots=True)
class _Published:
    """A generation in a store, and the sizes of all objects there."""

    objects: Objects
    manifest: Manifest
    sizes: Mapping[str, int]


def damaged_objects(objects: Objects, progress: Progress) -> Iterator[str]:
    """A sentence for each file, of each generation that was published and of its shards, that is not as it was. Raises
    StoreError."""
    found, faults = list[_Published](), list[str]()
    _published(objects, {the_live(objects).digest}, found, faults)
    parts = dict[str, set[str]]()
    for one in [*found]:
        for name, digest in parts_of(one.manifest):
            parts.setdefault(name, set()).add(digest)
    for name, digests in parts.items():
        _published(part_at(objects, name), digests, found, faults)
    yield from faults
    done, total = 0, sum(entry.size for one in found for entry in one.manifest.files.values())

    def told(size: int) -> None:
        nonlocal done
        done += size
        progress(min(done, total), total)

    with TemporaryDirectory() as scratch:
        for one in found:
            for name, entry in one.manifest.files.items():
                key = key_of(one.manifest.digest, name)
                if fault := _fault(one.objects, key, entry, one.sizes, Path(scratch) / "part", told):
                    yield f"{one.objects.url}/{key} {fault}"


def _published(
    objects: Objects, digests: Collection[str], found: list[_Published], faults: list[str]
) -> None:
    """Add the generations that are in a store, and those that must be, or why one cannot be read."""
    sizes = {one.key: one.size for one in listed(objects)}
    there = {digest for digest, file in map(in_generation, sizes) if file == MANIFEST}
    for digest in sorted(there.union(digests)):
        try:
            found.append(_Published(objects, manifest_at(objects, digest)[0], sizes))
        except BrokenIndex as e:
            faults.append(str(e))


def _fault(
    objects: Objects, key: str, entry: FileEntry, sizes: Mapping[str, int], scratch: Path, told: Told
) -> str:
    """What is wrong with an object; "" for nothing."""
    if sizes.get(key) != entry.size:
        return "is missing" if key not in sizes else f"has {sizes[key]:,} bytes, expected {entry.size:,}"
    try:
        same = _sha256(objects, key, entry.size, scratch, told) == entry.sha256
    except Missing:
        return "is missing"
    return "" if same else "does not have the sha256 that the manifest gives"


def _sha256(objects: Objects, key: str, size: int, scratch: Path, told: Told) -> str:
    """The sha256 of an object, of which a part at a time is on the disk."""
    digest = hashlib.sha256()
    for at in range(0, size, SPAN):
        scratch.write_bytes(b"")
        objects.fetch(key, at, min(SPAN, size - at), scratch, told)
        with scratch.open("rb") as file:
            file.seek(at)
            while part := file.read(PIECE):
                digest.update(part)
    return digest.hexdigest()
