"""The generations of an index: list them, say what changed from one to the next, go back to one, delete old ones."""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from index_store.arguments import checked
from index_store.errors import BrokenIndex, IndexStoreError
from index_store.folder import current_generation, generation_folder, read_manifest
from index_store.index import Index, open_at, open_generation
from index_store.manifest import NAME as MANIFEST, Manifest
from index_store.paths import is_url
from index_store.shards.layout import counted, shards_in
from index_store.stores.layout import in_generation, key_of, listed, manifest_at, objects_at, the_live
from index_store.stores.objects import Objects
from index_store.stores.pushing import point
from index_store.stores.urls import url_of
from index_store.types import Document
from index_store.writer import numbers, sole_writer, switch


@dataclass(frozen=True, slots=True)
class Generation:
    """One published state of an index.

    `live`: whether this is the one that opens. `parent`: the generation that was live before it. `levels[i]`: nodes at
    level i. `bytes`: of all its files, those that it shares with other generations included; of an index of indexes
    without its shards. `published`: when, UTC, as
    ISO 8601; no part of the digest, but the time of its manifest on this disk, so a copy may have a later one.
    """

    number: int
    live: bool
    parent: int | None
    documents: int
    levels: tuple[int, ...]
    digest: str
    bytes: int
    published: str


@dataclass(frozen=True, slots=True)
class Changes:
    """How many documents differ, and how, from the generation before: each number as `Differences` has the ids."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    renamed: int = 0


@dataclass(frozen=True, slots=True)
class Differences:
    """The ids of the documents that differ from those before, each kind in order.

    `renamed`: (old id, new id) of those with the text of one that is gone. `changed`: those that say something else, be
    it in their metadata. `removed`: those that are gone, and were not renamed.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()

    def counted(self, documents: int) -> Changes:
        """How many they are, of so many documents that there are now."""
        added, changed, renamed = len(self.added), len(self.changed), len(self.renamed)
        unchanged = documents - added - changed - renamed
        return Changes(added, changed, len(self.removed), unchanged, renamed)


def paired(before: Sequence[Document], after: Sequence[Document]) -> list[tuple[Document, Document | None]]:
    """Each document of `after` with the one of `before` that it was: the one of its id, else one of its text whose id
    is gone, each once; None for a new one."""
    known, staying = {d.id: d for d in before}, {d.id for d in after}
    gone: dict[str, deque[Document]] = {}
    for document in before:
        if document.id not in staying:
            gone.setdefault(document.sha256, deque()).append(document)

    def earlier(document: Document) -> Document | None:
        same = known.get(document.id)
        return same or (gone[document.sha256].popleft() if gone.get(document.sha256) else None)

    return [(document, earlier(document)) for document in after]


def differences_between(before: Sequence[Document], after: Sequence[Document]) -> Differences:
    """What became of the documents `before`. The file that a document is read from may differ in an unchanged one."""
    pairs = paired(before, after)
    olds = [(now, old) for now, old in pairs if old is not None]
    stayed = {old.id for _, old in olds}
    return Differences(
        added=tuple(now.id for now, old in pairs if old is None),
        changed=tuple(
            now.id for now, old in olds if now.id == old.id and now != replace(old, source=now.source)
        ),
        renamed=tuple((old.id, now.id) for now, old in olds if now.id != old.id),
        removed=tuple(document.id for document in before if document.id not in stayed),
    )


@checked(IndexStoreError)
def list_generations(path: str | Path) -> list[Generation]:
    """All generations of the index at `path`, a folder or a URL, oldest first. Raises BrokenIndex where there is no
    index, StoreError where a store cannot be used."""
    if is_url(path):
        return _listed_at(objects_at(path))
    path = Path(path)
    live = _live(path)
    try:
        return [_generation(path, number, live) for number in sorted(numbers(path))]
    except OSError as e:
        raise BrokenIndex(f"cannot read the index {path}: {e.strerror or e}; copy or build it again") from e


@checked(IndexStoreError)
def changes_of(path: str | Path, generation: Generation) -> Changes | None:
    """What a generation changed of its parent; None where either cannot be read, as when the parent was pruned, or not
    without fetching both, as at a URL."""
    if is_url(path):
        return None
    if generation.parent is None:
        return Changes(added=generation.documents)
    try:
        parent = open_generation(Path(path), generation.parent)
        documents = open_generation(Path(path), generation.number).documents
        return differences_between(parent.documents, documents).counted(len(documents))
    except (OSError, BrokenIndex):
        return None


@checked(IndexStoreError)
def rollback(path: str | Path, number: int | str) -> None:
    """Make generation `number` the live one again; or the one whose digest begins so, as at a URL two publishers may
    have used one number.

    Raises BrokenIndex where it does not exist or does not open, IndexStoreError where the index cannot be changed; at a
    URL also Overtaken, where somebody publishes meanwhile.
    """
    if is_url(path):
        _rollback_at(objects_at(path), number)
        return
    path = Path(path)
    _live(path)
    with _changing(path):
        if isinstance(number, str) or number not in numbers(path):
            number = _wanted(list_generations(path), number, f"in {path}").number
        open_generation(path, number)
        switch(path, number)


