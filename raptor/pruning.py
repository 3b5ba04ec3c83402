"""Delete old generations, what only they needed, and copies for readers; say where removed texts still are."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from index_store import cache
from index_store.arguments import checked
from index_store.errors import BrokenIndex
from index_store.folder import CURRENT, current_generation, generation_folder, read_manifest
from index_store.generations import list_generations, prune
from index_store.index import Index, open_generation, open_index
from index_store.paths import is_url
from index_store.shards.layout import shards_in
from index_store.stores.pruning import GRACE_H, Pruned, prune_store
from index_store.stores.urls import Url, url_of
from index_store.terminal import count
from index_store.writer import numbers, sole_writer, switch
from raptor.checkpoint import NAME, Checkpoint, build_lock
from raptor.errors import RaptorError
from raptor.grower import is_summary
from raptor.loading.processes import is_parsed
from raptor.places import own_folder_of, refuse_unpublished
from raptor.sharding.shards import folders_of_shards, is_unfinished


@checked(RaptorError)
def prune_index(index: str | Path, keep: int = 1) -> tuple[list[int], int]:
    """Delete generations; give their numbers, and how many recorded texts and summaries were dropped with them.

    The live generation stays, and the `keep` - 1 newest others, with the texts and summaries in them; so does what an
    unfinished build has recorded. Generations of shards go with the last one that names them. Indexes in the user's
    cache that this one was narrowed to go too, but for those in use. Raises BrokenIndex where there is no index,
    RaptorError while another build runs, or for what cannot be deleted.
    """
    path = Path(index)
    list_generations(path)  # raises where there is no index, before the lock makes a folder
    with build_lock(path):
        shards = folders_of_shards(path)
        deleted = prune(path, keep)
        try:
            cache.forget(path)
        except OSError as e:
            raise RaptorError(
                f"cannot delete copies in your cache: {e.strerror or e}; delete the folder {cache.place()} yourself"
            ) from e
        _prune_shards(path, shards)
        return deleted, sum(_forget(folder) for folder in (path, *shards) if (folder / NAME).exists())


@checked(RaptorError)
def places_of_removed(index: str | Path) -> list[str]:
    """Where texts still are that the live generation does not hold: other generations, `build.sqlite`, and the user's
    cache of narrowed indexes.

    `prune_index` deletes them there. An index of the same name elsewhere may have the copies in the cache. Runs that
    quoted them stand elsewhere. Raises BrokenIndex where there is no index.
    """
    if is_url(index):
        return _places_at(url_of(index))
    path = Path(index)
    others = [generation.number for generation in list_generations(path) if not generation.live]
    live = open_index(path)
    texts, summaries = {document.sha256 for document in live.documents}, _summaries(live)
    old = [
        number
        for number in others
        if any(document.sha256 not in texts for document in open_generation(path, number).documents)
    ]
    is_kept = any(_keeps_others(folder, texts, summaries) for folder in (path, *folders_of_shards(path)))
    numbers = ", ".join(map(str, old))
    named = [f"generation{'s' if len(old) > 1 else ''} {numbers}"] if old else []
    is_copied = any(_holds_others(copy, texts) for copy in cache.copies(path))
    return [*named, *([NAME] if is_kept else []), *([str(cache.place())] if is_copied else [])]


@checked(RaptorError)
def prune_at(url: str | Path, keep: int = 1, grace_h: float = GRACE_H) -> Pruned:
    """Delete what no pointer at a URL reaches any more (see `prune_store`), and of what is kept of it here: earlier
    generations, what only they needed, and copies in the user's cache, but for those in use.

    Raises BrokenIndex where there is no index, StoreError, RaptorError while a build runs there from this machine, or
    where one is not published yet.
    """
    place = url_of(url)
    with own_folder_of(place) as folder:
        refuse_unpublished(place, folder)
        pruned = prune_store(url, keep=keep, grace_h=grace_h)
        if (folder / CURRENT).exists():
            prune_index(folder, keep)
        cache.forget(folder)
        cache.forget(folder, cache.PULLED)
    return pruned


def _places_at(url: Url) -> list[str]:
    others = [one for one in list_generations(str(url)) if not one.live]
    named = [f"{count(len(others), 'earlier generation')} there"] if others else []
    with own_folder_of(url) as folder:
        here = places_of_removed(folder) if (folder / CURRENT).exists() else []
        return [*named, *(f"{folder} ({place})" for place in here)]


def _keeps_others(folder: Path, texts: set[str], summaries: set[tuple[str, str]]) -> bool:
    """Whether texts or summaries are recorded beside an index or a shard that are others than these."""
    with Checkpoint(folder, read_only=True) as checkpoint:
        return any(
            _sha256(row["text"]) not in texts for row in checkpoint.settled("parsed", is_parsed)
        ) or any(
            (row["label"], row["text"]) not in summaries for row in checkpoint.settled("summary", is_summary)
        )


def _holds_others(copy: Path, texts: set[str]) -> bool:
    """Whether a narrowed index has documents of other texts; one that cannot be read may have some."""
    try:
        return any(document.sha256 not in texts for document in open_generation(copy, 1).documents)
    except (BrokenIndex, OSError):
        return True


def _prune_shards(path: Path, folders: Sequence[Path]) -> None:
    """Delete generations of shards, in these folders, that no generation of the index names, and shards of which none
    is left. What an unfinished build has recorded of one stays."""
    manifests = (
        [read_manifest(generation_folder(path, one.number)) for one in list_generations(path)]
        if folders
        else []
    )
    named = {(shard.name, shard.digest) for manifest in manifests for shard in shards_in(manifest, str(path))}
    try:
        for folder in folders:
            with build_lock(folder):
                _prune_shard(folder, {digest for name, digest in named if name == folder.name})
            if not any(name == folder.name for name, _ in named) and not is_unfinished(folder):
                shutil.rmtree(folder)
    except OSError as e:
        raise RaptorError(f"cannot delete old shards of {path}: {e.strerror or e}; make it writable") from e


def _prune_shard(folder: Path, digests: set[str]) -> None:
    """Keep the generations of a shard that have one of these digests; the newest of them becomes the live one, if that
    is to go."""
    if not (folder / "generations").is_dir():
        return
    with sole_writer(folder):
        held = {number: read_manifest(generation_folder(folder, number)).digest for number in numbers(folder)}
        staying = [number for number, digest in held.items() if digest in digests]
        if not staying:
            (folder / CURRENT).unlink(missing_ok=True)
        elif current_generation(folder) not in staying:
            switch(folder, max(staying))
        for number in held.keys() - {*staying}:
            shutil.rmtree(generation_folder(folder, number))


def _forget(path: Path) -> int:
    texts, summaries = set[str](), set[tuple[str, str]]()
    for generation in list_generations(path) if (path / CURRENT).exists() else ():
        staying = open_generation(path, generation.number)
        texts |= {document.sha256 for document in staying.documents}
        summaries |= _summaries(staying)
    with Checkpoint(path) as checkpoint:
        parsed = checkpoint.retain("parsed", lambda row: is_parsed(row) and _sha256(row["text"]) in texts)
        return parsed + checkpoint.retain(
            "summary", lambda row: is_summary(row) and (row["label"], row["text"]) in summaries
        )


def _summaries(index: Index) -> set[tuple[str, str]]:
    return {(index.at(n).label, index.text_at(n)) for n in range(index.levels[0], len(index))}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
