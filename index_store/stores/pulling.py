"""Get an index from a URL: into the user's cache, to be read, or into an index folder, as its live generation."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from index_store.arguments import checked
from index_store.cache import GENERATION, PULLED, Held, found, generations, held
from index_store.errors import BrokenIndex, IndexStoreError, StoreError
from index_store.files import sha256_of
from index_store.folder import (
    check_links,
    current_generation,
    generation_folder,
    generation_of,
    read_manifest,
)
from index_store.manifest import NAME as MANIFEST, SHARDS, FileEntry, Manifest
from index_store.paths import is_url
from index_store.shards.layout import Shard, shards_in
from index_store.stores.layout import in_generation, listed, manifest_at, objects_at, shard_at, the_live
from index_store.stores.objects import Objects
from index_store.stores.transfers import Progress, fetch, silent
from index_store.stores.urls import Url
from index_store.writer import adopt, numbers, sole_writer, switch


def held_at(
    url: Url, digest: str | None = None, lacks: frozenset[str] = frozenset(), progress: Progress = silent
) -> Held:
    """The generation with a digest, or the live one, in the user's cache; what is not there yet is fetched.

    `lacks`: files that are left in the store. Its path is that of an index folder without a pointer, whose only
    generation has the number GENERATION. Raises StoreError, BrokenIndex, NoCache.
    """
    objects = objects_at(url)
    wanted = digest or the_live(objects).digest

    def make(path: Path) -> str:
        manifest, raw = manifest_at(objects, wanted)
        folder = generation_folder(path, GENERATION)
        folder.mkdir(parents=True)
        files = {name: entry for name, entry in manifest.files.items() if name not in lacks}
        fetch_or_link(objects, wanted, files, folder, progress)
        (folder / MANIFEST).write_bytes(raw)
        return wanted

    if lacks and (whole := found(PULLED, [wanted], url.name)) is not None:
        return whole
    return held(PULLED, [wanted, *sorted(lacks)], url.name, make, lacks=lacks)


def fetch_or_link(
    objects: Objects, digest: str, files: Mapping[str, FileEntry], folder: Path, progress: Progress
) -> None:
    """Put files of a generation into a folder: those that the cache has, of whichever generation, are not fetched."""
    cached = _cached()
    missing = {
        name: entry
        for name, entry in files.items()
        if not any(_linked(source, folder / name, entry) for source in cached.get(entry.sha256, ()))
    }
    fetch(objects, digest, missing, folder, progress)


def _cached() -> dict[str, list[Path]]:
    """The files of the cache by their sha256, as their manifests give it."""
    files = dict[str, list[Path]]()
    for folder in generations(PULLED):
        with suppress(BrokenIndex, OSError):  # damaged, or taken away meanwhile
            for name, entry in read_manifest(folder).files.items():
                files.setdefault(entry.sha256, []).append(folder / name)
    return files


def _linked(source: Path, to: Path, entry: FileEntry) -> bool:
    """Link a file of the cache to a place, where it is there and as it was written."""
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, to, follow_symlinks=False)
        if not to.is_symlink() and to.stat().st_size == entry.size and sha256_of(to) == entry.sha256:
            return True
    except OSError:  # it is left in the store, or taken away, or there are no links here
        pass
    to.unlink(missing_ok=True)
    return False


@dataclass(frozen=True, slots=True)
class Pulled:
    """What `pull` did. `generation`: the number that it has in the folder. `new`: False where it was live already."""

    url: str
    generation: int
    digest: str
    new: bool


@checked(IndexStoreError)
def pull(url: str | Path, index: str | Path, *, replace: bool = False, progress: Progress = silent) -> Pulled:
    """Make the live generation at `url` the live one of the index folder `index`, which is made where it is missing.

    A folder whose live generation is none of those at `url` holds work that was not pushed; it is refused, unless with
    `replace`, and the generation stays beside the new one. Raises StoreError, BrokenIndex, IndexStoreError; nothing is
    changed then.
    """
    if is_url(index):
        raise StoreError(f"{index} is a URL; name a folder for the index")
    objects, path = objects_at(url), Path(index)
    pointer = the_live(objects)
    manifest, _ = manifest_at(objects, pointer.digest)
    try:
        number, new = _pulled(objects, path, manifest, progress, replace=replace)
    except OSError as e:
        raise IndexStoreError(
            f"cannot write the index {path}: {e.strerror or e}; free the space or choose another folder"
        ) from e
    return Pulled(str(objects.url), number, pointer.digest, new)


def _pulled(
    objects: Objects, path: Path, manifest: Manifest, progress: Progress, *, replace: bool
) -> tuple[int, bool]:
    """The number of a generation that is live in a folder now, and whether another was before."""
    digest, own = manifest.digest, _own(path)
    live = current_generation(path) if own else None
    if live is not None and own.get(live) == digest:
        return live, False
    if live is not None and not replace and own.get(live) not in _digests(objects):
        raise StoreError(
            f"{path} holds generation {live}, which was not pushed to {objects.url}, or was pruned there; push it, or "
            "give --replace to make it an earlier one"
        )
    for number in (number for number, one in own.items() if one == digest):
        with sole_writer(path):
            switch(path, number)
        return number, True
    for shard in shards_in(manifest, str(objects.url)):
        _pull_shard(shard_at(objects, shard.name), path, shard, progress)
    return adopt(path, manifest, partial(_filled, objects, manifest, progress)), True


def _pull_shard(objects: Objects, path: Path, shard: Shard, progress: Progress) -> None:
    """Put the generation of a shard that is read beside those that its folder has."""
    folder = path / SHARDS / shard.name
    if path.is_dir():
        check_links(path, f"{SHARDS}/{shard.name}")
    if (folder / "generations").is_dir() and generation_of(folder, shard.digest) is not None:
        return
    manifest, _ = manifest_at(objects, shard.digest)
    adopt(folder, manifest, partial(_filled, objects, manifest, progress))


def _filled(objects: Objects, manifest: Manifest, progress: Progress, folder: Path) -> None:
    fetch_or_link(objects, manifest.digest, manifest.files, folder, progress)


def _own(path: Path) -> dict[int, str]:
    """The digests of the generations of an index folder, by their numbers; {} where none is there yet.

    Raises StoreError where other files are there.
    """
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return {}
    if not (path / "generations").is_dir():
        raise StoreError(
            f"{path} is no index folder, and not empty; choose a new or empty folder for the index"
        )
    return {number: read_manifest(generation_folder(path, number)).digest for number in numbers(path)}


def _digests(objects: Objects) -> set[str]:
    return {in_generation(one.key)[0] for one in listed(objects)}
