"""Names in a text, by rules and without a model: capitalised runs, what is quoted, dotted and numbered identifiers.

A name is in lower case with single spaces, so that `The Beatles` and `beatles` are one. The parts of a run are names
too: a text says `Barack Obama` once and `Obama` after that.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from index_store import stop_words

MOST_CHARS = 80  # of a name; what is longer is a sentence
MOST_WORDS = 6  # of what is quoted, and of a question's words that may be a name together
ASKED_CHARS = 1_000  # of a question; what is longer quotes a text, whose names are found by its words
REMEMBERED = 1 << 16  # runs whose names are in memory: the same ones come again and again

_CAPITAL = r"[A-Z\u00C0-\u00D6\u00D8-\u00DE][\w'’\-]{0,60}"
# A dot ends a sentence, but not after an initial or a short title: J. K. Rowling, St. Louis.
_WORD = rf"(?:[A-Z][a-z]{{0,2}}\.|{_CAPITAL})"
_JOINT = r"(?:of|the|de|la|le|du|des|del|della|di|da|van|von|der|den|&|for|al|el|bin|ibn|y)"
_RUN = re.compile(rf"{_WORD}(?: (?:(?:{_JOINT} ){{0,2}}{_WORD}|\d{{1,4}}\b))*")
_QUOTED = re.compile(r"[\"“‘]([^\"“”‘’\n]{3,60})[\"”’]")
_IDENTIFIER = re.compile(
    r"\b(?:[A-Za-z_]\w*(?:(?:\.|::|/)[A-Za-z_]\w*)+"  # os.path, std::map
    r"|[A-Za-z]+_\w+|[a-z]+[A-Z]\w+|[A-Z][a-z]+[A-Z]\w+"  # as_completed, asCompleted, AsCompleted
    r"|[A-Za-z]+[-.]?\d[\w.\-]*)\b"  # RFC2616, GPT-4, v1.2
)
_NUMBERED = re.compile(r"\b(?:\d+[-.])+\d+\b|\b\d+-[A-Z]\b")  # 4.2.1, 10-K
_POSSESSIVE = re.compile(r"['’]s?\b(?!\w)")
_SIGN = re.compile(r"[^\w&.\- ]")
_BRACKETS = re.compile(r"\([^()]*\)")


def folded(words: str) -> str:
    """Words as a name has them: in lower case, without signs, with single spaces."""
    return " ".join(_SIGN.sub(" ", _POSSESSIVE.sub("", words).lower()).split()).strip(" .-")


def names_in(text: str) -> Iterator[str]:
    """The names in a text, one as often as it stands there. Single words may be no name: see `name_table`."""
    for run in _RUN.findall(text):
        yield from _names_of_run(run)
    for words in _QUOTED.findall(text):
        name = folded(words)
        if len(name) > 1 and len(name.split()) <= MOST_WORDS:
            yield name
    for pattern in (_IDENTIFIER, _NUMBERED):
        yield from (name for name in map(folded, pattern.findall(text)) if 2 < len(name) <= MOST_CHARS)


@lru_cache(REMEMBERED)
def _names_of_run(run: str) -> tuple[str, ...]:
    """A run of capitalised words as a name, without the words at its ends that name nothing, and its parts."""
    words = folded(run).split()
    while words and _is_common(words[0]):
        del words[0]
    while words and _is_common(words[-1]):
        del words[-1]
    whole = " ".join(words)
    if not 1 < len(whole) <= MOST_CHARS:
        return ()
    parts = (word for word in words if len(word) > 2 and not _is_common(word) and not word.isdigit())
    return tuple(dict.fromkeys((whole, *parts)))


def _is_common(word: str) -> bool:
    return word in stop_words.MANY


def names_of_title(title: str) -> tuple[str, ...]:
    """A title or heading as a name, and without what stands in brackets: `Mercury (planet)` is called Mercury."""
    names = (folded(_BRACKETS.sub(" ", title)), folded(title))
    return tuple(dict.fromkeys(name for name in names if 1 < len(name) <= MOST_CHARS and _has_letter(name)))


def _has_letter(name: str) -> bool:
    return any(
        map(str.isalpha, name)
    )  # a document that is called 7 is not meant by each 7 that stands somewhere


def names_asked(question: str) -> list[str]:
    """What may be names in a question, in any case: those by the rules, and each run of at most MOST_WORDS words."""
    question = question[:ASKED_CHARS]
    words = folded(question).split()
    runs = (
        " ".join(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, min(start + MOST_WORDS, len(words)) + 1)
        if not _is_common(words[start]) and not _is_common(words[end - 1])
    )
    return list(dict.fromkeys((*names_in(question), *runs)))
