"""Which chunk bears which name: made when an index is built, kept in it as arrays, walked by search.

The graph is HippoRAG's (Gutiérrez et al., NeurIPS 2024, arXiv 2405.14831) without its language model: chunks on one
side, names found by rules on the other (`index_store.names`), and an edge where a chunk bears a name.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex
from index_store.names import MOST_CHARS, names_asked, names_in, names_of_title
from index_store.spool import Lazy, Spool, borders, order_of, pieces, room
from index_store.tables import ranges, save, sizes_of
from index_store.word_list import WordList, merged

MOST_BEARERS = 50  # chunks of a name; what more bear joins nothing, and would make a step of the walk long
MOST_NAMES = 200  # of a chunk, the rarest; texts of the usual length have some ten
TITLE = 3.0  # how much more it weighs that a name is the title of a chunk than that it stands in its text
BLOCK = 1 << 17  # pairs of a name and a chunk, or words, in memory at a time: some 40 MB
_WORD = re.compile(r"[^\W\d_][\w'’\-]*")

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NameTable:
    """m names, and the e pairs of a name and a chunk that bears it, by name.

    `listed`: the names, sorted by their bytes. `offsets`: (m + 1,) where the pairs of each begin. `bearers`: (e,) the
    chunk of each pair, ascending within a name. `titles`: (e,) 1 where the name is the chunk's title or a heading over
    it, else 0. `chunks`: how many there are.
    """

    listed: Sequence[str]
    offsets: Numbers
    bearers: npt.NDArray[np.int32]
    titles: npt.NDArray[np.uint8]
    chunks: int


def name_table(
    passages: Iterable[tuple[str, Sequence[str]]],
    least: int = 2,
    folder: Path | None = None,
    known: Collection[str] = frozenset(),
) -> NameTable:
    """The table of chunks 0, 1, ...: the text of each, and its title with the headings over it.

    Names of fewer than `least` chunks join nothing, and are left out, as are those of more than MOST_BEARERS; of a part
    of an index `least` is 1, as chunks of other parts may bear them. A single word is a name where it is written with a
    capital more often than without: so the first words of sentences are none. Those of `known` are names however they
    are written. Names are collected BLOCK at a time, and what is collected waits in a file in `folder`.
    """
    blocks, chunks = _blocks(passages, folder)
    listed, ranks, totals = _merged(blocks, least, folder, known)
    ends = room((len(listed) + 1,), np.int64, folder)
    for some in zip(blocks, ranks, totals, strict=True):
        rank, times = np.unique(_pairs(*some)[0], return_counts=True)
        ends[rank + 1] += times
    np.cumsum(ends, out=ends)
    bearers = room((int(ends[-1]),), np.int32, folder)
    titles = room((int(ends[-1]),), np.uint8, folder)
    free = _copied(ends, folder)
    for some in zip(blocks, ranks, totals, strict=True):  # whose chunks ascend
        rank, chunk, is_title = _pairs(*some)
        at = free[rank] + np.arange(len(rank)) - np.searchsorted(rank, rank)
        bearers[at], titles[at] = chunk, is_title
        rank, times = np.unique(rank, return_counts=True)
        free[rank] += times
    return _of_pairs(listed, ends, bearers, titles, chunks, folder)


def _copied(numbers: Numbers, folder: Path | None) -> Numbers:
    copy: Numbers = room(numbers.shape, np.int64, folder)
    copy[:] = numbers
    return copy


def _of_pairs(
    listed: Spool,
    ends: Numbers,
    bearers: npt.NDArray[np.int32],
    titles: npt.NDArray[np.uint8],
    chunks: int,
    folder: Path | None,
) -> NameTable:
    """The table without the names that have no pair left, as of a chunk with very many names some are left out."""
    offsets, used, count = _copied(ends, folder), _copied(ends, folder), 0
    for some in pieces(len(listed)):
        own = some.start + np.flatnonzero(ends[some] < ends[some.start + 1 : some.stop + 1])
        offsets[count + 1 : count + 1 + len(own)] = ends[own + 1]
        used[count : count + len(own)] = own
        count += len(own)
    names = Lazy(count, lambda i: listed.text(int(used[i])))
    return NameTable(names, offsets[: count + 1], bearers, titles, chunks)


@dataclass(frozen=True, slots=True)
class _Block:
    """The m names of some chunks in a row and their pairs, by name, then by chunk; and the w words that stand there.

    `names`, `words`: sorted, one a line. `offsets`, `bearers`, `titles`: as in `NameTable`. `small`: (w,) how often
    each word stands there as it is listed. `large`: (w,) how often one that begins otherwise, and is it in lower case.
    """

    names: memoryview
    offsets: Numbers
    bearers: npt.NDArray[np.int32]
    titles: npt.NDArray[np.uint8]
    words: memoryview
    small: Numbers
    large: Numbers


_RECORDS = 7  # of a block


def _blocks(passages: Iterable[tuple[str, Sequence[str]]], folder: Path | None) -> tuple[list[_Block], int]:
    """The names of all chunks in blocks, and how many chunks there are."""
    spool, chunks, begun = Spool(folder), 0, _Begun()
    for text, headings in passages:
        begun.add(chunks, text, headings)
        chunks += 1
        if begun.is_full:
            begun.keep(spool)
            begun = _Begun()
    begun.keep(spool)
    return [_kept(spool, at) for at in range(0, len(spool), _RECORDS)], chunks


class _Begun:
    """A block that grows by a chunk at a time, in memory."""

    def __init__(self) -> None:
        self._numbers, self._written = dict[str, int](), Counter[str]()
        self._pairs, self._titles = array("q"), array("b")

    @property
    def is_full(self) -> bool:
        return max(len(self._titles), len(self._written)) >= BLOCK

    def add(self, chunk: int, text: str, headings: Sequence[str]) -> None:
        self._written.update(_WORD.findall(text))
        headed = {name for heading in headings for name in names_of_title(heading)}
        for name in headed.union(names_in(text)):
            self._pairs.extend((self._numbers.setdefault(name, len(self._numbers)), chunk))
            self._titles.append(name in headed)

    def keep(self, spool: Spool) -> None:
        """Add the records of the block to a spool; `_kept` reads them."""
        listed = sorted(self._numbers)
        rank = np.empty(len(listed), dtype=np.int64)
        rank[[self._numbers[name] for name in listed]] = np.arange(len(listed))
        number, chunk = np.asarray(self._pairs, dtype=np.int64).reshape(-1, 2).T
        name = rank[number]
        order = np.argsort(name, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(name, minlength=len(listed)))])
        large = Counter[str]()
        for word, times in self._written.items():
            if not word[0].islower():
                large[word.lower()] += times
        words = sorted({*self._written, *large})
        spool.append("\n".join(listed).encode())
        spool.append(offsets.astype(np.int64).tobytes())
        spool.append(chunk[order].astype(np.int32).tobytes())
        spool.append(np.asarray(self._titles, dtype=np.uint8)[order].tobytes())
        spool.append("\n".join(words).encode())
        spool.append(np.array([self._written[word] for word in words], dtype=np.int64).tobytes())
        spool.append(np.array([large[word] for word in words], dtype=np.int64).tobytes())


def _kept(spool: Spool, at: int) -> _Block:
    names, offsets, bearers, titles, words, small, large = (
        spool.view(number) for number in range(at, at + _RECORDS)
    )
    return _Block(
        names,
        np.frombuffer(offsets, np.int64),
        np.frombuffer(bearers, np.int32),
        np.frombuffer(titles, np.uint8),
        words,
        np.frombuffer(small, np.int64),
        np.frombuffer(large, np.int64),
    )


def _merged(
    blocks: Sequence[_Block], least: int, folder: Path | None, known: Collection[str]
) -> tuple[Spool, list[Numbers], list[Numbers]]:
    """The names that join something, sorted; for the names of each block their place among these, -1 for one that does
    not, and how many chunks of all bear them."""
    borders = [0, *accumulate(len(block.offsets) - 1 for block in blocks)]
    ranks, totals = (room((borders[-1],), np.int32, folder) for _ in range(2))
    listed, at, words = Spool(folder), list(borders), _written(blocks)
    word, small, large = next(words, _NO_WORD)
    for name, group in groupby(merged([block.names for block in blocks]), itemgetter(0)):
        total, is_title, places = 0, False, list[int]()
        for _, number in group:
            block, own = blocks[number], at[number] - borders[number]
            start, end = block.offsets[own : own + 2].tolist()
            total, is_title = total + end - start, is_title or bool(block.titles[start:end].any())
            places.append(at[number])
            at[number] += 1
        while word and word < name:
            word, small, large = next(words, _NO_WORD)
        is_common = word == name and small >= large and name.decode().replace("-", "").isalpha()
        joins = least <= total <= MOST_BEARERS and (is_title or not is_common or name.decode() in known)
        ranks[places], totals[places] = len(listed) if joins else -1, total
        if joins:
            listed.append(name)
    own_ranks, own_totals = ([column[a:b] for a, b in pairwise(borders)] for column in (ranks, totals))
    return listed, own_ranks, own_totals


_NO_WORD = b"", 0, 0


def _written(blocks: Sequence[_Block]) -> Iterator[tuple[bytes, int, int]]:
    """The words of all blocks that stand there as they are listed, sorted; how often they do, and begin otherwise."""
    at = [0] * len(blocks)
    for word, group in groupby(merged([block.words for block in blocks]), itemgetter(0)):
        small = large = 0
        for _, number in group:
            small += int(blocks[number].small[at[number]])
            large += int(blocks[number].large[at[number]])
            at[number] += 1
        if small:
            yield word, small, large


def _pairs(
    block: _Block, ranks: Numbers, totals: Numbers
) -> tuple[Numbers, npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """The pairs of a block that the table has, by name: the rank of the name, the chunk, whether it is its title."""
    sizes = np.diff(block.offsets)
    rank = np.repeat(ranks, sizes)
    keep = (rank >= 0) & _among_rarest(block.bearers, np.repeat(totals, sizes))
    return rank[keep], block.bearers[keep], block.titles[keep]


def _among_rarest(chunk: npt.NDArray[np.int32], bearers: Numbers) -> npt.NDArray[np.bool_]:
    """Which pairs, by name, are of the MOST_NAMES rarest names of their chunk; of two as rare the first."""
    order = np.lexsort((bearers, chunk))
    ascending, place = chunk[order], np.empty(len(chunk), dtype=np.int64)
    place[order] = np.arange(len(chunk)) - np.searchsorted(ascending, ascending)
    return place < MOST_NAMES


def parted(table: NameTable, chunks: Sequence[int]) -> Iterator[NameTable]:
    """The table of each part of some chunks in a row: `chunks` says how many each part has."""
    order = np.argsort(table.bearers, kind="stable")
    borders = [0, *accumulate(chunks)]
    cuts = np.searchsorted(table.bearers[order], borders)
    for (first, past), (start, end) in zip(pairwise(borders), pairwise(cuts.tolist()), strict=True):
        yield _part(table, np.sort(order[start:end]), first, past - first)


def narrowed_to(table: NameTable, fits: Callable[[str, npt.NDArray[np.int32]], bool]) -> NameTable:
    """The table with those names alone that fit, by their words and the chunks that bear them."""
    borders = pairwise(table.offsets.tolist())
    kept = [fits(name, table.bearers[a:b]) for name, (a, b) in zip(table.listed, borders, strict=True)]
    pairs = np.flatnonzero(np.repeat(np.array(kept, dtype=bool), np.diff(table.offsets)))
    return _part(table, pairs, 0, table.chunks)


def _part(table: NameTable, pairs: Numbers, first: int, chunks: int) -> NameTable:
    """Some pairs of a table, ascending, as one of `chunks` chunks, of which `first` is the first."""
    used, sizes = np.unique(np.searchsorted(table.offsets, pairs, side="right") - 1, return_counts=True)
    return NameTable(
        [table.listed[name] for name in used.tolist()],
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        (table.bearers[pairs] - first).astype(np.int32),
        table.titles[pairs],
        chunks,
    )


def weights(table: NameTable, folder: Path | None = None) -> Floats:
    """(e,) how much each pair says: the rarity of its name, TITLE times where it is the chunk's title. Many are mapped
    from a file in `folder`."""
    found: Floats = room(table.bearers.shape, np.float64, folder)
    for some in pieces(len(found)):
        name = np.searchsorted(table.offsets, np.arange(some.start, some.stop), side="right") - 1
        rare = rarity(table.chunks, table.offsets[name + 1] - table.offsets[name])
        found[some] = rare * np.where(table.titles[some] > 0, TITLE, 1.0)
    return found


def rarity(chunks: int, bearers: Numbers) -> Floats:
    """The logarithm of how rare a name is that so many of the chunks bear."""
    return np.log1p(chunks / np.maximum(bearers, 1))


def write(folder: Path, table: NameTable) -> None:
    """Write a table into `folder`, with its pairs in order of their chunks beside it."""
    arrays: dict[str, tuple[npt.NDArray[Any], npt.DTypeLike]] = {
        "offsets": (table.offsets, np.int64),
        "bearers": (table.bearers, np.int32),
        "titles": (table.titles, np.uint8),
        "chunk_offsets": (borders(table.bearers, table.chunks, folder), np.int64),
        "pairs": (order_of(table.bearers, folder), np.int32),
    }
    for name, (values, dtype) in arrays.items():
        save(folder / f"{name}.npy", values, dtype)
    with (folder / "names.txt").open("wb") as file:
        file.writelines(
            f"\n{name}".encode() if place else name.encode() for place, name in enumerate(table.listed)
        )


class Names:
    """The table of an opened index, checked, as an index may come from a stranger. Raises BrokenIndex.

    `arrays`: those that `write` wrote, by name. `path`: of the list of names. `chunks`: how many the index has.
    """

    def __init__(self, arrays: dict[str, npt.NDArray[Any]], path: Path, chunks: int) -> None:
        self._offsets, self._bearers, self._titles = (arrays[n] for n in ("offsets", "bearers", "titles"))
        self._chunk_offsets, self._pairs = arrays["chunk_offsets"], arrays["pairs"]
        self._path, self._chunks = path, chunks
        if not self._fits():
            raise BrokenIndex(f"the arrays beside {path} are damaged; build the index again")
        self._listed = WordList(path, len(self._offsets) - 1)

    def _fits(self) -> bool:
        pairs = len(self._bearers)
        return (
            len(self._titles) == len(self._pairs) == pairs
            and len(self._chunk_offsets) == self._chunks + 1
            and _ascends(self._offsets, pairs, MOST_BEARERS)
            and _ascends(self._chunk_offsets, pairs, MOST_NAMES)
            and 0 <= self._bearers.min(initial=0) <= self._bearers.max(initial=0) < max(self._chunks, 1)
            and 0 <= self._pairs.min(initial=0) <= self._pairs.max(initial=0) < max(pairs, 1)
            and self._titles.max(initial=0) <= 1
        )

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def asked(self, question: str) -> Numbers:
        """Numbers of the names that stand in a question, ascending, but for those that lie inside another."""
        if not len(self):
            return np.empty(0, dtype=np.int64)
        places = {name: self._listed.place(name) for name in names_asked(question)}
        known = [name for name, place in places.items() if place is not None]
        inside = {name for name in known for other in known if name != other and f" {name} " in f" {other} "}
        return np.array(sorted(places[name] for name in known if name not in inside), dtype=np.int64)  # type: ignore[type-var]

    def rarity(self, names: Numbers) -> Floats:
        """The logarithm of how rare each of some names is."""
        return rarity(self._chunks, sizes_of(self._offsets, names))

    def of_chunks(self, chunks: Numbers) -> Numbers:
        """Numbers of the names that some chunks bear, ascending."""
        pairs = self._pairs[ranges(self._chunk_offsets, chunks)]
        return np.unique(np.searchsorted(self._offsets, pairs, side="right") - 1)

    def borne(self, chunks: Numbers) -> tuple[Numbers, Numbers, npt.NDArray[np.bool_]]:
        """The pairs of some chunks, those of the first chunk first, (pairs,) each: the number of the name, the chunk,
        and whether the name is its title or a heading over it."""
        pairs = self._pairs[ranges(self._chunk_offsets, chunks)].astype(np.int64)
        own = np.repeat(chunks, sizes_of(self._chunk_offsets, chunks))
        return np.searchsorted(self._offsets, pairs, side="right") - 1, own, self._titles[pairs] > 0

    def in_words(self, name: int) -> str:
        """The name with this number: in lower case, with single spaces."""
        return self._listed.word(name, 4 * MOST_CHARS)

    def sizes(self, names: Numbers) -> Numbers:
        """How many chunks bear each of some names."""
        return sizes_of(self._offsets, names)

    def bearers(self, names: Numbers, allowed: Numbers) -> "Pairs":
        """The pairs of some names with those chunks that bear them and are `allowed`, the first name's first."""
        at, sizes = ranges(self._offsets, names), sizes_of(self._offsets, names)
        is_title = self._titles[at] > 0
        weights = np.repeat(self.rarity(names), sizes) * np.where(is_title, TITLE, 1.0)
        own = np.repeat(np.arange(len(names)), sizes)
        return Pairs(own, self._bearers[at].astype(np.int64), weights, is_title).among(allowed)


@dataclass(frozen=True, slots=True)
class Pairs:
    """e pairs of a name and a chunk, as columns.

    `names`: the place of each name among those that were asked for. `chunks`: numbers. `weights`: how much a pair says,
    the rarity of its name, TITLE times where it is the chunk's title. `is_title`: whether it is.
    """

    names: Numbers
    chunks: Numbers
    weights: Floats
    is_title: npt.NDArray[np.bool_]

    def among(self, chunks: Numbers) -> "Pairs":
        """Those with one of some chunks."""
        here = np.isin(self.chunks, chunks)
        return Pairs(self.names[here], self.chunks[here], self.weights[here], self.is_title[here])


def _ascends(offsets: npt.NDArray[Any], end: int, most: int) -> bool:
    """Whether offsets ascend from 0 to `end` by `most` at a time."""
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != end or (offsets[1:] < offsets[:-1]).any():
        return False
    return bool(np.diff(offsets).max(initial=0) <= most)
