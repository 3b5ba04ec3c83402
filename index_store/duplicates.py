"""Documents that say nearly the same: MinHash over runs of words, in time linear in the corpus.

Broder, "On the resemblance and containment of documents", 1997; candidates by bands of the signature, as in Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3. What is found is measured exactly before it is told.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_store.spool import Lazy, room

ALIKE = 0.8  # of all runs of words that either document has, the share that both have
_RUN = 5  # words
_BANDS, _ROWS = 16, 4  # with these, of two documents at 0.8 one pair in 5,000 is missed
_COMPARED = 4  # candidates of a document that are measured
_BLOCK = 4_096  # runs hashed at a time
# Languages without spaces between words are compared by characters.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]
_DRAWN = np.random.Generator(np.random.PCG64(1997)).integers(2**64, size=(2, _BANDS * _ROWS), dtype=np.uint64)
_FACTORS, _TERMS = _DRAWN[0] | np.uint64(1), _DRAWN[1]


@dataclass(frozen=True, slots=True)
class Twin:
    """A document that says nearly the same as one before it. `similarity`: of their runs of words, ALIKE to 1."""

    doc: str
    of: str
    similarity: float


def near_duplicates(documents: Sequence[tuple[str, str]], folder: Path | None = None) -> list[Twin]:
    """Of documents `(id, text)` those that say nearly the same as one before them, each with the most alike of some.

    The same documents in the same order give the same list. Each is read once, and again where it may be alike to
    another; what is kept of very many meanwhile is mapped from files in `folder`.
    """
    digests, signatures, has_words, has_runs = _looked_at(documents, folder)
    first, _ = _first_and_last(digests, np.flatnonzero(has_words), len(documents))
    is_new = first == np.arange(len(documents))
    pairs = _candidates(signatures, np.flatnonzero(has_runs & is_new), len(documents))
    borders = np.searchsorted(pairs[:, 0], np.arange(len(documents) + 1))
    twins: list[Twin] = []
    for number in np.flatnonzero(~is_new | (np.diff(borders) > 0)).tolist():
        doc, text = documents[number]
        if not is_new[number]:
            twins.append(Twin(doc, documents[int(first[number])][0], 1.0))
            continue
        candidates = pairs[borders[number] : borders[number + 1], 1].tolist()
        alike = {other: float((signatures[other] == signatures[number]).mean()) for other in candidates}
        nearest = sorted(candidates, key=lambda other: (-alike[other], other))[:_COMPARED]
        runs = _runs(_words(text))
        similarity, other = max(
            (_jaccard(runs, _runs(_words(documents[other][1]))), -other) for other in nearest
        )
        if similarity >= ALIKE:
            twins.append(Twin(doc, documents[-other][0], round(similarity, 3)))
    return twins


def _looked_at(
    documents: Sequence[tuple[str, str]], folder: Path | None
) -> tuple[Hashes, Hashes, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Of each document: the sha256 of its words (n, 4), its signature, whether it has words, and runs of them."""
    digests, signatures = (room((len(documents), size), np.uint64, folder) for size in (4, _BANDS * _ROWS))
    has_words, has_runs = np.zeros((2, len(documents)), dtype=bool)
    for number, (_, text) in enumerate(documents):
        words = _words(text)
        has_words[number], has_runs[number] = bool(words), len(words) >= _RUN
        digests[number] = np.frombuffer(hashlib.sha256(" ".join(words).encode()).digest(), dtype=np.uint64)
        if has_runs[number]:
            signatures[number] = _signature(_runs(words))
    return digests, signatures, has_words, has_runs


def _candidates(signatures: Hashes, places: Numbers, count: int) -> Numbers:
    """(pairs, 2), ascending: each of some documents with those before it that it may be alike to, which are the first
    and the last that share a band with it."""
    found = [np.empty((0, 2), dtype=np.int64)]
    for band in range(_BANDS):
        for other in _first_and_last(signatures[:, band * _ROWS : (band + 1) * _ROWS], places, count):
            shared = np.flatnonzero(other != np.arange(count))
            found.append(np.stack([shared, other[shared]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _first_and_last(rows: Hashes, places: Numbers, count: int) -> tuple[Numbers, Numbers]:
    """For each of `count` rows the first that is the same and the last before it that is, of those at `places`,
    ascending; itself where there is none."""
    own = rows[places]
    order = np.lexsort(own.T)
    begins = np.ones(len(places), dtype=bool)
    begins[1:] = (own[order[1:]] != own[order[:-1]]).any(axis=1)
    start = np.maximum.accumulate(np.where(begins, np.arange(len(places)), 0))
    first, last = np.arange(count), np.arange(count)
    first[places[order]] = places[order[start]]
    last[places[order[~begins]]] = places[order[np.flatnonzero(~begins) - 1]]
    return first, last


def twins_by_access(
    documents: Sequence[tuple[str, str]],
    access: Iterable[frozenset[str] | None],
    folder: Path | None = None,
) -> list[Twin]:
    """As `near_duplicates`, of documents that the same readers may read: one is never named to a reader of the other.

    `access`: the labels of each document, None where nobody knows them. In the order of the documents.
    """
    kinds = dict[frozenset[str] | None, int]()
    kind_of = np.fromiter((kinds.setdefault(own, len(kinds)) for own in access), dtype=np.int32)
    if len(kinds) < 2:
        return near_duplicates(documents, folder)
    twins = dict[str, Twin]()
    order = np.argsort(kind_of, kind="stable")
    for numbers in np.split(order, np.cumsum(np.bincount(kind_of))[:-1]):
        if len(numbers) > 1:
            twins |= {twin.doc: twin for twin in near_duplicates(_some(documents, numbers), folder)}
    return [twins[doc] for doc, _ in documents if doc in twins] if twins else []


def _some(documents: Sequence[tuple[str, str]], numbers: Numbers) -> Sequence[tuple[str, str]]:
    return Lazy(len(numbers), lambda place: documents[int(numbers[place])])


def first_alike(docs: Iterable[str], twins: Sequence[Twin], count: int) -> Numbers:
    """For each of `docs`, of which there are `count`, the number of the first that it is alike to, over any between;
    else its own."""
    told = {doc for twin in twins for doc in (twin.doc, twin.of)}
    number_of = {doc: number for number, doc in enumerate(docs) if doc in told}
    first = np.arange(count)
    for twin in twins:
        first[number_of[twin.doc]] = first[number_of[twin.of]]
    return first


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


@lru_cache(100_000)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def _runs(words: Sequence[str]) -> Hashes:
    """A hash of each distinct run of words, ascending; words: at least _RUN."""
    hashes = np.fromiter(map(_hash, words), dtype=np.uint64, count=len(words))
    count = len(words) - _RUN + 1
    runs = np.zeros(count, dtype=np.uint64)
    for place in range(_RUN):
        runs = runs * np.uint64(0x9E3779B97F4A7C15) + hashes[place : place + count]
    runs ^= runs >> np.uint64(31)
    return np.unique(runs * np.uint64(0xBF58476D1CE4E5B9))


def _signature(runs: Hashes) -> Hashes:
    """The least value of each of the drawn functions over the runs: (_BANDS * _ROWS,)."""
    least = np.full(_BANDS * _ROWS, np.iinfo(np.uint64).max)
    for start in range(0, len(runs), _BLOCK):
        values = runs[start : start + _BLOCK, None] * _FACTORS + _TERMS
        np.minimum(least, values.min(axis=0), out=least)
    return least


def _jaccard(a: Hashes, b: Hashes) -> float:
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)
