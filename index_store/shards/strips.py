"""The arrays of one tree, put together from those of many shards and of the upper tree.

The nodes of one level of one shard are a strip. In the one tree strips follow one another by level, and in a level by
shard; above the level of the shards' roots the upper tree is the last strip. What lies in node order, as rows, vectors,
edges and texts, has a segment for each strip.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex
from index_store.manifest import GUESTS
from index_store.shards.layout import Shard
from index_store.shards.segments import Segmented
from index_store.tables import NODE
from index_store.tree import Tree

Array = npt.NDArray[Any]
Blob = Literal["summaries", "labels"]
Direction = Literal["children", "parents"]
Open = Callable[[int], Tree]
Touched = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Strip:
    """Nodes of one level of one shard.

    `shard`: its number; that of the upper tree is the number of shards. `level`: in the one tree. `local`: the number
    that the first of them has in its shard. `first`: in the one tree. `size`: how many they are. `is_own`: False for a
    root that is repeated. `is_root`: whether it is the shard's root, which the upper index tells, or that repeated; a
    chunk is told by its shard alone.
    """

    shard: int
    level: int
    local: int
    first: int
    size: int
    is_own: bool
    is_root: bool


class Strips:
    """All strips in order, and the arrays that they make up. `open_shard`: gives the tree of the shard with a number,
    which is as the manifest says. `touched`: told the number of a shard and how many bytes of it are read."""

    def __init__(self, shards: Sequence[Shard], upper: Tree, open_shard: Open, touched: Touched) -> None:
        self._shards, self._upper, self._open, self._touched = shards, upper, open_shard, touched
        # Levels of the shards; the last has their roots.
        self.height = max(len(shard.levels) for shard in shards)
        self.all = _strips(shards, self.height, len(upper) - len(shards))
        self._starts = [strip.first for strip in self.all]
        self.of_shard = [[s for s in self.all if s.shard == n] for n in range(len(shards) + 1)]

    def at(self, number: int) -> Strip:
        """The strip that a node is in."""
        return self.all[bisect_right(self._starts, number) - 1]

    def told_by_shards(self, nodes: range) -> list[int]:
        """Numbers of the shards that alone can say that they have those of these nodes which the manifest gives them;
        a root is told by the upper tree."""
        return sorted({
            strip.shard
            for strip in self.all
            if strip.shard < len(self._shards)
            and not strip.is_root
            and max(strip.first, nodes.start) < min(strip.first + strip.size, nodes.stop)
        })  # fmt: skip

    # -- nodes -------------------------------------------------------------------------------------------

    def nodes(self, text_first: Sequence[int], document_first: Sequence[int]) -> Segmented:
        """The table of nodes; `text_first`, `document_first`: where those of each shard begin."""
        shifts: dict[str, list[int]] = {name: [] for name in NODE.names or ()}
        blobs: tuple[Blob, ...] = ("summaries", "labels")
        starts = {blob: [*accumulate(self._blob_sizes(blob), initial=0)] for blob in blobs}
        for place, strip in enumerate(self.all):
            is_read = strip.shard < len(self._shards) and not strip.is_root
            text, label = (
                starts[blob][place] - self._blob_start(strip, blob) if is_read and strip.level else 0
                for blob in starts
            )
            is_chunk = is_read and not strip.level
            moved = text_first[strip.shard] if is_chunk else text
            own = {"document": document_first[strip.shard] if is_chunk else 0, "start": moved, "end": moved}
            own |= {"label_start": label, "label_end": label}
            for name, values in shifts.items():
                values.append(own.get(name, 0))

        def told(place: int) -> Array:
            """The row of a root, or the rows of the upper tree."""
            strip = self.all[place]
            text, label = (starts[blob][place] for blob in starts)
            if strip.shard == len(self._shards):
                rows = self._upper.rows[strip.local :].copy()
                rows["level"] += self.height - 1
                for name, shift in (
                    ("start", text),
                    ("end", text),
                    ("label_start", label),
                    ("label_end", label),
                ):
                    rows[name] += shift
                return rows
            shard, row = self._shards[strip.shard], np.zeros(1, dtype=NODE)
            row["level"], row["document"], row["tokens"] = strip.level, -1, shard.root_tokens
            row["start"], row["end"] = text, text + self._blob_size(strip, "summaries")
            row["label_start"], row["label_end"] = label, label + self._blob_size(strip, "labels")
            return row

        told_once = lru_cache(None)(told)

        def load(place: int) -> Array:
            strip = self.all[place]
            if strip.is_root or strip.shard == len(self._shards):
                return told_once(place)
            tree = self._open(strip.shard)
            rows = tree.store.arrays["nodes.npy"] if strip.level else tree.rows
            return rows[strip.local : strip.local + strip.size]

        return self._array([strip.size for strip in self.all], load, NODE, shifts=shifts)

    def vectors(self) -> Segmented:
        """The vectors of all nodes."""
        upper = self._upper.vectors

        def load(place: int) -> Array:
            strip = self.all[place]
            if strip.shard == len(self._shards):
                return upper[strip.local :]
            if strip.is_root:
                return upper[strip.shard : strip.shard + 1]
            return self.vectors_of(strip.shard)[strip.local : strip.local + strip.size]

        return self._array([s.size for s in self.all], load, upper.dtype, tail=upper.shape[1:])

    def vectors_of(self, shard: int) -> Array:
        """The vectors of a shard. Raises BrokenIndex where that of its root is not the one that the upper index has."""
        tree, told = self._open(shard), self._upper.vectors[shard]
        if tree.vectors.shape[1] != len(told) or (tree.vectors[-1] != told).any():
            raise BrokenIndex(
                f"the root of {tree.path} has another vector than is told of it; build it again"
            )
        return tree.vectors

    def homes(self) -> Segmented:
        """The home of each node, -1 for the root."""
        above = self._upper.homes
        above = np.where(above < 0, -1, above + self._roots)

        def load(place: int) -> Array:
            strip = self.all[place]
            if strip.shard == len(self._shards):
                return above[strip.local :]
            if strip.level == self.height - 1:
                return above[strip.shard : strip.shard + 1]
            if (shift := shifts[place]) is None:
                return np.array([self._first(strip.level + 1, strip.shard)])
            homes = self._open(strip.shard).homes[strip.local : strip.local + strip.size]
            return homes if homes.min() >= 0 else np.where(homes < 0, -1 - shift, homes)

        shifts = [self._shift(strip, 1) for strip in self.all]
        sizes, added = [strip.size for strip in self.all], [shift or 0 for shift in shifts]
        return self._array(sizes, lru_cache(None)(load), np.dtype(np.int64), shifts=added)

    # -- edges -------------------------------------------------------------------------------------------

    def edges(self, direction: Direction) -> Segmented:
        """The nodes that each node leads to."""

        def load(place: int) -> Array:
            strip = self.all[place]
            if strip.shard == len(self._shards) or self._is_above(strip, direction):
                return self._upper_edges(strip, f"{direction}.npy")
            if (start := self._edge_start(strip, direction)) is None:
                return np.array([self._first(strip.level + step, strip.shard)], dtype=np.int32)
            return self._open(strip.shard).store.arrays[f"{direction}.npy"][start : start + sizes[place]]

        step = -1 if direction == "children" else 1
        sizes = [self._edge_count(strip, direction) for strip in self.all]
        shifts = [
            self._roots
            if strip.shard == len(self._shards) or self._is_above(strip, direction)
            else (self._shift(strip, step) or 0)
            for strip in self.all
        ]
        return self._array(sizes, load, np.dtype("<i4"), shifts=shifts)

    def guests(self) -> Segmented:
        """Which of the edges down lead to a guest."""

        def load(place: int) -> Array:
            strip = self.all[place]
            none = np.zeros(sizes[place], dtype=np.uint8)
            if strip.shard == len(self._shards):
                return self._upper.store.arrays.get(GUESTS, none)
            if (start := self._edge_start(strip, "children")) is None:
                return none
            guests = self._open(strip.shard).store.arrays.get(GUESTS)
            return none if guests is None else guests[start : start + sizes[place]]

        sizes = [self._edge_count(strip, "children") for strip in self.all]
        return self._array(sizes, load, np.dtype("u1"))

    def offsets(self, direction: Direction) -> Segmented:
        """Where the edges of each node begin, and the end of the last."""
        firsts = [*accumulate((self._edge_count(strip, direction) for strip in self.all), initial=0)]
        name = f"{direction}_offsets.npy"

        def load(place: int) -> Array:
            if place == len(self.all):
                return np.zeros(1, dtype=np.int64)
            strip = self.all[place]
            if strip.shard == len(self._shards) or self._is_above(strip, direction):
                at = strip.local if strip.shard == len(self._shards) else strip.shard
                rows = self._upper.store.arrays[name][at : at + strip.size]
                return np.asarray(rows - rows[0])
            if self._edge_start(strip, direction) is None:
                return np.broadcast_to(np.int64(0), strip.size)
            own: Array = self._open(strip.shard).store.arrays[name][strip.local : strip.local + strip.size]
            return own

        starts = [0 if (s := self._edge_start(strip, direction)) is None else s for strip in self.all]
        shifts = [first - start for first, start in zip(firsts, [*starts, 0], strict=True)]
        sizes = [*(strip.size for strip in self.all), 1]
        return self._array(sizes, load, np.dtype("<i8"), shifts=shifts, heads=firsts)

    # -- texts -------------------------------------------------------------------------------------------

    def blob(self, blob: Blob) -> Segmented:
        """All summaries, or their labels, one after another."""

        def load(place: int) -> Array:
            strip = self.all[place]
            if strip.shard == len(self._shards):
                return _blob(self._upper, blob)
            if strip.is_root and blob == "labels":
                return np.frombuffer(self._shards[strip.shard].root_label.encode(), dtype=np.uint8)
            if strip.is_root:
                start, end = self._upper.document_bytes(strip.shard)
                return self._upper.store.text[start:end]
            start = self._blob_start(strip, blob)
            return _blob(self._open(strip.shard), blob)[start : start + self._blob_size(strip, blob)]

        return self._array(self._blob_sizes(blob), load, np.dtype("u1"))

    def _blob_sizes(self, blob: Blob) -> list[int]:
        return [self._blob_size(strip, blob) for strip in self.all]

    def _blob_size(self, strip: Strip, blob: Blob) -> int:
        if strip.shard == len(self._shards):
            return len(_blob(self._upper, blob))
        if strip.is_root and blob == "labels":
            return len(self._shards[strip.shard].root_label.encode())
        if strip.is_root:
            start, end = self._upper.document_bytes(strip.shard)
            return end - start
        return _sizes(self._shards[strip.shard], blob)[strip.level - 1] if strip.level else 0

    def _blob_start(self, strip: Strip, blob: Blob) -> int:
        """Where the texts of a strip begin in its shard."""
        return sum(_sizes(self._shards[strip.shard], blob)[: max(strip.level - 1, 0)])

    # -- numbers -----------------------------------------------------------------------------------------

    @cached_property
    def _roots(self) -> int:
        """The number of the first of the shards' roots at the height of the highest."""
        return self._first(self.height - 1, 0)

    def _first(self, level: int, shard: int) -> int:
        """The number of the first node of a level of a shard."""
        return self.of_shard[shard][level].first

    def _is_above(self, strip: Strip, direction: Direction) -> bool:
        """Whether the edges of a strip are those of the upper tree: what stands above the roots."""
        return direction == "parents" and strip.level == self.height - 1

    def _edge_start(self, strip: Strip, direction: Direction) -> int | None:
        """Where the edges of a strip begin in its shard; None where the shard has none of them."""
        own = self._shards[strip.shard].edges if strip.shard < len(self._shards) else ()
        levels = strip.level - (direction == "children")
        return sum(own[:levels]) if strip.is_own and 0 <= levels < len(own) else None

    def _edge_count(self, strip: Strip, direction: Direction) -> int:
        name = f"{direction}_offsets.npy"
        if strip.shard == len(self._shards):
            rows = self._upper.store.arrays[name]
            return int(rows[-1]) - int(rows[strip.local])
        if self._is_above(strip, direction):
            rows = self._upper.store.arrays[name]
            return int(rows[strip.shard + 1]) - int(rows[strip.shard])
        if self._edge_start(strip, direction) is not None:
            return self._shards[strip.shard].edges[strip.level - (direction == "children")]
        return 1 if direction == "parents" or strip.level else 0

    def _upper_edges(self, strip: Strip, name: str) -> Array:
        """The edges of nodes of the upper tree, of the root of one shard or of all above these."""
        offsets = self._upper.store.arrays[name.replace(".npy", "_offsets.npy")]
        at = strip.local if strip.shard == len(self._shards) else strip.shard
        edges: Array = self._upper.store.arrays[name][int(offsets[at]) : int(offsets[at + strip.size])]
        return edges

    def _shift(self, strip: Strip, step: int) -> int | None:
        """What is added to the number of a node `step` levels above a strip; None where its shard has none there."""
        if strip.shard == len(self._shards) or not strip.is_own:
            return None
        levels, level = self._shards[strip.shard].levels, strip.level + step
        return self._first(level, strip.shard) - sum(levels[:level]) if 0 <= level < len(levels) else None

    def _array(
        self,
        sizes: Sequence[int],
        load: Callable[[int], Array],
        dtype: Any,
        tail: tuple[int, ...] = (),
        shifts: Any = None,
        heads: Sequence[int] | None = None,
    ) -> Segmented:
        owners = [*(strip.shard for strip in self.all), len(self._shards)]
        return Segmented(
            sizes, load, dtype, tail, shifts, heads, lambda place, size: self._touched(owners[place], size)
        )


def _strips(shards: Sequence[Shard], height: int, above: int) -> tuple[Strip, ...]:
    strips, first = list[Strip](), 0
    for level in range(height):
        for number, shard in enumerate(shards):
            is_own = level < len(shard.levels)
            size = shard.levels[level] if is_own else 1
            is_root = level > 0 and level >= len(shard.levels) - 1
            strips.append(Strip(number, level, sum(shard.levels[:level]), first, size, is_own, is_root))
            first += size
    strips.append(Strip(len(shards), height, len(shards), first, above, True, False))
    return tuple(strips)


def _sizes(shard: Shard, blob: Blob) -> tuple[int, ...]:
    return shard.summaries if blob == "summaries" else shard.labels


def _blob(tree: Tree, blob: Blob) -> npt.NDArray[np.uint8]:
    return tree.store.summaries if blob == "summaries" else tree.store.labels
