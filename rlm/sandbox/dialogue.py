"""One cell's conversation with a worker: frames in and out under a deadline, every byte from the worker distrusted.

The worker's clock stops while the parent serves a call. Whatever the worker does, this returns, or raises Death.
"""

import select
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from index_store.types import Json
from rlm.sandbox.cage import wire
from rlm.sandbox.spawn import Worker

READ_BYTES = 1 << 16  # a quarter of a megabyte costs 13 us to set aside, as much as all else in a call
Answer = Callable[[str, list[Json], dict[str, Json]], bytes]  # a call in, the reply frame out

_DONE: dict[str, type | tuple[type, ...]] = {
    "status": str,
    "stdout": str,
    "error": str,
    "rule": (str, type(None)),
    "line": (int, type(None)),
    "answer": (dict, type(None)),
    "truncated": bool,
}
RULE_CHARS, LAST_LINE = 400, 10_000_000  # more than any honest worker sends


class Death(Exception):
    """The worker must be, or is, dead; str() says why, for the model."""


@dataclass(slots=True)
class Clock:
    """A cell's time. It runs from the start, whoever is busy, except while the parent serves a call: so a flood of
    frames that are always ready ends as surely as silence."""

    limit_s: float
    started: float = field(default_factory=monotonic)
    paused_s: float = 0.0

    def spent_s(self) -> float:
        """Seconds on the worker's account."""
        return monotonic() - self.started - self.paused_s

    def wait(self, poller: select.poll) -> None:
        """Block until the socket is ready. Raises Death when the time is up."""
        left_s = self.limit_s - self.spent_s()
        if left_s <= 0 or not poller.poll(left_s * 1000):
            raise Death("time")

    def served(self, started: float) -> None:
        """Take the seconds since `started` off the account."""
        self.paused_s += monotonic() - started


@dataclass(slots=True)
class Line:
    """Frames over a worker's socket."""

    worker: Worker
    buffer: bytearray
    incoming: select.poll = field(init=False)

    def __post_init__(self) -> None:
        self.incoming = _poller(self.worker, select.POLLIN)

    def send(self, frame: bytes, clock: Clock) -> None:
        """Send all of it; a worker that does not read runs out of time."""
        view = memoryview(frame)
        while view:
            try:
                view = view[self.worker.link.send(view) :]
            except BlockingIOError:
                clock.wait(_poller(self.worker, select.POLLOUT))
            except OSError:
                raise Death("gone") from None

    def receive(self, clock: Clock) -> dict[str, Json]:
        """The next frame. Raises Death on silence, hang-up and anything that is not a frame."""
        try:
            while (body := wire.split(self.buffer, wire.TO_PARENT_BYTES)) is None:
                clock.wait(self.incoming)
                self.buffer += self._read()
            frame = wire.decode(body)
        except wire.FrameError:
            raise Death("protocol") from None
        if not isinstance(frame, dict):
            raise Death("protocol")
        return frame

    def _read(self) -> bytes:
        try:
            part = self.worker.link.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            part = b""
        if not part:
            raise Death("gone")
        return part


def converse(
    line: Line, code: str, answer: Answer, clock: Clock, hear: Callable[[str], None]
) -> dict[str, Any]:
    """Run one cell to its end and return the worker's `done` frame, type-checked. `hear` gets early output."""
    line.send(wire.encode({"t": "run", "code": code}, wire.TO_WORKER_BYTES), clock)
    while True:
        frame = line.receive(clock)
        kind = frame.get("t")
        if kind == "done":
            return check_done(frame)
        if kind == "call":
            line.send(_served(answer, frame, clock), clock)
        elif kind == "out" and isinstance(frame.get("text"), str):
            hear(str(frame["text"]))
        else:
            raise Death("protocol")


def _served(answer: Answer, frame: dict[str, Any], clock: Clock) -> bytes:
    call, started = check_call(frame), monotonic()
    try:
        return answer(*call)
    finally:
        clock.served(started)


def check_call(frame: dict[str, Any]) -> tuple[str, list[Json], dict[str, Json]]:
    """The parts of a call frame. Raises Death unless each has its type."""
    name, arguments, named = frame.get("name"), frame.get("args"), frame.get("kwargs")
    if not (isinstance(name, str) and isinstance(arguments, list) and isinstance(named, dict)):
        raise Death("protocol")
    return name, arguments, named


def check_done(frame: dict[str, Any]) -> dict[str, Any]:
    """The frame itself. Raises Death unless each part has its type."""
    right = all(key in frame and isinstance(frame[key], kind) for key, kind in _DONE.items())
    if not right or frame["status"] not in ("ok", "error", "rejected") or not _answer_fits(frame["answer"]):
        raise Death("protocol")
    if len(frame["rule"] or "") > RULE_CHARS or not 0 <= (frame["line"] or 0) <= LAST_LINE:
        raise Death("protocol")
    return frame


def _answer_fits(answer: dict[str, Any] | None) -> bool:
    if answer is None:
        return True
    content, citations = answer.get("content"), answer.get("citations")
    return (
        isinstance(content, str)
        and isinstance(citations, list)
        and answer.get("ready") is True
        and len(answer) == 3
    )


def _poller(worker: Worker, events: int) -> select.poll:
    poller = select.poll()
    poller.register(worker.link, events)
    return poller
