"""The stretch of a text that is most like a quote, and how like: for quotes that were not copied exactly.

Words are compared, without case, marks and hyphens: unrelated English texts share half their characters, but few words
in order. The cost of a stretch is the least weight of the words to change, leave out or put in to make it of the quote
(Sellers, "The theory and computation of evolutionary distances: pattern recognition", 1980). A number or a negation
weighs as much as three words, since a quote without it says something else.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from rlm.audit.likeness import SAME_WORDS

Ints = npt.NDArray[np.int64]

WHOLE_CHARS = 20_000  # a text up to this long is aligned whole, of a longer one WINDOWS stretches
WINDOWS = 4
CELLS = 6_000_000  # of all alignments of one quote together; the first is made however large it is
SEEDS = 12  # words of a quote, and as many runs of three words, by which windows are chosen
SEED_HITS = 20_000  # a seed with more occurrences says too little about a place
PART_WORDS = 3  # on each side of an ellipsis; shorter parts would fit nearly anywhere
GAP_DOUBLINGS = 8  # an ellipsis stands for up to 2 ** 8 - 1 words
GAP_CHARS = 2_000
TURNING = 3  # the weight of a number or a negation, which turn what a sentence says
SHORT_CHARS = 40  # a longer word is compared without looking for parts in it

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(
    rf"[{_CJK}]"
    r"|\d++(?:[.,:/]\d++)*+(?![^\W_])"
    rf"|[^\W_{_CJK}]++(?:(?:['’]|[-‐‑\u00ad]\s{{0,40}})[^\W_{_CJK}]++)*+"
    r"|(?<!\w)-(?=\d)|[<>=+−×÷±≠≤≥%$€£¥]"
)
_ELLIPSIS = re.compile(r"[\[(]\s{0,3}(?:\.{2,}|…)\s{0,3}[\])]|\.{3,}|…|\.(?: \.){2,}")
_SEED = re.compile(rf"[{_CJK}]{{2}}|[^\W_{_CJK}]{{3,24}}")
_RUN = re.compile(r"\w{1,24} \w{1,24} \w{1,24}")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff" + _CJK + "]"
)  # scripts with no space between words
_INSIDE = re.compile(r"[-‐‑\u00ad\s]+")
_NUMBERS_AND_NEGATIONS = """
no not never none nor neither nothing nobody nowhere without cannot zero two three four five six seven eight nine ten
eleven twelve twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion half
"""
_TURNING = frozenset(_NUMBERS_AND_NEGATIONS.split())


@dataclass(frozen=True, slots=True)
class Near:
    """A stretch of whole words, characters start:end of the text. `similarity`: in (0, SAME_WORDS]."""

    start: int
    end: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Words:
    """The n words of a text: (start, end) of each, its form for comparison, and its weight, (n,) int64."""

    spans: list[tuple[int, int]]
    plain: list[str]
    weights: Ints


def nearest(text: str, quote: str) -> Near | None:
    """The stretch of `text` most like `quote`, the first of equals; None where the text has none of its words.

    An ellipsis in the quote ("...", "[…]") with PART_WORDS words on each side stands for up to 2 ** GAP_DOUBLINGS - 1
    words that cost nothing. Time is bounded whatever the texts: of a long one only the best WINDOWS are aligned.
    """
    wanted, skips = _quoted(quote)
    stretches: list[Near] = []
    cells = CELLS
    for start, end in _windows(text, quote) if wanted.plain else ():
        words = words_of(text, start, end)
        cells -= len(words.plain) * len(wanted.plain)
        if stretches and cells < 0:
            break
        if near := _align(wanted, skips, words):
            stretches.append(near)
    return max(stretches, key=lambda near: near.similarity, default=None)


# --- words ---


def words_of(text: str, start: int = 0, end: int | None = None) -> Words:
    """The words in characters start:end of a text; their places are counted from the beginning of the text."""
    spans = [match.span() for match in _WORD.finditer(text, start, len(text) if end is None else end)]
    plain, weights = (
        zip(*(_plain_and_weight(text[a:b]) for a, b in spans), strict=True) if spans else ((), ())
    )
    return Words(spans, list(plain), np.array(weights, dtype=np.int64))


def _plain_and_weight(word: str) -> tuple[str, int]:
    return _of_short_word(word) if len(word) <= SHORT_CHARS else (word.casefold(), 1)


@lru_cache(maxsize=1 << 14)
def _of_short_word(word: str) -> tuple[str, int]:
    parts = _INSIDE.split(unicodedata.normalize("NFKC", word).casefold().replace("’", "'"))
    turns = any(part in _TURNING or part.endswith("n't") or any(map(str.isdigit, part)) for part in parts)
    return "".join(parts) or word, TURNING if turns else 1


def cuts_word(text: str, at: int) -> bool:
    """Whether `at` is inside a word or a number, such as "can't" or "1,500"; False at the ends of the text."""
    if not 0 < at < len(text):
        return False
    last, before, after, then = text[at - 2 : at - 1], text[at - 1], text[at], text[at + 1 : at + 2]
    if _is_lettered(before) and _is_lettered(after):
        return True
    for left, mark, right in ((last, before, after), (before, after, then)):
        if mark in "-‐‑'’\u00ad" and _is_lettered(left) and _is_lettered(right):
            return True
        if mark in ".,:/" and left.isdigit() and right.isdigit():
            return True
    return False


def _is_lettered(char: str) -> bool:
    return char.isalnum() and not _UNSPACED.match(char)


def _quoted(quote: str) -> tuple[Words, set[int]]:
    """(the words of a quote, after how many of them an ellipsis stands for words that cost nothing)."""
    cuts = [0, *(match.start() for match in _ELLIPSIS.finditer(quote)), len(quote)]
    words = words_of(_ELLIPSIS.sub(lambda match: " " * len(match[0]), quote))
    starts = [start for start, _ in words.spans]
    past = np.searchsorted(starts, cuts[1:]).tolist()
    sizes = [b - a for a, b in pairwise([0, *past])]
    ends = list(accumulate(sizes))
    return words, {end for end, (a, b) in zip(ends, pairwise(sizes), strict=False) if min(a, b) >= PART_WORDS}


# --- which stretches to align ---


def _windows(text: str, quote: str) -> Iterator[tuple[int, int]]:
    """(start, end) of the whole of a short text; of a longer one, of the stretches with the most and rarest seeds.

    A stretch is the bucket in which the quote would begin and the next, with a margin on either side.
    """
    if len(text) <= WHOLE_CHARS:
        yield 0, len(text)
        return
    width = max(len(quote) + len(quote) // 4, 1_000)
    margin = width // 4 + (GAP_CHARS if _ELLIPSIS.search(quote) else 0)
    scores = _beginnings(lower(text), _seeds(quote), width)
    taken: set[int] = set()
    for bucket in np.argsort(-scores, kind="stable")[: 3 * WINDOWS].tolist():
        if len(taken) == WINDOWS or not scores[bucket]:
            return
        if taken.isdisjoint((bucket - 1, bucket, bucket + 1)):
            taken.add(bucket)
            start, end = bucket * width - margin, (bucket + 2) * width + margin
            yield _between_words(text, start), _between_words(text, end)


def lower(text: str) -> str:
    """The text in lower case, every character at its place; only U+0130 has a longer lower case, and becomes "i"."""
    return text.replace("\u0130", "I").lower()


def _seeds(quote: str) -> dict[str, int]:
    """The quote's longest words and runs of three words, likely to be rare, each with its first place in it."""
    seeds: dict[str, int] = {}
    for kind in (_SEED, _RUN):
        first: dict[str, int] = {}
        for match in kind.finditer(lower(quote)):
            first.setdefault(match[0], match.start())
        seeds |= sorted(first.items(), key=lambda item: len(item[0]), reverse=True)[:SEEDS]
    return seeds


