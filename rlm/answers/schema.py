"""Check answers against a JSON Schema, draft 2020-12, without a network and in bounded time.

The library jsonschema validates, with four changes. A `$ref` may refer to the schema itself only. Patterns are RE2's,
which match in linear time. Every keyword that is applied is counted, so that neither a schema that refers to itself
twice at each level nor a long answer can hold a run up. Equal items are found by their text, not pair by pair.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from index_store.arguments import checked
from index_store.types import Json
from rlm.audit.fences import fenced_blocks
from rlm.errors import RlmError
from rlm.prompts import refusals
from rlm.sandbox.cage.wire import FrameError, check_shape

Schema = Mapping[str, Json]
Keyword = Callable[[Any, Any, Json, Json], Iterator[Any] | None]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_BYTES = 1 << 20
STEPS = 50_000  # keywords that may be applied to one answer, in about two seconds
MAX_ERRORS = 10
ERROR_CHARS = 300
_REFERENCES = ("$ref", "$dynamicRef")
_ON_TEXT = frozenset(
    {"enum", "const", "pattern", "minLength", "maxLength", "$ref", "allOf", "anyOf", "oneOf"}
)
#: The words that Python prints for true, false and null: models set answer["content"] = True.
_PYTHON = {"True": True, "False": False, "None": None}


class TooMuch(Exception):
    """A validation that was given up after STEPS keywords."""


@checked(RlmError)
def load_schema(path: str | Path) -> dict[str, Json]:
    """The schema in a file, checked to be one that answers can be held to. Raises RlmError, saying what is wrong."""
    try:
        raw = Path(path).read_bytes()
    except OSError as e:
        raise RlmError(
            f"the schema {path} cannot be read: {e.strerror or e}; name a file with a JSON Schema"
        ) from e
    if len(raw) > SCHEMA_BYTES:
        raise RlmError(f"the schema {path} has {len(raw):,} bytes, at most {SCHEMA_BYTES:,} are taken")
    try:
        schema = _parsed(raw.decode("utf-8-sig"))
    except ValueError as e:
        raise RlmError(f"the schema {path} is not JSON: {e}") from e
    if wrong := schema_problem(schema):
        raise RlmError(f"{path} is no schema that answers can be checked by: {wrong}")
    assert isinstance(schema, Mapping)  # or it would have a problem
    return dict(schema)


def schema_problem(schema: Json) -> str:
    """What is wrong with a schema; '' for one that answers can be held to."""
    from jsonschema import Draft202012Validator, SchemaError

    if not isinstance(schema, Mapping):
        return f'expected an object such as {{"type": "object", ...}}, found {type(schema).__name__}'
    if str(schema.get("$schema", DRAFT)).rstrip("#") != DRAFT:
        return f"it is written for {str(schema['$schema'])[:80]!r}; only draft 2020-12 is read ({DRAFT})"
    try:
        Draft202012Validator.check_schema(schema)
        return next((problem for part in _objects(schema) if (problem := _part_problem(schema, part))), "")
    except SchemaError as e:
        return _sentence(e)
    except RecursionError:
        return "it is nested too deep"


def _objects(schema: Json) -> Iterator[Mapping[str, Json]]:
    """Every object in a schema, itself first."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            yield part
        waiting += part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ()


def _part_problem(schema: Schema, part: Mapping[str, Json]) -> str:
    from referencing.exceptions import Unresolvable

    for name in _REFERENCES:
        if not isinstance(target := part.get(name), str):
            continue
        if not target.startswith("#"):
            return f"it refers to {target[:80]!r} outside itself; put that under $defs, and refer to '#/$defs/...'"
        try:
            _resolver(schema).lookup(target)
        except Unresolvable:
            return f"its {name} {target[:80]!r} leads nowhere"
    if isinstance(part.get("patternProperties"), Mapping):
        return "patternProperties is not taken; use properties, or propertyNames with a pattern"
    pattern = part.get("pattern")
    return _pattern_problem(pattern) if isinstance(pattern, str) else ""


def _resolver(schema: Schema) -> Any:
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    registry: Any = Registry()
    return registry.resolver_with_root(DRAFT202012.create_resource(schema))


