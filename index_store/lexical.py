"""Lexical search: BM25 scores computed when an index is written, as plain arrays.

After Lu, "BM25S: orders of magnitude faster lexical search via eager sparse scoring", arXiv 2407.03618: the scores of
one word over all nodes are one column of a sparse matrix, so a query is a sum of a few columns. The sum is made here,
by numpy with its bounds checks, because the arrays may come from a stranger.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store import stop_words
from index_store.errors import BrokenIndex
from index_store.word_list import WordList

Ints = npt.NDArray[np.integer]

K1, B = 1.5, 0.75
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


def columns(texts: Iterable[str]) -> tuple[npt.NDArray[np.float32], Ints, Ints, bytes]:
    """The three arrays of `bm25` for the texts of nodes 0, 1, ..., and all stems, sorted, one a line.

    Texts are read one after another, and none stays in memory.
    """
    stems, lengths, ordered = _stems_of(texts)
    scores, nodes, offsets = bm25(stems, lengths, len(ordered))
    return scores, nodes, offsets, "\n".join(ordered).encode()


def _stems_of(texts: Iterable[str]) -> tuple[Ints, Ints, list[str]]:
    """The stem numbers of all texts one after another, how many each has, and all stems, sorted."""
    numbers = _StemNumbers()
    stems, lengths = array("i"), array("i")
    for text in texts:
        before = len(stems)
        stems.extend(chain.from_iterable(map(numbers.__getitem__, _WORD.findall(text))))
        lengths.append(len(stems) - before)
    ordered = sorted(numbers.vocabulary) or [""]
    rank = np.empty(len(ordered), dtype=np.int64)
    rank[[numbers.vocabulary.get(word, 0) for word in ordered]] = np.arange(len(ordered))
    return rank[np.asarray(stems)], np.asarray(lengths), ordered


def write(folder: Path, texts: Iterable[str], *, counted: bool = False) -> None:
    """Write the lexical arrays for the texts of nodes 0, 1, ... into `folder`.

    `counted`: in place of scores, how often each word stands in each node, and beside them `lengths`, how many words
    each node has: so that scores are those of whatever the index is a part of (see `Statistics`).
    """
    stems, lengths, ordered = _stems_of(texts)
    if counted:
        times, nodes, offsets = _counts(stems, lengths, len(ordered))
        np.save(folder / "lengths.npy", lengths.astype(np.int32), allow_pickle=False)
        np.save(folder / "scores.npy", times.astype(np.float32), allow_pickle=False)
    else:
        scores, nodes, offsets = bm25(stems, lengths, len(ordered))
        np.save(folder / "scores.npy", scores, allow_pickle=False)
    np.save(folder / "nodes.npy", nodes, allow_pickle=False)
    np.save(folder / "offsets.npy", offsets, allow_pickle=False)
    (folder / "words.txt").write_bytes("\n".join(ordered).encode())


def bm25(stems: Ints, lengths: Ints, count: int) -> tuple[npt.NDArray[np.float32], Ints, Ints]:
    """BM25 scores as a sparse matrix (nodes, stems) by columns: scores, their nodes (int32), where each column begins.

    `stems`: the stem numbers, below `count`, of all nodes one after another; `lengths` (n,): how many each node has.
    The variant is Lucene's, as bm25s computes it.
    """
    times, nodes, offsets = _counts(stems, lengths, count)
    holders = np.diff(offsets)
    rarities = np.repeat(rarity(len(lengths), holders), holders)
    return _scores(rarities, times, lengths[nodes], float(lengths.mean())), nodes, offsets


def _counts(stems: Ints, lengths: Ints, count: int) -> tuple[Ints, Ints, Ints]:
    """How often each stem stands in each node that holds it, by columns: times, nodes, where each column begins."""
    n = len(lengths)
    pairs, times = np.unique(stems * n + np.repeat(np.arange(n), lengths), return_counts=True)
    word, node = np.divmod(pairs, max(n, 1))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(word, minlength=count))])
    return times, node.astype(np.int32), offsets.astype(np.int64)


def rarity(nodes: int, holders: Any) -> Any:
    """How rare a word is that so many of the nodes hold."""
    return np.log(1 + (nodes - holders + 0.5) / (holders + 0.5))


def _scores(rarities: Any, times: Ints, lengths: Ints, mean: float) -> npt.NDArray[np.float32]:
    """The BM25 scores of a word, in nodes of such lengths in which it stands so many times."""
    relative = lengths / max(mean, 1e-9)
    scores: npt.NDArray[np.float64] = rarities * times / (times + K1 * (1 - B + B * relative))
    return scores.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What BM25 knows of all nodes together, where a lexicon has only some of them.

    `nodes`: how many there are. `mean`: words of a node. `holders`: how many nodes hold a word; None where no node but
    those of the one lexicon that has it.
    """

    nodes: int
    mean: float
    holders: Callable[[str], int | None]


class Lexicon:
    """The lexical arrays of an opened index, and the sorted list of its stems, in which a query's are looked up.

    `listed`: that list, one a line, where it is in memory; else it is read from `path` at the first query. `lengths`:
    words of each node, where `scores` are counts (see `write`).
    """

    def __init__(
        self,
        scores: npt.NDArray[Any],
        nodes: npt.NDArray[Any],
        offsets: npt.NDArray[Any],
        path: Path,
        listed: bytes | None = None,
        lengths: npt.NDArray[Any] | None = None,
    ) -> None:
        self._scores, self._nodes, self._offsets, self._path = scores, nodes, offsets, path
        self._words = WordList(path, len(offsets) - 1, listed)
        self._lengths = lengths

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
        return column.stop - column.start

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
            rare = rarity(of_all.nodes, len(nodes) if holders is None else holders)
            return _scores(rare, times.astype(np.float64), lengths[nodes], of_all.mean)

    @cached_property
    def _own(self) -> Statistics:
        lengths = np.zeros(0) if self._lengths is None else self._lengths
        mean = int(lengths.sum(dtype=np.int64)) / max(len(lengths), 1)
        return Statistics(len(lengths), mean, lambda word: None)