def _beginnings(text: str, seeds: dict[str, int], width: int) -> npt.NDArray[np.float64]:
    """For each bucket of `width` characters, a score for the quote to begin in it; shape (len(text) // width + 1,).

    A seed at `place` scores for a beginning at `place` less its own offset, or somewhat before; a rarer one more.
    """
    scores = np.zeros(len(text) // width + 1)
    for seed, offset in seeds.items():
        places = np.array(_places(text, seed), dtype=np.int64)
        if 0 < len(places) < SEED_HITS:
            buckets = np.unique(np.maximum(places - offset, 0) // width)
            weight = np.log((1 + len(scores)) / len(buckets))
            scores[buckets] += weight
            scores[buckets[buckets > 0] - 1] += weight / 2
    return scores


def _places(text: str, seed: str) -> list[int]:
    """The places of a seed in the text, at most SEED_HITS."""
    places: list[int] = []
    at = text.find(seed)
    while at >= 0 and len(places) < SEED_HITS:
        places.append(at)
        at = text.find(seed, at + len(seed))
    return places


def _between_words(text: str, at: int) -> int:
    """`at`, moved into the text, and on to the end of the word that it cuts."""
    at = min(max(at, 0), len(text))
    cut = re.compile(r"\w{0,200}").match(text, at) if at and text[at - 1].isalnum() else None
    return cut.end() if cut else at


# --- alignment ---


def _align(wanted: Words, skips: set[int], words: Words) -> Near | None:
    """The stretch of words with the cheapest alignment of all wanted words; None where leaving all out is as cheap.

    Its end is looked for first and then, back from there, its beginning; so both are words of the quote.
    """
    numbers = {word: number for number, word in enumerate(dict.fromkeys(wanted.plain))}
    quote = np.array([numbers[word] for word in wanted.plain])
    source = np.array([numbers.get(word, -1) for word in words.plain], dtype=np.int64)
    costs = _last_row(quote, wanted.weights, skips, source, words.weights, free_start=True)
    end = int(np.argmin(costs))
    cost, total = int(costs[end]), int(wanted.weights.sum())
    if cost >= total:
        return None
    back = {len(quote) - skip for skip in skips}
    costs = _last_row(
        quote[::-1], wanted.weights[::-1], back, source[:end][::-1], words.weights[:end][::-1], False
    )
    start = end - int(np.argmin(costs))
    similarity = min(round(1 - cost / total, 3), SAME_WORDS)
    return Near(words.spans[start][0], words.spans[end - 1][1], similarity)


def _last_row(
    quote: Ints, quote_weights: Ints, skips: set[int], source: Ints, weights: Ints, free_start: bool
) -> Ints:
    """(n + 1,) int64: the cost of the whole quote against a stretch that ends before each of the n source words.

    One numpy row for each quote word. What a cell takes from its left neighbour in the same row, by putting a source
    word in, is a running minimum of costs less the sum of weights so far.
    """
    sums = np.concatenate([[0], np.cumsum(weights)])
    changed = {weight: np.maximum(weights, weight) for weight in (1, TURNING)}
    row = np.zeros_like(sums) if free_start else sums.copy()
    for done, (word, weight) in enumerate(zip(quote.tolist(), quote_weights.tolist(), strict=True), 1):
        same = row[:-1] + np.where(source == word, 0, changed[weight])
        row = row + weight
        np.minimum(row[1:], same, out=row[1:])
        row = np.minimum.accumulate(row - sums) + sums
        if done in skips:
            row = _skipping(row)
    return row


def _skipping(row: Ints) -> Ints:
    """The least of each cost and the 2 ** GAP_DOUBLINGS - 1 before it: an ellipsis stands for these source words."""
    for step in (1 << i for i in range(GAP_DOUBLINGS)):
        row[step:] = np.minimum(row[step:], row[:-step])
    return row
