"""Get an index from a URL: into the user's cache, to be read, or into an index folder, as its live generation."""

import os
import shutil
from collections.abc import Callable, Mapping
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
    is_store,
    read_manifest,
)
from index_store.manifest import NAME as MANIFEST, SHARDS, FileEntry, Manifest
from index_store.paths import is_url
from index_store.shards.layout import Shard, shards_in
from index_store.stores.layout import in_generation, listed, manifest_at, objects_at, shard_at, the_live
from index_store.stores.objects import Objects
from index_store.stores.transfers import Progress, fetch, silent
from index_store.stores.urls import Url
from index_store.writer import adopt, mend, numbers, sole_writer, switch


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
        fetch_or_take(objects, wanted, files, folder, progress, _link)
        (folder / MANIFEST).write_bytes(raw)
        return wanted

    if lacks and (whole := found(PULLED, [wanted], url.name)) is not None:
        return whole
    return held(PULLED, [wanted, *sorted(lacks)], url.name, make, lacks=lacks)


def fetch_or_take(
    objects: Objects,
    digest: str,
    files: Mapping[str, FileEntry],
    folder: Path,
    progress: Progress,
    take: Callable[[Path, Path], object],
) -> None:
    """Put files of a generation into a folder: those that the cache has, of whichever generation, are not fetched, but
    put there by `take`."""
    cached = _cached()
    missing = {
        name: entry
        for name, entry in files.items()
        if not any(_taken(source, folder / name, entry, take) for source in cached.get(entry.sha256, ()))
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


#: Inside the cache; what is put into a folder of the user's is a copy, so that no damage is shared.
_link, _copy = (partial(how, follow_symlinks=False) for how in (os.link, shutil.copyfile))


def _taken(source: Path, to: Path, entry: FileEntry, take: Callable[[Path, Path], object]) -> bool:
    """Put a file of the cache into a place, where it is there and as it was written."""
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        take(source, to)
        if _is_as_written(to, entry, read=True):
            return True
    except OSError:  # it is left in the store, or taken away, or there are no links here
        pass
    to.unlink(missing_ok=True)
    return False


def _is_as_written(file: Path, entry: FileEntry, *, read: bool) -> bool:
    """Whether a file is there with the size that its manifest gives; and with the sha256, if it is to be read."""
    if file.is_symlink() or not file.is_file() or file.stat().st_size != entry.size:
        return False
    return not read or sha256_of(file) == entry.sha256


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
    `replace`, and the generation stays beside the new one. Of a generation that is there already the files that are
    missing or have another size are fetched anew; with `replace` each is read, and held against its sha256. Raises
    StoreError, BrokenIndex, IndexStoreError; nothing is changed then.
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
    before = own.get(live) if live is not None else None
    if live is not None and before != digest and not replace and before not in _digests(objects):
        raise StoreError(
            f"{path} holds generation {live}, which was not pushed to {objects.url}, or was pruned there; push it, or "
            "give --replace to make it an earlier one"
        )
    for shard in shards_in(manifest, str(objects.url)):
        _pull_shard(shard_at(objects, shard.name), path, shard, progress, read=replace)
    if before == digest and live is not None:
        _mend(objects, path, live, manifest, progress, read=replace)
        return live, False
    if (number := next((number for number, one in own.items() if one == digest), None)) is None:
        return adopt(path, manifest, partial(_fill, objects, manifest, manifest.files, progress)), True
    _mend(objects, path, number, manifest, progress, read=replace)
    with sole_writer(path):
        switch(path, number)
    return number, True


def _pull_shard(objects: Objects, path: Path, shard: Shard, progress: Progress, *, read: bool) -> None:
    """Put the generation of a shard that is read beside those that its folder has."""
    folder = path / SHARDS / shard.name
    if path.is_dir():
        check_links(path, f"{SHARDS}/{shard.name}")
    number = generation_of(folder, shard.digest) if (folder / "generations").is_dir() else None
    manifest, _ = manifest_at(objects, shard.digest)
    if number is None:
        adopt(folder, manifest, partial(_fill, objects, manifest, manifest.files, progress))
    else:
        _mend(objects, folder, number, manifest, progress, read=read)


def _mend(
    objects: Objects, path: Path, number: int, manifest: Manifest, progress: Progress, *, read: bool
) -> None:
    """Fetch anew what is not as it was written of a generation that a folder has; `read`: whether each file is read."""
    folder = generation_folder(path, number)
    wrong = {
        name: entry
        for name, entry in manifest.files.items()
        if not _is_as_written(folder / name, entry, read=read)
    }
    if wrong:
        mend(path, number, partial(_fill, objects, manifest, wrong, progress))


def _fill(
    objects: Objects, manifest: Manifest, files: Mapping[str, FileEntry], progress: Progress, folder: Path
) -> None:
    fetch_or_take(objects, manifest.digest, files, folder, progress, _copy)


def _own(path: Path) -> dict[int, str]:
    """The digests of the generations of an index folder, by their numbers; {} where none is there yet.

    Raises StoreError where other files are there.
    """
    if is_store(path):
        raise StoreError(
            f"{path} is a store, which is read and changed by its URL alone; choose another folder for the index"
        )
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return {}
    if not (path / "generations").is_dir():
        raise StoreError(
            f"{path} is no index folder, and not empty; choose a new or empty folder for the index"
        )
    return {number: read_manifest(generation_folder(path, number)).digest for number in numbers(path)}


def _digests(objects: Objects) -> set[str]:
    return {in_generation(one.key)[0] for one in listed(objects)}
