"""Where an index stands in a store: `CURRENT`, which names the live generation, and `generations/<digest>/<file>`.

A generation lies under its digest, so that two publishers never write the same name with other content, and its
manifest goes there last: whoever finds one finds the rest. All of it may come from a stranger.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from index_store.errors import BrokenIndex, StoreError
from index_store.files import refuse_links
from index_store.folder import CURRENT, POINTER_BYTES, pointer_of
from index_store.manifest import MAX_BYTES, NAME as MANIFEST, SHARDS, Manifest, loads
from index_store.stores.cloud import CloudObjects
from index_store.stores.folder import FolderObjects
from index_store.stores.objects import Missing, Objects, Stored
from index_store.stores.urls import Url, url_of

GENERATIONS = "generations"
MOST_OBJECTS = 1_000_000  # that a listing may name
DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pointer:
    """What CURRENT says, and its tag, by which it is replaced."""

    number: int
    digest: str
    tag: str


def objects_at(url: str | Path | Url) -> Objects:
    """The store at a URL. Raises StoreError where it is no URL, or what it takes is not installed."""
    place = url if isinstance(url, Url) else url_of(url)
    return FolderObjects(place) if place.scheme == "file" else CloudObjects(place)


def key_of(digest: str, name: str) -> str:
    """The key of a file of a generation."""
    return f"{GENERATIONS}/{digest}/{name}"


def live(objects: Objects) -> Pointer | None:
    """The live generation; None where nothing was published. Raises BrokenIndex where CURRENT is damaged."""
    try:
        line, tag = objects.read(CURRENT, POINTER_BYTES)
    except Missing:
        return None
    number, digest = pointer_of(line) or (0, None)
    if digest is None:
        raise BrokenIndex(
            f"{objects.url}/{CURRENT} names no generation ({line.decode('ascii', 'replace')!r}); see that this is the "
            "address of your store, and push the index again with --replace"
        )
    return Pointer(number, digest, tag)


def the_live(objects: Objects) -> Pointer:
    """The live generation. Raises BrokenIndex where there is none."""
    if (pointer := live(objects)) is None:
        raise BrokenIndex(
            f"there is no index at {objects.url}; put one there with: raptor push INDEX {objects.url}"
        )
    return pointer


def manifest_at(objects: Objects, digest: str) -> tuple[Manifest, bytes]:
    """The manifest of a generation, and its bytes. Raises BrokenIndex where it is not there, or is another's."""
    key = key_of(digest, MANIFEST)
    try:
        raw, _ = objects.read(key, MAX_BYTES)
    except Missing:
        raise BrokenIndex(
            f"{objects.url} does not hold the generation {digest[:12]} whole ({key} is missing); push the index again, "
            "or, if this is an index folder and no store, give its path"
        ) from None
    manifest = loads(raw, Path(f"{objects.url}/{key}"))
    if manifest.digest != digest:
        raise BrokenIndex(f"{objects.url}/{key} is the manifest of another generation; push the index again")
    return manifest, raw


def shard_at(objects: Objects, name: str) -> Objects:
    """Where a shard of the index at a URL is: an index of its own, but for the pointer. Raises StoreError for one that
    lies behind a link in a shared folder, since nothing is to be written elsewhere."""
    if objects.url.scheme == "file":
        try:
            refuse_links(Path(objects.url.prefix), f"{SHARDS}/{name}")
        except OSError as e:
            raise StoreError(f"{e.strerror or e}; put the folder itself in its place") from e
    return objects_at(objects.url / SHARDS / name)


def listed(objects: Objects, below: str = f"{GENERATIONS}/") -> Iterator[Stored]:
    """The objects below a folder. Raises StoreError where there are more than any index has."""
    for number, one in enumerate(objects.list(below)):
        if number >= MOST_OBJECTS:
            raise StoreError(
                f"{objects.url} holds more than {MOST_OBJECTS:,} objects; give an index a place of its own"
            )
        yield one


def in_generation(key: str) -> tuple[str, str]:
    """The digest and the file that a key names; two empty texts where it is no file of a generation."""
    match = re.fullmatch(rf"{GENERATIONS}/({DIGEST.pattern})/([^\0]+)", key, re.ASCII)
    return (match[1], match[2]) if match else ("", "")
