"""What a trace may say: every kind of event, its fields and their shapes, as one table.

Every event also carries `seq` (from 0, no gaps), `time_s` (seconds since the run opened), `conversation`
("0" is the root, "0.1" its first child) and `kind`. The trace itself adds `format` and `started` (ISO
8601, UTC) to `run_opened`. Writer and verifier read the same table, so a trace that was written can be
checked, and nothing else can.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Event: TypeAlias = dict[str, Any]

FORMAT = 1
MAX_DEPTH = 64  # lists and objects inside one another; json itself gives up near 1000, depending on the stack
MAX_NUMBER = 2**53
CONTEXT_CHARS = 200  # of the source, on either side of a citation
HEADER = ("seq", "time_s", "conversation", "kind")


@dataclass(frozen=True, slots=True)
class Shape:
    """`says` names the shape for a person; `problem(value)` is '' where it fits, else what is wrong."""

    says: str
    problem: Callable[[object], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of event: what it means, the fields it must have and those it may have."""

    says: str
    fields: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)


def plain(says: str, fits: Callable[[Any], bool]) -> Shape:
    """A shape that is one test."""
    return Shape(says, lambda value: "" if fits(value) else f"expected {says}, found {_brief(value)}")


def one_of(*words: str) -> Shape:
    """One of the given words."""
    return plain(" | ".join(words), lambda value: isinstance(value, str) and value in words)


def maybe(shape: Shape) -> Shape:
    """The shape, or null."""
    return Shape(f"{shape.says} or null", lambda value: "" if value is None else shape.problem(value))


def many(shape: Shape) -> Shape:
    """A list of the shape."""

    def problem(value: object) -> str:
        if not isinstance(value, list | tuple):
            return f"expected a list, found {_brief(value)}"
        found = ((i, shape.problem(item)) for i, item in enumerate(value))
        return next((f"[{i}] {wrong}" for i, wrong in found if wrong), "")

    return Shape(f"list of {shape.says}", problem)


def record(fields: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    """An object with exactly these fields, and perhaps the optional ones."""
    extra = optional or {}
    names = ", ".join([*fields, *(f"{name}?" for name in extra)])
    return Shape(f"{{{names}}}", lambda value: _fields_problem(value, fields, extra))


def _fields_problem(value: object, fields: Mapping[str, Shape], optional: Mapping[str, Shape]) -> str:
    if not isinstance(value, dict):
        return f"expected an object, found {_brief(value)}"
    if lacking := [name for name in fields if name not in value]:
        return f"lacks {', '.join(lacking)}"
    if unknown := [name for name in value if name not in fields and name not in optional]:
        return f"has unknown field {_brief(unknown[0])}"
    shapes = {**fields, **optional}
    found = ((name, shapes[name].problem(item)) for name, item in value.items())
    return next((f"{name}: {wrong}" for name, wrong in found if wrong), "")


def _json_problem(value: object) -> str:
    """Walks without recursion: arguments and results come from a worker that may be hostile."""
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"is nested more than {MAX_DEPTH} deep"
        if isinstance(item, dict):
            if odd := [key for key in item if not isinstance(key, str)]:
                return f"has a key that is not text: {_brief(odd[0])}"
            waiting.extend((inner, depth + 1) for inner in item.values())
        elif isinstance(item, list | tuple):
            waiting.extend((inner, depth + 1) for inner in item)
        elif not (item is None or isinstance(item, str | bool | int) or _is_finite(item)):
            return f"holds {_brief(item)}, which JSON cannot say"
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


def _brief(value: object) -> str:
    """A value in a few safe characters; never the whole of a hostile one."""
    if isinstance(value, str):
        return ascii(value[:40]) + ("…" if len(value) > 40 else "")
    # The repr of a container, or of a whole number of thousands of digits, can be long or fail.
    return repr(value) if value is None or isinstance(value, bool | float) else type(value).__name__


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
        _json_problem(value) if isinstance(value, dict) else f"expected an object, found {_brief(value)}"
    ),
)

USAGE = record({"calls": COUNT, "prompt_tokens": COUNT, "completion_tokens": COUNT, "usd": AMOUNT})
MESSAGE = record({"role": one_of("system", "user", "assistant"), "content": TEXT})
#: A place in the tree. `parent`: the node it was reached or listed under; null for the root and for bare
#: spans.
NODE = record(
    {"node": maybe(TEXT), "level": maybe(COUNT), "label": TEXT, "parent": maybe(TEXT)},
    {"doc": maybe(TEXT), "start": maybe(COUNT), "end": maybe(COUNT), "score": maybe(NUMBER)},
)
#: `quote` is what the model claimed; `found` what stands in the source at doc[start:end] (the nearest
#: words, where the quote is not verbatim); the contexts are the CONTEXT_CHARS characters of the source on either
#: side of `found`.
CITATION = record(
    {
        "doc": maybe(TEXT),
        "start": maybe(COUNT),
        "end": maybe(COUNT),
        "quote": TEXT,
        "page": maybe(COUNT),
        "supported": one_of("verbatim", "nearest", "unsupported"),
        "node": maybe(TEXT),
        "similarity": maybe(NUMBER),
        "context_before": TEXT,
        "context_after": TEXT,
    },
    {"found": maybe(TEXT), "title": TEXT, "source": TEXT},
)
CHILD_VERB = one_of("llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched")

