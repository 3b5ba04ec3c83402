"""The parent against a worker that has turned: whatever it sends, `exchange` returns in time or raises Death."""

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from rlm.sandbox.cage import wire
from rlm.sandbox.dialogue import Death, Line, Reply, exchange
from rlm.sandbox.spawn import Worker
from rlm.sandbox.types import Clock
from tests.helpers.sandbox_frames import CALL, DONE, REJECTED

Play: TypeAlias = Callable[[socket.socket], object]  # what the other end does


@contextlib.contextmanager
def line_to(worker: Play) -> Iterator[Line]:
    """A line whose other end is played by `worker(socket)` in a thread."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    thread = threading.Thread(target=play, args=(worker, theirs))
    thread.start()
    try:
        yield Line(cast(Worker, SimpleNamespace(link=ours)), bytearray())
    finally:
        ours.close()
        thread.join()


def play(worker: Play, end: socket.socket) -> None:
    with end, contextlib.suppress(OSError):
        worker(end)


def frame(value: Any) -> bytes:
    return wire.encode(value, wire.TO_PARENT_BYTES)


def talk(
    worker: Play, limit_s: float = 120, answer: Reply = lambda *call: frame({"value": 1})
) -> dict[str, Any]:
    with line_to(worker) as line:
        return exchange(line, "code", answer, Clock(limit_s), lambda text: None)


def noting() -> tuple[Reply, list[Any]]:
    """Something that answers every call, and the calls it has answered."""
    served: list[Any] = []

    def answer(*call: Any) -> bytes:
        served.append(call)
        return frame({"value": 1})

    return answer, served


def received(end: socket.socket) -> dict[str, Any]:
    """The parent's next frame."""
    (size,) = wire.HEADER.unpack(end.recv(wire.HEADER.size, socket.MSG_WAITALL))
    return cast(dict[str, Any], json.loads(end.recv(size, socket.MSG_WAITALL)))


def about_its_cell(value: Any, end: socket.socket) -> bytes:
    """The frame of a worker that reads the cell first and names its nonce; bytes as they stand."""
    nonce = received(end)["nonce"]
    return frame(value | {"nonce": nonce} if isinstance(value, dict) else value)


def forever(value: Any) -> Play:
    def worker(end: socket.socket) -> None:
        data = value if isinstance(value, bytes) else about_its_cell(value, end)
        while True:
            end.sendall(data)

    return worker


def once(value: Any) -> Play:
    def worker(end: socket.socket) -> None:
        end.sendall(about_its_cell(value, end))
        wait_for_the_end(end)

    return worker


def wait_for_the_end(end: socket.socket) -> None:
    while end.recv(65536):
        pass


def test_an_honest_worker_is_understood() -> None:
    assert talk(once(DONE))["status"] == "ok"
    assert talk(once(REJECTED))["status"] == "rejected"


@pytest.mark.parametrize(
    "value", [{"t": "out", "text": "x" * 100}, CALL, b"\x00"], ids=["output", "calls", "zero bytes"]
)
def test_a_flood_of_frames_ends_with_the_cells_time(value: Any) -> None:
    started = time.monotonic()
    with pytest.raises(Death):
        talk(forever(value), limit_s=0.2)
    assert time.monotonic() - started < 120


@pytest.mark.parametrize("kind", ["done", "call", "out"])
@pytest.mark.parametrize("nonce", [None, "", 0, [], {}, "0" * 16, "of another cell"], ids=repr)
def test_a_frame_that_is_not_about_the_cell_under_way_is_a_breach(kind: str, nonce: Any) -> None:
    answer, seen = noting()

    def stray(end: socket.socket) -> None:
        received(end)
        value = {"done": DONE, "call": CALL, "out": {"t": "out", "text": "x"}}[kind]
        end.sendall(frame(value if nonce is None else value | {"nonce": nonce}))
        wait_for_the_end(end)

    with pytest.raises(Death, match="protocol"):
        talk(stray, answer=answer)
    assert seen == []


