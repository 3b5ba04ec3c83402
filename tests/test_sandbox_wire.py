"""Frames: what goes in comes out, and no byte from a worker can raise, hang or swell the parent."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlm.sandbox import wire
from rlm.sandbox.dialogue import Death, check_call, check_done

CAP = 1 << 16
texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
DONE = {"t": "done", "status": "ok", "stdout": "", "error": "", "rule": None, "line": None, "answer": None}
DONE["truncated"] = False


@given(plain)
@example("\u2028\x00")
@example(10**400)
@example(5e-324)
def test_a_value_survives_the_wire(value):
    buffer = bytearray(wire.encode(value, CAP))
    assert wire.decode(wire.split(buffer, CAP)) == value
    assert not buffer


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xff\xff\xff")
@example(b"\x00\x00\x00\x02[]" * 3)
@example(b"\x00\x00\x00\x03\xef\xbb\xbf")
@example(b"\x00\x00\x00\x00")
def test_random_bytes_give_frames_or_a_frame_error(data):
    buffer = bytearray(data)
    try:
        while (body := wire.split(buffer, CAP)) is not None:
            wire.decode(body)
    except wire.FrameError:
        pass
    assert len(buffer) <= len(data)


@given(plain)
def test_any_json_is_a_checked_frame_or_a_death(value):
    frame = value if isinstance(value, dict) else {"t": value}
    for check in (check_call, check_done):
        with pytest.raises(Death):
            check(frame)


@given(st.sampled_from(sorted(DONE)), plain)
def test_a_done_frame_with_one_odd_part_is_never_misread(key, value):
    try:
        frame = check_done(DONE | {key: value})
    except Death:
        return
    assert isinstance(frame["stdout"], str) and isinstance(frame["error"], str)
    assert frame["status"] in ("ok", "error", "rejected")


@pytest.mark.parametrize("key", [key for key in DONE if key != "t"])
def test_a_done_frame_without_a_part_is_a_death(key):
    with pytest.raises(Death):
        check_done({name: part for name, part in DONE.items() if name != key})


@pytest.mark.parametrize(
    "answer", [{}, {"content": 1, "citations": [], "ready": True}, {"content": "", "ready": True}]
)
def test_an_answer_of_another_shape_is_a_death(answer):
    with pytest.raises(Death):
        check_done(DONE | {"answer": answer})


def test_half_a_frame_is_waited_for():
    frame = wire.encode({"a": 1}, CAP)
    for cut in range(len(frame)):
        assert wire.split(bytearray(frame[:cut]), CAP) is None


def test_two_frames_come_out_in_order():
    buffer = bytearray(wire.encode(1, CAP) + wire.encode(2, CAP))
    assert [wire.decode(wire.split(buffer, CAP)) for _ in range(2)] == [1, 2]


def test_a_length_past_the_cap_is_refused_before_the_body_arrives():
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
def test_a_hostile_body_is_a_frame_error(body):
    with pytest.raises(wire.FrameError):
        wire.decode(body)


def test_commas_in_long_text_are_not_values():
    text = ",[{" * 400_000
    assert wire.decode(json.dumps([text]).encode()) == [text]


def test_lone_surrogates_are_replaced_and_pairs_are_kept():
    assert wire.decode(b'{"\\uD800":["\\udfff","\\ud83d\\ude00"]}') == {"\ufffd": ["\ufffd", "\U0001f600"]}


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, {1, 2}, b"x", object(), 10**5000],
    ids=["nan", "inf", "set", "bytes", "object", "huge"],
)
def test_what_is_not_json_is_not_sent(value):
    with pytest.raises(wire.FrameError, match="not plain JSON"):
        wire.encode(value, CAP)


def test_a_value_past_the_cap_is_not_sent():
    with pytest.raises(wire.FrameTooLarge, match=r"12 bytes; at most 11"):
        wire.encode("x" * 10, 11)


def test_values_that_contain_themselves_are_not_sent():
    loop = []
    loop.append(loop)
    with pytest.raises(wire.FrameError):
        wire.encode(loop, CAP)
    with pytest.raises(wire.FrameError, match="nested more than 64 deep"):
        wire.check_shape(loop)
