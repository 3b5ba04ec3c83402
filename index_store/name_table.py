"""Which chunk bears which name: made when an index is built, kept in it as arrays, walked by search.

The graph is HippoRAG's (Gutiérrez et al., NeurIPS 2024, arXiv 2405.14831) without its language model: chunks on one
side, names found by rules on the other (`index_store.names`), and an edge where a chunk bears a name.
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex
from index_store.names import MOST_CHARS, names_asked, names_in, names_of_title
from index_store.tables import ranges, sizes_of
from index_store.word_list import WordList

MOST_BEARERS = 50  # chunks of a name; what more bear joins nothing, and would make a step of the walk long
MOST_NAMES = 200  # of a chunk, the rarest; texts of the usual length have some ten
TITLE = 3.0  # how much more it weighs that a name is the title of a chunk than that it stands in its text
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


def name_table(passages: Iterable[tuple[str, Sequence[str]]], least: int = 2) -> NameTable:
    """The table of chunks 0, 1, ...: the text of each, and its title with the headings over it.

    Names of fewer than `least` chunks join nothing, and are left out, as are those of more than MOST_BEARERS; of a part
    of an index `least` is 1, as chunks of other parts may bear them. A single word is a name where it is written with a
    capital more often than without: so the first words of sentences are none.
    """
    numbers = dict[str, int]()
    written = Counter[str]()
    pairs, titles, count = array("q"), array("b"), 0
    for text, headings in passages:
        written.update(_WORD.findall(text))
        headed = {name for heading in headings for name in names_of_title(heading)}
        for name in sorted(headed.union(names_in(text))):
            pairs.extend((numbers.setdefault(name, len(numbers)), count))
            titles.append(name in headed)
        count += 1
    name_of, chunk = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    is_title = np.asarray(titles, dtype=bool)
    bearers = np.bincount(name_of, minlength=len(numbers))
    held = (bearers >= least) & (bearers <= MOST_BEARERS)
    held &= ~_common(numbers, written, np.bincount(name_of[is_title], minlength=len(numbers)) > 0)
    keep = held[name_of] & _among_rarest(chunk, bearers[name_of])
    return _table(list(numbers), name_of[keep], chunk[keep], is_title[keep], count)


def _common(
    numbers: dict[str, int], written: Counter[str], is_title: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which names are single words that are written in lower case as often as with a capital, and no title."""
    capital = Counter[str]()
    for word, times in written.items():
        if not word[0].islower():
            capital[word.lower()] += times
    common = np.zeros(len(numbers), dtype=bool)
    for name, number in numbers.items():
        lower = written.get(name, 0)
        common[number] = lower > 0 and lower >= capital[name] and name.replace("-", "").isalpha()
    return common & ~is_title


def _among_rarest(chunk: Numbers, bearers: Numbers) -> npt.NDArray[np.bool_]:
    """Which pairs, in order of their chunks, are of the MOST_NAMES rarest names of their chunk."""
    order = np.lexsort((bearers, chunk))
    place = np.empty(len(chunk), dtype=np.int64)
    place[order] = np.arange(len(chunk)) - np.searchsorted(chunk, chunk[order])
    return place < MOST_NAMES


def _table(
    names: Sequence[str], name_of: Numbers, chunk: Numbers, is_title: npt.NDArray[np.bool_], count: int
) -> NameTable:
    """The pairs by name, names in the order of their bytes, without those that have no pair."""
    used = np.unique(name_of).tolist()
    used.sort(key=lambda number: names[number].encode())
    rank = np.zeros(len(names), dtype=np.int64)
    rank[used] = np.arange(len(used))
    order = np.lexsort((chunk, rank[name_of]))
    sizes = np.bincount(rank[name_of], minlength=len(used))
    return NameTable(
        [names[number] for number in used],
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        chunk[order].astype(np.int32),
        is_title[order].astype(np.uint8),
        count,
    )


def weights(table: NameTable) -> Floats:
    """(e,) how much each pair says: the rarity of its name, TITLE times where it is the chunk's title."""
    sizes = np.diff(table.offsets)
    return np.repeat(rarity(table.chunks, sizes), sizes) * np.where(table.titles > 0, TITLE, 1.0)


def rarity(chunks: int, bearers: Numbers) -> Floats:
    """The logarithm of how rare a name is that so many of the chunks bear."""
    return np.log1p(chunks / np.maximum(bearers, 1))


def write(folder: Path, table: NameTable) -> None:
    """Write a table into `folder`, with its pairs in order of their chunks beside it."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "offsets": table.offsets,
        "bearers": table.bearers,
        "titles": table.titles,
        "chunk_offsets": np.concatenate(
            [[0], np.cumsum(np.bincount(table.bearers, minlength=table.chunks))]
        ).astype(np.int64),
        "pairs": np.argsort(table.bearers, kind="stable").astype(np.int32),
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values, allow_pickle=False)
    (folder / "names.txt").write_bytes("\n".join(table.listed).encode())


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
