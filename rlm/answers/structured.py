"""What a provider is sent so that it holds a reply to a JSON Schema, for those that can (`response_format`).

The answer stands in an envelope, beside its sources (`rlm.audit.envelope`). Providers that keep strictly to a schema
take a part of JSON Schema only: the strict mode is asked for where the schema is within that part, and no format is
sent at all where a schema cannot be put into an envelope. What comes back is checked as any answer is.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from index_store.types import Json
from rlm.audit.envelope import ANSWER, FOUND, PASSAGE, QUOTE, SOURCES
from rlm.audit.events import JSON

#: What all providers with a strict mode read: no lengths, patterns, ranges or formats, which some refuse.
_STRICT = frozenset(
    {
        "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf",
        "$ref", "$defs", "title", "description",
    }
)  # fmt: skip
_STRICT_DEEP, _STRICT_PROPERTIES = (
    4,
    90,
)  # of objects, beside the envelope's own: some take five and a hundred
_DEEP, _PARTS = 60, 2_000  # of a schema that is sent at all
#: By these a part has a name or an address of its own, which an envelope would change.
_ADDRESSES = frozenset(
    {"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"}
)
#: Keywords whose value is schemas by name, and those whose value is no schema.
_BY_NAME = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
_VALUES = frozenset({"enum", "const", "default", "examples", "required", "dependentRequired", "type"})
_PLACE = f"#/properties/{ANSWER}/anyOf/0"  # where the schema stands in the envelope
_DEFS = "#/$defs/"

_FOUND = "whether the passages hold the answer; false in place of the words NOT FOUND"
_ANSWER = "the answer itself; null where it is not found"
_SOURCES = "the sources, one for each line of a source that would else be written below the answer"
_PASSAGE, _QUOTE = "the name of the passage, without brackets", "the exact words, copied letter by letter"


def response_format(schema: Mapping[str, Json]) -> dict[str, Json] | None:
    """The format that asks for an answer by this schema; None where the schema can only be told in words."""
    parts = list(_parts(schema))
    if len(parts) > _PARTS or any(depth > _DEEP or _ADDRESSES & part.keys() for part, depth in parts):
        return None
    own = {name: value for name, value in schema.items() if name not in ("$schema", "$defs")}
    envelope = _object(
        {
            FOUND: {"type": "boolean", "description": _FOUND},
            ANSWER: {"description": _ANSWER, "anyOf": [_moved(own), {"type": "null"}]},
            SOURCES: {"type": "array", "description": _SOURCES, "items": _object(
                {
                    PASSAGE: {"type": "string", "description": _PASSAGE},
                    QUOTE: {"type": "string", "description": _QUOTE},
                }
            )},
        }
    )  # fmt: skip
    if isinstance(definitions := schema.get("$defs"), Mapping):
        envelope["$defs"] = {name: _moved(part) for name, part in definitions.items()}
    named: dict[str, Json] = {"name": "answer", "strict": is_strict(schema), "schema": envelope}
    shape: dict[str, Json] = {"type": "json_schema", "json_schema": named}
    return None if JSON.problem([[[shape]]]) else shape  # a trace must hold it, among other parameters


def is_strict(schema: Mapping[str, Json]) -> bool:
    """Whether providers with a strict mode take the schema in it."""
    root = {name: value for name, value in schema.items() if name != "$schema"}
    parts = list(_parts(root))
    properties = sum(len(_mapping(part.get("properties"))) for part, _ in parts)
    deepest = max(depth for _, depth in parts)
    small = properties <= _STRICT_PROPERTIES and deepest <= 2 * _STRICT_DEEP
    return small and all(_is_strict_part(part) for part, _ in parts) and not _is_in_defs(root)


def _is_in_defs(root: Mapping[str, Json]) -> bool:
    """Whether definitions stand elsewhere than at the root, where not all providers look for them."""
    return any("$defs" in part for part, depth in _parts(root) if depth)


def _is_strict_part(part: Mapping[str, Json]) -> bool:
    kind, properties = part.get("type"), part.get("properties")
    if not part.keys() <= _STRICT or not {"type", "enum", "const", "anyOf", "$ref"} & part.keys():
        return False
    if not isinstance(kind, str | None):
        return False
    if kind == "object" or properties is not None:
        closed = part.get("additionalProperties") is False
        required = part.get("required")
        named = set(required) if isinstance(required, list) else set()
        return closed and kind == "object" and named == _mapping(properties).keys()
    if kind == "array" and not isinstance(part.get("items"), Mapping):
        return False
    return "$ref" not in part or str(part["$ref"]).startswith(_DEFS)


def _parts(schema: Any, depth: int = 0) -> Iterator[tuple[Mapping[str, Json], int]]:
    """Every schema in a schema, itself first, with how many it lies in; no deeper than matters."""
    if not isinstance(schema, Mapping) or depth > _DEEP + 1:
        return
    yield schema, depth
    for name, value in schema.items():
        for inner in _inner(name, value):
            yield from _parts(inner, depth + 1)


def _inner(name: str, value: Any) -> list[Any]:
    """The schemas that the value of a keyword holds."""
    if name in _VALUES:
        return []
    if name in _BY_NAME:
        return list(_mapping(value).values())
    return list(value) if isinstance(value, list) else [value]


def _moved(schema: Any) -> Any:
    """The schema with its references as they must be in the envelope."""
    if not isinstance(schema, Mapping):
        return schema
    return {name: _moved_value(name, value) for name, value in schema.items()}


def _moved_value(name: str, value: Any) -> Any:
    if name == "$ref" and isinstance(value, str):
        return value if value.startswith(_DEFS) else _PLACE + value[1:]
    if name in _VALUES:
        return value
    if name in _BY_NAME:
        return {inner: _moved(part) for inner, part in _mapping(value).items()}
    return [_moved(part) for part in value] if isinstance(value, list) else _moved(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _object(properties: dict[str, Json]) -> dict[str, Json]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
