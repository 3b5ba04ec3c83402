"""The parent against a worker that has turned: whatever it sends, `exchange` returns in time or raises Death."""

import contextlib
import json
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rlm.sandbox.cage import wire
from rlm.sandbox.dialogue import Clock, Death, Line, exchange

DONE = {"t": "done", "status": "ok", "stdout": "", "error": "", "rule": None, "line": None, "answer": None}
DONE["truncated"] = False


@contextlib.contextmanager
def line_to(worker):
    """A line whose other end is played by `worker(socket)` in a thread."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    thread = threading.Thread(target=play, args=(worker, theirs))
    thread.start()
    try:
        yield Line(SimpleNamespace(link=ours), bytearray())
    finally:
        ours.close()
        thread.join()


def play(worker, end):
    with end, contextlib.suppress(OSError):
        worker(end)


def frame(value):
    return wire.encode(value, wire.TO_PARENT_BYTES)


def talk(worker, limit_s=0.2, answer=lambda *call: frame({"value": 1})):
    with line_to(worker) as line:
        return exchange(line, "code", answer, Clock(limit_s), lambda text: None)


def forever(data):
    def worker(end):
        while True:
            end.sendall(data)

    return worker


def once(data):
    def worker(end):
        end.sendall(data)
        while end.recv(65536):
            pass

    return worker


def test_an_honest_worker_is_understood():
    assert talk(once(frame(DONE)))["status"] == "ok"


@pytest.mark.parametrize(
    "data",
    [frame({"t": "out", "text": "x" * 100}), frame({"t": "call", "name": "f", "args": [], "kwargs": {}}), b"\x00"],
    ids=["output", "calls", "zero bytes"],
)  # fmt: skip
def test_a_flood_of_frames_ends_with_the_cells_time(data):
    started = time.monotonic()
    with pytest.raises(Death):
        talk(forever(data))
    assert time.monotonic() - started < 5


def test_a_worker_that_never_speaks_runs_out_of_time():
    with pytest.raises(Death, match="time"):
        talk(lambda end: end.recv(1) and time.sleep(0.3))


def test_a_worker_that_never_reads_runs_out_of_time():
    call = frame({"t": "call", "name": "f", "args": [], "kwargs": {}})
    reply = frame({"value": "x" * (4 << 20)})
    with pytest.raises(Death, match="time"):
        talk(lambda end: end.sendall(call) or time.sleep(0.4), answer=lambda *parts: reply)


def test_a_worker_that_hangs_up_is_gone():
    with pytest.raises(Death, match="gone"):
        talk(lambda end: None)


@pytest.mark.parametrize(
    "value",
    [[], 1, None, {}, {"t": "out"}, {"t": "out", "text": 1}, {"t": "call", "name": 1, "args": [], "kwargs": {}},
     {"t": "call", "name": "f", "args": {}, "kwargs": {}}, {"t": ["done"]}, DONE | {"status": "killed"}],
    ids=json.dumps,
)  # fmt: skip
def test_a_frame_of_another_shape_is_a_breach(value):
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
def test_random_bytes_end_in_death(parts):
    with pytest.raises(Death):
        talk(
            lambda end: end.sendall(b"".join(parts)) or end.shutdown(socket.SHUT_WR) or end.recv(1), limit_s=2
        )


def test_time_spent_serving_is_not_the_workers():
    call = frame({"t": "call", "name": "f", "args": [], "kwargs": {}})

    served = []

    def slow(*parts):
        time.sleep(0.3)
        served.append(parts)
        return frame({"value": 1})

    def patient(end):
        end.sendall(call)
        while end.recv(65536)[-1:] != b"}" or not served:
            pass
        end.sendall(frame(DONE))

    assert talk(patient, limit_s=0.25, answer=slow)["status"] == "ok"