def _pattern_problem(pattern: str) -> str:
    import re2

    try:
        _compiled(pattern)
    except re2.error as e:
        return f"its pattern {pattern[:80]!r} was refused by RE2, which has no lookaround and no backreferences ({e})"
    return ""


def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def typed(content: Json, schema: Schema) -> tuple[Json, list[str]]:
    """(the value of an answer, its errors): the value is None where there are errors, each written "$.place: problem".

    `content` is the value, or text that holds it as JSON, perhaps in a fenced block. Text that holds no JSON that fits
    is itself the value, where it fits a schema that has rules for text. Time is bounded whatever the content.
    """
    if not isinstance(content, str):
        return _checked(content, schema)
    try:
        checked = _checked(_parsed(_unfenced(content)), schema)
    except ValueError as e:
        checked = (
            None,
            [
                refusals.NOT_JSON.format(value=content[:80], problem=e)
                if content.strip()
                else refusals.NO_ANSWER
            ],
        )
    as_text = checked[1] and _takes_text(schema) and not _errors(content, schema)
    return (content, []) if as_text else checked


def _takes_text(schema: Schema) -> bool:
    """Whether the schema has a rule for text; any text fits a schema that only has rules for objects."""
    types = schema.get("type")
    return (
        not _ON_TEXT.isdisjoint(schema)
        if types is None
        else types == "string" or (isinstance(types, list) and "string" in types)
    )


def _checked(value: Json, schema: Schema) -> tuple[Json, list[str]]:
    errors = _errors(value, schema)
    return (None if errors else value), errors


def _unfenced(text: str) -> str:
    """The code of a text that is one fenced block, as models write JSON; any other text as it is."""
    text = text.strip()
    blocks = fenced_blocks(text)
    return blocks[0].code.strip() if blocks and (blocks[0].start, blocks[0].end) == (0, len(text)) else text


def _parsed(text: str) -> Json:
    """The JSON value in a text; Python's words for true, false and null count. Raises ValueError."""
    try:
        return _PYTHON[text] if text in _PYTHON else json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _refuse(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON number")


def _errors(value: Json, schema: Schema) -> list[str]:
    from referencing.exceptions import Unresolvable

    try:
        check_shape(value)
        return [_sentence(error) for error in islice(_validator(schema).iter_errors(value), MAX_ERRORS)]
    except FrameError as e:
        return [(refusals.NESTED if "nested" in str(e) else refusals.NO_JSON).format(problem=e)]
    except (TooMuch, RecursionError):
        return [refusals.TOO_LONG_TO_CHECK]
    except ArithmeticError:
        return [refusals.TOO_LARGE_A_NUMBER]
    except Unresolvable as e:
        return [refusals.SCHEMA_LEADS_NOWHERE.format(problem=e)[:ERROR_CHARS]]


def _sentence(error: Any) -> str:
    return f"{error.json_path}: {error.message}"[:ERROR_CHARS]


def _validator(schema: Schema) -> Any:
    """jsonschema's validator with our `pattern` and `uniqueItems`, counted steps, and no references to the outside."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend
    from referencing import Registry

    steps = count(1)
    keywords = Draft202012Validator.VALIDATORS | {"pattern": _pattern, "uniqueItems": _unique_items}
    counted = {name: partial(_counted, keyword, steps) for name, keyword in keywords.items()}
    return extend(Draft202012Validator, counted)(schema, registry=Registry())


def _counted(
    keyword: Keyword, steps: Iterator[int], validator: Any, value: Json, instance: Json, schema: Json
) -> Iterator[Any]:
    if next(steps) > STEPS:
        raise TooMuch
    yield from keyword(validator, value, instance, schema) or ()


def _pattern(validator: Any, pattern: str, instance: Json, schema: Json) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not _compiled(pattern).search(
        instance.encode("utf-8", "replace").decode()
    ):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique_items(validator: Any, wanted: bool, instance: Json, schema: Json) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not (wanted and isinstance(instance, list)):
        return
    seen: set[str] = set()
    for item in instance:
        if (text := json.dumps(_same_numbers(item), sort_keys=True)) in seen:
            yield ValidationError(f"{item!r} stands twice")
            return
        seen.add(text)


def _same_numbers(value: Json) -> Json:
    """The value with 1.0 as 1: to JSON Schema they are one number."""
    if isinstance(value, list):
        return [_same_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _same_numbers(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value
