"""What a line of a trace may hold: every kind of event with its fields and their shapes, as one table.

Every event also carries `seq` (from 0, without gaps), `time_s` (seconds since the run opened), `conversation` ("0" is
the root, "0.1" its first child) and `kind`. The trace itself adds `format` and `started` (ISO 8601, UTC) to
`run_opened`, and `ended` to `run_closed`. Writer and verifier read the same table, so every trace that was written can
be verified, and no other. What each kind means stands at its class in rlm/audit/kinds.py; a test holds the classes
against this table.

The table also says which values are contents: words of a person, a model or a document, as against names, numbers and
times. Each content is committed to by itself (rlm/audit/lines.py), so that it can be taken out of a trace later.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from index_store.terminal import brief
from index_store.types import Json

#: An event with its header, as a line of a trace holds it. The table was asked before anyone sees one, so a reader
#: takes the fields of its kind as they are.
RecordedEvent: TypeAlias = dict[str, Any]

FORMAT = 3
OLD_FORMATS = (1, 2)  # that can still be read
MAX_DEPTH = 64  # lists and objects inside one another; json itself gives up near 1000, depending on the stack
MAX_NUMBER = 2**53
CONTEXT_CHARS = 200  # of the source, on either side of a citation, that a trace holds
HEADER = ("seq", "time_s", "conversation", "kind")


class Each(Protocol):
    """What is put in the place of one content: `path` names it in its event, such as "messages/0/content"; `is_object`:
    only an object may stand there."""

    def __call__(self, path: str, value: Json, /, is_object: bool) -> Json: ...


#: Gives a value at a path with each content in it replaced; what has not the shape is left as it is.
Contents: TypeAlias = Callable[[Any, str, Each], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """What values a field may have: `name` for a person, `problem(value)` '' where a value fits, else what is wrong.

    `schema`: the same as JSON Schema, as far as that can say it. `contents`: replaces those in a value; None where it
    has none.
    """

    name: str
    problem: Callable[[object], str]
    schema: Mapping[str, Json]
    contents: Contents | None = None


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that an event of one kind must have, and those it may have."""

    required: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)


def plain(name: str, fits: Callable[[Any], bool], **schema: Json) -> Shape:
    """The values for which `fits` is true."""
    return Shape(name, lambda value: "" if fits(value) else f"expected {name}, found {brief(value)}", schema)


def one_of(*words: str) -> Shape:
    """One of the given words."""
    return plain(" | ".join(words), lambda value: isinstance(value, str) and value in words, enum=list(words))


def or_null(shape: Shape) -> Shape:
    """The shape, or null."""
    return Shape(
        f"{shape.name} or null",
        lambda value: "" if value is None else shape.problem(value),
        {"anyOf": [shape.schema, {"type": "null"}]},
        shape.contents,
    )


def list_of(shape: Shape) -> Shape:
    """A list of values of one shape."""

    def problem(value: object) -> str:
        if not isinstance(value, list | tuple):
            return f"expected a list, found {brief(value)}"
        for i, item in enumerate(value):
            if wrong := shape.problem(item):
                return f"[{i}] {wrong}"
        return ""

    schema: dict[str, Json] = {"type": "array", "items": shape.schema}
    return Shape(f"list of {shape.name}", problem, schema, shape.contents and _in_items(shape.contents))


