"""What offline/reader says of the rows of a map: rules over the words of each row, one JSON object a line.

They find words and dates; they judge nothing. A yes/no holds where a row has every word that carries the question; a
label is the one that stands in the row.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import TypeAlias

from rlm.gateway.blocks import Block
from rlm.gateway.offline.sentences import split, words

BLOCK = "rows"
Value: TypeAlias = bool | int | float | str | None
_ROW = re.compile(r"^(\d{1,9}): ")
_FIELD = re.compile(r"^([^:\n]{1,60}): (.+)$", re.MULTILINE)
_LABELS = "one of "
#: A label that begins so denies what the others say, alone or of something: "no", "none", "not paid".
_DENIAL = re.compile(r"(?:no|not|non|none|neither|never|nothing|without)(?![^\W_])", re.IGNORECASE)
_DENIED = re.compile(_DENIAL.pattern + r"[\W_]+[^\W_]", re.IGNORECASE)
#: Words of a label that names nothing of its own.
_NAMELESS = frozenset(
    [
        "other",
        "others",
        "else",
        "all",
        "any",
        "anything",
        "everything",
        "rest",
        "the",
        "unknown",
        "unclear",
        "misc",
    ]
)
_ASKING_WORDS = """
row rows text texts document documents document file files message messages record records line lines entry entries
function functions method methods class classes module modules section sections paragraph paragraphs mail mails email
emails complaint complaints review reviews ticket tickets item items passage passages letter letters number count list
name names mention mentions mentioned state states stated say says tell tells contain contains hold holds true false
answer question month year day total many each every all
"""
_BARE_WORDS = "row rows text texts number count list name names answer question month year day total many"
#: What a question has in quotes, or in capitals, stands in a row as it is written.
_LITERAL = re.compile(r"[\"“]([^\"”]{2,60})[\"”]|\b([A-Z][A-Z0-9_]+)\b")
_MONTH_WORDS = "january february march april may june july august september october november december"
_MONTHS = tuple(_MONTH_WORDS.split())
_MONTH = "|".join([*(f"{month[:3]}(?:{month[3:]})?" for month in _MONTHS), "sept"])
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d\d)(?:-(?P<d>\d\d))?\b"),
    re.compile(rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)? (?P<n>{_MONTH})\.?,? (?P<y>\d{{4}})\b", re.IGNORECASE),
    re.compile(
        rf"\b(?P<n>{_MONTH})\.? (?:(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? )?(?P<y>\d{{4}})\b", re.IGNORECASE
    ),
    re.compile(r"\b(?P<y>(?:19|20)\d\d)\b"),
)
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:,\d{3})*(?:\.\d{1,9})?(?![\w])")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a question asks for: stems of words, and words as they are written."""

    stems: frozenset[str]
    literal: tuple[str, ...] = ()


@cache
def _stems(said: str) -> frozenset[str]:
    """Words of a question that say what is asked for, and nothing of the rows, by their stems."""
    return frozenset(words(said))


def are_rows(blocks: Sequence[Block]) -> bool:
    """Whether a prompt asks about the rows of a map."""
    return len(blocks) == 1 and blocks[0].name == BLOCK


def tell_rows(block: Block, instructions: str) -> str:
    """A line for each row. `instructions`: the prompt without its rows, which ends with question and fields."""
    question, _, listed = instructions.rpartition("\nFields:\n")
    asked = question.strip().rpartition("\n")[2]
    fields = dict(_FIELD.findall(listed))
    literal = [quoted or capitals for quoted, capitals in _LITERAL.findall(asked)]
    stems = frozenset(words(_LITERAL.sub(" ", asked)))
    wanted = Wanted(
        stems - _stems(_ASKING_WORDS) or (frozenset() if literal else stems - _stems(_BARE_WORDS)),
        tuple(literal),
    )
    told = (
        {"row": number} | {name: _value(form, text, wanted) for name, form in fields.items()}
        for number, text in _rows(block.text)
    )
    return "\n".join(map(json.dumps, told))


def _rows(text: str) -> list[tuple[int, str]]:
    """(number, text) of each row; an indented line goes on with the one before."""
    rows: list[tuple[int, list[str]]] = []
    for line in text.split("\n"):
        if begun := _ROW.match(line):
            rows.append((int(begun[1]), [line[begun.end() :]]))
        elif rows:
            rows[-1][1].append(line.removeprefix(" "))
    return [(number, "\n".join(lines)) for number, lines in rows]


