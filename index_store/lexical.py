"""Lexical search: BM25 scores precomputed by bm25s, read back as plain arrays.

Lu, "BM25S: orders of magnitude faster lexical search via eager sparse scoring", arXiv 2407.03618. The scores of
one word over all nodes are one column of a sparse matrix, so a query is a sum of a few columns. The sum is done
here, by numpy with its bounds checks, because the arrays may come from a stranger.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.errors import BrokenIndex

_WORD = re.compile(r"\w+")
# Between the parts of as_completed and of asCompleted; not in mRNA or iPhone, which are one word.
_JOINT = re.compile(r"_|(?<=[a-z][a-z])(?=[A-Z])")


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")


@cache
def _stop_words() -> frozenset[str]:
    from bm25s.stopwords import STOPWORDS_EN

    return frozenset(STOPWORDS_EN)


def words(text: str) -> list[str]:
    """Lower-cased stems without stop words; `as_completed` and `asCompleted` also count as their parts."""
    found = _WORD.findall(text)
    parts = [p for w in found if _JOINT.search(w) for p in _JOINT.split(w) if p]
    lower = (w.lower() for w in found + parts)
    return list(_stemmer().stemWords([w for w in lower if w not in _stop_words()]))


def write(folder: Path, texts: Iterable[str]) -> None:
    """Write the lexical arrays of nodes 0, 1, ... into `folder`."""
    import bm25s

    tokens = [words(t) for t in texts]
    vocabulary = {w: i for i, w in enumerate(sorted(set().union(*tokens)) or [""])}
    ids = [[vocabulary[w] for w in t] for t in tokens]
    model = bm25s.BM25(k1=1.5, b=0.75)
    if any(ids):
        model.index((ids, vocabulary), create_empty_token=False, show_progress=False)
        columns = model.scores
    else:  # bm25s has no answer for a corpus without a single word
        columns = {"data": np.empty(0), "indices": np.empty(0), "indptr": np.zeros(len(vocabulary) + 1)}
    np.save(folder / "scores.npy", columns["data"].astype(np.float32), allow_pickle=False)
    np.save(folder / "nodes.npy", columns["indices"].astype(np.int32), allow_pickle=False)
    np.save(folder / "offsets.npy", columns["indptr"].astype(np.int64), allow_pickle=False)
    (folder / "words.txt").write_bytes("\n".join(vocabulary).encode())


class Lexicon:
    """The opened arrays; the word list is read at the first query."""

    def __init__(
        self, scores: npt.NDArray[Any], nodes: npt.NDArray[Any], offsets: npt.NDArray[Any], path: Path
    ) -> None:
        self._scores, self._nodes, self._offsets, self._path = scores, nodes, offsets, path
        self._ids: dict[str, int] | None = None

    def _vocabulary(self) -> dict[str, int]:
        if self._ids is None:
            listed = self._path.read_bytes().decode().split("\n")
            self._ids = {w: i for i, w in enumerate(listed)}
            if len(self._offsets) != len(listed) + 1:
                raise BrokenIndex(f"{self._path} has {len(listed)} words, expected {len(self._offsets) - 1}")
        return self._ids

    def score(self, query: str, n: int) -> npt.NDArray[np.float32]:
        """BM25 score of every node, shape (n,) float32; 0 where no word of the query occurs."""
        out = np.zeros(n, dtype=np.float32)
        ids = self._vocabulary()
        for word in words(query):
            if word in ids:
                start, end = self._offsets[ids[word]], self._offsets[ids[word] + 1]
                try:
                    out[self._nodes[start:end]] += self._scores[start:end]
                except (IndexError, ValueError) as e:
                    raise BrokenIndex(f"the lexical arrays beside {self._path} are damaged: {e}") from e
        return out
