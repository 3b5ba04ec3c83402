"""Many shards and the upper tree over them, read as one tree. A shard is opened when something in it is first read.

Each shard is an index that may come from a stranger: when it is opened it is checked as any is, and must be what the
upper manifest says of it. So all numbers here follow from that manifest alone.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex
from index_store.lexical import Statistics, words
from index_store.manifest import ALIKE, ALIKE_OF_SHARDS, GUESTS, LENGTHS, SHARDS
from index_store.shards.documents import DocumentsOfAll
from index_store.shards.layout import Shard, counted, shard_of
from index_store.shards.names import NamesOfAll
from index_store.shards.segments import Segmented
from index_store.shards.strips import Strips
from index_store.store import Store
from index_store.tree import OUTLINES, Floats, Numbers, Tree
from index_store.word_list import WordList

Array = npt.NDArray[Any]
T = TypeVar("T")

#: Shards that are read at the same time; where they lie in a store, most of that time is waiting for it.
AT_ONCE = 8
POSTING_BYTES = 8  # of a word in a node


class Joined(Tree):
    """The tree of all shards, and above their roots the upper tree.

    `upper`: the opened upper index. `shards`: what its manifest names (`layout.shards_in`). `open_shard`: opens a shard
    as it is named; what is another is refused. `read`: bytes that were read of each shard so far, and last of the upper
    tree: rows, vectors, edges, texts, and columns of words.
    """

    def __init__(self, upper: Tree, shards: Sequence[Shard], open_shard: Callable[[Shard], Tree]) -> None:
        self._upper, self.shards, self._open_shard = upper, tuple(shards), open_shard
        self._trees: list[Tree | None] = [None] * len(shards)
        self._locks = [Lock() for _ in shards]
        self.read = np.zeros(len(shards) + 1, dtype=np.int64)
        self._check_upper()
        documents, self.levels = counted(shards, upper.levels)
        self.path, self._first = upper.path, list(accumulate(self.levels, initial=0))
        self._strips = Strips(shards, upper, self.shard, self._touched)
        self._chunk_first = _firsts(shard.levels[0] for shard in shards)
        self._document_first = _firsts(shard.documents for shard in shards)
        self._text_first = _firsts(shard.text_bytes for shard in shards)
        self._char_first = _firsts(shard.chars for shard in shards)
        self.store = self._store(documents)
        self._arrays = self.store.arrays
        self._borders = self._arrays["documents_text.npy"]
        self.outline = lru_cache(OUTLINES)(self._outline)

    def _check_upper(self) -> None:
        """Raise BrokenIndex unless the upper index has a chunk for each shard, that is named so and as long."""
        upper, shards = self._upper, self.shards
        ids = [document.id for document in upper.documents]
        sizes = [shard.summaries[-1] if shard.summaries else shard.text_bytes for shard in shards]
        fits = upper.levels[0] == len(shards) and ids == [shard.name for shard in shards]
        fits = fits and np.diff(upper.document_borders).tolist() == sizes
        fits = fits and upper.leaf_documents.tolist() == list(range(len(shards)))
        if not fits or LENGTHS not in upper.store.arrays or f"{SHARDS}/holders.npy" not in upper.store.arrays:
            raise BrokenIndex(f"{upper.path} names other shards than it has roots of; build the index again")
        alike = upper.store.arrays.get(ALIKE_OF_SHARDS)
        if alike is not None:
            fits = len(alike) == sum(shard.documents for shard in shards)
            fits = fits and bool(((alike >= 0) & (alike <= np.arange(len(alike)))).all())
            if not fits or (alike[alike] != alike).any():
                raise BrokenIndex(
                    f"{upper.path} names documents that are not the first of those that are alike"
                )

    # -- shards ------------------------------------------------------------------------------------------

    @property
    def opened(self) -> list[str]:
        """The names of the shards that were opened so far."""
        return [shard.name for shard, tree in zip(self.shards, self._trees, strict=True) if tree is not None]

    def shard(self, number: int) -> Tree:
        """The tree of the shard with this number, opened when it is first asked for. Raises BrokenIndex."""
        if (tree := self._trees[number]) is None:
            with self._locks[number]:
                if (tree := self._trees[number]) is None:
                    tree = self._trees[number] = self._checked(number, self._open_shard(self.shards[number]))
        return tree

    def _checked(self, number: int, tree: Tree) -> Tree:
        shard, upper = self.shards[number], self._upper
        fits = shard_of(shard.name, getattr(tree, "digest", ""), tree) == shard
        if fits:
            firsts = np.array([*accumulate(shard.levels, initial=0)])
            edges_up = np.diff(tree.store.arrays["parents_offsets.npy"][firsts]).tolist()
            fits = edges_up == [*shard.edges, 0]
        if not fits:
            raise BrokenIndex(
                f"the shard {tree.path} is not the one that {upper.path} was built with; copy or build it again"
            )
        if tree.text_at(len(tree) - 1) != upper.text_at(number):
            raise BrokenIndex(
                f"{upper.path} tells another root than the shard {tree.path} has; build it again"
            )
        return tree

    def _each(self, shards: Iterable[int], function: Callable[[int], T]) -> list[T]:
        """What a function gives for each of some shards, in order, several at the same time."""
        numbers = list(shards)
        if len(numbers) < 2:
            return [function(number) for number in numbers]
        with ThreadPoolExecutor(min(AT_ONCE, len(numbers))) as pool:
            return list(pool.map(function, numbers))

    def _touched(self, shard: int, size: int) -> None:
        self.read[shard] += size

    def check(self) -> None:
        """Raise BrokenIndex where what the upper index keeps of all shards does not fit them. Reads all documents."""
        for number, document in enumerate(self.documents):
            if self.documents.number(document.id) != number:
                raise BrokenIndex(f"{self.path} does not find its document {document.id!r}; build it again")
        _ = self.names, self._statistics.holders("")  # which are checked when they are first read

    # -- the arrays --------------------------------------------------------------------------------------

    def _store(self, documents: int) -> Store:
        """All arrays, of which none is read yet but those of the upper tree."""
        upper, strips = self._upper, self._strips
        lines = _firsts(shard.line_bytes for shard in self.shards)
        arrays: dict[str, Any] = {
            "nodes.npy": strips.nodes(self._text_first, self._document_first),
            "vectors.npy": strips.vectors(),
            "children.npy": strips.edges("children"),
            "children_offsets.npy": strips.offsets("children"),
            "parents.npy": strips.edges("parents"),
            "parents_offsets.npy": strips.offsets("parents"),
            GUESTS: strips.guests(),
            "documents_text.npy": self._ends("documents_text.npy", self._text_first),
            "documents_lines.npy": self._ends("documents_lines.npy", lines),
        }
        if ALIKE_OF_SHARDS in upper.store.arrays:
            arrays[ALIKE] = upper.store.arrays[ALIKE_OF_SHARDS]
        texts = self._by_shard(self._text_first, lambda tree: tree.store.text, np.uint8)
        listed = self._by_shard(lines, lambda tree: tree.store.lines, np.uint8)
        return Store(
            self.path,
            upper.store.folder,
            self.levels,
            documents,
            arrays,
            text=cast(Array, texts),
            summaries=cast(Array, strips.blob("summaries")),
            labels=cast(Array, strips.blob("labels")),
            lines=cast(Array, listed),
        )

    def _by_shard(
        self,
        firsts: Sequence[int],
        load: Callable[[Tree], Array],
        dtype: Any,
        shifts: Sequence[int] | None = None,
    ) -> Segmented:
        """An array with one segment for each shard, which begin at `firsts`."""
        sizes = [past - first for first, past in pairwise(firsts)]
        return Segmented(
            sizes, lambda number: load(self.shard(number)), dtype, shifts=shifts, touched=self._touched
        )

    def _ends(self, name: str, firsts: Sequence[int]) -> Segmented:
        """Offsets: where each document begins in what a shard's own begin in at `firsts`, and the end of the last."""
        rows = [*(shard.documents for shard in self.shards), 1]

        def load(number: int) -> Array:
            last = number == len(self.shards)
            return np.zeros(1, np.int64) if last else self.shard(number).store.arrays[name][:-1]

        return Segmented(rows, load, np.dtype("<i8"), shifts=firsts, heads=firsts, touched=self._touched)

    def _row(self, number: int) -> tuple[int, int, int, int, int, int, int]:
        row: tuple[int, int, int, int, int, int, int] = self._arrays["nodes.npy"][number].item()
        return row

    def numbers(self, nodes: range) -> Numbers:
        """As `Tree.numbers`; their shards are opened first, so that nothing is allocated for nodes that a manifest
        names and no shard has."""
        self._each(self._strips.told_by_shards(nodes), self.shard)
        return super().numbers(nodes)

    @property
    def rows(self) -> npt.NDArray[Any]:
        """The table of nodes; the chunks of a shard are checked when the first of them is read."""
        return self._arrays["nodes.npy"]

    @cached_property
    def homes(self) -> Numbers:
        """As `Tree.homes`."""
        return cast(Numbers, self._strips.homes())

    @cached_property
    def leaf_documents(self) -> npt.NDArray[np.int32]:
        """As `Tree.leaf_documents`."""
        firsts, dtype = self._document_first, np.dtype("<i4")
        return cast(Array, self._by_shard(self._chunk_first, lambda tree: tree.leaf_documents, dtype, firsts))

    @cached_property
    def leaf_starts(self) -> npt.NDArray[np.int64]:
        """As `Tree.leaf_starts`."""
        firsts, dtype = self._text_first, np.dtype("<i8")
        return cast(Array, self._by_shard(self._chunk_first, lambda tree: tree.leaf_starts, dtype, firsts))

    @cached_property
    def leaf_chars(self) -> Numbers:
        """As `Tree.leaf_chars`."""
        return cast(Array, self._by_shard(self._chunk_first, lambda tree: tree.leaf_chars, np.dtype("<i8")))

    # -- documents and their text ------------------------------------------------------------------------

    @cached_property
    def documents(self) -> DocumentsOfAll:
        """All documents in order."""
        return DocumentsOfAll(self._upper, self.shards, self.shard, lambda: filter(None, self._trees))

    def document_leaves(self, number: int) -> range:
        """As `Tree.document_leaves`."""
        shard = bisect_right(self._document_first, number) - 1
        own = self.shard(shard).document_leaves(number - self._document_first[shard])
        first = self._chunk_first[shard]
        return range(own.start + first, own.stop + first)

    def chunks_of(self, documents: Numbers) -> Numbers:
        """As `Tree.chunks_of`."""
        return self._in_shards(documents, self._document_first, self._chunk_first, Tree.chunks_of)

    def document_at(self, places: Numbers) -> Numbers:
        """As `Tree.document_at`."""
        return self._in_shards(places, self._text_first, self._document_first, Tree.document_at)

    def chunk_at(self, places: Numbers) -> Numbers:
        """As `Tree.chunk_at`."""
        return self._in_shards(places, self._text_first, self._chunk_first, Tree.chunk_at)

    def documents_in_parts(self) -> Iterator[range]:
        """Numbers of all documents, those of one shard after those of another."""
        return (range(first, past) for first, past in pairwise(self._document_first))

    def in_parts(self, chunks: Numbers | None) -> Iterator[Numbers]:
        """Some chunks, ascending, or all of them, those of one shard after those of another."""
        for first, past in pairwise(self._chunk_first):
            part = (
                self.numbers(range(first, past))
                if chunks is None
                else chunks[slice(*np.searchsorted(chunks, [first, past]))]
            )
            if len(part):
                yield part

    def _in_shards(
        self,
        numbers: Numbers,
        firsts: Sequence[int],
        found_firsts: Sequence[int],
        function: Callable[[Tree, Numbers], Numbers],
    ) -> Numbers:
        """What a function of a tree finds in each shard, of numbers that begin there at `firsts`; what it finds begins
        at `found_firsts`."""
        shards = np.searchsorted(np.asarray(firsts[:-1]), numbers, side="right") - 1
        parts = [np.empty(0, dtype=np.int64)]
        edges = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(numbers)]
        for at, past in pairwise(edges):
            if at < past:
                shard = int(shards[at])
                own = function(self.shard(shard), numbers[at:past] - firsts[shard])
                parts.append(own + found_firsts[shard])
        return np.concatenate(parts)

    def _char(self, byte: int) -> int:
        shard = min(bisect_right(self._text_first, byte), len(self.shards)) - 1
        if byte == self._text_first[shard + 1]:
            return self._char_first[shard + 1]
        if byte == self._text_first[shard]:
            return self._char_first[shard]
        return self._char_first[shard] + self.shard(shard)._char(byte - self._text_first[shard])

    def _byte(self, char: int) -> int:
        shard = min(bisect_right(self._char_first, char), len(self.shards)) - 1
        if char == self._char_first[shard + 1]:
            return self._text_first[shard + 1]
        if char == self._char_first[shard]:
            return self._text_first[shard]
        return self._text_first[shard] + self.shard(shard)._byte(char - self._char_first[shard])

    # -- search ------------------------------------------------------------------------------------------

    @property
    def inverted_file(self) -> None:
        """There is none of all shards; each may have its own."""

    def by_words(self, query: str, nodes: Numbers) -> Floats:
        """As `Tree.by_words`, by the statistics of all chunks; only shards that have some of `nodes` are read."""
        out = np.zeros(len(self), dtype=np.float32)
        if not (asked := words(query)):
            return out

        def score(number: int) -> None:
            tree = self.shard(number)
            found = tree.lexicon.score(query, len(tree), self._statistics)
            self._touched(number, POSTING_BYTES * sum(map(tree.lexicon.holders, asked)))
            for strip in self._strips.of_shard[number]:
                own = strip.local if strip.is_own else len(tree) - 1
                out[strip.first : strip.first + strip.size] = found[own : own + strip.size]

        self._each(self._shards_of(nodes), score)
        above, upper = self._strips.all[-1], self._upper
        if above.size:
            out[above.first :] = upper.lexicon.score(query, len(upper), self._statistics)[above.local :]
        return out

    @cached_property
    def _statistics(self) -> Statistics:
        """What BM25 knows of all chunks together."""
        upper, total = self._upper, sum(shard.words for shard in self.shards)
        holders = upper.store.arrays[f"{SHARDS}/holders.npy"]
        listed = WordList(upper.store.folder / SHARDS / "words.txt", len(holders))

        def held(word: str) -> int | None:
            place = listed.place(word) if len(holders) else None
            return None if place is None else int(holders[place])

        return Statistics(self.levels[0], total / self.levels[0], held)

    def nearest(self, vector: Floats, nodes: Numbers, count: int) -> Numbers:
        """As `Tree.nearest`, of each shard its own."""

        def found(number: int) -> Numbers:
            return np.concatenate([np.empty(0, np.int64), *self._nearest(number, vector, nodes, count)])

        chosen = self._each(self._shards_of(nodes), found)
        above = nodes[np.searchsorted(nodes, self._strips.all[-1].first) :]
        return np.sort(np.concatenate([*chosen, above]))

    def _nearest(self, number: int, vector: Floats, nodes: Numbers, count: int) -> Iterator[Numbers]:
        """Those of the nodes of one shard, strip by strip."""
        tree = self.shard(number)
        self._strips.vectors_of(number)  # which are those of the upper tree, as a question's vector is
        for strip in self._strips.of_shard[number]:
            own = nodes[slice(*np.searchsorted(nodes, [strip.first, strip.first + strip.size]))]
            if not strip.is_own or not len(own):
                yield own
                continue
            shift = strip.first - strip.local
            yield tree.nearest(vector, own - shift, count) + shift

    def _shards_of(self, nodes: Numbers) -> list[int]:
        """The numbers of the shards that have some of these nodes."""
        edges = np.searchsorted(nodes, [strip.first for strip in self._strips.all] + [len(self)])
        return sorted({
            strip.shard
            for strip, (at, past) in zip(self._strips.all[:-1], pairwise(edges.tolist()), strict=False)
            if at < past
        })  # fmt: skip

    @cached_property
    def names(self) -> NamesOfAll:
        """Which chunk of all bears which name."""
        return NamesOfAll(self._upper, self.shards, self.shard)


def _firsts(sizes: Iterable[int]) -> list[int]:
    """Where each of some things begins, and the end of the last."""
    return list(accumulate(sizes, initial=0))
