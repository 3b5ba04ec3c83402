"""The names of all shards as one table: the upper index knows which there are, each shard who bears them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex
from index_store.manifest import SHARDS
from index_store.name_table import MOST_BEARERS, TITLE, Names, Pairs, rarity
from index_store.shards.layout import Shard
from index_store.tables import ranges, sizes_of
from index_store.tree import Tree
from index_store.word_list import WordList

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class NamesOfAll(Names):
    """The table of a sharded index; a name has the number that it would have in the table of one index.

    `upper`: the upper index, checked here as it may come from a stranger. `open_shard`: gives the tree of the shard
    with a number. Only those shards are opened of which a chunk, or the bearer of a name, is asked for.
    """

    def __init__(self, upper: Tree, shards: Sequence[Shard], open_shard: Callable[[int], Tree]) -> None:
        arrays, self._open = upper.store.arrays, open_shard
        self._total = arrays[f"{SHARDS}/bearers.npy"]
        self._offsets, self._of_shard, self._place, self._numbers = (
            arrays[f"{SHARDS}/name_{name}.npy"] for name in ("offsets", "shards", "places", "numbers")
        )
        self._own = [*accumulate((shard.names for shard in shards), initial=0)]
        self._firsts = np.array([*accumulate((shard.levels[0] for shard in shards), initial=0)])
        self._chunks = int(self._firsts[-1])
        self._path = upper.store.folder / SHARDS / "names.txt"
        if not self._fits(np.array([shard.names for shard in shards])):
            raise BrokenIndex(f"the arrays beside {self._path} are damaged; build the index again")
        self._listed = WordList(self._path, len(self._total))

    def _fits(self, sizes: Numbers) -> bool:  # type: ignore[override]
        count, pairs, offsets = len(self._total), len(self._place), self._offsets
        if (
            len(self._numbers) != sizes.sum()
            or len(self._of_shard) != pairs
            or len(offsets) != count + 1
            or offsets[0] != 0
            or offsets[-1] != pairs
            or (offsets[1:] <= offsets[:-1]).any()
            or not 1 < self._total.min(initial=2) <= self._total.max(initial=2) <= MOST_BEARERS
            or not -1 <= self._numbers.min(initial=-1) <= self._numbers.max(initial=-1) < max(count, 1)
            or not 0 <= self._of_shard.min(initial=0) <= self._of_shard.max(initial=0) < len(sizes)
        ):
            return False
        return bool(((self._place >= 0) & (self._place < sizes[self._of_shard])).all())

    def __len__(self) -> int:
        return len(self._total)

    def rarity(self, names: Numbers) -> Floats:
        """The logarithm of how rare each of some names is among all chunks."""
        return rarity(self._chunks, self.sizes(names))

    def sizes(self, names: Numbers) -> Numbers:
        """How many chunks bear each of some names."""
        return self._total[names].astype(np.int64)

    def of_chunks(self, chunks: Numbers) -> Numbers:
        """Numbers of the names that some chunks bear, ascending."""
        found = [np.empty(0, dtype=np.int64)]
        for shard, own in self._by_shard(np.unique(chunks)):
            if (names := self._open(shard).names) is not None:
                found.append(self._all_numbers(shard, names.of_chunks(own - self._firsts[shard])))
        known = np.unique(np.concatenate(found))
        return known[known >= 0]

    def borne(self, chunks: Numbers) -> tuple[Numbers, Numbers, npt.NDArray[np.bool_]]:
        """As `Names.borne`."""
        found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))]
        for shard, own in self._by_shard(chunks):
            if (names := self._open(shard).names) is None:
                continue
            numbers, bearers, is_title = names.borne(own - self._firsts[shard])
            numbers = self._all_numbers(shard, numbers)
            known = numbers >= 0
            found.append((numbers[known], bearers[known] + self._firsts[shard], is_title[known]))
        numbers, bearers, is_title = (np.concatenate(columns) for columns in zip(*found, strict=True))
        return numbers, bearers, is_title

    def bearers(self, names: Numbers, allowed: Numbers) -> Pairs:
        """As `Names.bearers`; of shards that have none of the chunks `allowed`, none is opened."""
        at = ranges(self._offsets, names)
        own = np.repeat(np.arange(len(names)), sizes_of(self._offsets, names))
        asked = np.searchsorted(allowed, self._firsts)
        found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))]
        for shard in np.unique(self._of_shard[at]).tolist():
            of_shard = self._open(shard).names if asked[shard] < asked[shard + 1] else None
            if of_shard is not None:
                here = np.flatnonzero(self._of_shard[at] == shard)
                chunks = allowed[asked[shard] : asked[shard + 1]] - self._firsts[shard]
                pairs = of_shard.bearers(self._checked(of_shard, self._place[at[here]]), chunks)
                found.append((own[here[pairs.names]], pairs.chunks + self._firsts[shard], pairs.is_title))
        owners, chunks, is_title = (np.concatenate(columns) for columns in zip(*found, strict=True))
        order = np.argsort(owners, kind="stable")  # shards ascend, and so do the chunks of each name
        owners, chunks, is_title = owners[order], chunks[order], is_title[order]
        weights = self.rarity(names)[owners] * np.where(is_title, TITLE, 1.0)
        return Pairs(owners, chunks, weights, is_title)

    def _by_shard(self, chunks: Numbers) -> Iterator[tuple[int, Numbers]]:
        """Some chunks by their shards, where those of one follow one another."""
        shards = np.searchsorted(self._firsts, chunks, side="right") - 1
        edges = np.flatnonzero(np.diff(shards)) + 1
        for part, own in zip(np.split(chunks, edges), np.split(shards, edges), strict=True):
            if len(part):
                yield int(own[0]), part

    def _all_numbers(self, shard: int, names: Numbers) -> Numbers:
        """The numbers in the table of all of some names of a shard; -1 for one that is not in it."""
        return self._numbers[self._own[shard] : self._own[shard + 1]][names].astype(np.int64)

    def _checked(self, names: Names, places: npt.NDArray[np.int32]) -> Numbers:
        assert len(places) == 0 or places.max() < len(names)  # as the shard is what the manifest says
        return places.astype(np.int64)
