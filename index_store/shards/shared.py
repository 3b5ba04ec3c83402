"""What an upper index keeps of all its shards together, so that one of them can be searched alone by the same scores.

    shards/words.txt         the words that nodes of several shards hold, sorted
    shards/holders.npy       how many nodes of the whole index hold each
    shards/names.txt         the names of the whole index, sorted: those that 2 to MOST_BEARERS of all chunks bear
    shards/bearers.npy       how many chunks of the whole index bear each
    shards/name_offsets.npy  where the shards of each name begin in the two next
    shards/name_shards.npy   the number of a shard whose chunks bear the name
    shards/name_places.npy   the number that the name has in that shard's own table
    shards/name_numbers.npy  for each name of shard 0, of shard 1, ...: its number in names.txt; -1 where it is not there
    shards/id_hashes.npy     a hash of the id of each document, ascending
    shards/id_documents.npy  the number of the document
    shards/alike.npy         as documents_alike.npy, of all documents; missing where none are alike
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.documents import Documents
from index_store.manifest import ALIKE_OF_SHARDS, SHARDS
from index_store.name_table import MOST_BEARERS
from index_store.store import Store

Ints = npt.NDArray[np.integer]


def write_shared(
    folder: Path,
    shards: Sequence[Store],
    alike: Ints | None = None,
) -> None:
    """Write the files of `shards/` into `folder`, that of a generation of an upper index whose other files stand there.

    `shards`: opened, in order; they were written with `Draft.is_shard`. `alike`: (documents,), as `Draft.alike`, of the
    documents of all shards. With `functools.partial` it is a `Draft.of_shards`.
    """
    heights = [len(store.levels) for store in shards]
    repeats = [max(heights) - height for height in heights]
    _write_words(folder, shards, repeats)
    _write_names(folder / SHARDS, shards)
    _write_ids(folder / SHARDS, shards)
    if alike is not None and (np.asarray(alike) != np.arange(len(alike))).any():
        _save(folder / ALIKE_OF_SHARDS, np.asarray(alike, dtype=np.int32))


def id_hash(doc: str) -> int:
    """The hash of a document's id, 64 bits."""
    return int.from_bytes(blake2b(doc.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _write_words(folder: Path, shards: Sequence[Store], repeats: Sequence[int]) -> None:
    """Of each word how many nodes of all hold it: those of the shards, their roots as often as these are repeated, and
    of the upper tree those above its chunks, which are the roots again."""
    parts = [_holders(store, again) for store, again in zip(shards, repeats, strict=True)]
    upper = _upper_holders(folder, len(shards))
    words, holders = list[bytes](), list[int]()
    for word, group in groupby(heapq.merge(*parts, upper), key=lambda pair: pair[0]):
        counts = [count for _, count in group]
        if len(counts) > 1:
            words.append(word)
            holders.append(sum(counts))
    (folder / SHARDS / "words.txt").write_bytes(b"\n".join(words))
    _save(folder / SHARDS / "holders.npy", np.array(holders, dtype=np.int32))


def _holders(store: Store, repeats: int) -> Iterator[tuple[bytes, int]]:
    """The words of a shard in order, each with how many nodes hold it, the root as often as it is repeated besides."""
    offsets, nodes = store.arrays["lexical/offsets.npy"], store.arrays["lexical/nodes.npy"]
    sizes = np.diff(offsets)
    filled = np.flatnonzero(sizes)
    counts = sizes.copy()
    counts[filled] += repeats * (nodes[offsets[1:][filled] - 1] == sum(store.levels) - 1)
    return _lines(store.folder / "lexical" / "words.txt", counts)


def _upper_holders(folder: Path, roots: int) -> Iterator[tuple[bytes, int]]:
    """The words of the nodes of an upper tree that are no roots of shards. Also a word that only they hold counts as
    held by several, since a shard does not know it."""
    offsets, nodes = (np.load(folder / "lexical" / f"{name}.npy") for name in ("offsets", "nodes"))
    above = np.concatenate([[0], np.cumsum(nodes >= roots)])[offsets]
    return ((word, count) for word, count in _lines(folder / "lexical" / "words.txt", np.diff(above)) if count)


def _lines(path: Path, values: Ints) -> Iterator[tuple[bytes, int]]:
    """The lines of a sorted list with the value of each."""
    with path.open("rb") as file:
        for line, value in zip(file, values.tolist(), strict=True):
            yield line.rstrip(b"\n"), value


def _write_names(folder: Path, shards: Sequence[Store]) -> None:
    listed, bearers, sizes, of_shard, places = list[bytes](), list[int](), [0], list[int](), list[int]()
    counts = [np.diff(store.arrays.get("names/offsets.npy", np.zeros(1, np.int64))) for store in shards]
    numbers = [np.full(len(own), -1, dtype=np.int32) for own in counts]
    parts = [_names(store, number) for number, store in enumerate(shards)]
    for name, group in groupby(heapq.merge(*parts), key=lambda row: row[0]):
        held = [(shard, place) for _, shard, place in group]
        total = sum(int(counts[shard][place]) for shard, place in held)
        if 1 < total <= MOST_BEARERS:
            for shard, place in held:
                numbers[shard][place] = len(listed)
                of_shard.append(shard)
                places.append(place)
            listed.append(name)
            bearers.append(total)
            sizes.append(len(held))
    (folder / "names.txt").write_bytes(b"\n".join(listed))
    _save(folder / "bearers.npy", np.array(bearers, dtype=np.int32))
    _save(folder / "name_offsets.npy", np.cumsum(sizes).astype(np.int64))
    _save(folder / "name_shards.npy", np.array(of_shard, dtype=np.int32))
    _save(folder / "name_places.npy", np.array(places, dtype=np.int32))
    _save(folder / "name_numbers.npy", np.concatenate(numbers).astype(np.int32))


def _names(store: Store, number: int) -> Iterator[tuple[bytes, int, int]]:
    """The names of a shard in order, each with the number of the shard and its own there."""
    if "names/offsets.npy" not in store.arrays or len(store.arrays["names/offsets.npy"]) < 2:
        return
    with (store.folder / "names" / "names.txt").open("rb") as file:
        for place, line in enumerate(file):
            yield line.rstrip(b"\n"), number, place


def _write_ids(folder: Path, shards: Sequence[Store]) -> None:
    hashes = [id_hash(document.id) for store in shards for document in store.listed()]
    found = np.array(hashes, dtype=np.uint64)
    order = np.argsort(found, kind="stable")
    _save(folder / "id_hashes.npy", found[order])
    _save(folder / "id_documents.npy", order.astype(np.int32))


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    np.save(path, array, allow_pickle=False)
