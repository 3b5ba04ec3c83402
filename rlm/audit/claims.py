"""Which claims of an answer stand in the documents, counted, and marked where they stand in the answer's words.

A citation is a claim that words stand in the documents; `[2]` in an answer names its second. The words of an answer may
be anyone's: a mark is added, and nothing of what is written is taken away.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from index_store.terminal import count
from rlm.audit.events import RecordedEvent

#: How a citation is said to stand where its words are in the documents: word for word, or spaced otherwise.
STANDING = frozenset({"verbatim", "respaced"})
NOT_IN_TEXT = "not in the text"
RESPACED = "same words, other spacing"
_GROUP = re.compile(r"\[\d{1,3}(?:\s?[,;–-]\s?\d{1,3})*\]")
_NUMBER = re.compile(r"\d{1,3}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A citation as far as an answer's words bear on it: how it is `supported`, and what it quotes."""

    supported: str
    quote: str

    @property
    def is_missing(self) -> bool:
        """Whether no document holds it."""
        return self.supported == "unsupported"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer. `number`: of the claim that it names, from 1; None for other words. `is_missing`: the text
    says so too."""

    text: str
    number: int | None = None
    is_missing: bool = False


def claims_of(answered: RecordedEvent) -> list[Claim]:
    """The claims of a recorded answer, in order."""
    return [Claim(one["supported"], one["quote"]) for one in answered["citations"]]


def in_words(supported: str) -> str:
    """How a citation stands, as a terminal shows it."""
    return RESPACED if supported == "respaced" else supported


def tally(claims: Sequence[Claim]) -> str:
    """How many claims stand, and how the others do: `7 of 9 claims stand; 2 are not in the text`."""
    if not claims:
        return "no claim is cited"
    stand = sum(claim.supported in STANDING for claim in claims)
    missing = sum(claim.is_missing for claim in claims)
    near = len(claims) - stand - missing
    parts = [f"{stand:,} of {count(len(claims), 'claim')} {'stands' if stand == 1 else 'stand'}"]
    parts += [f"{near:,} {_is(near)} there in other words"] if near else []
    parts += [f"{missing:,} {_is(missing)} {NOT_IN_TEXT}"] if missing else []
    return "; ".join(parts)


def names_claims(content: str) -> bool:
    """Whether an answer names claims by their numbers; a value in JSON names none, whatever its lists hold."""
    return next(_named_in(content), None) is not None


def marked(content: str, claims: Sequence[Claim]) -> str:
    """The answer with a mark, `[2: not in the text]`, at each claim that no document holds."""
    return "".join(piece.text for piece in pieces(content, claims))


def pieces(content: str, claims: Sequence[Claim]) -> Iterator[Piece]:
    """The answer in pieces, each claim that it names a piece of its own.

    A missing claim that no number names is marked behind the words that it quotes, or else at the end.
    """
    at = 0
    for start, end, numbers in _places(content, claims):
        start = max(start, at)
        if start > at:
            yield Piece(content[at:start])
        at = max(end, at)
        yield from _group(content[start:at], numbers, claims)
    if at < len(content):
        yield Piece(content[at:])


def _places(content: str, claims: Sequence[Claim]) -> list[tuple[int, int, list[int]]]:
    """(start, end, the claims named there) of each mark that names claims; it is empty where one is to be added."""
    known_numbers = range(1, len(claims) + 1)
    places = [place for place in _named_in(content) if all(number in known_numbers for number in place[2])]
    if not content:
        return []
    known = {number for _, _, numbers in places for number in numbers}
    for number, claim in enumerate(claims, 1):
        if claim.is_missing and number not in known:
            found = content.find(claim.quote) if claim.quote else -1
            at = found + len(claim.quote) if found >= 0 else len(content.rstrip())
            places.append((at, at, [number]))
    return sorted(places)


def _named_in(content: str) -> Iterator[tuple[int, int, list[int]]]:
    if not _is_json(content):
        yield from ((match.start(), match.end(), _named(match[0])) for match in _GROUP.finditer(content))


def _is_json(content: str) -> bool:
    try:
        return content.lstrip()[:1] in ("{", "[") and isinstance(json.loads(content), dict | list)
    except (ValueError, RecursionError):
        return False


def _named(group: str) -> list[int]:
    """The numbers in a mark such as `[2]`, `[1, 3]` or `[1-3]`."""
    numbers = [int(number) for number in _NUMBER.findall(group)]
    spans = [
        range(a + 1, b) if "-" in between or "–" in between else ()
        for (a, b), between in zip(pairwise(numbers), _NUMBER.split(group)[1:-1], strict=True)
    ]
    inner = [number for span in spans for number in span]
    return sorted({*numbers, *inner})


def _group(text: str, numbers: list[int], claims: Sequence[Claim]) -> Iterator[Piece]:
    """The pieces of one mark: as it is written where no claim in it is missing, else each claim in its own brackets."""
    if any(claims[number - 1].is_missing for number in numbers):
        for number in numbers:
            is_missing = claims[number - 1].is_missing
            before = " " if number != numbers[0] or not text else ""
            words = f"[{number}: {NOT_IN_TEXT}]" if is_missing else f"[{number}]"
            yield from ([Piece(before)] if before else [])
            yield Piece(words, number, is_missing)
        return
    if len(numbers) == 1:
        yield Piece(text, numbers[0])
        return
    others = _NUMBER.split(text)
    for between, number in zip(others, _NUMBER.findall(text), strict=False):
        yield Piece(between)
        yield Piece(number, int(number))
    yield Piece(others[-1])


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
