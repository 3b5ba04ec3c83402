"""Frames: what goes in comes out, and no byte from a worker can raise, hang or swell the parent."""

import contextlib
import json
import math
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from index_store.types import Json
from rlm.sandbox.cage import wire
from rlm.sandbox.dialogue import Death, check_call, check_done
from tests.helpers.sandbox_frames import DONE, FAILED, REJECTED

CAP = 1 << 16
texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def taken(buffer: bytearray) -> bytes:
    """The body of the first frame, which has arrived whole."""
    body = wire.split(buffer, CAP)
    assert body is not None
    return body


@given(plain)
@example("\u2028\x00")
@example(10**400)
@example(5e-324)
def test_a_value_survives_the_wire(value: Json) -> None:
    buffer = bytearray(wire.encode(value, CAP))
    assert wire.decode(taken(buffer)) == value
    assert not buffer


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xff\xff\xff")
@example(b"\x00\x00\x00\x02[]" * 3)
@example(b"\x00\x00\x00\x03\xef\xbb\xbf")
@example(b"\x00\x00\x00\x00")
def test_random_bytes_give_frames_or_a_frame_error(data: bytes) -> None:
    buffer = bytearray(data)
    try:
        while (body := wire.split(buffer, CAP)) is not None:
            wire.decode(body)
    except wire.FrameError:
        pass
    assert len(buffer) <= len(data)


@given(plain)
def test_any_json_is_a_checked_frame_or_a_death(value: Json) -> None:
    frame = value if isinstance(value, dict) else {"t": value}
    for check in (check_call, check_done):
        with pytest.raises(Death):
            check(frame)


@given(st.sampled_from([DONE, REJECTED, FAILED]), st.sampled_from(sorted(DONE)), plain)
def test_a_done_frame_with_one_odd_part_is_never_misread(
    honest: dict[str, Any], key: str, value: Json
) -> None:
    try:
        frame = check_done(honest | {key: value})
    except Death:
        return
    assert (frame["status"] == "rejected") == (frame["rule"] is not None)
    assert isinstance(frame["stdout"], str) and isinstance(frame["error"], str)
    assert frame["status"] in ("ok", "error", "rejected")


@pytest.mark.parametrize("key", [key for key in DONE if key != "t"])
def test_a_done_frame_without_a_part_is_a_death(key: str) -> None:
    with pytest.raises(Death):
        check_done({name: part for name, part in DONE.items() if name != key})


@pytest.mark.parametrize(
    "answer", [{}, {"content": 1, "citations": [], "ready": True}, {"content": "", "ready": True}]
)
def test_an_answer_of_another_shape_is_a_death(answer: dict[str, Any]) -> None:
    with pytest.raises(Death):
        check_done(DONE | {"answer": answer})


def test_half_a_frame_is_waited_for() -> None:
    frame = wire.encode({"a": 1}, CAP)
    for cut in range(len(frame)):
        assert wire.split(bytearray(frame[:cut]), CAP) is None


def test_two_frames_come_out_in_order() -> None:
    buffer = bytearray(wire.encode(1, CAP) + wire.encode(2, CAP))
    assert [wire.decode(taken(buffer)) for _ in range(2)] == [1, 2]


def test_a_length_past_the_cap_is_refused_before_the_body_arrives() -> None:
    with pytest.raises(wire.FrameError, match=r"4,294,967,295 bytes"):
        wire.split(bytearray(b"\xff\xff\xff\xff"), CAP)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 65 + b"]" * 65,
        b"9" * 5000,
        b"NaN",
        b"-Infinity",
        b"1e999",
        b'"\xc3\xa9"',
        b"[1,]",
        b"",
        b"[]" + b" " * 10 + b"[]",
        b"[" + b"[]," * 600_000 + b"[]]",
    ],
    ids=lambda body: repr(body[:8]),
)
def test_a_hostile_body_is_a_frame_error(body: bytes) -> None:
    with pytest.raises(wire.FrameError):
        wire.decode(body)


def test_commas_in_long_text_are_not_values() -> None:
    text = ",[{" * 400_000
    assert wire.decode(json.dumps([text]).encode()) == [text]