def object_of(fields: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    """An object with all of these fields, any of the optional ones, and no others."""
    extra = optional or {}
    names = ", ".join([*fields, *(f"{name}?" for name in extra)])
    shapes = {**fields, **extra}
    return Shape(
        f"{{{names}}}",
        lambda value: _fields_problem(value, fields, shapes),
        object_schema(fields, extra),
        _in_fields(shapes),
    )


def content(shape: Shape) -> Shape:
    """The shape, as contents that are committed to and taken out as one."""
    is_object = shape.schema.get("type") == "object"
    return replace(shape, contents=lambda value, path, each: each(path, value, is_object=is_object))


def object_schema(fields: Mapping[str, Shape], optional: Mapping[str, Shape]) -> dict[str, Json]:
    """The JSON Schema of an object with these fields."""
    named = {name: shape.schema for name, shape in {**fields, **optional}.items()}
    return {"type": "object", "properties": named, "required": list(fields), "additionalProperties": False}


def _in_items(contents: Contents) -> Contents:
    def within(value: Any, path: str, each: Each) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [contents(item, f"{path}/{i}", each) for i, item in enumerate(value)]

    return within


def _in_fields(fields: Mapping[str, Shape]) -> Contents | None:
    inner = [(name, shape.contents) for name, shape in fields.items() if shape.contents]

    def within(value: Any, path: str, each: Each) -> Any:
        if not isinstance(value, dict):
            return value
        replaced = {name: of(value[name], f"{path}/{name}", each) for name, of in inner if name in value}
        return {**value, **replaced}

    return within if inner else None


def _fields_problem(value: object, required: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> str:
    """`shapes`: of all fields that there may be."""
    if not isinstance(value, dict):
        return f"expected an object, found {brief(value)}"
    if lacking := [name for name in required if name not in value]:
        return f"lacks {', '.join(lacking)}"
    if unknown := [name for name in value if name not in shapes]:
        return f"has unknown field {brief(unknown[0])}"
    for name, item in value.items():
        if wrong := shapes[name].problem(item):
            return f"{name}: {wrong}"
    return ""


def _json_problem(value: object) -> str:
    """Walks without recursion: arguments and results come from a worker that may be hostile."""
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"is nested more than {MAX_DEPTH} deep"
        if isinstance(item, dict):
            if odd := [key for key in item if not isinstance(key, str)]:
                return f"has a key that is not text: {brief(odd[0])}"
            waiting.extend((inner, depth + 1) for inner in item.values())
        elif isinstance(item, list | tuple):
            waiting.extend((inner, depth + 1) for inner in item)
        elif not (item is None or isinstance(item, str | bool | int) or _is_finite(item)):
            return f"holds {brief(item)}, which JSON cannot say"
    return ""


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _is_number(value: object) -> bool:
    # Bounded, so that no reader overflows on a stranger's number; NaN compares false.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_number(value) and value >= 0


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value, re.ASCII))


def _result_contents(value: Any, path: str, each: Each) -> Any:
    """Each item of a list by itself, since a result that lists passages holds many."""
    if isinstance(value, list):
        return [each(f"{path}/{i}", item, is_object=False) for i, item in enumerate(value)]
    return each(path, value, is_object=False)


TEXT = plain("text", lambda value: isinstance(value, str), type="string")
WORDS = content(TEXT)
COUNT = plain("a whole number, 0 or more", _is_count, type="integer", minimum=0, maximum=MAX_NUMBER)
NUMBER = plain("a number", _is_number, type="number", minimum=-MAX_NUMBER, maximum=MAX_NUMBER)
AMOUNT = plain(
    "a number, 0 or more",
    lambda value: _is_number(value) and value >= 0,
    type="number",
    minimum=0,
    maximum=MAX_NUMBER,
)
FLAG = plain("true or false", lambda value: isinstance(value, bool), type="boolean")
ID = plain(
    "an id (text or a whole number)",
    lambda value: isinstance(value, str) or _is_count(value),
    type=["string", "integer"],
)


def _written(name: str, pattern: str) -> Shape:
    return plain(name, _matches(pattern), type="string", pattern=f"^(?:{pattern})$")


