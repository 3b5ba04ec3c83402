"""Delete what no pointer of a store reaches any more, after a grace period."""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from index_store.arguments import checked
from index_store.errors import IndexStoreError, StoreError
from index_store.manifest import NAME as MANIFEST, SHARD_NAME, SHARDS
from index_store.stores.folder import PARTIALS
from index_store.stores.layout import (
    in_generation,
    key_of,
    listed,
    live,
    manifest_at,
    objects_at,
    part_at,
    parts_of,
    the_live,
)
from index_store.stores.objects import Objects, Stored
from index_store.stores.pushing import PROBES

GRACE_H = 24.0  # longer than any reader takes to fetch an index, and any publisher to send one


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune_store` did. `deleted`: digests of generations. `young`: how many stay since they are younger than the
    grace period. `bytes`: of what was deleted."""

    deleted: list[str]
    young: int
    bytes: int


@checked(IndexStoreError)
def prune_store(
    url: str | Path, *, keep: int = 1, grace_h: float = GRACE_H, also: Collection[str] = ()
) -> Pruned:
    """Delete the generations at `url` that are neither the live one, nor among the `keep` - 1 others published last,
    nor named in `also` by their digests; and what publishers left that died.

    What is younger than `grace_h` hours stays, by the clock of the store: a publisher may be sending it, a reader that
    saw an earlier pointer may be fetching it. Raises BrokenIndex where there is no index, StoreError.
    """
    if keep < 1 or not 0 <= grace_h < 1e6:
        raise StoreError(f"keep is {keep} and the grace {grace_h} hours; give 1 or more, and 0 or more hours")
    objects = objects_at(url)
    the_live(objects)  # raises where there is no index
    before = _now(objects) - timedelta(hours=grace_h)
    found = _generations(objects)
    stay = {the_live(objects).digest, *also}
    whole = [digest for digest, files in found.items() if digest not in stay and _published(digest, files)]
    stay.update(sorted(whole, key=lambda digest: _age(found[digest]), reverse=True)[: keep - 1])
    pruned = _pruned(objects, found, stay, before)
    parts = dict[str, set[str]]()
    for digest, files in _generations(objects).items():
        if _published(digest, files):
            for name, own in parts_of(manifest_at(objects, digest)[0]):
                parts.setdefault(name, set()).add(own)
    for name in sorted(parts.keys() | _part_names(objects)):
        part = part_at(objects, name)
        of_part = _pruned(part, _generations(part), parts.get(name, set()), before)
        pruned = replace(pruned, bytes=pruned.bytes + of_part.bytes)
    return pruned


def _generations(objects: Objects) -> dict[str, list[Stored]]:
    """The objects of each generation, by its digest."""
    found = dict[str, list[Stored]]()
    for one in listed(objects):
        if digest := in_generation(one.key)[0]:
            found.setdefault(digest, []).append(one)
    return found


def _part_names(objects: Objects) -> set[str]:
    """The names of all shards of which there is something."""
    names = {one.key.split("/")[1] for one in listed(objects, f"{SHARDS}/")}
    return {name for name in names if SHARD_NAME.fullmatch(name)}


def _pruned(
    objects: Objects, found: Mapping[str, list[Stored]], stay: Collection[str], before: datetime
) -> Pruned:
    """Delete the generations that are not to stay and were not touched since `before`, and what is left of others."""
    deleted, young, size = list[str](), 0, 0
    for digest, files in found.items():
        if digest in stay:
            continue
        if _age(files) > before or not _delete(objects, digest, before):
            young += 1
        else:
            deleted.append(digest)
            size += sum(one.size for one in files)
    for folder in (PROBES, PARTIALS):
        objects.delete([one.key for one in listed(objects, f"{folder}/") if one.modified < before])
    return Pruned(deleted, young, size)


def _now(objects: Objects) -> datetime:
    """The time by the clock of the store, from an object that is there for a moment."""
    key = f"{PROBES}/{secrets.token_hex(16)}"
    objects.put(key, b"1", None)
    try:
        return next(one.modified for one in listed(objects, f"{PROBES}/") if one.key == key)
    except StopIteration:
        raise StoreError(
            f"{objects.url} does not list what was just written there; try again later"
        ) from None
    finally:
        objects.delete([key])


def _published(digest: str, files: list[Stored]) -> bool:
    return any(one.key == key_of(digest, MANIFEST) for one in files)


def _age(files: list[Stored]) -> datetime:
    return max(one.modified for one in files)


def _is_live(objects: Objects, digest: str) -> bool:
    pointer = live(objects)  # a shard has none
    return pointer is not None and pointer.digest == digest


def _delete(objects: Objects, digest: str, before: datetime) -> bool:
    """Delete a generation, its manifest first, unless somebody has begun to publish it again since it was listed."""
    files = list(listed(objects, key_of(digest, "")))
    if any(one.modified > before for one in files) or _is_live(objects, digest):
        return False
    manifest = key_of(digest, MANIFEST)
    objects.delete(sorted((one.key for one in files), key=lambda key: key != manifest))
    return True
