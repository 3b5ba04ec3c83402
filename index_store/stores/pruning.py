"""Delete what no pointer of a store reaches any more, after a grace period."""

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from index_store.arguments import checked
from index_store.errors import IndexStoreError, StoreError
from index_store.manifest import NAME as MANIFEST, SHARDS
from index_store.shards.layout import NAME, shards_in
from index_store.stores.folder import PARTIALS
from index_store.stores.layout import DIGEST, in_generation, key_of, listed, manifest_at, objects_at, the_live
from index_store.stores.objects import Changed, Objects, Stored
from index_store.stores.pushing import PROBES

#: What the keys of a generation of a shard begin with.
_OF_SHARD = re.compile(rf"{SHARDS}/{NAME.pattern}/generations/{DIGEST.pattern}/", re.ASCII)
GRACE_H = 24.0  # longer than any reader takes to fetch an index, and any publisher to send one


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune_store` did. `deleted`: digests of generations. `young`: how many stay since they are younger than the
    grace period. `bytes`: of what was deleted."""

    deleted: list[str]
    young: int
    bytes: int


@checked(IndexStoreError)
def prune_store(url: str | Path, *, keep: int = 1, grace_h: float = GRACE_H) -> Pruned:
    """Delete the generations at `url` that are neither the live one nor among the `keep` - 1 others published last, and
    what publishers left that died.

    What is younger than `grace_h` hours stays, by the clock of the store: a publisher may be sending it, a reader that
    saw an earlier pointer may be fetching it. Raises BrokenIndex where there is no index, StoreError.
    """
    if keep < 1 or not 0 <= grace_h < 1e6:
        raise StoreError(f"keep is {keep} and the grace {grace_h} hours; give 1 or more, and 0 or more hours")
    objects = objects_at(url)
    the_live(objects)
    before = _now(objects) - timedelta(hours=grace_h)
    found = dict[str, list[Stored]]()
    for one in listed(objects):
        if digest := in_generation(one.key)[0]:
            found.setdefault(digest, []).append(one)
    stay = {the_live(objects).digest}
    whole = [digest for digest, files in found.items() if digest not in stay and _published(digest, files)]
    stay.update(sorted(whole, key=lambda digest: _age(found[digest]), reverse=True)[: keep - 1])
    deleted, young, size = list[str](), 0, 0
    for digest, files in found.items():
        if digest in stay:
            continue
        if _age(files) > before or not _delete(objects, digest, before):
            young += 1
        else:
            deleted.append(digest)
            size += sum(one.size for one in files)
    left = {digest for digest, files in found.items() if digest not in deleted and _published(digest, files)}
    size += _prune_shards(objects, left | {the_live(objects).digest}, before)
    for folder in (PROBES, PARTIALS):
        objects.delete([one.key for one in listed(objects, f"{folder}/") if one.modified < before])
    return Pruned(deleted, young, size)


def _prune_shards(objects: Objects, staying: Collection[str], before: datetime) -> int:
    """Delete the generations of shards that none of these of the upper index names, unless they are young: somebody may
    be sending them before the upper index that names them. How many bytes that were. Raises BrokenIndex where one that
    stays is damaged, since nobody knows what it names."""
    named = set[str]()
    found = dict[str, list[Stored]]()
    for one in listed(objects, f"{SHARDS}/"):
        if match := _OF_SHARD.match(one.key):
            found.setdefault(match[0], []).append(one)
    for digest in staying if found else ():
        manifest, _ = manifest_at(objects, digest)
        for shard in shards_in(manifest, str(objects.url)):
            named.add(f"{SHARDS}/{shard.name}/{key_of(shard.digest, '')}")
    size = 0
    for folder, files in found.items():
        if folder in named or _age(files) > before:
            continue
        files = list(listed(objects, folder))  # somebody may have begun to publish it again since
        if files and _age(files) <= before:
            keys = {one.key for one in files}
            objects.delete([key for key in (f"{folder}{MANIFEST}",) if key in keys])
            objects.delete(sorted(keys - {f"{folder}{MANIFEST}"}))
            size += sum(one.size for one in files)
    return size


def _now(objects: Objects) -> datetime:
    """The time by the clock of the store, from an object that is there for a moment."""
    key = f"{PROBES}/{secrets.token_hex(16)}"
    try:
        objects.put(key, b"1", None)
        return next(one.modified for one in listed(objects, f"{PROBES}/") if one.key == key)
    except (Changed, StopIteration):
        raise StoreError(
            f"{objects.url} does not list what was just written there; try again later"
        ) from None
    finally:
        objects.delete([key])


def _published(digest: str, files: list[Stored]) -> bool:
    return any(one.key == key_of(digest, MANIFEST) for one in files)


def _age(files: list[Stored]) -> datetime:
    return max(one.modified for one in files)


def _delete(objects: Objects, digest: str, before: datetime) -> bool:
    """Delete a generation, its manifest first, unless somebody has begun to publish it again since it was listed."""
    files = list(listed(objects, key_of(digest, "")))
    if any(one.modified > before for one in files) or the_live(objects).digest == digest:
        return False
    manifest = key_of(digest, MANIFEST)
    objects.delete(sorted((one.key for one in files), key=lambda key: key != manifest))
    return True
