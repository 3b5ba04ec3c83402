"""Which document stands in which shard. Pure.

By size: documents in their order, as many as fit. By folder: those in one folder at the top of their ids. By access:
those that the same readers may read. What is more than fits into one shard fills several, each with the documents that
follow. A document is never cut in two, so one that is larger than a shard has a shard of its own.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count

from index_store import access
from index_store.shards.layout import MOST_SHARDS
from index_store.types import Document
from raptor.errors import RaptorError
from raptor.settings import Sharding

NAME_CHARS = 60
#: The name where the documents stand in no folder, are open to all, and where nobody knows who may read them.
TOP, OPEN, UNKNOWN = "top", "open", "unknown"
_NO_NAME = re.compile(r"[^A-Za-z0-9.-]+")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # which Windows takes for one


def key_of(document: Document, by: str) -> str:
    """What all documents of a shard have in common: "" by size; the first folder of the id; the labels."""
    if by == "folder":
        folder, slash, _ = document.id.lstrip("/").partition("/")
        return folder if slash else ""
    return _labels(document) if by == "access" else ""


def _labels(document: Document) -> str:
    own = access.of_document(document.meta)
    return UNKNOWN if own is None else ", ".join(sorted(own))


def planned_shards(sizes: Iterable[tuple[Document, int]], sharding: Sharding) -> dict[str, list[int]]:
    """The numbers of the documents of each shard, by its name; `sizes`: all documents, each with how many chunks.

    Shards stand in the order in which their keys first come, and a document in its order among those of its key.
    Raises RaptorError where there would be more than MOST_SHARDS.
    """
    by_key = dict[str, list[tuple[int, int]]]()
    for number, (document, chunks) in enumerate(sizes):
        by_key.setdefault(key_of(document, sharding.by), []).append((number, chunks))
    parts = [(key, list(_filled(rows, sharding.chunks))) for key, rows in by_key.items()]
    _check_count(sum(len(own) for _, own in parts))
    plan, taken = dict[str, list[int]](), set[str]()
    for key, own in parts:
        for number, part in enumerate(own, 1):
            plan[new_name(key, sharding.by, taken, number if len(own) > 1 else 0)] = part
    return plan


def expected_sizes(sizes: Iterable[tuple[Document, int]], share: float, sharding: Sharding) -> list[int]:
    """About how many chunks each shard has, where each of these documents stands for `share` as many chunks as are
    given with it. Raises RaptorError as `planned_shards` does."""
    by_key = dict[str, float]()
    for document, chunks in sizes:
        key = key_of(document, sharding.by)
        by_key[key] = by_key.get(key, 0.0) + chunks * share
    totals, most = [max(1, round(total)) for total in by_key.values()], sharding.chunks
    _check_count(sum(-(-total // most) for total in totals))
    return [min(most, total - start) for total in totals for start in range(0, total, most)]


def _check_count(shards: int) -> None:
    if shards > MOST_SHARDS:
        raise RaptorError(
            f"that would be {shards:,} shards, and the manifest of an index has room for {MOST_SHARDS:,}; divide it by "
            "raptor shard with --by size, or a higher --shard-chunks"
        )


def _filled(rows: Sequence[tuple[int, int]], most: int) -> Iterator[list[int]]:
    """Runs of (number, chunks) of at most so many chunks each, or of one document that has more."""
    part, size = list[int](), 0
    for number, chunks in rows:
        if part and size + chunks > most:
            yield part
            part, size = [], 0
        part.append(number)
        size += chunks
    yield part


def new_name(key: str, by: str, taken: set[str], number: int = 0) -> str:
    """The name of a further shard, that of a folder on any system, and added in lower case to those that are `taken`:
    file systems may not tell upper from lower case. `number`: its own among those of its key, 0 where it is alone."""
    word = _word(key, by)
    numbered = (f"{word}-{n:04d}".lstrip("-") for n in count(max(number, 1)))
    name = next(
        name for name in chain([word] if word and not number else [], numbered) if name.lower() not in taken
    )
    taken.add(name.lower())
    return name


def _word(key: str, by: str) -> str:
    """A key as a name of a folder may say it; "" by size."""
    if by == "size":
        return ""
    plain = unicodedata.normalize("NFKD", key).encode("ascii", "ignore").decode()
    word = _NO_NAME.sub("-", plain).strip("-.")[:NAME_CHARS].rstrip("-.")
    if _DEVICE.fullmatch(word):
        return f"{by}-{word}"
    return word or {"": OPEN if by == "access" else TOP}.get(key, by)


# -- when documents change ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """A document as it is to be, and the one that it was; None for a new one."""

    now: Document
    old: Document | None


@dataclass(frozen=True, slots=True)
class Held:
    """A shard that there is: its documents, and how many chunks they have."""

    documents: Sequence[Document]
    chunks: int


def replanned(
    changes: Sequence[Change], held: Mapping[str, Held], sharding: Sharding, chunk_chars: float
) -> dict[str, list[Change]]:
    """The documents of each shard, by its name: of those that there are, in order, then of new ones.

    A document stays in its shard while it has the key of this; else it goes where a new one goes: into the last shard
    of its key; by size, that has room, counting a chunk for every `chunk_chars` characters. A shard of a folder or of
    labels takes what comes even where it is full, as who searches below it means all of them. Where there is no such
    shard a new one begins, and one that is left without documents is not named. `held`: by name, in order. Raises
    RaptorError as `planned_shards` does.
    """
    home = {document.id: name for name, own in held.items() for document in own.documents}
    keys = {name: key_of(own.documents[0], sharding.by) for name, own in held.items()}
    lasts = {key: name for name, key in keys.items()}
    sizes = {name: float(own.chunks) for name, own in held.items()}
    places, taken = list[str](), {name.lower() for name in held}
    for change in changes:
        key = key_of(change.now, sharding.by)
        name = home.get(change.old.id) if change.old else None
        if name is None or keys[name] != key:
            size = max(change.now.chars / chunk_chars, 1.0)
            name = lasts.get(key)
            if name is None or (sharding.by == "size" and sizes[name] + size > sharding.chunks):
                name = lasts[key] = new_name(key, sharding.by, taken)
                keys[name], sizes[name] = key, 0.0
            sizes[name] += size
        places.append(name)
    plan: dict[str, list[Change]] = {name: [] for name in keys}
    for name, change in zip(places, changes, strict=True):
        plan[name].append(change)
    plan = {name: own for name, own in plan.items() if own}
    if len(plan) > len(held):
        _check_count(len(plan))
    return plan
