"""The JSON objects of a reply that was asked for one a line."""

import json
from collections.abc import Iterator
from typing import Any


def objects_in(reply: str) -> Iterator[dict[str, Any]]:
    """The objects at the start of each line, one after another; fences and an array around them are forgiven. What is
    no JSON, or names something twice, ends its line."""
    for line in reply.split("\n"):
        at = _past_commas(line, 0)
        while line.startswith("{", at):
            try:
                one, at = _DECODER.raw_decode(line, at)
            except (ValueError, RecursionError):
                break
            yield one
            at = _past_commas(line, at)


def _past_commas(line: str, at: int) -> int:
    """Where the next object of an array may begin."""
    while at < len(line) and (line[at].isspace() or line[at] in ",[]"):
        at += 1
    return at


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(one := dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return one


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_doubles, parse_constant=_refuse)
