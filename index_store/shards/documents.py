"""The documents of all shards as one sequence; a shard is opened when one of its documents is read."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

from index_store.documents import COMPARED, COMPARED_CHARS, Documents, Numbers
from index_store.errors import BrokenIndex
from index_store.manifest import SHARDS
from index_store.shards.ids import id_hash
from index_store.shards.layout import Shard
from index_store.tree import Tree
from index_store.types import Document


class DocumentsOfAll(Documents):
    """The documents in order. By its id one is found in the upper index, which knows where each is. `open_shard`: gives
    the tree of the shard with a number; `opened`: those that were opened so far."""

    def __init__(
        self,
        upper: Tree,
        shards: Sequence[Shard],
        open_shard: Callable[[int], Tree],
        opened: Callable[[], Iterable[Tree]],
    ) -> None:
        self._open, self._opened = open_shard, opened
        self._firsts = np.array([*accumulate((shard.documents for shard in shards), initial=0)])
        self._hashes = upper.store.arrays[f"{SHARDS}/id_hashes.npy"]
        self._numbers = upper.store.arrays[f"{SHARDS}/id_documents.npy"]
        if not len(self._hashes) == len(self._numbers) == len(self):
            raise BrokenIndex(f"{upper.path} does not name all documents of its shards; build it again")
        self._having = lru_cache(64)(self._search_metadata)
        self._named = lru_cache(64)(self._search_names)

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def _read(self, number: int) -> Document:
        shard = int(np.searchsorted(self._firsts, number, side="right")) - 1
        return self._open(shard).documents[number - int(self._firsts[shard])]

    def number(self, doc: str) -> int | None:
        """The number of the document with this id; None where there is none. Opens the shard that has it alone."""
        low, high = (
            int(np.searchsorted(self._hashes, np.uint64(id_hash(doc)), side)) for side in ("left", "right")
        )
        for number in self._numbers[low:high].tolist():
            if 0 <= number < len(self) and self[number].id == doc:
                return int(number)
        return None

    def nearest_id(self, doc: str) -> str | None:
        """As `Documents.nearest_id`, of those that each opened shard finds nearest: none is opened for a hint."""
        compared = min(COMPARED, COMPARED_CHARS // max(len(doc), 1))
        near = (tree.documents.nearest_id(doc) for tree in self._opened())
        ids = [found for found in near if found is not None]
        return next(iter(difflib.get_close_matches(doc, ids[:compared], n=1, cutoff=0.6)), None)

    def may_contain(self, numbers: Numbers, words: str) -> Iterator[int]:
        """As `Documents.may_contain`."""
        edges = np.searchsorted(numbers, self._firsts)
        for shard, first in enumerate(self._firsts[:-1].tolist()):
            if len(own := numbers[edges[shard] : edges[shard + 1]]):
                found = self._open(shard).documents.may_contain(own - first, words)
                yield from (number + first for number in found)

    def _search_metadata(self, name: str, value: str | None) -> Numbers:
        parts = [
            self._open(shard).documents.having(name, value) + first
            for shard, first in enumerate(self._firsts[:-1].tolist())
        ]
        return np.concatenate(parts)