@checked(IndexStoreError)
def prune(path: str | Path, keep: int = 1) -> list[int]:
    """Delete all generations but the live one and the `keep` - 1 newest others; returns the numbers of those deleted.

    A process that has one of them open can go on reading it. Raises BrokenIndex where there is no index,
    IndexStoreError where it cannot be changed.
    """
    path = Path(path)
    if keep < 1:
        raise BrokenIndex(f"keep is {keep}; at least the live generation stays, so give 1 or more")
    _live(path)  # raises where there is no index
    with _changing(path):
        live = _live(path)
        others = [n for n in sorted(numbers(path)) if n != live]
        old = others[: len(others) - (keep - 1)] if keep > 1 else others
        for number in old:
            shutil.rmtree(generation_folder(path, number))
    return old


@checked(IndexStoreError)
def of_digest(index: Index, digest: str) -> Index | None:
    """The generation with a digest of an index, live or not; the latest of several. Raises BrokenIndex, StoreError."""
    place = place_of(index)
    found = [one.number for one in list_generations(place) if one.digest == digest]
    if not found:
        return None
    return open_at(url_of(place), digest=digest) if is_url(place) else open_generation(Path(place), found[-1])


def place_of(index: Index) -> str | Path:
    """Where the generations of an open index are: a folder or a URL. One that was narrowed is alone in its folder."""
    whole = index.whole or index
    return whole.named if whole.access is None and is_url(whole.named) else whole.path


def _listed_at(objects: Objects) -> list[Generation]:
    live = the_live(objects)
    published = {
        digest: one.modified
        for one in listed(objects)
        for digest, file in [in_generation(one.key)]
        if file == MANIFEST
    }
    found = [
        Generation(
            live.number if digest == live.digest else manifest.generation,
            digest == live.digest,
            manifest.parent,
            *_counts(manifest, f"{objects.url}/{key_of(digest, MANIFEST)}"),
            digest,
            sum(entry.size for entry in manifest.files.values()),
            when.astimezone(UTC).isoformat(timespec="seconds"),
        )
        for digest, when in published.items()
        for manifest, _ in [manifest_at(objects, digest)]
    ]
    return sorted(found, key=lambda one: (one.number, one.published))


def _rollback_at(objects: Objects, number: int | str) -> None:
    live = the_live(objects)
    wanted = _wanted(_listed_at(objects), number, f"at {objects.url}")
    point(objects, wanted.number, wanted.digest, live.tag)


def _wanted(there: Sequence[Generation], number: int | str, where: str) -> Generation:
    """The generation of a number, or with a digest that begins so, the latest of several alike. Raises BrokenIndex
    where there is none, or more than one is meant."""
    found = [
        one
        for one in there
        if (one.digest.startswith(number) if isinstance(number, str) else one.number == number)
    ]
    if not found:
        listed_there = ", ".join(str(one.number) for one in there) or "none"
        raise BrokenIndex(f"there is no generation {number} {where}; there are {listed_there}")
    if len({one.digest for one in found}) > 1:
        digests = ", ".join(one.digest[:12] for one in found)
        raise BrokenIndex(
            f"{len(found)} generations {where} are {number}; name one by how its digest begins: {digests}"
        )
    return found[-1]


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Hold the lock of an index; an OSError becomes an IndexStoreError."""
    try:
        with sole_writer(path):
            yield
    except OSError as e:
        raise IndexStoreError(f"cannot change the index {path}: {e.strerror or e}; make it writable") from e


def _live(path: Path) -> int:
    try:
        live = current_generation(path)
    except OSError as e:
        raise BrokenIndex(f"cannot read the index {path}: {e.strerror or e}; copy or build it again") from e
    if live is None:
        raise BrokenIndex(f"there is no index at {path}; build one with: raptor build SOURCE -o {path}")
    return live


def _counts(manifest: Manifest, where: str) -> tuple[int, tuple[int, ...]]:
    """Documents, and nodes at each level; of an index of indexes, of all shards together. `where` the manifest is."""
    shards = shards_in(manifest, where)
    return counted(shards, manifest.levels) if shards else (manifest.documents, manifest.levels)


def _generation(path: Path, number: int, live: int) -> Generation:
    folder = generation_folder(path, number)
    manifest = read_manifest(folder)
    return Generation(
        number,
        number == live,
        manifest.parent,
        *_counts(manifest, str(folder / MANIFEST)),
        manifest.digest,
        sum(f.size for f in manifest.files.values()),
        datetime.fromtimestamp((folder / MANIFEST).stat().st_mtime, UTC).isoformat(timespec="seconds"),
    )
