"""What a line of a trace may hold: every kind of event with its fields and their shapes, as one table.

Every event also carries `seq` (from 0, without gaps), `time_s` (seconds since the run opened), `conversation` ("0" is
the root, "0.1" its first child) and `kind`. The trace itself adds `format` and `started` (ISO 8601, UTC) to
`run_opened`. Writer and verifier read the same table, so every trace that was written can be verified, and no other.
What each kind means stands at its class in rlm/audit/kinds.py; a test holds the classes against this table.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from index_store.terminal import brief

#: An event with its header, as a line of a trace holds it. The table was asked before anyone sees one, so a reader
#: takes the fields of its kind as they are.
RecordedEvent: TypeAlias = dict[str, Any]

FORMAT = 2
MAX_DEPTH = 64  # lists and objects inside one another; json itself gives up near 1000, depending on the stack
MAX_NUMBER = 2**53
CONTEXT_CHARS = 200  # of the source, on either side of a citation, that a trace holds
HEADER = ("seq", "time_s", "conversation", "kind")


@dataclass(frozen=True, slots=True)
class Shape:
    """What values a field may have: `name` for a person, `problem(value)` '' where a value fits, else what is wrong."""

    name: str
    problem: Callable[[object], str]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that an event of one kind must have, and those it may have."""

    required: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)


def plain(name: str, fits: Callable[[Any], bool]) -> Shape:
    """The values for which `fits` is true."""
    return Shape(name, lambda value: "" if fits(value) else f"expected {name}, found {brief(value)}")


def one_of(*words: str) -> Shape:
    """One of the given words."""
    return plain(" | ".join(words), lambda value: isinstance(value, str) and value in words)


def or_null(shape: Shape) -> Shape:
    """The shape, or null."""
    return Shape(f"{shape.name} or null", lambda value: "" if value is None else shape.problem(value))


def list_of(shape: Shape) -> Shape:
    """A list of values of one shape."""

    def problem(value: object) -> str:
        if not isinstance(value, list | tuple):
            return f"expected a list, found {brief(value)}"
        problems = ((i, shape.problem(item)) for i, item in enumerate(value))
        return next((f"[{i}] {wrong}" for i, wrong in problems if wrong), "")

    return Shape(f"list of {shape.name}", problem)


