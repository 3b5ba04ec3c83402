"""Whether what an answer says occurs in what it cites: sentence by sentence, by rules, from the recorded texts.

A sentence is held against the words found at its citations, and those around them. What is looked for are its numbers
and dates, the names in it, and its other telling words. That all occur is no proof that it follows; that a number does
not is a reason to look.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from index_store.lexical import words as stems
from index_store.names import folded, names_in
from index_store.terminal import count, one_line
from rlm.audit.check.findings import ClaimCheck
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
_NAMED = 5  # things that are missing, in a sentence about them


@dataclass(frozen=True, slots=True)
class _Cited:
    """What a sentence is held against. `text`: the words at its citations and around them; `about`: names that need not
    stand there, of the documents and of the question."""

    text: str
    about: str


def checked_claims(
    question: str,
    content: str,
    citations: Sequence[Mapping[str, Any]],
    least_words: float,
    stands_elsewhere: Callable[[str], bool] | None = None,
) -> list[ClaimCheck]:
    """The sentences of an answer, checked; [] where it says that the documents do not hold what was asked.

    `least_words`: the share of the telling words of a sentence that must occur. `stands_elsewhere`: whether words stand
    in any document, for quotes that stand in nothing that was cited; None where there is no index to tell.
    """
    if not content.strip() or NOT_FOUND.match(content.strip()):
        return []
    named = names_claims(content)
    quotes = islice(_QUOTED.finditer(content), MOST_QUOTES)
    sought = [match[1] for match in quotes if len(match[1].split()) >= QUOTE_WORDS]
    nowhere = [quote for quote in sought if not _quote_stands(quote, citations, stands_elsewhere)]
    return [
        _checked(question, text, numbers, citations, nowhere, least_words)
        for text, numbers in islice(_said(content, named, len(citations)), MOST_SENTENCES)
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


def _checked(
    question: str,
    text: str,
    numbers: list[int],
    citations: Sequence[Mapping[str, Any]],
    nowhere: Sequence[str],
    least_words: float,
) -> ClaimCheck:
    if made_up := [quote for quote in nowhere if quote in text]:
        why = f'it quotes "{one_line(made_up[0], 80)}", which stands nowhere in what was looked at'
        return ClaimCheck(text, False, why, tuple(made_up), tuple(numbers), True)
    named = numbers or range(1, len(citations) + 1)
    standing = [number for number in named if citations[number - 1]["supported"] in STANDING]
    if not standing:
        why = "no citation of it stands in the documents" if numbers else "it cites nothing"
        return ClaimCheck(text, False, why, (), tuple(numbers), True)
    held = _held(question, [citations[number - 1] for number in standing])
    told = "what it cites" if numbers else "what the answer cites, and it names no citation"
    return _compared(question, text, tuple(numbers), held, told, least_words)


def _compared(
    question: str, text: str, numbers: tuple[int, ...], held: _Cited, told: str, least_words: float
) -> ClaimCheck:
    """A sentence held against texts, which `told` calls by a name."""
    if spaced(text) in spaced(held.text):
        return ClaimCheck(text, True, f"it stands word for word in {told}", (), numbers)
    if missing := [*_numbers_missing(text, held), *_names_missing(text, held)]:
        named = ", ".join(one_line(one, 40) for one in missing[:_NAMED])
        do = "does" if len(missing) == 1 else "do"
        return ClaimCheck(text, False, f"{named} {do} not occur in {told}", tuple(missing), numbers, True)
    telling = {*stems(text[:SENTENCE_CHARS])} - {*stems(question)}
    if not telling:
        return ClaimCheck(
            text, True, "it holds no number, no name and no word that the question has not", (), numbers
        )
    there = telling & {*stems(held.text)}
    words = f"{len(there)} of its {count(len(telling), 'telling word')} {'occurs' if len(there) == 1 else 'occur'}"
    if len(there) < least_words * len(telling):
        return ClaimCheck(text, False, f"only {words} in {told}", (), numbers)
    return ClaimCheck(text, True, f"{words} in {told}", (), numbers)


def _held(question: str, citations: Sequence[Mapping[str, Any]]) -> _Cited:
    texts = [
        f"{one['context_before']}{one.get('found') or one['quote']}{one['context_after']}"
        for one in citations
    ]
    titles = [f"{one.get('title') or ''} {one['doc'] or ''}" for one in citations]
    return _Cited("\n".join(texts), "\n".join([question, *titles]))


def _numbers_missing(text: str, held: _Cited) -> list[str]:
    wanted, there = NUMBER.findall(_plain_numbers(text)), {*NUMBER.findall(_plain_numbers(held.text))}
    there |= {_NUMBER_WORDS[word] for word in _WORD.findall(held.text.lower()) if word in _NUMBER_WORDS}
    asked = {*NUMBER.findall(_plain_numbers(held.about))}
    return [one for one in dict.fromkeys(wanted) if one not in there and one not in asked]


def _plain_numbers(text: str) -> str:
    return _THOUSANDS.sub("", text[: 50 * SENTENCE_CHARS])


def _names_missing(text: str, held: _Cited) -> list[str]:
    """The names in a sentence that neither what it cites nor the question or a title has, without parts of others."""
    around = f"{held.text}\n{held.about}"
    there, whole = {*_words(around), *stems(around)}, f" {folded(around)} "

    def stands(name: str) -> bool:
        words = _words(name)
        return f" {name} " in whole or all(word in there or {*stems(word)} & there for word in words)

    lacking = [
        name
        for name in dict.fromkeys(names_in(text[:SENTENCE_CHARS]))
        if not (stands(name) or _opens(name, text))
    ]
    return [name for name in lacking if not any(name != other and name in other for other in lacking)]


def _opens(name: str, text: str) -> bool:
    """Whether a single word is only ever the first of a sentence, a line or a quote, where a capital says nothing."""
    before = [text[max(at - 9, 0) : at].rstrip()[-1:] for at in _starts(name, text)]
    return bool(before) and not any(sign.isalnum() or (sign and sign in ",)%") for sign in before)


def _starts(word: str, text: str) -> list[int]:
    return [match.start() for match in _WORD.finditer(text[:SENTENCE_CHARS]) if match[0].lower() == word]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _quote_stands(
    quote: str, citations: Sequence[Mapping[str, Any]], stands_elsewhere: Callable[[str], bool] | None
) -> bool:
    wanted = spaced(quote)
    for one in citations:
        if one["supported"] != "unsupported":
            text = f"{one['context_before']}{one.get('found') or one['quote']}{one['context_after']}"
            if wanted in spaced(text):
                return True
    return stands_elsewhere is not None and stands_elsewhere(quote)


def spaced(text: str) -> str:
    """Words as they are compared: in lower case, with one kind of each mark, single spaces, no stop at the end."""
    return " ".join(one_mark(text).lower().split()).strip(" .,;:!?…")
