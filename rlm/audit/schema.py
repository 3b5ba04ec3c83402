"""The JSON Schema of a trace, made from the table of events: what `rlm.audit.read` gives, one event at a time."""

from collections.abc import Mapping

from index_store.types import Json
from rlm.audit.events import EVENTS, FORMAT, HEADER_SHAPES, TEXT, Shape, object_of, object_schema

_TAKEN = object_of({"by": TEXT, "why": TEXT, "at": TEXT})


def trace_schema() -> dict[str, Json]:
    """The schema of an event of the present format.

    A line of the file has besides what rlm/audit/lines.py says, and null where a content was taken out or stood before.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:raptor-rlm:trace:{FORMAT}",
        "title": "An event of a trace of raptor-rlm",
        "description": f"Format {FORMAT}. A run is a list of these: first run_opened, last run_closed.",
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in EVENTS],
        "$defs": {kind: _event_schema(kind) for kind in EVENTS},
    }


def _event_schema(kind: str) -> dict[str, Json]:
    required, optional = {**HEADER_SHAPES, **EVENTS[kind].required}, EVENTS[kind].optional
    schema = object_schema(required, optional)
    redacted: dict[str, Json] = {
        "description": "who took out what of this event, by its path; a placeholder stands there",
        "type": "object",
        "additionalProperties": _TAKEN.schema,
    }
    named: dict[str, Json] = {"kind": {"const": kind}, "redacted": redacted}
    named |= {"format": {"const": FORMAT}} if kind == "run_opened" else {}
    return {**schema, "properties": {**_named(required), **_named(optional), **named}}


def _named(shapes: Mapping[str, Shape]) -> dict[str, Json]:
    return {name: shape.schema for name, shape in shapes.items()}
