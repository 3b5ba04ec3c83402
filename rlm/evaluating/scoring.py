"""Hold the words of an answer against given ones: exact match, token F1, numbers.

Words are compared as SQuAD compares them (Rajpurkar et al. 2016, arXiv 1606.05250, its evaluation script): in lower
case, without the marks of ASCII and the articles a, an, the, and with single spaces. Of several given answers the one
that fits best counts. The marks by which an answer names its citations, `[2]`, are no words of it.

    exact    1 where the words are the same, else 0
    f1       2 p r / (p + r), where p and r are the shares of the answer's and of the given answer's words that both
             have, each word as often as the other has it; 0 where they share none; 1 where neither has a word
    numbers  1 where both hold the same set of numbers, else 0; None where no given answer holds any
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from rlm.answers.demands import is_not_found
from rlm.audit.claims import unmarked
from rlm.prompts import NOT_IN_DOCUMENTS

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)
#: Digits by which a number is told from others; of a longer run the first of them.
_DIGITS = 40
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.,)\]–-])[-−])?(?P<money>[$€£¥] ?)?"
    r"(?P<whole>(?<![\d.,])\d{1,3}(?:,\d{3}){1,12}(?![\d])|\d+)(?P<part>\.\d+)?"
    r"(?:[ \u00a0-]?(?P<unit>hundred|thousand|million|billion|trillion|[mb]n|(?P<letter>[kmb]))(?![^\W_]))?",
    re.IGNORECASE,
)
_UNITS = {"hundred": 2, "thousand": 3, "k": 3, "million": 6, "m": 6, "mn": 6, "billion": 9, "bn": 9, "b": 9}
_UNITS |= {"trillion": 12}


def words_of(content: str) -> str:
    """The words of an answer that are scored: without marks of citations, and of a refusal without its reason."""
    return NOT_IN_DOCUMENTS if is_not_found(content) else unmarked(content)


def exact(words: str, answers: Sequence[str]) -> float:
    """Exact match: 1 or 0. `words`: as `words_of` gives them; `answers`: at least one."""
    return float(any(normal(words) == normal(answer) for answer in answers))


def f1(words: str, answers: Sequence[str]) -> float:
    """Token F1 in [0, 1]."""
    return max(_f1(normal(words).split(), normal(answer).split()) for answer in answers)


def same_numbers(words: str, answers: Sequence[str]) -> float | None:
    """Whether the answer holds the numbers of a given one, and no other: 1 or 0; None where none of them has any."""
    wanted = [found for answer in answers if (found := numbers(answer))]
    return float(numbers(words) in wanted) if wanted else None


def normal(text: str) -> str:
    """The text as it is compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_MARKS)).split())


def numbers(text: str) -> frozenset[Fraction]:
    """The numbers that a text holds, whatever is written around them: `1,234.50` is 1234.5, `12%` and `12 percent` are
    12, `$3 million` and `$3m` are 3000000; `3 m` is 3, as it may be of anything. Words such as "two" are none."""
    return frozenset(_value(match) for match in _NUMBER.finditer(text))


def _value(match: re.Match[str]) -> Fraction:
    whole, part = match["whole"].replace(",", "")[:_DIGITS], (match["part"] or "")[:_DIGITS]
    unit = "" if match["letter"] and not match["money"] else (match["unit"] or "").lower()
    value = Fraction(whole + part) * Fraction(10) ** _UNITS.get(unit, 0)
    return -value if match["sign"] else value


def _f1(ours: list[str], theirs: list[str]) -> float:
    if not ours or not theirs:
        return float(ours == theirs)
    both = sum((Counter(ours) & Counter(theirs)).values())
    precision, recall = both / len(ours), both / len(theirs)
    return 2 * precision * recall / (precision + recall) if both else 0.0
