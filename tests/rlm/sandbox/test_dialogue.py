"""The parent against a worker that has turned: whatever it sends, `exchange` returns in time or raises Death."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from rlm.sandbox.cage import wire
from rlm.sandbox.dialogue import Clock, Death, Line, Reply, exchange
from rlm.sandbox.spawn import Worker

DONE: dict[str, Any] = {
    "t": "done", "status": "ok", "stdout": "", "error": "", "rule": None, "line": None, "answer": None,
    "truncated": False,
}  # fmt: skip

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
    worker: Play, limit_s: float = 0.2, answer: Reply = lambda *call: frame({"value": 1})
) -> dict[str, Any]:
    with line_to(worker) as line:
        return exchange(line, "code", answer, Clock(limit_s), lambda text: None)


def forever(data: bytes) -> Play:
    def worker(end: socket.socket) -> None:
        while True:
            end.sendall(data)

    return worker


def once(data: bytes) -> Play:
    def worker(end: socket.socket) -> None:
        end.sendall(data)
        while end.recv(65536):
            pass

    return worker


def test_an_honest_worker_is_understood() -> None:
    assert talk(once(frame(DONE)))["status"] == "ok"


@pytest.mark.parametrize(
    "data",
    [frame({"t": "out", "text": "x" * 100}), frame({"t": "call", "name": "f", "args": [], "kwargs": {}}), b"\x00"],
    ids=["output", "calls", "zero bytes"],
)  # fmt: skip
def test_a_flood_of_frames_ends_with_the_cells_time(data: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(Death):
        talk(forever(data))
    assert time.monotonic() - started < 5


def test_a_worker_that_never_speaks_runs_out_of_time() -> None:
    def silent(end: socket.socket) -> None:
        end.recv(1)
        time.sleep(0.3)

    with pytest.raises(Death, match="time"):
        talk(silent)


def test_a_worker_that_never_reads_runs_out_of_time() -> None:
    call = frame({"t": "call", "name": "f", "args": [], "kwargs": {}})
    reply = frame({"value": "x" * (4 << 20)})

    def deaf(end: socket.socket) -> None:
        end.sendall(call)
        time.sleep(0.4)

    with pytest.raises(Death, match="time"):
        talk(deaf, answer=lambda *parts: reply)


def test_a_worker_that_hangs_up_is_gone() -> None:
    with pytest.raises(Death, match="gone"):
        talk(lambda end: None)


@pytest.mark.parametrize(
    "value",
    [[], 1, None, {}, {"t": "out"}, {"t": "out", "text": 1}, {"t": "call", "name": 1, "args": [], "kwargs": {}},
     {"t": "call", "name": "f", "args": {}, "kwargs": {}}, {"t": ["done"]}, DONE | {"status": "killed"}],
    ids=json.dumps,
)  # fmt: skip
def test_a_frame_of_another_shape_is_a_breach(value: Any) -> None:
    with pytest.raises(Death, match="protocol"):
        talk(once(frame(value)))


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


def test_time_spent_serving_is_not_the_workers() -> None:
    call = frame({"t": "call", "name": "f", "args": [], "kwargs": {}})

    served = []

    def slow(*parts: Any) -> bytes:
        time.sleep(0.3)
        served.append(parts)
        return frame({"value": 1})

    def patient(end: socket.socket) -> None:
        end.sendall(call)
        while end.recv(65536)[-1:] != b"}" or not served:
            pass
        end.sendall(frame(DONE))

    assert talk(patient, limit_s=0.25, answer=slow)["status"] == "ok"
