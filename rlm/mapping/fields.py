"""The fields of a row: what a caller writes for them, and what a value must be."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date

from index_store.terminal import brief
from index_store.types import Json
from rlm.gateway.tokens import count_tokens
from rlm.mapping.types import KINDS, Field, Kind, MappingError, Value

#: Fields of a map, labels of a field, characters of a name and of a value.
FIELDS, LABELS, NAME_CHARS, TEXT_CHARS = 20, 100, 60, 300
#: Values of all fields together, as a pack of a thousand tokens has some rows of each.
FEW = 12
#: What a row's dict has beside its fields.
TAKEN = ("row", "doc", "node", "start", "end", "fields", "error", "text")
#: Beyond these, whole numbers are not exact everywhere that they are read as JSON.
MOST = 2**53

_FORMS: Mapping[Kind, str] = {
    "label": "one of {labels}",
    "YYYY-MM-DD": "a date as YYYY-MM-DD",
    "YYYY-MM": "a month as YYYY-MM",
    "YYYY": "a year as YYYY",
    "number": "a number",
    "integer": "a whole number",
    "yes/no": "true or false",
    "text": f"text of at most {TEXT_CHARS} characters",
}
# A long value of each kind, for what a reply may take.
_SAMPLES: Mapping[Kind, Value] = {
    "YYYY-MM-DD": "2024-12-31",
    "YYYY-MM": "2024-12",
    "YYYY": "2024",
    "number": -12345.67,
    "integer": 123456,
    "yes/no": False,
    "text": "words of the row " * 12,
}
_NUMBER = re.compile(r"[+-]?\d{1,300}(\.\d{1,300})?([eE][+-]?\d{1,3})?", re.ASCII)
_YES_NO = {"yes": True, "no": False, "true": True, "false": False}


class Malformed(MappingError):
    """A value that its field does not allow, in one sentence."""


def parse_fields(given: Mapping[str, Json]) -> tuple[Field, ...]:
    """The fields that a mapping of name to spec stands for. Raises MappingError, in one sentence, for what is none.

    A spec is a list of labels, or one of the `KINDS` but "label".
    """
    if not 1 <= len(given) <= FIELDS:
        raise MappingError(
            f'there are {len(given)} fields; give 1 to {FIELDS}, such as {{"amount": "number"}}'
        )
    return tuple(_field(name, spec) for name, spec in given.items())


def as_spec(fields: Sequence[Field]) -> dict[str, Json]:
    """What `parse_fields` makes these fields of."""
    return {field.name: list(field.labels) if field.labels else field.kind for field in fields}


def _field(name: Json, spec: Json) -> Field:
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name.strip()) <= NAME_CHARS:
        raise MappingError(
            f"a field is named {brief(name)}; give a name of 1 to {NAME_CHARS} characters on one line"
        )
    if name in TAKEN:
        raise MappingError(f"a field is named {name!r}, which every row has already; give another name")
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        return Field(name, "label", _labels(name, spec))
    kind = next((kind for kind in KINDS[1:] if kind == spec), None)
    if kind is None:
        raise MappingError(
            f"the field {name!r} is {brief(spec)}; give a list of labels or one of {', '.join(KINDS[1:])}"
        )
    return Field(name, kind)


def _labels(name: str, given: Sequence[Json]) -> tuple[str, ...]:
    odd = [label for label in given if not isinstance(label, str) or not _is_label(label)]
    if odd:
        raise MappingError(f"the field {name!r} has the label {brief(odd[0])}; give short texts on one line")
    labels = tuple(str(label).strip() for label in given)
    if not 1 <= len(labels) <= LABELS or len({_folded(label) for label in labels}) < len(labels):
        raise MappingError(f"the field {name!r} has {len(labels)} labels; give 1 to {LABELS} that differ")
    return labels


def _is_label(label: str) -> bool:
    return label.isprintable() and 1 <= len(label.strip()) <= NAME_CHARS


def _folded(label: str) -> str:
    return label.strip().casefold()


def have_few_values(fields: Sequence[Field]) -> bool:
    """Whether many rows of a pack will have the same values in all fields: each is a label or yes/no, and together
    they have no more than `FEW` values."""
    closed = all(field.kind in ("label", "yes/no") for field in fields)
    return closed and math.prod(len(field.labels) or 2 for field in fields) <= FEW


# -- values ------------------------------------------------------------------------------------------------


def described(field: Field) -> str:
    """What a value of the field must be, in words."""
    return _FORMS[field.kind].format(labels=",".join(map(_quoted, field.labels)))


def _quoted(words: str) -> str:
    return json.dumps(words, ensure_ascii=False)


def read_value(field: Field, value: object) -> Value:
    """A value of a reply as its field has it: labels in the caller's case, numbers as numbers even where they came as
    text. Raises Malformed, in one sentence, for what is none."""
    read = None if value is None else _READERS[field.kind](field, value)
    if read is None and (value is not None or field.kind == "label"):
        raise Malformed(f"{field.name} is {brief(value)}; it must be {described(field)}")
    return read


def read_values(fields: Sequence[Field], given: Mapping[str, object]) -> dict[str, Value]:
    """The values of all fields. Raises Malformed for one that is wrong or missing."""
    missing = [field.name for field in fields if field.name not in given]
    if missing:
        raise Malformed(f"{missing[0]} is missing")
    return {field.name: read_value(field, given[field.name]) for field in fields}


def _label(field: Field, value: object) -> Value:
    words = value if isinstance(value, str) else json.dumps(value) if _is_scalar(value) else ""
    return next((label for label in field.labels if _folded(label) == _folded(words)), None)


def _is_scalar(value: object) -> bool:
    return isinstance(value, bool | int | float)


def _day(field: Field, value: object) -> Value:
    """The date, month or year, if the calendar has it."""
    words = f"{value:04}" if type(value) is int and field.kind == "YYYY" else value
    if not isinstance(words, str) or not re.fullmatch(r"\d{4}(-\d\d){0,2}", words := words.strip(), re.ASCII):
        return None
    if len(words) != len(field.kind):
        return None
    try:
        date.fromisoformat(words + "-01-01"[len(words) - 4 :])
    except ValueError:
        return None
    return words


def _number(field: Field, value: object) -> Value:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value) if re.search("[.eE]", value) else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) and (isinstance(value, float) or abs(value) <= MOST) else None


def _integer(field: Field, value: object) -> Value:
    number = _number(field, value)
    return (
        int(number) if isinstance(number, int | float) and number % 1 == 0 and abs(number) <= MOST else None
    )


def _yes_no(field: Field, value: object) -> Value:
    return (
        value if isinstance(value, bool) else _YES_NO.get(_folded(value)) if isinstance(value, str) else None
    )


def _text(field: Field, value: object) -> Value:
    words = str(value) if type(value) is int else value
    if not isinstance(words, str) or len(words) > TEXT_CHARS:
        return None
    return (
        None if any("\ud800" <= char <= "\udfff" for char in words) else words
    )  # no lone surrogate can be kept


_READERS = {
    "label": _label,
    "YYYY-MM-DD": _day,
    "YYYY-MM": _day,
    "YYYY": _day,
    "number": _number,
    "integer": _integer,
    "yes/no": _yes_no,
    "text": _text,
}


def line_tokens(model: str, fields: Sequence[Field]) -> int:
    """Tokens that one line of a reply takes, about, with its newline."""
    values = {field.name: _sample(model, field) for field in fields}
    line = json.dumps({"row": 123, **values}, ensure_ascii=False, separators=(",", ":"))
    return count_tokens(model, line + "\n")


def _sample(model: str, field: Field) -> Value:
    return (
        max(field.labels, key=lambda label: count_tokens(model, label), default=None) or _SAMPLES[field.kind]
    )
