"""A schema that an answer must fit is sent to providers that can hold a reply to it; others are told it in words."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from index_store.index import Index
from rlm import Answer, Demands, Limits, Models, ask, prompts
from rlm.answers.structured import is_strict, response_format
from rlm.audit import read, verify
from rlm.audit.envelope import opened
from rlm.gateway import gateway as gateway_module
from rlm.gateway.litellm_setup import litellm
from tests.helpers.model_server import MODEL, Body, ModelServer, Script, error
from tests.helpers.rlm_toy import warm_up

QUESTION = "How many masts has the ketch?"
QUOTE = "The ketch has two masts."
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"masts": {"type": "integer"}, "name": {"type": "string"}},
    "required": ["masts", "name"],
    "additionalProperties": False,
}
PLAIN = '```json\n{"masts": 2, "name": "a ketch with a rather long name, to be sure"}\n```'
LONG = {"masts": 2, "name": "a ketch with a rather long name, to be sure"}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up()
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)


@pytest.fixture
def structured() -> Iterator[None]:
    """The test model is one that litellm knows to take a schema."""
    module = litellm()
    entry = {"litellm_provider": "openai", "mode": "chat", "supports_response_schema": True}
    prices = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    module.register_model({MODEL: {**entry, **prices}})
    yield
    module.model_cost.pop(MODEL)
    module.utils._invalidate_model_cost_lowercase_map()


def enveloped(answer: Any, *quotes: str, found: bool = True) -> str:
    sources = [{"passage": "[boats.txt]", "quote": quote} for quote in quotes]
    return json.dumps({"found": found, "answer": answer, "sources": sources})


def asked(
    index: Index, folder: Path, script: Script, schema: dict[str, Any] | None = None, **options: Any
) -> tuple[Answer, list[Body]]:
    chosen: dict[str, Any] = {"route": "direct", "demands": Demands(schema=schema or SCHEMA)} | options
    with ModelServer(script) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        answer = ask(index, QUESTION, models=Models(MODEL, MODEL), runs=folder, **chosen)
    verdict = verify(answer.trace)
    assert verdict.ok, verdict.reason
    return answer, server.requests


def attempts_of(answer: Answer) -> list[dict[str, Any]]:
    return [a for event in read(answer.trace)[0] for a in event.get("attempts", ())]


def test_a_provider_that_can_is_held_to_the_schema(index: Index, tmp_path: Path, structured: None) -> None:
    answer, (request,) = asked(index, tmp_path, [enveloped(LONG, QUOTE)])
    assert answer.value == LONG and answer.stop == "answer"
    assert [c.quote for c in answer.citations] == [QUOTE]
    shape = request["response_format"]
    assert (shape["type"], shape["json_schema"]["strict"]) == ("json_schema", True)
    assert shape["json_schema"]["schema"]["properties"]["answer"]["anyOf"][0] == SCHEMA
    asked_event = next(e for e in read(answer.trace)[0] if e["kind"] == "model_asked")
    assert asked_event["parameters"]["response_format"] == shape
    (attempt,) = attempts_of(answer)
    assert attempt["sent"]["response_format"] == shape


def test_a_provider_that_is_not_known_to_can_is_told_in_words(index: Index, tmp_path: Path) -> None:
    answer, (request,) = asked(index, tmp_path, [PLAIN])
    assert answer.value == LONG
    assert "response_format" not in request and "JSON Schema" in request["messages"][0]["content"]
    assert "response_format" not in attempts_of(answer)[0]["sent"]


def test_a_provider_that_refuses_the_schema_is_asked_once_without_and_both_are_told(
    index: Index, tmp_path: Path, structured: None
) -> None:
    answer, requests = asked(index, tmp_path, [error(400, "Invalid schema for response_format"), PLAIN])
    assert answer.value == LONG
    assert ["response_format" in request for request in requests] == [True, False]
    first, second = attempts_of(answer)
    assert (first["status"], second["status"]) == ("400", "200")
    assert "Invalid schema" in first["error"] and "response_format" not in second["sent"]


def test_it_falls_back_once_and_not_again(index: Index, tmp_path: Path, structured: None) -> None:
    with pytest.raises(Exception, match="failed after 2 attempts: the provider refused the request"):
        asked(index, tmp_path, [error(400, "no")])
    (run,) = tmp_path.iterdir()
    (failed,) = [e for e in read(run)[0] if e["kind"] == "model_failed"]
    assert [one["status"] for one in failed["attempts"]] == ["400", "400"]


def test_a_provider_that_refused_once_is_not_sent_the_schema_with_the_next_try(
    index: Index, tmp_path: Path, structured: None
) -> None:
    answer, requests = asked(index, tmp_path, [error(400, "no"), "no JSON at all", PLAIN])
    assert answer.value == LONG
    assert ["response_format" in request for request in requests] == [True, False, False]


def test_an_answer_that_is_not_found_needs_none_invented(
    index: Index, tmp_path: Path, structured: None
) -> None:
    answer, _ = asked(index, tmp_path, [enveloped(None, found=False)])
    assert (answer.content, answer.value) == ("Not in these documents.", None)


def test_a_reply_that_breaks_out_of_the_format_is_read_as_any_other(
    index: Index, tmp_path: Path, structured: None
) -> None:
    answer, _ = asked(index, tmp_path, [PLAIN])
    assert answer.value == LONG
    wrong, requests = asked(index, tmp_path, [enveloped({"masts": "two"}), enveloped(LONG)])
    assert wrong.value == LONG and len(requests) == 2


def test_code_is_asked_for_without_the_format_and_the_last_call_with_it(
    index: Index, tmp_path: Path, structured: None
) -> None:
    def play(body: Body) -> str:
        is_last = body["messages"][0]["content"].startswith(prompts.SINGLE)
        return enveloped(LONG) if is_last else "```python\nprint(1)\n```"

    answer, requests = asked(index, tmp_path, play, route="rlm", limits=Limits(turns=2, usd=1.0))
    assert answer.value == LONG
    assert ["response_format" in request for request in requests] == [False, False, True]


def test_a_format_that_does_not_fit_the_budget_is_left_out(
    index: Index, tmp_path: Path, structured: None
) -> None:
    described = SCHEMA | {"description": "masts and a name, " * 150}
    words = len(json.dumps(described).split())
    limits = Limits(tokens=4_000 + 1_700, reply_tokens=3_000)
    answer, (request,) = asked(index, tmp_path, [PLAIN], described, limits=limits)
    assert answer.value == LONG and words > 400
    assert "response_format" not in request


def nested(depth: int) -> dict[str, Any]:
    """Lists in lists of text."""
    return {"type": "array", "items": nested(depth - 1)} if depth else {"type": "string"}


NOT_STRICT: dict[str, dict[str, Any]] = {
    "an open object": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    "a property that may be left out": SCHEMA | {"required": ["masts"]},
    "a pattern": {"type": "string", "pattern": "^a"},
    "a range": {"type": "integer", "minimum": 1},
    "a length": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    "a format": {"type": "string", "format": "date"},
    "one of": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    "all of": {"allOf": [{"type": "string"}]},
    "not": {"not": {"type": "string"}},
    "if": {"if": {"type": "string"}, "then": {"type": "string"}},
    "several types": {"type": ["string", "null"]},
    "no type": {"description": "anything"},
    "anything": {},
    "items of any kind": {"type": "array"},
    "true": {"type": "array", "items": True},
    "a tuple": {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "string"}},
    "a reference to itself": SCHEMA | {"properties": SCHEMA["properties"] | {"name": {"$ref": "#"}}},
    "too deep": nested(9),
    "too many properties": {
        "type": "object",
        "properties": {f"p{n}": {"type": "string"} for n in range(120)},
        "required": [f"p{n}" for n in range(120)],
        "additionalProperties": False,
    },
}
STRICT: dict[str, dict[str, Any]] = {
    "closed": SCHEMA,
    "words of its own": SCHEMA | {"title": "T", "description": "d", "$schema": "x"},
    "a choice": {"type": "string", "enum": ["a", "b"]},
    "any of": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "a list": {"type": "array", "items": SCHEMA},
    "definitions": SCHEMA
    | {
        "properties": {"masts": {"$ref": "#/$defs/n"}, "name": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {"type": "number"}},
    },
    "a property of the name of a keyword": {
        "type": "object",
        "properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}},
        "required": ["pattern", "$ref"],
        "additionalProperties": False,
    },
}


@pytest.mark.parametrize("name", NOT_STRICT)
def test_the_strict_mode_is_not_asked_for_with(name: str) -> None:
    shape = response_format(NOT_STRICT[name])
    assert not is_strict(NOT_STRICT[name])
    assert shape is not None and shape["json_schema"]["strict"] is False  # type: ignore[index,call-overload]


@pytest.mark.parametrize("name", STRICT)
def test_the_strict_mode_is_asked_for_with(name: str) -> None:
    assert is_strict(STRICT[name])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "$id": "https://example.org/a", "properties": {"a": {"$ref": "#"}}},
        {"properties": {"a": {"$anchor": "here"}, "b": {"$ref": "#here"}}},
        {"$dynamicAnchor": "node", "properties": {"a": {"$dynamicRef": "#node"}}},
    ],
)
def test_a_schema_with_addresses_of_its_own_is_only_told_in_words(schema: dict[str, Any]) -> None:
    assert response_format(schema) is None


def test_a_schema_nested_too_deep_for_a_trace_is_only_told_in_words() -> None:
    value: Any = 1
    for _ in range(58):
        value = [value]
    for schema in (nested(80), nested(300), {"const": value}, {"enum": [value]}):
        assert response_format(schema) is None
    assert response_format({"const": value[0][0][0][0][0][0][0][0]}) is not None


@pytest.mark.parametrize(
    ("schema", "fitting", "not_fitting"),
    [
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "x", 1),
        (
            {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#"}]}},
            ["x", ["y"]],
            ["x", [1]],
        ),
        (
            {"definitions": {"a": {"type": "integer"}}, "properties": {"n": {"$ref": "#/definitions/a"}}},
            {"n": 1},
            {"n": "1"},
        ),
        ({"enum": [{"$ref": "#/x"}]}, {"$ref": "#/x"}, {"$ref": "#/properties/answer/anyOf/0/x"}),
    ],
    ids=["definitions", "itself", "a place of its own", "a value that looks like a reference"],
)
def test_references_lead_to_the_same_place_inside_the_envelope(
    schema: dict[str, Any], fitting: Any, not_fitting: Any
) -> None:
    from jsonschema import Draft202012Validator

    shape: Any = response_format(schema)
    envelope = shape["json_schema"]["schema"]
    Draft202012Validator.check_schema(envelope)
    validator = Draft202012Validator(envelope)
    rest = {"found": True, "sources": []}
    assert validator.is_valid({"answer": fitting, **rest})
    assert not validator.is_valid({"answer": not_fitting, **rest})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_what_stands_in_an_envelope_comes_out_of_it(value: Any) -> None:
    envelope = opened(enveloped(value, "a quote"))
    assert envelope is not None and envelope.sources == (("boats.txt", "a quote"),)
    assert json.loads(envelope.answer) == value
    envelope.answer.encode("utf-8")


@pytest.mark.parametrize(
    "reply",
    [
        "", "words", "[]", "null", "{}", '{"found": true}', '{"found": true, "answer": 1}',
        '{"found": true, "answer": 1, "sources": 3}', '{"found": true, "answer": 1, "sources": [1]}',
        '{"found": true, "answer": 1, "sources": [{"passage": 1, "quote": "x"}]}', "[" * 100_000,
        '{"found": true, "answer": 1e999, "sources": []}', '{"found": true, "answer": NaN, "sources": []}',
    ],
)  # fmt: skip
def test_a_reply_that_is_no_envelope_is_none(reply: str) -> None:
    assert opened(reply) is None


@pytest.mark.parametrize("found", ["false", "null", "0", '"true"', "[]"])
def test_what_is_not_said_to_be_found_is_not_found(found: str) -> None:
    envelope = opened(f'{{"found": {found}, "answer": {{"masts": 2}}, "sources": []}}')
    assert envelope is not None and envelope.answer == ""