def _value(form: str, text: str, wanted: Wanted) -> Value:
    if form.startswith(_LABELS):
        return _label(json.loads(f"[{form.removeprefix(_LABELS)}]"), text, wanted)
    return next((read(text, wanted) for begin, read in _READ.items() if form.startswith(begin)), None)


def _label(labels: Sequence[str], text: str, wanted: Wanted) -> str:
    """The first label whose words stand in the row, else the one for what fits no other."""
    stems, rest = set(words(text)), _rest(labels, wanted)
    # A denial first: where it stands, what it denies stands too; its words in any order are none.
    denials = [label for label in labels if _DENIED.match(label)]
    known = [*denials, *(label for label in labels if label != rest and label not in denials)]
    literal = (label for label in known if re.search(rf"\b{re.escape(label)}\b", text, re.IGNORECASE))
    named = (one for one in known if one not in denials and (own := set(words(one))) and own <= stems)
    return next(literal, None) or next(named, None) or rest


def _rest(labels: Sequence[str], wanted: Wanted) -> str:
    """The label for what fits no other: one that denies, else one that names nothing, else the only one that the
    question does not speak of, else the last."""
    denying = [label for label in labels if _DENIAL.match(label)]
    nameless = [label for label in labels if _NAMELESS.issuperset(re.findall(r"\w+", label.casefold()))]
    spoken = wanted.stems.union(*map(words, wanted.literal))
    unsaid = [label for label in labels if spoken.isdisjoint(words(label))]
    return next(iter(denying or nameless or (unsaid if len(unsaid) == 1 else labels[-1:])))


def _holds(text: str, wanted: Wanted) -> bool:
    if not (wanted.stems or wanted.literal) or not all(
        re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text) for one in wanted.literal
    ):
        return False
    return set(words(text)).issuperset(wanted.stems)


def _day(text: str, wanted: Wanted) -> str | None:
    return next((f"{y}-{m}-{d}" for y, m, d in _dates(text) if m and d), None)


def _month(text: str, wanted: Wanted) -> str | None:
    return next((f"{y}-{m}" for y, m, _ in _dates(text) if m), None)


def _year(text: str, wanted: Wanted) -> str | None:
    return next((y for y, _, _ in _dates(text)), None)


def _dates(text: str) -> list[tuple[str, str, str]]:
    """(year, month, day) of each date of the calendar, as they are written best first; '' for what is not told."""
    found = (match.groupdict() for pattern in _DATES for match in pattern.finditer(text))
    return [told for one in found if (told := _date(one)) is not None]


def _date(one: Mapping[str, str | None]) -> tuple[str, str, str] | None:
    name = (one.get("n") or "").lower()[:3]
    month = next((n for n, known in enumerate(_MONTHS, 1) if name and known.startswith(name)), 0)
    month, day = month or int(one.get("m") or 0), int(one.get("d") or 0)
    try:
        date(int(one["y"] or 0), month or 1, day or 1)
    except ValueError:
        return None
    return str(one["y"]), f"{month:02}" if month else "", f"{day:02}" if day else ""


def _number(text: str, wanted: Wanted) -> float | int | None:
    found = _NUMBER.search(text)
    if found is None:
        return None
    plain = found[0].replace(",", "")
    return float(plain) if "." in plain else int(plain)


def _whole(text: str, wanted: Wanted) -> int | None:
    found = next((n for n in _NUMBER.findall(text) if "." not in n), None)
    return None if found is None else int(found.replace(",", ""))


def _sentence(text: str, wanted: Wanted) -> str | None:
    """The sentence that has most words of the question, shortened."""
    sentences = [text[start:end] for start, end in split(text)]
    best = max(sentences, key=lambda one: len(set(words(one)).intersection(wanted.stems)), default=None)
    return None if best is None else " ".join(best.split())[:300]


#: How a field's form begins in a prompt (rlm/mapping/fields.py), and what is read of a row for it.
_READ: Mapping[str, Callable[[str, Wanted], Value]] = {
    "true or false": _holds,
    "a date as YYYY-MM-DD": _day,
    "a month as YYYY-MM": _month,
    "a year as YYYY": _year,
    "a whole number": _whole,
    "a number": _number,
    "text of": _sentence,
}
