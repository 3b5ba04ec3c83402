"""Documents that say nearly the same: MinHash over runs of words, in time linear in the corpus.

Broder, "On the resemblance and containment of documents", 1997; candidates by bands of the signature, as in Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3. What is found is measured exactly before it is told.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

ALIKE = 0.8  # of all runs of words that either document has, the share that both have
_RUN = 5  # words
_BANDS, _ROWS = 16, 4  # with these, of two documents at 0.8 one pair in 5,000 is missed
_COMPARED = 4  # candidates of a document that are measured
_BLOCK = 4_096  # runs hashed at a time
# Languages without spaces between words are compared by characters.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")

Hashes = npt.NDArray[np.uint64]
_DRAWN = np.random.Generator(np.random.PCG64(1997)).integers(2**64, size=(2, _BANDS * _ROWS), dtype=np.uint64)
_FACTORS, _TERMS = _DRAWN[0] | np.uint64(1), _DRAWN[1]


@dataclass(frozen=True, slots=True)
class Twin:
    """A document that says nearly the same as one before it. `similarity`: of their runs of words, ALIKE to 1."""

    doc: str
    of: str
    similarity: float


def near_duplicates(documents: Sequence[tuple[str, str]]) -> list[Twin]:
    """Of documents `(id, text)` those that say nearly the same as one before them, each with the most alike of some.

    The same documents in the same order give the same list.
    """
    twins: list[Twin] = []
    first: dict[bytes, int] = {}
    buckets: dict[tuple[int, bytes], tuple[int, int]] = {}  # the first and the last document in each
    signatures: dict[int, Hashes] = {}
    for number, (doc, text) in enumerate(documents):
        words = _words(text)
        same = (
            first.setdefault(hashlib.sha256(" ".join(words).encode()).digest(), number) if words else number
        )
        if same != number:
            twins.append(Twin(doc, documents[same][0], 1.0))
            continue
        if len(words) < _RUN:
            continue
        runs = _runs(words)
        signature = signatures[number] = _signature(runs)
        candidates: set[int] = set()
        for key in _bands(signature):
            begin, last = buckets.get(key, (number, number))
            candidates |= {begin, last} - {number}
            buckets[key] = begin, number
        alike = {other: float((signatures[other] == signature).mean()) for other in candidates}
        nearest = sorted(candidates, key=lambda other: (-alike[other], other))[:_COMPARED]
        measured = [(_jaccard(runs, _runs(_words(documents[other][1]))), -other) for other in nearest]
        if measured and max(measured)[0] >= ALIKE:
            similarity, other = max(measured)
            twins.append(Twin(doc, documents[-other][0], round(similarity, 3)))
    return twins


def twins_by_access(
    documents: Sequence[tuple[str, str]], access: Sequence[frozenset[str] | None]
) -> list[Twin]:
    """As `near_duplicates`, of documents that the same readers may read: one is never named to a reader of the other.

    `access`: the labels of each document, None where nobody knows them. In the order of the documents.
    """
    parts = {
        own: [d for d, other in zip(documents, access, strict=True) if other == own]
        for own in dict.fromkeys(access)
    }
    twins = {twin.doc: twin for part in parts.values() for twin in near_duplicates(part)}
    return [twins[doc] for doc, _ in documents if doc in twins]


def first_alike(docs: Sequence[str], twins: Sequence[Twin]) -> list[int]:
    """For each of `docs`, in order, the number of the first that it is alike to, over any between; else its own."""
    first = {doc: number for number, doc in enumerate(docs)}
    for twin in twins:
        first[twin.doc] = first[twin.of]
    return [first[doc] for doc in docs]


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


def _bands(signature: Hashes) -> Iterable[tuple[int, bytes]]:
    rows: Iterator[Hashes] = iter(signature.reshape(_BANDS, _ROWS))
    return ((band, row.tobytes()) for band, row in enumerate(rows))


def _jaccard(a: Hashes, b: Hashes) -> float:
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)