@pytest.mark.parametrize("forged", [DONE, REJECTED, CALL], ids=lambda value: str(value["t"]))
def test_a_frame_left_by_one_cell_is_not_taken_for_the_next(forged: dict[str, Any]) -> None:
    """The hostile worker waits until the parent has taken its ending, so the forged frame is not in the same read."""
    ended, left = threading.Event(), threading.Event()
    answer, served = noting()

    def leaving(end: socket.socket) -> None:
        nonce = received(end)["nonce"]
        end.sendall(frame(DONE | {"nonce": nonce}))
        ended.wait(120)
        end.sendall(frame(forged | {"nonce": nonce}))
        left.set()
        wait_for_the_end(end)

    with line_to(leaving) as line:
        told = (answer, Clock(120), lambda text: None)
        assert exchange(line, "one", *told)["status"] == "ok"
        ended.set()
        left.wait(120)
        with pytest.raises(Death, match="protocol"):
            exchange(line, "two", *told)
    assert served == []


@pytest.mark.parametrize("more", [frame(REJECTED), b"\x00"], ids=["a whole frame", "one byte"])
def test_bytes_behind_the_end_of_a_cell_are_a_breach(more: bytes) -> None:
    def talkative(end: socket.socket) -> None:
        end.sendall(about_its_cell(DONE, end) + more)
        wait_for_the_end(end)

    with pytest.raises(Death, match="protocol"):
        talk(talkative)


@pytest.mark.parametrize("sign", [CALL, {"t": "out", "text": "it ran"}], ids=["a call", "output"])
def test_a_cell_that_was_seen_to_run_cannot_be_said_to_be_rejected(sign: dict[str, Any]) -> None:
    def denying(end: socket.socket) -> None:
        nonce = {"nonce": received(end)["nonce"]}
        end.sendall(frame(sign | nonce))
        if sign["t"] == "call":
            received(end)
        end.sendall(frame(REJECTED | nonce))
        wait_for_the_end(end)

    with pytest.raises(Death, match="protocol"):
        talk(denying)


def test_no_two_cells_have_one_nonce() -> None:
    nonces = []

    def counting(end: socket.socket) -> None:
        for _ in range(50):
            nonces.append(received(end)["nonce"])
            end.sendall(frame(DONE | {"nonce": nonces[-1]}))

    with line_to(counting) as line:
        for _ in range(50):
            exchange(line, "code", lambda *call: b"", Clock(120), lambda text: None)
    assert len(set(nonces)) == 50 and {len(nonce) for nonce in nonces} == {16}


def test_a_worker_that_never_speaks_runs_out_of_time() -> None:
    def silent(end: socket.socket) -> None:
        wait_for_the_end(end)

    with pytest.raises(Death, match="time"):
        talk(silent, limit_s=0.2)


def test_a_worker_that_never_reads_runs_out_of_time() -> None:
    reply = frame({"value": "x" * (4 << 20)})

    def deaf(end: socket.socket) -> None:
        end.sendall(about_its_cell(CALL, end))
        hanging_up = select.poll()
        hanging_up.register(end, 0)  # of what may happen only that the parent hangs up
        hanging_up.poll(120_000)

    with pytest.raises(Death, match="time"):
        talk(deaf, limit_s=0.2, answer=lambda *parts: reply)


def test_a_worker_that_hangs_up_is_gone() -> None:
    with pytest.raises(Death, match="gone"):
        talk(lambda end: None)


@pytest.mark.parametrize(
    "value",
    [[], 1, None, {}, {"t": "out"}, {"t": "out", "text": 1}, {"t": "call", "name": 1, "args": [], "kwargs": {}},
     {"t": "call", "name": "f", "args": {}, "kwargs": {}}, {"t": ["done"]}, DONE | {"status": "killed"},
     DONE | {"rule": "import os"}, DONE | {"line": 1}, DONE | {"error": "x"}, DONE | {"status": "error"},
     DONE | {"status": "error", "error": "x", "rule": "import os"}, DONE | {"status": "rejected"},
     REJECTED | {"stdout": "x"}, REJECTED | {"truncated": True},
     REJECTED | {"answer": {"content": "x", "citations": [], "ready": True}}],
    ids=json.dumps,
)  # fmt: skip
def test_a_frame_of_another_shape_is_a_breach(value: Any) -> None:
    with pytest.raises(Death, match="protocol"):
        talk(once(value))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([frame(DONE)[:-1], frame({"t": "out", "text": ""})]),
        max_size=4,
    )
)
@example([b"\x00\x00\x00\x00"])
def test_random_bytes_end_in_death(parts: list[bytes]) -> None:
    def noisy(end: socket.socket) -> None:
        end.sendall(b"".join(parts))
        end.shutdown(socket.SHUT_WR)
        end.recv(1)

    with pytest.raises(Death):
        talk(noisy, limit_s=2)
