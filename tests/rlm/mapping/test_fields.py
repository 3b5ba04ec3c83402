"""What a row is asked for: specs, and what a value must be."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rlm.mapping.fields import Malformed, as_spec, line_tokens, parse_fields, read_value, read_values
from rlm.mapping.types import KINDS, MappingError

EVERY = {"kind": ["Spam", "ham"], **{f"f{n}": kind for n, kind in enumerate(KINDS[1:])}}


def read(spec: Any, value: object) -> object:
    (field,) = parse_fields({"it": spec})
    return read_value(field, value)


def test_fields_are_what_their_specs_say() -> None:
    fields = parse_fields(EVERY)
    assert [field.kind for field in fields] == list(KINDS)
    assert fields[0].labels == ("Spam", "ham")
    assert as_spec(fields) == EVERY


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "there are 0 fields; give 1 to 20"),
        ({"a": "date"}, "the field 'a' is 'date'; give a list of labels or one of YYYY-MM-DD, YYYY-MM"),
        ({"a": "label"}, "the field 'a' is 'label'"),
        ({"a": 5}, "the field 'a' is 5"),
        ({"a": []}, "the field 'a' has 0 labels; give 1 to 100 that differ"),
        ({"a": ["x", " X"]}, "has 2 labels; give 1 to 100 that differ"),
        ({"a": ["x", 5]}, "has the label 5; give short texts"),
        ({"a": ["x\ny"]}, "has the label 'x\\\\ny'"),
        ({"row": "text"}, "a field is named 'row', which every row has already"),
        ({"a\nb": "text"}, "a field is named 'a\\\\nb'; give a name of 1 to 60 characters on one line"),
        ({"": "text"}, "a field is named ''"),
    ],
)
def test_a_spec_that_is_none_is_one_sentence(given: Any, said: str) -> None:
    with pytest.raises(MappingError, match=said):
        parse_fields(given)


@pytest.mark.parametrize(
    ("spec", "value", "is_read_as"),
    [
        (["Spam", "ham"], " sPAM ", "Spam"),
        (["1", "2"], 2, "2"),
        (["true", "false"], True, "true"),
        ("YYYY-MM-DD", "2024-02-29", "2024-02-29"),
        ("YYYY-MM", " 2024-02 ", "2024-02"),
        ("YYYY", 1999, "1999"),
        ("YYYY", "0800", "0800"),
        ("number", 12, 12),
        ("number", "12.5", 12.5),
        ("number", " -3e2 ", -300.0),
        ("integer", 12.0, 12),
        ("integer", "12", 12),
        ("yes/no", True, True),
        ("yes/no", "No", False),
        ("text", "two\nlines \u2028", "two\nlines \u2028"),
        ("text", 4711, "4711"),
        ("text", None, None),
        ("number", None, None),
        ("yes/no", None, None),
    ],
)
def test_a_value_is_read_as_its_field_has_it(spec: Any, value: object, is_read_as: object) -> None:
    got = read(spec, value)
    assert (got, type(got)) == (is_read_as, type(is_read_as))


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (["spam", "ham"], None),
        (["spam", "ham"], "spammy"),
        (["spam", "ham"], ["spam"]),
        ("YYYY-MM-DD", "2023-02-29"),
        ("YYYY-MM-DD", "2023-02"),
        ("YYYY-MM", "2023-13"),
        ("YYYY-MM", "2023-02-01"),
        ("YYYY", "99"),
        ("YYYY", True),
        ("YYYY", "٢٠٢٤"),
        ("number", "12,5"),
        ("number", "1" * 5_000),
        ("number", True),
        ("number", "1e999"),
        ("number", float("nan")),
        ("number", 2**60),
        ("integer", 12.5),
        ("integer", 1e300),
        ("yes/no", 1),
        ("text", "x" * 301),
        ("text", "\ud800"),
        ("text", {"a": 1}),
    ],
)
def test_a_value_of_another_sort_is_malformed(spec: Any, value: object) -> None:
    with pytest.raises(Malformed, match=r"^it is .*; it must be "):
        read(spec, value)


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(Malformed, match=r"^f6 is missing$"):
        read_values(parse_fields(EVERY), {name: "Spam" for name in EVERY if name != "f6"})


values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)


@given(st.sampled_from([["a", "b"], *KINDS[1:]]), values)
def test_what_is_read_is_read_again_and_can_be_kept(spec: Any, value: object) -> None:
    try:
        got = read(spec, value)
    except Malformed:
        return
    assert read(spec, json.loads(json.dumps(got, allow_nan=False))) == got


def test_a_line_of_a_reply_takes_more_for_longer_fields() -> None:
    short, long = (
        {"label": labels} for labels in (["spam", "ham"], ["ham", "an unsolicited commercial message"])
    )
    sizes = [
        line_tokens("openai/gpt-5-mini", parse_fields(spec))
        for spec in (short, long, {**long, "why": "text"})
    ]
    assert sizes == sorted(set(sizes))
    assert sizes[0] in range(9, 14)
