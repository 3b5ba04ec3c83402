"""A reply to a call that was held to a JSON Schema: the answer and its sources in one object.

{"found": true, "answer": <what the schema says>, "sources": [{"passage": "L0-00012", "quote": "five (5) days"}]}
"""

import json
from dataclasses import dataclass
from typing import Any

FOUND, ANSWER, SOURCES, PASSAGE, QUOTE = "found", "answer", "sources", "passage", "quote"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What such a reply holds. `answer`: as JSON, '' where none was found; `sources`: (passage, quote) of each."""

    answer: str
    sources: tuple[tuple[str, str], ...]


def opened(reply: str) -> Envelope | None:
    """The envelope that a reply is; None for any other reply."""
    try:
        value = json.loads(reply)
        answer = _as_text(value[ANSWER]) if value[FOUND] is True else ""
        return Envelope(answer, tuple(map(_source, value[SOURCES])))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _source(source: Any) -> tuple[str, str]:
    passage, quote = source[PASSAGE], source[QUOTE]
    if not (isinstance(passage, str) and isinstance(quote, str)):
        raise TypeError
    return passage.strip().removeprefix("[").removesuffix("]").strip(), quote


def _as_text(value: Any) -> str:
    """The value as JSON that can be written anywhere: half a surrogate pair stays escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text if text == text.encode("utf-8", "replace").decode() else json.dumps(value, allow_nan=False)
