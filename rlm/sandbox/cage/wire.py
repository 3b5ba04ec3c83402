"""Frames between the parent and a worker: four bytes of length, then ASCII JSON. Never pickle.

Both ends import this file, so it needs nothing but the standard library. The parent treats every byte from a
worker as hostile: a frame that breaks a rule raises FrameError, and the worker that sent it is killed.
"""

import json
import math
import re
import struct
from typing import Any

HEADER = struct.Struct(">I")
TO_PARENT_BYTES = 8 << 20
TO_WORKER_BYTES = 64 << 20
MAX_DEPTH = 64
MAX_NODES = 500_000  # a frame of "[],[],..." takes 60 times its own size once decoded

# A string without an end is taken to the end: looked for again from each of its quotes, it costs its length squared.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_MAX_STRINGS = 2 * MAX_NODES + 2  # more than a frame of MAX_NODES values holds, keys and all
_SURROGATE = re.compile("[\ud800-\udfff]")
# The worker's own references: cell code must not be able to swap what frames are made with.
_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class FrameError(Exception):
    """A frame that cannot be sent or may not be received."""


class FrameTooLarge(FrameError):
    """A frame past its cap; str() has both sizes."""


def encode(value: Any, cap: int) -> bytes:
    """The frame for a JSON value. Raises FrameError for anything that is not plain JSON, or larger than
    `cap` bytes."""
    try:
        body = _encoder.encode(value).encode("ascii")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FrameError(f"not plain JSON data: {error}") from None
    if len(body) > cap:
        raise FrameTooLarge(f"{len(body):,} bytes; at most {cap:,} fit into one call")
    return HEADER.pack(len(body)) + body


def split(buffer: bytearray, cap: int) -> bytes | None:
    """Take the first whole frame's body off `buffer`; None while it is incomplete. Raises FrameError past `cap`."""
    if len(buffer) < HEADER.size:
        return None
    size = check_size(bytes(buffer[: HEADER.size]), cap)
    end = HEADER.size + size
    if len(buffer) < end:
        return None
    body = bytes(memoryview(buffer)[HEADER.size : end])
    del buffer[:end]
    return body


def check_size(header: bytes, cap: int) -> int:
    """The body's length in bytes, from the header. Raises FrameError past `cap`."""
    size: int = HEADER.unpack(header)[0]
    if size > cap:
        raise FrameError(f"a frame of {size:,} bytes; at most {cap:,} are allowed")
    return size


def decode(body: bytes) -> Any:
    """The JSON value in `body`, finite, at most MAX_DEPTH deep, lone surrogates replaced. Raises only
    FrameError."""
    if count_nodes(body) > MAX_NODES:
        raise FrameError(f"more than {MAX_NODES:,} values in one frame")
    try:
        value = _decoder.decode(body.decode("ascii"))
    except (ValueError, RecursionError, MemoryError) as error:
        raise FrameError(f"not JSON: {type(error).__name__}") from None
    check_shape(value)
    return _without_surrogates(value) if b"\\u" in body else value


def decode_trusted(body: bytes) -> Any:
    """The JSON value in a frame from the parent, as it stands."""
    return _trusting.decode(body.decode("ascii"))


def count_nodes(body: bytes) -> int:
    """An upper bound on the values in `body`; commas and brackets inside strings count only while they are few."""
    rough = _count_marks(body)
    return rough if rough <= MAX_NODES else _count_marks(_STRING.sub(b"", body, count=_MAX_STRINGS))


def check_shape(value: Any) -> None:
    """Raise FrameError if `value` is nested deeper than MAX_DEPTH, has a non-string key or a number that is
    not finite."""
    layer = [value]
    for _ in range(MAX_DEPTH):
        if not layer:
            return
        layer = [child for item in layer for child in _children(item)]
    if layer:
        raise FrameError(f"nested more than {MAX_DEPTH} deep")


def _children(item: Any) -> Any:
    if isinstance(item, dict):
        if not all(isinstance(key, str) for key in item):
            raise FrameError("a dict key that is not a string")
        return item.values()
    if isinstance(item, list | tuple):
        return item
    if isinstance(item, float) and not math.isfinite(item):
        raise FrameError(f"the number {item}, which JSON has no word for")
    return ()


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _count_marks(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decoder, _trusting = json.JSONDecoder(parse_constant=_refuse_constant), json.JSONDecoder()