DIGEST = _written("64 hex digits", r"[0-9a-f]{64}")
DAY = _written("a day such as 2030-12-31", r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
CONVERSATION = _written("a conversation id such as 0 or 0.1", r"[0-9]{1,9}(\.[0-9]{1,9}){0,63}")
JSON = Shape("JSON", _json_problem, {})
RESULT = replace(JSON, contents=_result_contents)
OBJECT = Shape(
    "JSON object",
    lambda value: (
        _json_problem(value) if isinstance(value, dict) else f"expected an object, found {brief(value)}"
    ),
    {"type": "object"},
)
DETAILS = content(OBJECT)

#: What one reading of a row gave, and by which row of which call; the call is '' for the store.
READING = object_of({"call": TEXT, "values": DETAILS}, {"number": COUNT})
USAGE = object_of({"calls": COUNT, "prompt_tokens": COUNT, "completion_tokens": COUNT, "usd": AMOUNT})
#: One request of a call, as rlm.gateway.types.Attempt. `settled` of all together is the usage of the call.
ATTEMPT = object_of(
    {
        "status": TEXT,
        "waited_s": AMOUNT,
        "seconds": AMOUNT,
        "reserved": USAGE,
        "settled": USAGE,
        "error": WORDS,
        "sent": DETAILS,
    }
)
SERVED = object_of(
    {"model": TEXT, "system_fingerprint": TEXT, "cached_tokens": COUNT}, {"reasoning_tokens": COUNT}
)
OVER_CAP = object_of({"cap": one_of("usd", "tokens", "calls", "purse"), "asked": AMOUNT, "left": AMOUNT})
MESSAGE = object_of({"role": one_of("system", "user", "assistant"), "content": WORDS})
#: A node of the tree, or a bare span of a document (then `node` is null). `parent`: the node it was reached or listed
#: under; null for the root and for bare spans.
NODE = object_of(
    {"node": or_null(TEXT), "level": or_null(COUNT), "label": WORDS, "parent": or_null(TEXT)},
    {"doc": or_null(WORDS), "start": or_null(COUNT), "end": or_null(COUNT), "score": or_null(NUMBER)},
)
#: `quote` is what the model claimed; `found` what stands in the source at doc[start:end] (the nearest words, where the
#: quote is not verbatim); the contexts are the CONTEXT_CHARS characters of the source on either side of `found`.
CITATION = object_of(
    {
        "doc": or_null(WORDS),
        "start": or_null(COUNT),
        "end": or_null(COUNT),
        "quote": WORDS,
        "page": or_null(COUNT),
        "supported": one_of("verbatim", "respaced", "nearest", "summary", "unsupported"),
        "node": or_null(TEXT),
        "similarity": or_null(NUMBER),
        "context_before": WORDS,
        "context_after": WORDS,
    },
    {"also_in": list_of(WORDS), "found": or_null(WORDS), "title": WORDS, "source": WORDS},
)
CHILD_VERB = one_of(
    "llm_query",
    "llm_query_batched",
    "rlm_query",
    "rlm_query_batched",
    "llm_map",
    "llm_filter",
    "llm_reduce",
)

EVENTS: dict[str, Fields] = {
    "run_opened": Fields(
        {
            "format": COUNT,
            "started": TEXT,
            "question": WORDS,
            "index": object_of(
                {"name": WORDS, "generation": ID, "digest": TEXT, "documents": COUNT, "nodes": COUNT}
            ),
            "models": OBJECT,
            "prompts": object_of({"version": ID, "sha256": DIGEST}),
            "limits": OBJECT,
            "code_version": TEXT,
            "route": TEXT,
        },
        {
            "route_why": WORDS,
            "demands": DETAILS,
            "scope": DETAILS,
            "operator": WORDS,
            "purpose": WORDS,
            "retain_until": DAY,
            "versions": OBJECT,
            "window": COUNT,
            "parent": object_of({"head": DIGEST, "turn": COUNT}),
            "map": DETAILS,
            "backend_why": TEXT,
            "key": TEXT,
            "access": list_of(TEXT),
        },
    ),
    "question_put": Fields({"question": WORDS}),
    "model_asked": Fields(
        {
            "call": ID,
            "model": TEXT,
            "messages": list_of(MESSAGE),
            "conversation_messages": COUNT,
            "max_tokens": COUNT,
        },
        {"temperature": NUMBER, "parameters": DETAILS},
    ),
    "model_answered": Fields(
        {
            "call": ID,
            "model": TEXT,
            "text": WORDS,
            "usage": USAGE,
            "finish_reason": TEXT,
            "seconds": AMOUNT,
            "cached": FLAG,
        },
        {"attempts": list_of(ATTEMPT), "served": SERVED, "tool_call": TEXT, "structured": FLAG},
    ),
    "model_failed": Fields(
        {"call": ID, "model": TEXT, "error": WORDS, "seconds": AMOUNT},
        {"usage": USAGE, "attempts": list_of(ATTEMPT), "refused": OVER_CAP},
    ),
    "code_scanned": Fields(
        {
            "cell": COUNT,
            "code": WORDS,
            "verdict": one_of("ok", "rejected"),
            "rule": or_null(WORDS),
            "line_in_code": or_null(COUNT),
        },
    ),
    "code_run": Fields(
        {
            "cell": COUNT,
            "status": one_of("ok", "error", "rejected", "killed"),
            "stdout": WORDS,
            "error": WORDS,
            "seconds": AMOUNT,
            "truncated": FLAG,
        },
        {"state_lost": FLAG},
    ),
    "visited": Fields(
        {
            "cell": COUNT,
            "verb": TEXT,
            "arguments": DETAILS,
            "shown": list_of(NODE),
            "not_taken": list_of(NODE),
            "result_chars": COUNT,
            "result": RESULT,
        },
        {"error": WORDS, "seconds": AMOUNT, "by": one_of("run"), "cut": WORDS},
    ),
    "embedded": Fields(
        {
            "model": TEXT,
            "texts": list_of(WORDS),
            "vectors": WORDS,
            "usage": USAGE,
            "seconds": AMOUNT,
            "attempts": list_of(ATTEMPT),
        },
        {"error": WORDS},
    ),
    "child_called": Fields(
        {
            "cell": COUNT,
            "verb": CHILD_VERB,
            "prompts": list_of(WORDS),
            "under": list_of(or_null(TEXT)),
            "children": list_of(CONVERSATION),
        },
        {"model": TEXT},
    ),
    "child_returned": Fields(
        {
            "cell": COUNT,
            "verb": CHILD_VERB,
            "children": list_of(CONVERSATION),
            "results": list_of(object_of({"ok": FLAG, "text": WORDS})),
            "usage": USAGE,
            "seconds": AMOUNT,
        },
    ),
    "map_called": Fields(
        {
            "cell": COUNT,
            "verb": one_of("llm_map", "llm_filter"),
            "question": WORDS,
            "columns": DETAILS,
            "rows": COUNT,
            "rows_sha256": DIGEST,
            "model": TEXT,
            "plan": OBJECT,
        },
        {"strong": TEXT, "sure": AMOUNT},
    ),
    "rows_recalled": Fields({"turn": TEXT, "rows": list_of(COUNT), "values": list_of(DETAILS)}),
    "rows_answered": Fields(
        {
            "first": COUNT,
            "answers": list_of(
                object_of(
                    {"row": WORDS, "call": TEXT},
                    {
                        "values": DETAILS,
                        "error": WORDS,
                        "number": COUNT,
                        "text": WORDS,
                        "first": READING,
                        "again": READING,
                    },
                )
            ),
        }
    ),
    "map_returned": Fields(
        {
            "rows": COUNT,
            "failed": COUNT,
            "asked_again": COUNT,
            "stored": COUNT,
            "calls": COUNT,
            "agreement": OBJECT,
            "usage": USAGE,
            "seconds": AMOUNT,
        },
    ),
    "reduce_called": Fields(
        {
            "cell": COUNT,
            "question": WORDS,
            "model": TEXT,
            "packs": COUNT,
            "passages": COUNT,
            "plan": object_of({"levels": COUNT, "calls": COUNT, "tokens": COUNT, "usd": AMOUNT}),
        },
    ),
    "reduce_returned": Fields(
        {
            "answer": WORDS,
            "notes": COUNT,
            "cited": COUNT,
            "cut": list_of(WORDS),
            "failed": list_of(WORDS),
            "dropped": COUNT,
            "calls": COUNT,
            "usage": USAGE,
            "seconds": AMOUNT,
        },
        {"noted": list_of(object_of({"note": WORDS, "citations": list_of(DETAILS)}))},
    ),
    "budget": Fields(
        {"spent": USAGE, "reserved": USAGE, "left": OBJECT, "reason": WORDS},
    ),
    "suspicious": Fields(
        {"shown_as": TEXT, "place": WORDS, "start": COUNT, "end": COUNT, "words": WORDS, "rule": TEXT},
    ),
    "note": Fields({"text": WORDS}),
    "models_changed": Fields({"models": OBJECT}, {"window": COUNT}),
    "answered": Fields(
        {"content": WORDS, "citations": list_of(CITATION), "stop": TEXT},
        {"lacks": WORDS},
    ),
    "run_closed": Fields({"stop": TEXT, "usage": USAGE, "seconds": AMOUNT}, {"error": WORDS, "ended": TEXT}),
}

_SHAPES = {kind: {**fields.required, **fields.optional} for kind, fields in EVENTS.items()}
HEADER_SHAPES = {"seq": COUNT, "time_s": AMOUNT, "conversation": CONVERSATION, "kind": one_of(*EVENTS)}


def event_problem(event: Mapping[str, Any]) -> str:
    """'' where the table allows the event, header included; else what is wrong with it, in a few words."""
    header = {name: event[name] for name in HEADER if name in event}
    if wrong := _fields_problem(header, HEADER_SHAPES, HEADER_SHAPES):
        return wrong
    rest = {name: value for name, value in event.items() if name not in HEADER_SHAPES}
    wrong = _fields_problem(rest, EVENTS[event["kind"]].required, _SHAPES[event["kind"]])
    return f"{event['kind']}: {wrong}" if wrong else ""


def replaced(event: Mapping[str, Any], each: Each) -> dict[str, Any]:
    """The event with each content replaced, in the order of the table; of a kind that it does not know, as it is."""
    kind = event.get("kind")
    inner = _CONTENTS.get(kind, ()) if isinstance(kind, str) else ()
    return {**event, **{name: of(event[name], name, each) for name, of in inner if name in event}}


def is_taken(event: RecordedEvent, *paths: str) -> bool:
    """Whether something at or below one of these paths was taken out of an event."""
    taken = event.get("redacted", ())
    return any(one == path or one.startswith(path + "/") for one in taken for path in paths)


_CONTENTS = {
    kind: [(name, shape.contents) for name, shape in shapes.items() if shape.contents]
    for kind, shapes in _SHAPES.items()
}
