"""Traces of any events that the table allows, and single edits of what stands in a file."""

import json
import random
import string
from collections.abc import Callable, Iterator
from typing import Any

from rlm.audit.events import EVENTS
from rlm.audit.lines import canonical
from rlm.audit.schema import trace_schema

SCHEMA: dict[str, Any] = trace_schema()
LONG = "All of this was said before, and more than once. " * 20
WORDS = ("", "é", "\ud800", 'a "quote"', "\x00\n", "</script>", "4711", LONG, LONG, LONG + "!")


def random_events(rng: random.Random, most: int = 12) -> list[dict[str, Any]]:
    """The events of a trace, whatever they say to each other."""
    between = [kind for kind in EVENTS if kind not in ("run_opened", "run_closed")]
    kinds = ["run_opened", *rng.choices(between, k=rng.randrange(most)), "run_closed"]
    return [
        drawn(rng, SCHEMA["$defs"][kind]) | {"kind": kind, "seq": seq, "time_s": float(seq)}
        for seq, kind in enumerate(kinds)
    ]


def drawn(rng: random.Random, schema: dict[str, Any]) -> Any:
    """A value that fits a schema of the table."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "anyOf" in schema:
        return drawn(rng, rng.choice(schema["anyOf"]))
    kind = schema.get("type", "any")
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    match kind:
        case "object" if "properties" in schema:
            named = {name: one for name, one in schema["properties"].items() if name != "redacted"}
            return {
                n: drawn(rng, s) for n, s in named.items() if n in schema["required"] or rng.random() < 0.5
            }
        case "object":
            return {rng.choice(WORDS): any_json(rng, 2) for _ in range(rng.randrange(3))}
        case "array":
            return [drawn(rng, schema["items"]) for _ in range(rng.randrange(4))]
        case "string" if "pattern" in schema:
            return _written(rng, schema["pattern"])
        case "string":
            return rng.choice(WORDS)
        case "integer":
            return rng.choice([0, 1, 7, 2**53])
        case "number":
            return rng.choice([0, 0.5, 1.0, 2**53])
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
    return any_json(rng, 3)


def any_json(rng: random.Random, depth: int) -> Any:
    """Any JSON, such as a verb gives."""
    plain: list[Callable[[], Any]] = [
        lambda: rng.choice(WORDS),
        lambda: rng.choice([0, -1, 1.5, 10**15]),
        lambda: rng.choice([None, True, False]),
    ]
    nested: list[Callable[[], Any]] = [
        lambda: [any_json(rng, depth - 1) for _ in range(rng.randrange(3))],
        lambda: {rng.choice(WORDS): any_json(rng, depth - 1) for _ in range(rng.randrange(3))},
    ]
    return rng.choice(plain + nested * (depth > 0))()


def _written(rng: random.Random, pattern: str) -> str:
    if "[0-9a-f]{64}" in pattern:
        return "".join(rng.choices("0123456789abcdef", k=64))
    return (
        rng.choice(["2030-12-31", "1999-01-01"]) if "{4}-" in pattern else rng.choice(["0", "0.1", "0.1.2"])
    )


# -- edits -------------------------------------------------------------------------------------------------


def edited(rng: random.Random, lines: list[bytes]) -> tuple[bytes, int, str]:
    """The file after one edit, the line (from 1) at which it must be found, and what it was."""
    here = rng.randrange(len(lines))
    edits = [_field] * 6 + [_byte] * 3 + [_dropped, _swapped, _inserted, _truncated, _resalted, _resalted]
    return rng.choice(edits)(rng, list(lines), here)


def _field(rng: random.Random, lines: list[bytes], here: int) -> tuple[bytes, int, str]:
    stored = json.loads(lines[here])
    places = list(_leaves(stored))
    holder, key = rng.choice(places)
    before = holder[key]
    holder[key] = _another(rng, before)
    lines[here] = as_line(stored)
    return b"".join(lines), here + 1, f"{key!r}: {before!r:.60} -> {holder[key]!r:.60}"


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of each value in a line."""
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, item in pairs:
        yield value, key
        if isinstance(item, dict | list):
            yield from _leaves(item)


def _another(rng: random.Random, value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1 if abs(value) < 2**52 else 5
        case str() if len(value) in (32, 64) and set(value) <= set("0123456789abcdef"):
            return "".join(rng.choices("0123456789abcdef", k=len(value)))
        case str():
            return value + rng.choice(string.ascii_letters)
        case None:
            return rng.choice(["x", 0, [], {}])
        case list():
            return [*value, "x"] if rng.random() < 0.5 or not value else value[:-1]
        case _:
            return {**value, "x": None} if rng.random() < 0.5 or not value else dict(list(value.items())[1:])


def as_line(stored: dict[str, Any]) -> bytes:
    """A stored event in the form of a line, whatever its hash."""
    body = canonical({name: value for name, value in stored.items() if name not in ("prev", "hash")})
    return body[:-1] + f',"prev":"{stored.get("prev")}","hash":"{stored.get("hash")}"}}\n'.encode()


def _byte(rng: random.Random, lines: list[bytes], here: int) -> tuple[bytes, int, str]:
    at, line = rng.randrange(len(lines[here])), lines[here]
    lines[here] = line[:at] + bytes([line[at] ^ (1 << rng.randrange(8))]) + line[at + 1 :]
    return b"".join(lines), here + 1, f"byte {at}"


def _dropped(rng: random.Random, lines: list[bytes], here: int) -> tuple[bytes, int, str]:
    del lines[here]
    return b"".join(lines), here + 1, "dropped"


def _swapped(rng: random.Random, lines: list[bytes], here: int) -> tuple[bytes, int, str]:
    other = rng.choice([i for i in range(len(lines)) if i != here])
    lines[here], lines[other] = lines[other], lines[here]
    return b"".join(lines), min(here, other) + 1, f"swapped with {other + 1}"


def _inserted(rng: random.Random, lines: list[bytes], here: int) -> tuple[bytes, int, str]:
    lines.insert(here + 1, rng.choice(lines))
    # A copy of the next line in its own place is the next line; what is one too many is the one after.
    late = here + 2 < len(lines) and lines[here + 1] == lines[here + 2]
    return b"".join(lines), here + 2 + late, "inserted"


def _truncated(rng: random.Random, lines: list[bytes], here: int) -> tuple[bytes, int, str]:
    kept = rng.randrange(len(lines[here]))
    return b"".join(lines[:here]) + lines[here][:kept], here + 1, f"truncated at {kept}"


def _resalted(rng: random.Random, lines: list[bytes], here: int) -> tuple[bytes, int, str]:
    """Another text with another salt, as someone would who knows that both are hashed."""
    salted = [i for i, line in enumerate(lines) if b'"salt":' in line or (b'"salts":{"' in line)]
    if not salted:
        return _byte(rng, lines, here)
    here = rng.choice(salted)
    stored, salt = json.loads(lines[here]), "".join(rng.choices("0123456789abcdef", k=32))
    if "salt" in stored:
        stored["salt"] = salt
    else:
        stored["salts"][rng.choice(list(stored["salts"]))] = salt
    if rng.random() < 0.7:
        texts = [
            (h, k) for h, k in _leaves(stored) if isinstance(h[k], str) and k not in ("salt", "prev", "hash")
        ]
        holder, key = rng.choice(texts)
        holder[key] = _another(rng, holder[key])
    lines[here] = as_line(stored)
    return b"".join(lines), here + 1, "re-salted"