def test_lone_surrogates_are_replaced_and_pairs_are_kept() -> None:
    assert wire.decode(b'{"\\uD800":["\\udfff","\\ud83d\\ude00"]}') == {"\ufffd": ["\ufffd", "\U0001f600"]}


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, {1, 2}, b"x", object(), 10**5000],
    ids=["nan", "inf", "set", "bytes", "object", "huge"],
)
def test_what_is_not_json_is_not_sent(value: object) -> None:
    with pytest.raises(wire.FrameError, match="not plain JSON"):
        wire.encode(value, CAP)


def test_a_value_past_the_cap_is_not_sent() -> None:
    with pytest.raises(wire.FrameTooLarge, match=r"12 bytes; at most 11"):
        wire.encode("x" * 10, 11)


def test_values_that_contain_themselves_are_not_sent() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(wire.FrameError):
        wire.encode(loop, CAP)
    with pytest.raises(wire.FrameError, match="nested more than 64 deep"):
        wire.check_shape(loop)


WORST = {
    "empty lists": b"[" + b"[]," * 240_000 + b"[]]",
    "too many empty lists": b"[" + b"[]," * 2_700_000 + b"[]]",
    "small numbers": b"[" + b"1," * 499_000 + b"1]",
    "long numbers": b"[" + b",".join([b"9" * 4_000] * 2_000) + b"]",
    "escapes": b'["' + b"\\ud83d\\ude00" * 690_000 + b'"]',
    "lone surrogates": b'["' + b"\\ud800" * 1_390_000 + b'"]',
    "one long text": b'["' + b"x" * 8_000_000 + b'"]',
    "many keys": b"{" + b",".join(b'"%d":0' % i for i in range(400_000)) + b"}",
    "open quotes": b'"' * 8_000_000,
    "backslashes": b'"' + b"\\" * 8_000_000,
    "a text without an end": b"," * 500_001 + b'"' + b'\\"' * 20_000,
    "lines in a text without an end": b"," * 500_001 + b'"\\\n' * 20_000,
    "empty texts": b"," * 500_001 + b'""' * 3_700_000,
    "commas": b"," * 8_000_000,
    "open brackets": b"[" * 8_000_000,
    "closed brackets": b"]" * 8_000_000,
    "spaces": b" " * 8_000_000,
    "depth below the cap": b"[" * 64 + b"1" + b"]" * 64,
}


@pytest.mark.parametrize("name", WORST)
def test_the_largest_frames_cost_bounded_time_and_memory(name: str) -> None:
    body = WORST[name]
    assert len(body) <= wire.TO_PARENT_BYTES
    tracemalloc.start()
    began = time.process_time()
    with contextlib.suppress(wire.FrameError):
        wire.decode(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - began < 5
    assert peak < 120 << 20


frames = st.builds(lambda value: wire.encode(value, CAP), plain)


@given(st.lists(frames, max_size=4), st.data())
def test_damaged_frames_in_pieces_give_values_or_a_frame_error(
    parts: list[bytes], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(parts))
    for _ in range(data.draw(st.integers(0, 3))):
        if stream:
            stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    buffer = bytearray()
    with contextlib.suppress(wire.FrameError):
        while stream:
            size = data.draw(st.integers(1, len(stream)))
            buffer += stream[:size]
            del stream[:size]
            while (body := wire.split(buffer, CAP)) is not None:
                wire.check_shape(wire.decode(body))
    assert len(buffer) <= CAP + wire.HEADER.size


@given(st.integers(0, 200), st.sampled_from(["list", "dict", "both"]))
def test_depth_is_allowed_up_to_the_cap_and_no_further(depth: int, kind: str) -> None:
    value: Any = 1
    for level in range(depth):
        value = [value] if kind == "list" or (kind == "both" and level % 2) else {"k": value}
    body = json.dumps(value).encode()
    if depth < wire.MAX_DEPTH:
        assert wire.decode(body) == value
    else:
        with pytest.raises(wire.FrameError, match="nested"):
            wire.decode(body)


@pytest.mark.parametrize(
    "part",
    [{"line": True}, {"line": 10**9}, {"line": -1}, {"rule": "x" * 1000}, {"rule": 1}, {"stdout": None}],
    ids=repr,
)
def test_a_done_frame_past_its_bounds_is_a_death(part: dict[str, Any]) -> None:
    assert check_done(REJECTED)["line"] == 1
    with pytest.raises(Death):
        check_done(REJECTED | part)
