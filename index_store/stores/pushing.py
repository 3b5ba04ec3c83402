"""Publish an index at a URL: its files, then its manifest, then the pointer, which is replaced only where it is still
what it was.

So a reader sees the generation before or this one, whole, whenever the publisher dies; and of two publishers one is
told that the other was faster.
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from index_store.arguments import checked
from index_store.errors import BrokenIndex, IndexStoreError, Overtaken, StoreError
from index_store.folder import (
    CURRENT,
    check_digest,
    check_links,
    check_sizes,
    generation_folder,
    generation_of,
    live_pointer,
    pointer_line,
    read_manifest,
)
from index_store.manifest import NAME as MANIFEST, SHARDS, FileEntry, Manifest
from index_store.paths import is_url
from index_store.shards.layout import shards_in
from index_store.stores.folder import LOCK, PARTIALS
from index_store.stores.layout import GENERATIONS, Pointer, key_of, listed, live, objects_at, shard_at
from index_store.stores.objects import Changed, Missing, Objects
from index_store.stores.transfers import Progress, send, silent
from index_store.writer import numbers

PROBES = "probes"
_POINTER_MOST = 1 << 16  # bytes of a damaged pointer that is replaced


@dataclass(frozen=True, slots=True)
class Pushed:
    """What `push` did. `generation`: the number that it has at the URL. `files`, `bytes`: those that were sent. `new`:
    False where that generation was live already."""

    url: str
    generation: int
    digest: str
    files: int
    bytes: int
    new: bool


@checked(IndexStoreError)
def push(index: str | Path, url: str | Path, *, replace: bool = False, progress: Progress = silent) -> Pushed:
    """Make the live generation of the index folder `index` the live one at `url`. What is there already is not sent.

    `replace`: send every file anew, over what is damaged there, and replace also a generation that this index does not
    descend from, which is refused else: it holds what somebody else has published.
    Raises Overtaken where somebody publishes meanwhile, StoreError where the store cannot be used or does not keep the
    conditions of a write, BrokenIndex where there is no index, or it is damaged. Nothing is changed at `url` then.
    """
    objects, path = objects_at(url), Path(index)
    if is_url(index):
        raise StoreError(f"{index} is a URL; push an index folder, such as one that raptor pull made of it")
    try:
        number, manifest = _live_manifest(path)
        return _push(objects, path, number, manifest, progress, replace=replace)
    except OSError as e:
        raise BrokenIndex(f"cannot read the index {path}: {e.strerror or e}; copy or build it again") from e


def _live_manifest(path: Path) -> tuple[int, Manifest]:
    pointer = live_pointer(path) if path.is_dir() else None
    if pointer is None:
        raise BrokenIndex(f"there is no index at {path}; build one with: raptor build SOURCE -o {path}")
    folder = generation_folder(path, pointer[0])
    manifest = read_manifest(folder)
    check_digest(path, *pointer, manifest)
    check_sizes(folder, manifest)
    return pointer[0], manifest


def _push(
    objects: Objects, path: Path, number: int, manifest: Manifest, progress: Progress, *, replace: bool
) -> Pushed:
    digest, folder = manifest.digest, generation_folder(path, number)
    before = _before(objects, path, replace=replace)
    new = before is None or before.digest != digest
    places = [*_shards(objects, path, folder, manifest), (objects, folder, manifest)]
    files, size = 0, 0
    if new:
        check_conditions(objects)
    for place, own, one in places:  # an upper index after its shards
        missing = _sent(place, own, one, progress, new=new, replace=replace)
        files, size = files + len(missing), size + sum(entry.size for entry in missing.values())
    if new:
        point(objects, number, digest, before.tag if before else None)
        for place, _, one in places:  # somebody may have pruned meanwhile
            _check_whole(place, one)
    there = number if new or before is None else before.number
    return Pushed(str(objects.url), there, digest, files, size, new)


def _shards(
    objects: Objects, path: Path, folder: Path, manifest: Manifest
) -> Iterator[tuple[Objects, Path, Manifest]]:
    """Where each shard of an index is sent, the folder of the generation that is read, and its manifest."""
    for shard in shards_in(manifest, str(folder / MANIFEST)):
        there = path / SHARDS / shard.name
        check_links(path, f"{SHARDS}/{shard.name}")
        if (number := generation_of(there, shard.digest)) is None:
            raise BrokenIndex(f"the shard {there} has not the generation that {path} names; build it again")
        own = generation_folder(there, number)
        of_shard = read_manifest(own)
        check_sizes(own, of_shard)
        yield shard_at(objects, shard.name), own, of_shard


def _sent(
    objects: Objects, folder: Path, manifest: Manifest, progress: Progress, *, new: bool, replace: bool
) -> dict[str, FileEntry]:
    """Send what a store does not hold of a generation, and give what that was. `new`: it was not live before."""
    digest = manifest.digest
    there = {} if replace else _there(objects, digest)
    missing = {name: entry for name, entry in manifest.files.items() if there.get(name) != entry.size}
    if new or missing or MANIFEST not in there:
        send(objects, digest, missing, folder, progress)
        # Anew, so that it is young: who prunes goes by its age.
        objects.send(key_of(digest, MANIFEST), folder / MANIFEST, lambda size: None)
        _check_whole(objects, manifest)
    return missing


def _before(objects: Objects, path: Path, *, replace: bool) -> Pointer | None:
    """What is live at a URL; None where nothing is, and with no digest where it is damaged and is to be replaced.

    Raises Overtaken where it is none of the generations of the index at `path`, unless it is to be replaced.
    """
    _check_folder(objects)
    try:
        pointer = live(objects)
    except BrokenIndex:
        if not replace:
            raise
        return Pointer(0, "", objects.read(CURRENT, _POINTER_MOST)[1])
    if pointer is not None and not replace and pointer.digest not in _own_digests(path):
        raise Overtaken(
            f"{objects.url} holds generation {pointer.number} ({pointer.digest[:12]}), which {path} does not come "
            f"from: somebody else published it; get it with raptor pull {objects.url} {path}, or give --replace to "
            "replace it"
        )
    return pointer


def check_open(objects: Objects) -> None:
    """Raise StoreError where nothing could be published at a URL: better before the work is paid for than after it."""
    _check_folder(objects)
    if objects.url.scheme != "file" or live(objects) is not None:
        check_conditions(objects)
    elif not os.access(folder := _nearest(Path(objects.url.prefix)), os.W_OK):
        raise StoreError(
            f"{objects.url} cannot be written, as {folder} cannot; mend the folder, or name another"
        )


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _check_folder(objects: Objects) -> None:
    """Raise StoreError for a folder that holds an index, or what is none of ours."""
    if objects.url.scheme != "file":
        return
    folder = Path(objects.url.prefix)
    if any((folder / GENERATIONS).glob("[0-9]" * 6)):
        raise StoreError(f"{objects.url} is an index folder, and no store; name another folder")
    there = {path.name for path in folder.glob("*")}
    if there and not there & {GENERATIONS, SHARDS, PROBES, PARTIALS, LOCK}:
        raise StoreError(f"{objects.url} is a folder with other files in it; name a new or empty folder")


def _own_digests(path: Path) -> set[str]:
    found = set[str]()
    for number in numbers(path):
        try:
            found.add(read_manifest(generation_folder(path, number)).digest)
        except BrokenIndex:  # an old one, which is not what is pushed
            continue
    return found


def _there(objects: Objects, digest: str) -> dict[str, int]:
    """The files of a generation that a store holds, with their sizes."""
    below = key_of(digest, "")
    return {one.key.removeprefix(below): one.size for one in listed(objects, below)}


def _check_whole(objects: Objects, manifest: Manifest) -> None:
    there = _there(objects, manifest.digest)
    for name, entry in manifest.files.items():
        if there.get(name) != entry.size or MANIFEST not in there:
            raise StoreError(
                f"{objects.url}/{key_of(manifest.digest, name)} is not there as it was sent; somebody prunes there, or "
                "the store lost it: push again"
            )


def point(objects: Objects, number: int, digest: str, tag: str | None) -> None:
    """Make a generation in a store the live one, where the pointer still has this tag. Raises Overtaken."""
    line = pointer_line(number, digest)
    try:
        objects.put(CURRENT, line, tag)
    except Changed:
        # A request whose answer was lost is sent again, and then finds what it wrote itself.
        if (now := live(objects)) is not None and pointer_line(now.number, now.digest) == line:
            return
        other = "" if now is None else f" (generation {now.number}, {now.digest[:12]})"
        raise Overtaken(
            f"somebody else has published at {objects.url} meanwhile{other}; nothing was replaced, and your index is "
            f"as it was: get theirs with raptor pull {objects.url} INDEX, or push again with --replace"
        ) from None


def check_conditions(objects: Objects) -> None:
    """Raise StoreError unless a store keeps the conditions of a write: by an object of its own that is there for as
    long as this takes. Without them two publishers at once would lose one's work."""
    key = f"{PROBES}/{secrets.token_hex(16)}"
    kept = [False, False]
    try:
        objects.put(key, b"1", None)
        _, old = objects.read(key, 1)
        kept[0] = _is_refused(objects, key, None)
        _, old = objects.read(key, 1)
        objects.put(key, b"3", old)
        kept[1] = _is_refused(objects, key, old)
    except (Changed, Missing):
        raise StoreError(
            f"the store at {objects.url} does not have what was just written there; try again, or name another store"
        ) from None
    finally:
        objects.delete([key])
    if not all(kept):
        raise StoreError(
            f"the store at {objects.url} ignores the conditions of a write (If-Match, If-None-Match), so that two "
            "publishers at once would lose one's work; name a store that keeps them"
        )


def _is_refused(objects: Objects, key: str, tag: str | None) -> bool:
    try:
        objects.put(key, b"2", tag)
    except Changed:
        return True
    return False