EVENTS: dict[str, Kind] = {
    "run_opened": Kind(
        "what was asked, of which index, with which models, prompts, limits and code",
        {
            "format": COUNT,
            "started": TEXT,
            "question": TEXT,
            "index": record(
                {"name": TEXT, "generation": ID, "digest": TEXT, "documents": COUNT, "nodes": COUNT}
            ),
            "models": OBJECT,
            "prompts": record({"version": ID, "sha256": DIGEST}),
            "limits": OBJECT,
            "code_version": TEXT,
            "route": TEXT,
        },
        {"route_why": TEXT, "demands": OBJECT},
    ),
    "model_asked": Kind(
        "a model call begins; the model saw the first `conversation_messages - len(messages)` of what this "
        "conversation held before, and then `messages`",
        {
            "call": ID,
            "model": TEXT,
            "messages": many(MESSAGE),
            "conversation_messages": COUNT,
            "max_tokens": COUNT,
        },
        {"temperature": NUMBER},
    ),
    "model_answered": Kind(
        "a model call ended with a reply; every call of a run, a child's too, has its own pair of events",
        {
            "call": ID,
            "model": TEXT,
            "text": TEXT,
            "usage": USAGE,
            "finish_reason": TEXT,
            "seconds": AMOUNT,
            "cached": FLAG,
        },
    ),
    "model_failed": Kind(
        "a model call ended without a reply",
        {"call": ID, "model": TEXT, "error": TEXT, "seconds": AMOUNT},
        {"usage": USAGE},
    ),
    "code_scanned": Kind(
        "the scan of a cell, before it runs",
        {
            "cell": COUNT,
            "code": TEXT,
            "verdict": one_of("ok", "rejected"),
            "rule": maybe(TEXT),
            "line_in_code": maybe(COUNT),
        },
    ),
    "code_run": Kind(
        "how a cell ended",
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
    "visited": Kind(
        "a verb over the tree: the nodes it showed, their siblings that were on offer and not shown, and the "
        "result exactly as given to the worker",
        {
            "cell": COUNT,
            "verb": TEXT,
            "arguments": OBJECT,
            "shown": many(NODE),
            "not_taken": many(NODE),
            "result_chars": COUNT,
            "result": JSON,
        },
        {"error": TEXT, "seconds": AMOUNT},
    ),
    "child_called": Kind(
        "code asked a model (llm_query) or a child run (rlm_query), each a conversation of its own",
        {
            "cell": COUNT,
            "verb": CHILD_VERB,
            "prompts": many(TEXT),
            "under": maybe(TEXT),
            "children": many(CONVERSATION),
        },
        {"model": TEXT},
    ),
    "child_returned": Kind(
        "what went back into the code, in the order of `children`; `usage` sums what their own events say",
        {
            "cell": COUNT,
            "verb": CHILD_VERB,
            "children": many(CONVERSATION),
            "results": many(record({"ok": FLAG, "text": TEXT})),
            "usage": USAGE,
            "seconds": AMOUNT,
        },
    ),
    "budget": Kind(
        "the ledger, and why it is noted now; a null in `left` is no cap",
        {"spent": USAGE, "reserved": USAGE, "left": OBJECT, "reason": TEXT},
    ),
    "suspicious": Kind(
        "words shown to the code or to a model that read like an instruction to a model; told once for each wording. "
        "`place`: the node or span they stand in; `start` and `end`: their characters in the text that was shown",
        {"shown_as": TEXT, "place": TEXT, "start": COUNT, "end": COUNT, "words": TEXT, "rule": TEXT},
    ),
    "note": Kind("what the engine did that no other event says", {"text": TEXT}),
    "answered": Kind(
        "the answer, and each citation with how it stands in the source",
        {"content": TEXT, "citations": many(CITATION), "stop": TEXT},
    ),
    "run_closed": Kind(
        "the last event of a whole trace", {"stop": TEXT, "usage": USAGE, "seconds": AMOUNT}, {"error": TEXT}
    ),
}

HEADER_SHAPES = {"seq": COUNT, "time_s": AMOUNT, "conversation": CONVERSATION, "kind": one_of(*EVENTS)}


def event_problem(event: Mapping[str, Any]) -> str:
    """'' where the event is one the table knows, else what is wrong with it, in a few words."""
    if wrong := _fields_problem({name: event[name] for name in HEADER if name in event}, HEADER_SHAPES, {}):
        return wrong
    kind = EVENTS[event["kind"]]
    rest = {name: value for name, value in event.items() if name not in HEADER}
    wrong = _fields_problem(rest, kind.fields, kind.optional)
    return f"{event['kind']}: {wrong}" if wrong else ""


def table() -> str:
    """The table of events as Markdown, for documentation."""
    rows = [f"| `{name}` | {_field_names(kind)} | {kind.says} |" for name, kind in EVENTS.items()]
    return "\n".join(["| event | fields | meaning |", "|---|---|---|", *rows])


def _field_names(kind: Kind) -> str:
    required: Sequence[str] = [f"`{name}`" for name in kind.fields]
    return ", ".join([*required, *(f"`{name}`?" for name in kind.optional)])