def object_of(fields: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    """An object with all of these fields, any of the optional ones, and no others."""
    extra = optional or {}
    names = ", ".join([*fields, *(f"{name}?" for name in extra)])
    return Shape(f"{{{names}}}", lambda value: _fields_problem(value, fields, extra))


def _fields_problem(value: object, fields: Mapping[str, Shape], optional: Mapping[str, Shape]) -> str:
    if not isinstance(value, dict):
        return f"expected an object, found {brief(value)}"
    if lacking := [name for name in fields if name not in value]:
        return f"lacks {', '.join(lacking)}"
    if unknown := [name for name in value if name not in fields and name not in optional]:
        return f"has unknown field {brief(unknown[0])}"
    shapes = {**fields, **optional}
    problems = ((name, shapes[name].problem(item)) for name, item in value.items())
    return next((f"{name}: {wrong}" for name, wrong in problems if wrong), "")


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


TEXT = plain("text", lambda value: isinstance(value, str))
COUNT = plain("a whole number, 0 or more", _is_count)
NUMBER = plain("a number", _is_number)
AMOUNT = plain("a number, 0 or more", lambda value: _is_number(value) and value >= 0)
FLAG = plain("true or false", lambda value: isinstance(value, bool))
ID = plain("an id (text or a whole number)", lambda value: isinstance(value, str) or _is_count(value))
DIGEST = plain("64 hex digits", _matches(r"[0-9a-f]{64}"))
CONVERSATION = plain("a conversation id such as 0 or 0.1", _matches(r"\d{1,9}(\.\d{1,9}){0,63}"))
JSON = Shape("JSON", _json_problem)
OBJECT = Shape(
    "JSON object",
    lambda value: (
        _json_problem(value) if isinstance(value, dict) else f"expected an object, found {brief(value)}"
    ),
)

USAGE = object_of({"calls": COUNT, "prompt_tokens": COUNT, "completion_tokens": COUNT, "usd": AMOUNT})
#: One request of a call, as rlm.gateway.types.Attempt. `settled` of all together is the usage of the call.
ATTEMPT = object_of(
    {
        "status": TEXT,
        "waited_s": AMOUNT,
        "seconds": AMOUNT,
        "reserved": USAGE,
        "settled": USAGE,
        "error": TEXT,
        "sent": OBJECT,
    }
)
SERVED = object_of({"model": TEXT, "system_fingerprint": TEXT, "cached_tokens": COUNT})
OVER_CAP = object_of({"cap": one_of("usd", "tokens", "calls"), "asked": AMOUNT, "left": AMOUNT})
MESSAGE = object_of({"role": one_of("system", "user", "assistant"), "content": TEXT})
#: A node of the tree, or a bare span of a document (then `node` is null). `parent`: the node it was reached or listed
#: under; null for the root and for bare spans.
NODE = object_of(
    {"node": or_null(TEXT), "level": or_null(COUNT), "label": TEXT, "parent": or_null(TEXT)},
    {"doc": or_null(TEXT), "start": or_null(COUNT), "end": or_null(COUNT), "score": or_null(NUMBER)},
)
#: `quote` is what the model claimed; `found` what stands in the source at doc[start:end] (the nearest words, where the
#: quote is not verbatim); the contexts are the CONTEXT_CHARS characters of the source on either side of `found`.
CITATION = object_of(
    {
        "doc": or_null(TEXT),
        "start": or_null(COUNT),
        "end": or_null(COUNT),
        "quote": TEXT,
        "page": or_null(COUNT),
        "supported": one_of("verbatim", "respaced", "nearest", "summary", "unsupported"),
        "node": or_null(TEXT),
        "similarity": or_null(NUMBER),
        "context_before": TEXT,
        "context_after": TEXT,
    },
    {"also_in": list_of(TEXT), "found": or_null(TEXT), "title": TEXT, "source": TEXT},
)
CHILD_VERB = one_of("llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched")

EVENTS: dict[str, Fields] = {
    "run_opened": Fields(
        {
            "format": COUNT,
            "started": TEXT,
            "question": TEXT,
            "index": object_of(
                {"name": TEXT, "generation": ID, "digest": TEXT, "documents": COUNT, "nodes": COUNT}
            ),
            "models": OBJECT,
            "prompts": object_of({"version": ID, "sha256": DIGEST}),
            "limits": OBJECT,
            "code_version": TEXT,
            "route": TEXT,
        },
        {
            "route_why": TEXT,
            "demands": OBJECT,
            "scope": OBJECT,
            "window": COUNT,
            "parent": object_of({"head": DIGEST, "turn": COUNT}),
        },
    ),
    "question_put": Fields({"question": TEXT}),
    "model_asked": Fields(
        {
            "call": ID,
            "model": TEXT,
            "messages": list_of(MESSAGE),
            "conversation_messages": COUNT,
            "max_tokens": COUNT,
        },
        {"temperature": NUMBER, "parameters": OBJECT},
    ),
    "model_answered": Fields(
        {
            "call": ID,
            "model": TEXT,
            "text": TEXT,
            "usage": USAGE,
            "finish_reason": TEXT,
            "seconds": AMOUNT,
            "cached": FLAG,
        },
        {"attempts": list_of(ATTEMPT), "served": SERVED, "tool_call": TEXT, "structured": FLAG},
    ),
    "model_failed": Fields(
        {"call": ID, "model": TEXT, "error": TEXT, "seconds": AMOUNT},
        {"usage": USAGE, "attempts": list_of(ATTEMPT), "refused": OVER_CAP},
    ),
    "code_scanned": Fields(
        {
            "cell": COUNT,
            "code": TEXT,
            "verdict": one_of("ok", "rejected"),
            "rule": or_null(TEXT),
            "line_in_code": or_null(COUNT),
        },
    ),
    "code_run": Fields(
        {
            "cell": COUNT,
            "status": one_of("ok", "error", "rejected", "killed"),
            "stdout": TEXT,
            "error": TEXT,
            "seconds": AMOUNT,
            "truncated": FLAG,
        },
        {"state_lost": FLAG},
    ),
    "visited": Fields(
        {
            "cell": COUNT,
            "verb": TEXT,
            "arguments": OBJECT,
            "shown": list_of(NODE),
            "not_taken": list_of(NODE),
            "result_chars": COUNT,
            "result": JSON,
        },
        {"error": TEXT, "seconds": AMOUNT, "by": one_of("run"), "cut": TEXT},
    ),
    "child_called": Fields(
        {
            "cell": COUNT,
            "verb": CHILD_VERB,
            "prompts": list_of(TEXT),
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
            "results": list_of(object_of({"ok": FLAG, "text": TEXT})),
            "usage": USAGE,
            "seconds": AMOUNT,
        },
    ),
    "budget": Fields(
        {"spent": USAGE, "reserved": USAGE, "left": OBJECT, "reason": TEXT},
    ),
    "suspicious": Fields(
        {"shown_as": TEXT, "place": TEXT, "start": COUNT, "end": COUNT, "words": TEXT, "rule": TEXT},
    ),
    "note": Fields({"text": TEXT}),
    "models_changed": Fields({"models": OBJECT}, {"window": COUNT}),
    "answered": Fields(
        {"content": TEXT, "citations": list_of(CITATION), "stop": TEXT},
        {"lacks": TEXT},
    ),
    "run_closed": Fields({"stop": TEXT, "usage": USAGE, "seconds": AMOUNT}, {"error": TEXT}),
}

HEADER_SHAPES = {"seq": COUNT, "time_s": AMOUNT, "conversation": CONVERSATION, "kind": one_of(*EVENTS)}


def event_problem(event: Mapping[str, Any]) -> str:
    """'' where the table allows the event, header included; else what is wrong with it, in a few words."""
    if wrong := _fields_problem({name: event[name] for name in HEADER if name in event}, HEADER_SHAPES, {}):
        return wrong
    fields = EVENTS[event["kind"]]
    rest = {name: value for name, value in event.items() if name not in HEADER}
    wrong = _fields_problem(rest, fields.required, fields.optional)
    return f"{event['kind']}: {wrong}" if wrong else ""
