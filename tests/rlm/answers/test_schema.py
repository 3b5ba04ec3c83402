"""Typed answers: what a schema file may be, how an answer becomes a value, and that neither can hold a run up."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from index_store.types import Json
from rlm.answers.schema import DRAFT, SCHEMA_BYTES, load_schema, schema_problem, typed
from rlm.errors import RlmError

PERSON: dict[str, Json] = {
    "$schema": DRAFT,
    "type": "object",
    "properties": {"name": {"type": "string"}, "year": {"$ref": "#/$defs/year"}},
    "required": ["name", "year"],
    "additionalProperties": False,
    "$defs": {"year": {"type": "integer", "minimum": 1900}},
}
ADA = {"name": "Ada", "year": 1915}


def test_a_schema_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "person.json"
    path.write_text("\ufeff" + json.dumps(PERSON), encoding="utf-8")
    assert load_schema(path) == PERSON


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"minimum": NaN}', "NaN is not a JSON number"),
        ("[]", "expected an object"),
        ('{"type": "text"}', "$.type: 'text' is not valid"),
        ('{"properties": {"a": {"minimum": "1"}}}', "$.properties.a.minimum: '1' is not of type 'number'"),
        ('{"$schema": "http://json-schema.org/draft-07/schema#"}', "only draft 2020-12 is read"),
        (
            '{"$ref": "https://example.com/person.json"}',
            "refers to 'https://example.com/person.json' outside",
        ),
        ('{"items": {"$dynamicRef": "other.json#x"}}', "refers to 'other.json#x' outside itself"),
        ('{"$ref": "#/$defs/year"}', "'#/$defs/year' leads nowhere"),
        ('{"pattern": "(?=a)b"}', "refused by RE2"),
        ('{"patternProperties": {"(a+)+$": {}}}', "patternProperties is not taken"),
        ('{"$id": "https://example.com/", "$ref": "#nowhere"}', "leads nowhere"),
        (" " * (SCHEMA_BYTES + 1), "at most"),
    ],
)
def test_what_is_no_schema_is_refused_in_a_sentence(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "schema.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RlmError) as e:
        load_schema(path)
    assert said in str(e.value)
    assert str(path) in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "content",
    [
        ADA,
        json.dumps(ADA),
        json.dumps(ADA, indent=2),
        f"```json\n{json.dumps(ADA)}\n```",
        f" {json.dumps(ADA)}\n",
    ],
)
def test_a_value_or_its_json_is_a_typed_answer(content: Any) -> None:
    assert typed(content, PERSON) == (ADA, [])


@pytest.mark.parametrize(
    ("content", "schema", "value"),
    [
        ("2021", {"type": "integer"}, 2021),
        ("2021", {"type": "string"}, "2021"),
        ("2021", {}, 2021),
        ('"Ada"', {"type": "string"}, "Ada"),
        ("Ada", {"type": "string"}, "Ada"),
        ("Ada", {"enum": ["Ada", "Bob"]}, "Ada"),
        ("True", {"type": "boolean"}, True),  # as a Python value that is no container crosses
        ("true", {"type": "boolean"}, True),
        ("None", {"type": "null"}, None),
        ("[1, 2]", {"type": "array", "uniqueItems": True}, [1, 2]),
        (3.5, {"type": "number"}, 3.5),
        ("AB-12", {"pattern": "^[A-Z]+-\\d+$"}, "AB-12"),
    ],
)
def test_text_is_read_as_the_schema_has_it(content: Any, schema: Any, value: Any) -> None:
    assert typed(content, schema) == (value, [])
    assert type(typed(content, schema)[0]) is type(value)


@pytest.mark.parametrize(
    ("content", "schema", "said"),
    [
        ('{"name": "Ada", "year": "2O21"}', PERSON, ["$.year: '2O21' is not of type 'integer'"]),
        ("{}", PERSON, ["$: 'name' is a required property", "$: 'year' is a required property"]),
        (
            "She was Ada.",
            PERSON,
            ["$: 'She was Ada.' is not JSON: Expecting value: line 1 column 1 (char 0)"],
        ),
        ("", PERSON, ["$: there is no answer"]),
        ("[1, 1.0]", {"uniqueItems": True}, ["$: 1.0 stands twice"]),
        ('[{"a": 1}, {"a": 1}]', {"uniqueItems": True}, ["$: {'a': 1} stands twice"]),
        ('"x\\nAB-12"', {"pattern": "^AB"}, ["$: 'x\\nAB-12' does not match '^AB'"]),
        ("NaN", {"type": "number"}, ["$: 'NaN' is not JSON: NaN is not a JSON number"]),
        ("Ada", {"required": ["name"]}, ["$: 'Ada' is not JSON: Expecting value: line 1 column 1 (char 0)"]),
        ("1e999", {"type": "number"}, ["$: it holds the number inf, which JSON has no word for"]),
    ],
)
def test_what_does_not_fit_is_told_by_its_place(content: str, schema: Any, said: list[str]) -> None:
    assert typed(content, schema) == (None, said)


TWICE = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {}}


@pytest.mark.parametrize(
    ("content", "schema"),
    [
        ("[" * 100_000, {"type": "array"}),
        ("[" * 100 + "]" * 100, {"type": "array"}),
        (json.dumps(["a" * 50_000 + "!"] * 4), {"items": {"pattern": "^(a+)+$"}}),
        ("1", {"$ref": "#/$defs/d0", "$defs": TWICE}),
        ("1", {"$ref": "#"}),
        ("1", {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        ("9" * 5_000, {"type": "string", "maxLength": 1}),
        ("9" * 4_000, {"multipleOf": 0.1}),
        (json.dumps([{}] * 90_000 + [1]), {"uniqueItems": True, "items": {"type": "object"}}),
        (json.dumps([1] * 90_000), {"items": {"type": "string"}}),
        ("1", {"$ref": "https://example.com/schema.json"}),
        ('"\\ud800"', {"pattern": "a"}),
    ],
)
def test_hostile_answers_and_schemas_end_soon_with_a_few_short_errors(
    content: str, schema: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)  # nothing is fetched
    value, errors = typed(content, schema)
    assert value is None
    assert 1 <= len(errors) <= 10
    assert all(len(error) <= 300 for error in errors)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    value=JSON, schema=st.dictionaries(st.sampled_from(["type", "enum", "items", "$ref", "pattern"]), JSON)
)
def test_whatever_schema_passes_the_check_can_be_applied_to_whatever_value(value: Any, schema: Any) -> None:
    if schema_problem(schema) == "":
        typed(value, schema)
        typed(json.dumps(value), schema)
