"""Which quotes of an answer stand in the documents, counted, and marked where the answer's words name them.

A citation is a claim that words stand in the documents; `[2]` in an answer names its second. Only the quotes are held
against the documents: whether the answer's own words follow from them no rule can tell, and no count says so. The words
of an answer may be anyone's: a mark is added, and nothing of what is written is taken away.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from index_store.terminal import count
from rlm.audit.events import RecordedEvent
from rlm.audit.telling import TELLING
from rlm.gateway.offline.sentences import split

#: How a citation is said to stand where its words are in the documents: word for word, or spaced otherwise.
STANDING = frozenset({"verbatim", "respaced"})
NOT_IN_TEXT = "not in the text"
IN_OTHER_WORDS = "in other words"
IN_SUMMARY = "in a summary, in no document"
#: What a count of quotes does not say.
YOURS_TO_JUDGE = "whether the answer follows from them is for you to judge"
RESPACED = "same words, other spacing"
_GROUP = re.compile(r"\[\d{1,3}(?:\s?[,;–-]\s?\d{1,3})*\]")
_MARK = re.compile(rf"\s?{_GROUP.pattern}")
_NUMBER = re.compile(r"\d{1,3}")
_LEADING = re.compile(rf"(?:\s*{_GROUP.pattern}[.,;]?)+\s*")
_MOST_TELLING = 400


@dataclass(frozen=True, slots=True)
class Claim:
    """A citation as far as an answer's words bear on it: how it is `supported`, and what it quotes."""

    supported: str
    quote: str

    @property
    def is_missing(self) -> bool:
        """Whether no document holds it."""
        return self.supported == "unsupported"

    @property
    def doubt(self) -> str:
        """How it does not stand as it is quoted, in a few words; '' where it stands."""
        if self.supported in STANDING:
            return ""
        return (
            NOT_IN_TEXT if self.is_missing else IN_SUMMARY if self.supported == "summary" else IN_OTHER_WORDS
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer. `number`: of the claim that it names, from 1; None for other words. `claim`: that one,
    where it does not stand as it is quoted, which the text says too."""

    text: str
    number: int | None = None
    claim: Claim | None = None


def claims_of(answered: RecordedEvent) -> list[Claim]:
    """The claims of a recorded answer, in order."""
    return [Claim(one["supported"], one["quote"]) for one in answered["citations"]]


def in_words(supported: str) -> str:
    """How a citation stands, as a terminal shows it."""
    return {"respaced": RESPACED, "summary": IN_SUMMARY}.get(supported, supported)


def counted(claims: Sequence[Claim]) -> str:
    """How many quotes stand, and how the others do: `7 of 9 quotes stand in the documents; 2 are not in the text`."""
    if not claims:
        return "nothing is quoted"
    stand = sum(not claim.doubt for claim in claims)
    missing = sum(claim.is_missing for claim in claims)
    summed = sum(claim.supported == "summary" for claim in claims)
    near = len(claims) - stand - missing - summed
    verb = "stands" if stand == 1 or len(claims) == 1 else "stand"
    parts = [f"{stand:,} of {count(len(claims), 'quote')} {verb} in the documents"]
    parts += [f"{near:,} {_is(near)} there {IN_OTHER_WORDS}"] if near else []
    parts += [f"{summed:,} {_is(summed)} {IN_SUMMARY}"] if summed else []
    parts += [f"{missing:,} {_is(missing)} {NOT_IN_TEXT}"] if missing else []
    return "; ".join(parts)


def tally(claims: Sequence[Claim], content: str = "") -> str:
    """How many quotes stand, how many sentences of the answer `content` cite nothing, and what neither can say."""
    bare = uncited(content)
    parts = [counted(claims)]
    parts += [f"{count(bare, 'sentence')} {'cites' if bare == 1 else 'cite'} nothing"] if bare else []
    return "; ".join([*parts, YOURS_TO_JUDGE] if claims else parts)


def uncited(content: str) -> int:
    """How many sentences of an answer name no citation; 0 where none does, as then its marks say nothing.

    A heading or what ends in a colon is no sentence.
    """
    if not names_claims(content):
        return 0
    return sum(
        not numbers and words.endswith((".", "!", "?", "…", "。")) and len(words) > 1
        for words, numbers in statements(content)
    )


def statements(content: str) -> list[tuple[str, list[int]]]:
    """The sentences of an answer without their marks, each with the numbers of the claims that it names.

    A mark right behind a full stop belongs to the sentence before it.
    """
    sentences = [content[start:end] for start, end in split(content)]
    leads = [match[0] if (match := _LEADING.match(sentence)) else "" for sentence in sentences]
    own = [sentence[len(lead) :] for sentence, lead in zip(sentences, leads, strict=True)]
    return [
        (unmarked(words), [n for mark in _GROUP.findall(words + following) for n in _named(mark)])
        for words, following in zip(own, [*leads[1:], ""], strict=True)
    ]


def unmarked(content: str) -> str:
    """The words of an answer without the marks that name claims."""
    return _MARK.sub("", content) if names_claims(content) else content


def differences(quote: str, found: str) -> str:
    """The numbers and the words that deny in which a quote and the document differ, `150 / 140; not / (none)`; '' where
    they have the same."""
    ours, theirs = (TELLING.findall(text)[:_MOST_TELLING] for text in (quote, found))
    steps = SequenceMatcher(
        None, [word.lower() for word in ours], [word.lower() for word in theirs], autojunk=False
    ).get_opcodes()
    pairs = ((" ".join(ours[a:b]), " ".join(theirs[c:d])) for step, a, b, c, d in steps if step != "equal")
    return "; ".join(f"{one or '(none)'} / {other or '(none)'}" for one, other in pairs)


def names_claims(content: str) -> bool:
    """Whether an answer names claims by their numbers; a value in JSON names none, whatever its lists hold."""
    return next(_named_in(content), None) is not None


def marked(content: str, claims: Sequence[Claim]) -> str:
    """The answer with a mark at each quote that does not stand: `[2: not in the text]`, `[3: in other words]`."""
    return "".join(piece.text for piece in pieces(content, claims))


def pieces(content: str, claims: Sequence[Claim]) -> Iterator[Piece]:
    """The answer in pieces, each claim that it names a piece of its own.

    A claim that does not stand and that no number names is marked behind the words that it quotes, or else at the end.
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
        if claim.doubt and number not in known:
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
    """The pieces of one mark: as it is written where each claim in it stands, else each claim in its own brackets."""
    if any(claims[number - 1].doubt for number in numbers):
        for number in numbers:
            claim = claims[number - 1]
            before = " " if number != numbers[0] or not text else ""
            words = f"[{number}: {claim.doubt}]" if claim.doubt else f"[{number}]"
            yield from ([Piece(before)] if before else [])
            yield Piece(words, number, claim if claim.doubt else None)
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
