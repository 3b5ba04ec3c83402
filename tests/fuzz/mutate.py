"""Ways to make something hostile of something honest, all by the numbers of a random.Random."""

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Piece = TypeVar("Piece", str, bytes)

MOST = 400_000  # characters or bytes of what was mutated
#: Numbers at which something overflows, wraps or ends.
NUMBERS = (
    0,
    1,
    -1,
    2,
    255,
    256,
    2**31 - 1,
    2**31,
    -(2**31),
    2**53,
    2**63 - 1,
    2**63,
    -(2**63),
    10**30,
    10**400,
)
#: Text in which something may be quadratic, act on a terminal, or not be text at all.
STRINGS = (
    "", " ", "\n", "\0", "\ud800", "\ufeff", "\u2028", "\u202e", "\x1b[2J", "\x9b", "e\u0301" * 9, "İ", "ß",
    "'", '"',
    "```", "```repl\n", "<", "</script>", "<!--", "{{", "%s", "{0}", "(?i)", "(" * 50, "a" * 5_000, "\\",
    "L0-00000",
    "L9-99999", "L1-00000\n", "../../etc/passwd", "/dev/zero", "NaN", "1e999", "-0", "𝟙", "٣",
)  # fmt: skip


def nested(depth: int, kind: int = 0) -> Any:
    """Lists or dicts in each other."""
    value: Any = 1
    for level in range(depth):
        value = [value] if (kind + level * (kind > 1)) % 2 else {"k": value}
    return value


def scalar(rng: random.Random) -> Any:
    """A value that is no container."""
    return rng.choice(
        [None, True, False, rng.choice(NUMBERS), rng.choice(STRINGS), rng.random(), -0.0, 1e308, 5e-324]
    )


def value(rng: random.Random, depth: int = 3) -> Any:
    """Any JSON value."""
    kind = rng.random()
    if depth == 0 or kind < 0.6:
        return scalar(rng)
    if kind < 0.63:
        return nested(rng.choice([5, 60, 70, 900]), rng.randrange(3))
    if kind < 0.82:
        return [value(rng, depth - 1) for _ in range(rng.choice([0, 1, 2, 5]))]
    return {str(rng.choice(STRINGS))[:20]: value(rng, depth - 1) for _ in range(rng.choice([0, 1, 3]))}


def mutated_json(rng: random.Random, whole: Any) -> Any:
    """The value with one to three of its parts replaced, left out, doubled, wrapped or moved."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        whole = _mutated_once(rng, whole)
    return whole


def _mutated_once(rng: random.Random, part: Any) -> Any:
    if isinstance(part, dict) and part and rng.random() < 0.85:
        name = rng.choice(list(part))
        return _changed_dict(rng, part, name)
    if isinstance(part, list) and part and rng.random() < 0.85:
        at = rng.randrange(len(part))
        how = rng.random()
        if how < 0.75:
            return [*part[:at], _mutated_once(rng, part[at]), *part[at + 1 :]]
        if how < 0.9:
            return [*part[:at], *part[at + 1 :]]
        return [*part, *([part[at]] * rng.choice([1, 2, 300]))]
    if isinstance(part, str) and rng.random() < 0.5:
        return mutated_text(rng, part)
    if isinstance(part, int | float) and rng.random() < 0.6:
        return rng.choice(
            [part + 1, -part, part * 2, *NUMBERS, str(part), float(part) if abs(part) < 1e9 else 0.5]
        )
    return rng.choice([value(rng), [part], {"k": part}, part])


def _changed_dict(rng: random.Random, part: dict[str, Any], name: str) -> dict[str, Any]:
    how = rng.random()
    if how < 0.75:
        return part | {name: _mutated_once(rng, part[name])}
    if how < 0.85:
        return {key: old for key, old in part.items() if key != name}
    if how < 0.95:
        return part | {name: part[rng.choice(list(part))]}
    return part | {rng.choice(["new", "", name.upper(), name + " "]): value(rng)}


def mutated_text(rng: random.Random, text: str, words: Sequence[str] = STRINGS) -> str:
    """The text with some stretches replaced, left out, moved or repeated."""
    return _edited(rng, text, words, lambda: chr(rng.choice([rng.randrange(128), 0x2028, 0x1F600])))


def mutated_bytes(rng: random.Random, raw: bytes, words: Sequence[bytes]) -> bytes:
    """The bytes with some stretches replaced, left out, moved or repeated."""
    return _edited(rng, raw, words, lambda: bytes([rng.choice([0, 255, rng.randrange(256)])]))


def _edited(rng: random.Random, whole: Piece, words: Sequence[Piece], one: Callable[[], Piece]) -> Piece:
    for _ in range(rng.choice([1, 1, 2, 4, 12])):
        a, other = rng.randrange(len(whole) + 1), rng.randrange(len(whole) + 1)
        b = min(len(whole), a + rng.choice([0, 1, 1, 4, 30, 300]))
        part, word = whole[a:b], rng.choice(words)
        times = rng.choice([1, 3, 1_000])
        copied = whole[other : other + 40]
        middle = rng.choice([whole[:0], one(), word, word * times, part * min(times, 50), copied, part[::-1]])
        whole = whole[:a] + middle[:20_000] + whole[b:]
    return whole[:MOST]
