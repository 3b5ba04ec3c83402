"""Lexical search: BM25 scores computed when an index is written, as plain arrays.

After Lu, "BM25S: orders of magnitude faster lexical search via eager sparse scoring", arXiv 2407.03618: the scores of
one word over all nodes are one column of a sparse matrix, so a query is a sum of a few columns. The sum is made here,
by numpy with its bounds checks, because the arrays may come from a stranger.

How rare a word is, and how long a node is beside others, is told by the chunks alone, by which summaries are scored
too: so the score of a chunk does not hang on what was summarised of it, nor on how a corpus was divided into shards.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store import stop_words
from index_store.errors import BrokenIndex
from index_store.spool import Lazy, Spool, room
from index_store.tables import rows_written
from index_store.word_list import WordList, merged

Ints = npt.NDArray[np.integer]

K1, B = 1.5, 0.75
BLOCK = 1 << 20  # stems, or pairs of a stem and a node, in memory at a time: some 60 MB
MOST_SCORE = 1e3  # of one word: the logarithm of how rare it is, times at most one
_WORD = re.compile(r"\w+")
# In an excerpt a character of Chinese, Japanese or Korean is a word, as there is no space between words.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WINDOW_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
# Where as_completed and asCompleted are divided into parts; mRNA and iPhone are not.
_JOINT = re.compile(r"_|(?<=[a-z][a-z])(?=[A-Z])")


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")


def words(text: str) -> list[str]:
    """Lower-cased stems without stop words; `as_completed` and `asCompleted` also count as their parts."""
    whole = _WORD.findall(text)
    parts = [p for w in whole if _JOINT.search(w) for p in _JOINT.split(w) if p]
    lower = (w.lower() for w in whole + parts)
    return list(_stemmer().stemWords([w for w in lower if w not in stop_words.FEW]))


def best_window(text: str, query: str, chars: int) -> tuple[int, int]:
    """Where the `chars` characters of a text, or somewhat fewer, are that hold most different words of a query.

    Of windows with as many, the first in which they stand closest, in its middle. It cuts no word that is not longer
    than a window. The beginning of a text that has none of the words.
    """
    each = [match[0] for match in _WINDOW_WORD.finditer(query)]
    wanted = frozenset(words(" ".join(each)) or map(str.lower, each))  # a query may have stop words alone
    stems = cache(words)
    found = [
        (match.start(), match.end(), own)
        for match in _WINDOW_WORD.finditer(text)
        if (own := [stem for stem in stems(match[0]) or [match[0].lower()] if stem in wanted])
    ]
    best, middle, first, held = (0, 0), 0, 0, Counter[str]()
    for start, end, own in found:
        held.update(own)
        while (at := found[first])[0] < start and (end - at[0] > chars or all(held[s] > 1 for s in at[2])):
            held.subtract(at[2])
            first += 1
        if (score := (sum(times > 0 for times in held.values()), at[0] - end)) > best:
            best, middle = score, (at[0] + end) // 2
    start = max(min(middle - chars // 2, len(text) - chars), 0)
    return _between_words(text, start, min(start + chars, len(text)))


def _between_words(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without the parts of words at its ends; as it is where that would leave less than half."""
    low = high = None
    if start and not text[start - 1].isspace():
        low = next((i for i in range(start, (start + end) // 2) if text[i].isspace()), None)
    if end < len(text) and not text[end].isspace():
        high = next((i for i in range(end, (start + end) // 2, -1) if text[i - 1].isspace()), None)
    return (start if low is None else low), (end if high is None else high)


class _StemNumbers(dict[str, list[int]]):
    """A word of a text to the numbers of its stems (see `words`); `vocabulary` numbers stems as they first occur.

    As a dictionary, so that each different word is stemmed once.
    """

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}

    def __missing__(self, word: str) -> list[int]:
        self[word] = [self.vocabulary.setdefault(stem, len(self.vocabulary)) for stem in words(word)]
        return self[word]


@dataclass(frozen=True, slots=True)
class _Block:
    """Some nodes in a row and their m stems: the pairs of a stem and a node that has it, by stem, then by node.

    `listed`: the stems, sorted, one a line. `offsets`: (m + 1,) where the pairs of each begin. `nodes`, `times`: of
    each pair the node, and how often it has the stem.
    """

    listed: memoryview
    offsets: npt.NDArray[np.int64]
    nodes: npt.NDArray[np.int32]
    times: npt.NDArray[np.int32]

    def between(self, ranks: Ints, low: int, high: int) -> tuple[Ints, Ints, Ints]:
        """The pairs of the stems with a rank from `low` to below `high`: rank, node and times. `ranks`: (m,)."""
        start, end = np.searchsorted(ranks, [low, high]).tolist()
        pairs = slice(int(self.offsets[start]), int(self.offsets[end]))
        own = np.repeat(ranks[start:end], np.diff(self.offsets[start : end + 1]))
        return own, self.nodes[pairs], self.times[pairs]

    def holders(self, chunks: int) -> Ints:
        """Of each stem, how many of the nodes below `chunks` have it, (m,)."""
        before: Ints = np.concatenate([[0], np.cumsum(self.nodes < chunks)])
        return np.diff(before[self.offsets])


@dataclass(frozen=True, slots=True)
class _Counted:
    """All n nodes, of which the first `chunks` are chunks, and their stems.

    `lengths`: (n,) how many stems each node has. `listed`: the stems, sorted, one a line, in pieces. `ranks`: for each
    block the places of its stems in that list. `sizes`, `holders`: (stems,) how many nodes, and how many chunks, have
    each.
    """

    chunks: int
    lengths: npt.NDArray[np.int32]
    blocks: Sequence[_Block]
    listed: Sequence[bytes | memoryview]
    ranks: Sequence[Ints]
    sizes: Ints
    holders: Ints

    @property
    def mean(self) -> float:
        """Stems of a chunk."""
        return float(self.lengths[: self.chunks].mean())

    def offsets(self) -> npt.NDArray[np.int64]:
        """Where the column of each stem begins, and the end of the last."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)


def columns(texts: Iterable[str]) -> tuple[npt.NDArray[np.float32], Ints, Ints, bytes]:
    """BM25 scores of the texts of chunks 0, 1, ... as a sparse matrix (chunks, stems) by columns: scores, their chunks
    (int32), where each column begins; and all stems, sorted, one a line.

    The variant is Lucene's, as bm25s computes it. Texts are read one after another, and none stays in memory.
    """
    counted = _counted(texts, None, None)
    word, nodes, times = (np.concatenate(column) for column in zip(*_columns(counted), strict=True))
    return _scored(counted, word, nodes, times), nodes, counted.offsets(), b"".join(counted.listed)


def write(folder: Path, texts: Iterable[str], chunks: int, *, counted: bool = False) -> None:
    """Write the lexical arrays for the texts of nodes 0, 1, ..., of which the first `chunks` are chunks, into `folder`,
    with BLOCK stems in memory at a time.

    `counted`: in place of scores, how often each word stands in each node, and beside them `lengths`, how many words
    each node has: so that scores are those of whatever the index is a part of (see `Statistics`).
    """
    found = _counted(texts, chunks, folder)
    offsets = found.offsets()
    np.save(folder / "offsets.npy", offsets, allow_pickle=False)
    if counted:
        np.save(folder / "lengths.npy", found.lengths, allow_pickle=False)
    with (folder / "words.txt").open("wb") as file:
        file.writelines(found.listed)
    shape = (int(offsets[-1]),)
    with (
        rows_written(folder / "scores.npy", np.float32, shape) as write_scores,
        rows_written(folder / "nodes.npy", np.int32, shape) as write_nodes,
    ):
        for word, nodes, times in _columns(found):
            write_scores(times if counted else _scored(found, word, nodes, times))
            write_nodes(nodes)


def _counted(texts: Iterable[str], chunks: int | None, folder: Path | None) -> _Counted:
    """The stems of the texts of nodes 0, 1, ..., counted a block at a time; what is counted waits in a file.

    `chunks`: how many of them, from the first on, are chunks; None: all.
    """
    lengths, spool = array("i"), Spool(folder)
    numbers, stems, first = _StemNumbers(), array("i"), 0
    for text in texts:
        before = len(stems)
        stems.extend(chain.from_iterable(map(numbers.__getitem__, _WORD.findall(text))))
        lengths.append(len(stems) - before)
        if stems and max(len(stems), 4 * len(numbers)) >= BLOCK:
            _keep(spool, numbers.vocabulary, np.asarray(stems), np.asarray(lengths[first:]), first)
            numbers, stems, first = _StemNumbers(), array("i"), len(lengths)
    if stems or not len(spool):
        _keep(spool, numbers.vocabulary, np.asarray(stems), np.asarray(lengths[first:]), first)
    blocks = [_kept(spool, at) for at in range(0, len(spool), _RECORDS)]
    chunks = len(lengths) if chunks is None else chunks
    return _Counted(chunks, np.asarray(lengths), blocks, *_merged(blocks, chunks, folder))


def _keep(spool: Spool, vocabulary: Mapping[str, int], stems: Ints, lengths: Ints, first: int) -> None:
    """Keep a block: `stems`, by their numbers, of all its nodes, from `first` on; `lengths`: how many each has."""
    n = len(lengths)
    ordered = sorted(vocabulary) or [""]
    rank = np.empty(len(ordered), dtype=np.int64)
    rank[[vocabulary.get(word, 0) for word in ordered]] = np.arange(len(ordered))
    pairs, times = np.unique(rank[stems] * n + np.repeat(np.arange(n), lengths), return_counts=True)
    word, node = np.divmod(pairs, max(n, 1))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(word, minlength=len(ordered)))])
    spool.append("\n".join(ordered).encode())
    spool.append(offsets.astype(np.int64).tobytes())
    spool.append((node + first).astype(np.int32).tobytes())
    spool.append(times.astype(np.int32).tobytes())


_RECORDS = 4  # of a block


def _kept(spool: Spool, at: int) -> _Block:
    listed, offsets, nodes, times = (spool.view(number) for number in range(at, at + _RECORDS))
    return _Block(
        listed,
        np.frombuffer(offsets, np.int64),
        np.frombuffer(nodes, np.int32),
        np.frombuffer(times, np.int32),
    )


def _merged(
    blocks: Sequence[_Block], chunks: int, folder: Path | None
) -> tuple[Sequence[bytes | memoryview], Sequence[Ints], Ints, Ints]:
    """The stems of all blocks, sorted, one a line, in pieces; where those of each stand there; how many nodes, and how
    many chunks, have each."""
    counts = [len(block.offsets) - 1 for block in blocks]
    if len(blocks) == 1:
        only = blocks[0]
        return [only.listed], [np.arange(counts[0])], np.diff(only.offsets), only.holders(chunks)
    borders = np.cumsum([0, *counts]).tolist()
    ranks = room((borders[-1],), np.int32, folder)
    sizes, holders = (room((borders[-1],), np.int64, folder) for _ in range(2))
    listed, at, rank, last = Spool(folder), list(borders), -1, b""
    for word, number in merged([block.listed for block in blocks]):
        if rank < 0 or word != last:
            listed.append(word if rank < 0 else b"\n" + word)
            rank, last = rank + 1, word
        ranks[at[number]] = rank
        at[number] += 1
    own = [ranks[start:end] for start, end in pairwise(borders)]
    for block, places in zip(blocks, own, strict=True):
        sizes[places] += np.diff(block.offsets)
        holders[places] += block.holders(chunks)
    return Lazy(len(listed), listed.view), own, sizes[: rank + 1], holders[: rank + 1]


def _columns(counted: _Counted) -> Iterator[tuple[Ints, Ints, Ints]]:
    """The pairs of a stem and a node, by stem, then by node, about BLOCK at a time: stem, node and times."""
    for low, high in _ranges(counted.offsets()):
        found = [b.between(ranks, low, high) for b, ranks in zip(counted.blocks, counted.ranks, strict=True)]
        # The nodes of one block come before those of the next: a single stem, which all nodes may have, needs no sort.
        yield from found if high - low == 1 else [_by_word(found)]


def _scored(counted: _Counted, word: Ints, nodes: Ints, times: Ints) -> npt.NDArray[np.float32]:
    """The BM25 scores of pairs of neighbouring stems."""
    if not len(word):
        return np.empty(0, np.float32)
    low = int(word[0])
    rarities = rarity(counted.chunks, counted.holders[low : int(word[-1]) + 1])[word - low]
    return _scores(rarities, times, counted.lengths[nodes], counted.mean)


def _by_word(found: Sequence[tuple[Ints, Ints, Ints]]) -> tuple[Ints, Ints, Ints]:
    """Pairs of several blocks in one order."""
    if len(found) == 1:
        return found[0]
    word, node, times = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(word, kind="stable")
    return word[order], node[order], times[order]


def _ranges(offsets: Ints) -> Iterator[tuple[int, int]]:
    """Ranges of stems that together have at most BLOCK pairs, or of one stem."""
    low = 0
    while low < len(offsets) - 1:
        high = int(np.searchsorted(offsets, offsets[low] + BLOCK, side="right")) - 1
        yield low, (high := max(high, low + 1))
        low = high


def rarity(chunks: int, holders: Any) -> Any:
    """How rare a word is that so many of the chunks hold."""
    return np.log(1 + (chunks - holders + 0.5) / (holders + 0.5))


def _scores(rarities: Any, times: Ints, lengths: Ints, mean: float) -> npt.NDArray[np.float32]:
    """The BM25 scores of a word, in nodes of such lengths in which it stands so many times."""
    relative = lengths / max(mean, 1e-9)
    scores: npt.NDArray[np.float64] = rarities * times / (times + K1 * (1 - B + B * relative))
    return scores.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What BM25 knows of all chunks together, where a lexicon has only some of them.

    `chunks`: how many there are. `mean`: words of a chunk. `holders`: how many chunks hold a word; None where none but
    those of the one lexicon that has it.
    """

    chunks: int
    mean: float
    holders: Callable[[str], int | None]


class Lexicon:
    """The lexical arrays of an opened index, and the sorted list of its stems, in which a query's are looked up.

    `listed`: that list, one a line, where it is in memory; else it is read from `path` at the first query. `lengths`:
    words of each node, where `scores` are counts (see `write`). `chunks`: how many of the nodes, the first, are chunks.
    """

    def __init__(
        self,
        scores: npt.NDArray[Any],
        nodes: npt.NDArray[Any],
        offsets: npt.NDArray[Any],
        path: Path,
        chunks: int,
        listed: bytes | None = None,
        lengths: npt.NDArray[Any] | None = None,
    ) -> None:
        self._scores, self._nodes, self._offsets, self._path = scores, nodes, offsets, path
        self._words = WordList(path, len(offsets) - 1, listed)
        self._chunks, self._lengths = chunks, lengths

    def _column(self, word: str) -> slice:
        """Where the scores of a stem lie; nowhere for one that no node has."""
        at = self._words.place(word)
        if at is None:
            return slice(0, 0)
        start, end = int(self._offsets[at]), int(self._offsets[at + 1])
        if not 0 <= start <= end <= len(self._nodes):
            raise BrokenIndex(f"the lexical arrays beside {self._path} are damaged; build the index again")
        return slice(start, end)

    def holders(self, word: str) -> int:
        """How many nodes hold a stem."""
        column = self._column(word)
        return int(column.stop) - int(column.start)

    def score(self, query: str, n: int, of_all: Statistics | None = None) -> npt.NDArray[np.float32]:
        """BM25 score of every node, shape (n,) float32; 0 where no word of the query occurs.

        `of_all`: the statistics of what this is a part of, by which counts are scored; without them its own.
        """
        out = np.zeros(n, dtype=np.float32)
        for word in words(query):
            column = self._column(word)
            nodes, scores = self._nodes[column], self._scores[column]
            fits = len(nodes) == len(scores) and nodes.min(initial=0) >= 0 and nodes.max(initial=-1) < n
            if fits and self._lengths is not None:
                scores = self._scored(word, nodes, scores, self._lengths, of_all or self._own)
            if not fits or not ((scores >= 0) & (scores < MOST_SCORE)).all():
                raise BrokenIndex(
                    f"the lexical arrays beside {self._path} are damaged; build the index again"
                )
            out[nodes] += scores
        return out

    def _scored(
        self, word: str, nodes: Ints, times: npt.NDArray[Any], lengths: Ints, of_all: Statistics
    ) -> npt.NDArray[np.float32]:
        """The scores of a column of counts; what the numbers of a stranger come to, whoever asked compares."""
        holders = of_all.holders(word)
        with np.errstate(all="ignore"):
            own = int(np.searchsorted(nodes, self._chunks))
            rare = rarity(of_all.chunks, own if holders is None else holders)
            return _scores(rare, times.astype(np.float64), lengths[nodes], of_all.mean)

    @cached_property
    def _own(self) -> Statistics:
        lengths = np.zeros(0) if self._lengths is None else self._lengths[: self._chunks]
        mean = int(lengths.sum(dtype=np.int64)) / max(len(lengths), 1)
        return Statistics(len(lengths), mean, lambda word: None)
