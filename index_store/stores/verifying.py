"""Read every object of a store, and name those that are not as they were published."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from index_store.errors import BrokenIndex
from index_store.manifest import NAME as MANIFEST, FileEntry, Manifest
from index_store.shards.layout import shards_in
from index_store.stores.layout import in_generation, key_of, listed, manifest_at, shard_at, the_live
from index_store.stores.objects import PIECE, Missing, Objects, Told
from index_store.stores.transfers import SPAN, Progress


def damaged_objects(objects: Objects, progress: Progress) -> Iterator[str]:
    """A sentence for each file, of each generation that was published, also of shards, that is not as it was. Raises
    StoreError."""
    shards = dict[str, set[str]]()
    yield from _damaged(objects, {the_live(objects).digest}, progress, shards)
    for name, digests in shards.items():
        yield from _damaged(shard_at(objects, name), digests, progress, {})


def _damaged(
    objects: Objects, wanted: set[str], progress: Progress, shards: dict[str, set[str]]
) -> Iterator[str]:
    """As `damaged_objects`, of one place, where the generations `wanted` should be. In `shards` are put the digests of
    shards that generations there name, by the name of the shard."""
    sizes = {one.key: one.size for one in listed(objects)}
    manifests = dict[str, Manifest]()
    published = {digest for digest, file in map(in_generation, sizes) if file == MANIFEST}
    for digest in sorted(published | wanted):
        try:
            manifests[digest] = manifest_at(objects, digest)[0]
            for shard in shards_in(manifests[digest], str(objects.url)):
                shards.setdefault(shard.name, set()).add(shard.digest)
        except BrokenIndex as e:
            yield str(e)
    done, total = 0, sum(entry.size for one in manifests.values() for entry in one.files.values())

    def told(size: int) -> None:
        nonlocal done
        done += size
        progress(min(done, total), total)

    with TemporaryDirectory() as scratch:
        for digest, manifest in manifests.items():
            for name, entry in manifest.files.items():
                if fault := _fault(objects, key_of(digest, name), entry, sizes, Path(scratch) / "part", told):
                    yield f"{objects.url}/{key_of(digest, name)} {fault}"


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
