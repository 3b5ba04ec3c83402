"""Whether what an answer says occurs in what it cites: sentence by sentence, by rules, from the recorded texts.

A sentence is held against the words found at its citations, and those around them. What is looked for are its numbers
and dates, the names in it, and its other telling words. That all occur is no proof that it follows; that a number does
not is a reason to look.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from index_store.lexical import words as stems
from index_store.names import folded, names_in
from index_store.terminal import count, one_line
from rlm.audit.checking.findings import ClaimCheck
from rlm.audit.checking.shown import Areas
from rlm.audit.claims import STANDING, names_claims, statements
from rlm.audit.likeness import one_mark
from rlm.audit.telling import NUMBER

#: What a model writes that finds nothing, and an answer that says so.
NOT_FOUND = re.compile(r"\W{0,9}(?:not in (?:these|the) documents?\b|not[ _]found\W{0,9}\Z)", re.IGNORECASE)
MOST_SENTENCES = 1_000  # of an answer that are checked
SENTENCE_CHARS = 20_000  # of a sentence that are looked at
QUOTE_WORDS = 4  # what is quoted in fewer words may be a name or a word in doubt
MOST_QUOTES = 100  # that are looked for
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»\n]{8,2000})[\"”“»]")
_WORD = re.compile(r"\w+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
        ]
    )
}
HELD_CHARS = 400_000  # of the texts that one sentence cites
TITLE_CHARS = 2_000  # of a title, and of the question
MOST_NAMES = 200  # of a sentence that are looked for
_KEPT = 8  # sets of cited texts
#: How a citation is said to stand that has words in a document, be they others than it quotes.
_PLACED = STANDING | {"nearest"}
#: How one is, that an answer about areas may have.
_OF_AREAS = _PLACED | {"summary"}
_NAMED = 5  # things that are missing, in a sentence about them


@dataclass(frozen=True, slots=True)
class _Cited:
    """What sentences are held against: the words at some citations and around them, taken apart once.

    `spaced`: as `spaced` gives them; `stems`, `numbers`: in them; `words`, `names`: of them and of what need not stand
    there, the question and the titles.
    """

    spaced: str
    stems: frozenset[str]
    numbers: frozenset[str]
    words: frozenset[str]
    names: str

    @classmethod
    def of(cls, question: str, citations: Sequence[Mapping[str, Any]], shown: str) -> "_Cited":
        """Those of some citations of an answer to a question, and what it may take from areas that were shown."""
        text = "\n".join([*map(_text_of, citations), shown])[:HELD_CHARS]
        titles = [f"{one.get('title') or ''} {one['doc'] or ''}"[:TITLE_CHARS] for one in citations]
        around = "\n".join([text, question, *titles])
        number_words = {_NUMBER_WORDS[word] for word in _words(text) if word in _NUMBER_WORDS}
        return cls(
            spaced(text),
            frozenset(stems(text)),
            frozenset({*_numbers(around), *number_words}),
            frozenset({*_words(around), *stems(around)}),
            f" {folded(around)} ",
        )


@dataclass(slots=True)
class _Answer:
    """An answer under check. `asked`: the stems of its question; `nowhere`: quotes in it that stand nowhere."""

    question: str
    citations: Sequence[Mapping[str, Any]]
    least_words: float
    asked: frozenset[str]
    nowhere: Sequence[str]
    _held: dict[tuple[tuple[int, ...], str], _Cited] = field(default_factory=dict)

    def held(self, numbers: tuple[int, ...], shown: str) -> _Cited:
        """The words at the citations with these numbers, and those shown of areas; those of the last few are kept."""
        if (numbers, shown) not in self._held:
            if len(self._held) > _KEPT:
                self._held.clear()
            citations = [self.citations[n - 1] for n in numbers]
            self._held[numbers, shown] = _Cited.of(self.question, citations, shown)
        return self._held[numbers, shown]


def checked_claims(
    question: str,
    content: str,
    citations: Sequence[Mapping[str, Any]],
    least_words: float,
    stands_elsewhere: Callable[[str], bool] | None = None,
    areas: Areas | None = None,
    tallies: str = "",
) -> list[ClaimCheck]:
    """The sentences of an answer, checked; [] where it says that the documents do not hold what was asked.

    `least_words`: the share of the telling words of a sentence that must occur. `stands_elsewhere`: whether words stand
    in any document, for quotes that stand in nothing that was cited; None where there is no index to tell. `areas`:
    what was shown of areas of the tree, whose figures a sentence may tell; `tallies`: what came of maps, likewise, as
    from `tallied`.
    """
    if not content.strip() or NOT_FOUND.match(content.strip()):
        return []
    question = question[:TITLE_CHARS]
    nowhere = _nowhere(content, citations, stands_elsewhere)
    answer = _Answer(question, citations, least_words, frozenset(stems(question)), nowhere)
    said = _said(content, names_claims(content), len(citations))
    claims = [
        _checked(answer, text, numbers, areas.about(text, content) if areas else "")
        for text, numbers in islice(said, MOST_SENTENCES)
    ]
    if tallies:
        of_maps = _Cited.of(question, (), tallies)
        claims = [_or_of_map(answer, claim, of_maps) for claim in claims]
    texts = [one.get("found") or one["quote"] if one["supported"] in _PLACED else "" for one in citations]
    return [
        replace(one, cited=tuple(texts[n - 1] for n in one.citations) if one.citations else tuple(texts))
        for one in claims
    ]


def _said(content: str, named: bool, citations: int) -> Iterator[tuple[str, list[int]]]:
    """Each sentence with the numbers of what it cites: where the answer names none, all of them for each."""
    every = list(range(1, citations + 1))
    value = _value(content)
    if value is not None:
        yield from ((text, every) for text in value)
        return
    for text, numbers in statements(content):
        if any(map(str.isalnum, text)) and not _is_heading(text):
            known = [number for number in dict.fromkeys(numbers) if number in every]
            yield text.strip(), known if named else every


def _is_heading(text: str) -> bool:
    return text.lstrip().startswith("#") or text.rstrip().endswith(":")


def _value(content: str) -> list[str] | None:
    """The texts and numbers of an answer that is a JSON object or list, a sentence each; None for another."""
    if content.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    found, waiting = list[str](), [value]
    while waiting and len(found) <= MOST_SENTENCES:
        one = waiting.pop()
        if isinstance(one, dict | list):
            waiting.extend(reversed(list(one.values()) if isinstance(one, dict) else one))
        elif not isinstance(one, bool) and one is not None and str(one).strip():
            found.append(str(one))
    return found


def _checked(answer: _Answer, text: str, numbers: list[int], shown: str) -> ClaimCheck:
    cited = tuple(numbers)
    if made_up := [quote for quote in answer.nowhere if quote in text]:
        why = f'it quotes "{one_line(made_up[0], 80)}", which stands nowhere in what was looked at'
        return ClaimCheck(text, False, why, tuple(made_up), cited, True)
    named = numbers or range(1, len(answer.citations) + 1)
    placed = tuple(number for number in named if answer.citations[number - 1]["supported"] in _PLACED)
    is_of_areas = bool(shown) and all(answer.citations[n - 1]["supported"] in _OF_AREAS for n in named)
    if not placed and not is_of_areas:
        why = "no citation of it stands in the documents" if numbers else "it cites nothing"
        return ClaimCheck(text, False, why, (), cited, True)
    told = "what it cites" if numbers else "what the answer cites, and it names no citation"
    told = f"the areas that it was shown or in {told}" if shown else told
    return _compared(answer, text, cited, answer.held(placed, shown), told)


def _or_of_map(answer: _Answer, claim: ClaimCheck, held: _Cited) -> ClaimCheck:
    """A sentence that what it cites does not support, supported where it tells figures of a map: its numbers and names
    are such, and so is one of its telling words, if it has any. A quote that stands nowhere is none."""
    text = claim.text[:SENTENCE_CHARS]
    numbers = _numbers(text)
    telling = {*stems(text)} - answer.asked - {*numbers}
    is_of_map = bool(numbers) and not _numbers_missing(text, held) and not _names_missing(text, held)
    is_made_up = any(quote in claim.text for quote in answer.nowhere)
    if claim.supported or is_made_up or not is_of_map or (telling and not telling & held.stems):
        return claim
    return ClaimCheck(claim.text, True, "its numbers are figures of a map of the run", (), claim.citations)


def _compared(answer: _Answer, text: str, cited: tuple[int, ...], held: _Cited, told: str) -> ClaimCheck:
    """A sentence held against texts, which `told` calls by a name."""
    if _stands_in(spaced(text), held.spaced):
        return ClaimCheck(text, True, f"it stands word for word in {told}", (), cited)
    if missing := [*_numbers_missing(text, held), *_names_missing(text, held)]:
        named = ", ".join(one_line(one, 40) for one in missing[:_NAMED])
        do = "does" if len(missing) == 1 else "do"
        return ClaimCheck(text, False, f"{named} {do} not occur in {told}", tuple(missing), cited, True)
    telling = frozenset(stems(text[:SENTENCE_CHARS])) - answer.asked
    if not telling:
        why = "it holds no number, no name and no word that the question has not"
        return ClaimCheck(text, True, why, (), cited)
    there = telling & held.stems
    occur = "occurs" if len(there) == 1 else "occur"
    words = f"{len(there)} of its {count(len(telling), 'telling word')} {occur} in {told}"
    enough = len(there) >= answer.least_words * len(telling)
    return ClaimCheck(text, enough, words if enough else f"only {words}", (), cited)


def _stands_in(words: str, text: str) -> bool:
    """Whether words stand in a text, and neither begin nor end inside a word or a number of it."""
    pattern = rf"(?<!\w)(?<!\d[.,]){re.escape(words)}(?!\w)(?![.,]\d)"
    return bool(words) and words in text and re.search(pattern, text) is not None


def _text_of(cited: Mapping[str, Any]) -> str:
    """The words at the place of a citation, with those around them."""
    return f"{cited['context_before']}{cited.get('found') or cited['quote']}{cited['context_after']}"


def _numbers(text: str) -> list[str]:
    return NUMBER.findall(_THOUSANDS.sub("", text))


def _numbers_missing(text: str, held: _Cited) -> list[str]:
    return [one for one in dict.fromkeys(_numbers(text[:SENTENCE_CHARS])) if one not in held.numbers]


def _names_missing(text: str, held: _Cited) -> list[str]:
    """The names in a sentence that neither what it cites nor the question or a title has, without parts of others."""

    def stands(name: str) -> bool:
        by_word = all(word in held.words or {*stems(word)} & held.words for word in _words(name))
        return by_word or f" {name} " in held.names

    names = [name for name in dict.fromkeys(names_in(text[:SENTENCE_CHARS])) if not stands(name)]
    lacking = [name for name in names[:MOST_NAMES] if not _opens(name, text)]
    return [name for name in lacking if not any(name != other and name in other for other in lacking)]


def _opens(name: str, text: str) -> bool:
    """Whether a single word is only ever the first of a sentence, a line or a quote, where a capital says nothing."""
    before = [text[max(at - 9, 0) : at].rstrip()[-1:] for at in _starts(name, text)]
    return bool(before) and not any(sign.isalnum() or (sign and sign in ",)%") for sign in before)


def _starts(word: str, text: str) -> list[int]:
    return [match.start() for match in _WORD.finditer(text[:SENTENCE_CHARS]) if match[0].lower() == word]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _nowhere(
    content: str, citations: Sequence[Mapping[str, Any]], stands_elsewhere: Callable[[str], bool] | None
) -> list[str]:
    """The quotes in an answer's own words that stand in nothing that it cites, nor anywhere else."""
    quotes = islice(_QUOTED.finditer(content), MOST_QUOTES)
    sought = [match[1] for match in quotes if len(match[1].split()) >= QUOTE_WORDS]
    texts = [spaced(_text_of(one)[:HELD_CHARS]) for one in citations if one["supported"] != "unsupported"]
    lacking = [quote for quote in sought if not any(spaced(quote) in text for text in texts)]
    return [quote for quote in lacking if stands_elsewhere is None or not stands_elsewhere(quote)]


def spaced(text: str) -> str:
    """Words as they are compared: in lower case, with one kind of each mark, single spaces, no stop at the end."""
    return " ".join(one_mark(text).lower().split()).strip(" .,;:!?…")
