"""The counts of tokens in a response, put right before litellm reads it: for a bad one it gives up a whole reply."""

import json
import re
from typing import Any

#: The fields that hold counts, by the names that providers give them.
_FIELDS = ("usage", "usageMetadata")
_COUNT = re.compile(r"(?:tokens|TokenCount)\Z")
_DETAILS = re.compile(r"tokens_?details\Z", re.IGNORECASE)
_WHOLE = re.compile(r"\s*\d{1,15}(?:\.0{1,15})?\s*", re.ASCII)


def counts_mended(body: bytes) -> bytes:
    """The body of a response with whole counts of tokens: 12.0 and "12" become 12, and what is no whole number is left
    out, so that it is counted here. The very same body where there is nothing to mend."""
    if not any(f'"{name}"'.encode() in body for name in _FIELDS):
        return body
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(reply, dict):
        return body
    given = {name: reply[name] for name in _FIELDS if reply.get(name) is not None}
    mended = {name: _mended(counts) if isinstance(counts, dict) else {} for name, counts in given.items()}
    return body if json.dumps(mended) == json.dumps(given) else json.dumps(reply | mended).encode()


def _mended(counts: dict[str, Any]) -> dict[str, Any]:
    """The counts that are whole numbers, and all that stands beside them and is no count."""
    return {
        name: _mended(value) if isinstance(value, dict) else _whole(value) if _COUNT.search(name) else value
        for name, value in counts.items()
        if _can_stay(name, value)
    }


def _can_stay(name: str, value: Any) -> bool:
    if _DETAILS.search(name):
        return value is None or isinstance(value, dict | list)
    if not _COUNT.search(name) or value is None:
        return True
    if isinstance(value, str):
        return bool(_WHOLE.fullmatch(value))
    return type(value) is int or (isinstance(value, float) and value.is_integer())


def _whole(value: Any) -> Any:
    return value if value is None else int(float(value)) if isinstance(value, str) else int(value)
