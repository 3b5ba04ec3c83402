"""What an upper index keeps of all its shards together, so that one of them can be searched alone by the same scores.

shards/words.txt         the words that stand in several shards, or above them, sorted
shards/holders.npy       how many chunks of the whole index hold each
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
from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex
from index_store.manifest import ALIKE_OF_SHARDS, SHARDS
from index_store.name_table import MOST_BEARERS
from index_store.shards.ids import id_hash
from index_store.tree import TEXT_BYTES, Tree

Ints = npt.NDArray[np.integer]


def write_shared(folder: Path, shards: Sequence[Tree], alike: Ints | None = None) -> None:
    """Write the files of `shards/` into `folder`, that of a generation of an upper index whose other files stand there.

    `shards`: opened, in order; each was written with `Draft.is_shard`. `alike`: (documents,), as `Draft.alike`, of the
    documents of all shards. By `functools.partial` it is a `Draft.of_shards`. Raises BrokenIndex for a shard that is
    damaged.
    """
    _write_words(folder, shards)
    _write_names(folder / SHARDS, shards)
    _write_ids(folder / SHARDS, shards)
    if alike is not None and (np.asarray(alike) != np.arange(len(alike))).any():
        _save(folder / ALIKE_OF_SHARDS, np.asarray(alike, dtype=np.int32))


def _write_words(folder: Path, shards: Sequence[Tree]) -> None:
    """Of each word how many chunks of all shards hold it."""
    parts = [
        _holders(tree.store.folder / "lexical", *_columns(tree), tree.levels[0], is_upper=False)
        for tree in shards
    ]
    offsets, nodes = (
        np.load(folder / "lexical" / f"{name}.npy", allow_pickle=False) for name in ("offsets", "nodes")
    )
    parts.append(_holders(folder / "lexical", offsets, nodes, 0, is_upper=True))
    holders = array("i")
    with (folder / SHARDS / "words.txt").open("wb") as file:
        for word, group in groupby(heapq.merge(*parts), key=lambda row: row[0]):
            rows = list(group)
            if len(rows) > 1 or rows[0][2]:  # of another the one shard that has it knows how many
                file.write(b"\n" * bool(holders) + word)
                holders.append(sum(count for _, count, _ in rows))
    _save(folder / SHARDS / "holders.npy", np.asarray(holders, dtype=np.int32))


def _columns(tree: Tree) -> tuple[Ints, Ints]:
    """Where the nodes of each word of a shard begin, and these. Raises BrokenIndex, as it may come from a stranger."""
    offsets, nodes = tree.store.arrays["lexical/offsets.npy"], tree.store.arrays["lexical/nodes.npy"]
    if not len(offsets) or offsets[0] or offsets[-1] != len(nodes) or (offsets[1:] < offsets[:-1]).any():
        raise BrokenIndex(f"the lexical arrays of {tree.store.folder} are damaged; build the shard again")
    return offsets, nodes


def _holders(
    folder: Path, offsets: Ints, nodes: Ints, chunks: int, *, is_upper: bool
) -> Iterator[tuple[bytes, int, bool]]:
    """The words of a lexicon in order, each with how many of its nodes below `chunks` hold it, and `is_upper`."""
    above = np.searchsorted(offsets, np.flatnonzero(nodes >= chunks), side="right") - 1
    held = np.diff(offsets) - np.bincount(above, minlength=len(offsets) - 1)
    return ((word, count, is_upper) for word, count in _lines(folder, held))


def _lines(folder: Path, values: Ints) -> Iterator[tuple[bytes, int]]:
    """The words of a lexicon in order, with the value of each."""
    path = folder / "words.txt"
    if path.stat().st_size:  # or it has no word, for which its list is one that is empty
        yield from zip(_listed(path, len(values)), values.tolist(), strict=True)


def _listed(path: Path, count: int) -> Iterator[bytes]:
    """The lines of a list of so many words. Raises BrokenIndex where there are more or fewer, or one has no end."""
    found = 0
    with path.open("rb") as file:
        while (line := file.readline(TEXT_BYTES)) and len(line) < TEXT_BYTES and found < count:
            yield line.rstrip(b"\n")
            found += 1
    if line or found != count:
        raise BrokenIndex(f"{path} does not hold the {count:,} words that it is to; build the shard again")


def _write_names(folder: Path, shards: Sequence[Tree]) -> None:
    """The names of all shards as one table has them, but which chunk bears which stays with the shards."""
    counts = [np.diff(tree.store.arrays.get("names/offsets.npy", np.zeros(1, np.int64))) for tree in shards]
    numbers = [np.full(len(own), -1, dtype=np.int32) for own in counts]
    bearers, sizes, of_shard, places = array("i"), array("q", [0]), array("i"), array("i")
    parts = [_names(tree, number) for number, tree in enumerate(shards)]
    with (folder / "names.txt").open("wb") as file:
        for name, group in groupby(heapq.merge(*parts), key=lambda row: row[0]):
            held = [(shard, place) for _, shard, place in group]
            total = sum(int(counts[shard][place]) for shard, place in held)
            if not 1 < total <= MOST_BEARERS:
                continue
            for shard, place in held:
                numbers[shard][place] = len(bearers)
                of_shard.append(shard)
                places.append(place)
            file.write(b"\n" * bool(bearers) + name)
            bearers.append(total)
            sizes.append(len(held))
    _save(folder / "bearers.npy", np.asarray(bearers, dtype=np.int32))
    _save(folder / "name_offsets.npy", np.cumsum(sizes, dtype=np.int64))
    _save(folder / "name_shards.npy", np.asarray(of_shard, dtype=np.int32))
    _save(folder / "name_places.npy", np.asarray(places, dtype=np.int32))
    _save(folder / "name_numbers.npy", np.concatenate(numbers))


def _names(tree: Tree, number: int) -> Iterator[tuple[bytes, int, int]]:
    """The names of a shard in order, each with the number of the shard and its own there."""
    if tree.names is None or not len(tree.names):
        return
    names = _listed(tree.store.folder / "names" / "names.txt", len(tree.names))
    yield from ((name, number, place) for place, name in enumerate(names))


def _write_ids(folder: Path, shards: Sequence[Tree]) -> None:
    hashes = array("Q", (id_hash(document.id) for tree in shards for document in tree.documents))
    found = np.asarray(hashes, dtype=np.uint64)
    order = np.argsort(found, kind="stable")
    _save(folder / "id_hashes.npy", found[order])
    _save(folder / "id_documents.npy", order.astype(np.int32))


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    np.save(path, array, allow_pickle=False)
