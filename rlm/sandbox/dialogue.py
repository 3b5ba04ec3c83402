"""One cell's exchange of frames with a worker: under a deadline, every byte from the worker distrusted.

Whatever the worker does, this returns, or raises Death.

A cell goes out with a nonce, a number nobody can foresee, and every frame of the worker must carry it: so a frame is
about this cell and was made after it was sent, and nothing that an earlier cell left in the pipe is taken for a call,
for output or for the end of this one. That is all a nonce shows. How a cell ended and what it printed is the worker's
word, and a worker that was taken over lies; what the parent sees for itself is the calls. So code is "rejected before
it ran" only if the worker says so and was served nothing: whatever it did, it had no effect.
"""

import secrets
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from index_store.types import Json
from rlm.sandbox.cage import wire
from rlm.sandbox.spawn import Worker
from rlm.sandbox.types import Clock

READ_BYTES = 1 << 16  # a quarter of a megabyte costs 13 us to set aside, as much as all else in a call
FrameReply: TypeAlias = bytes  # the whole frame that goes back for a call: {"value": ...} or {"error": ...}
Reply: TypeAlias = Callable[
    [str, list[Json], dict[str, Json]], FrameReply
]  # name, arguments, named arguments

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
class Line:
    """A worker's socket, as frames. `buffer` holds the bytes of a frame that has not arrived whole."""

    worker: Worker
    buffer: bytearray
    incoming: select.poll = field(init=False)

    def __post_init__(self) -> None:
        self.incoming = _poller(self.worker, select.POLLIN)

    def send(self, frame: bytes, clock: Clock) -> None:
        """Send a whole frame. Raises Death when the worker does not read it in time, or is gone."""
        view = memoryview(frame)
        while view:
            try:
                view = view[self.worker.link.send(view) :]
            except BlockingIOError:
                _wait(_poller(self.worker, select.POLLOUT), clock)
            except OSError:
                raise Death("gone") from None

    def receive(self, clock: Clock) -> dict[str, Json]:
        """The next frame. Raises Death on silence, hang-up and anything that is not a frame."""
        try:
            while (body := wire.split(self.buffer, wire.TO_PARENT_BYTES)) is None:
                _wait(self.incoming, clock)
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


def exchange(
    line: Line, code: str, reply: Reply, clock: Clock, on_output: Callable[[str], None]
) -> dict[str, Any]:
    """Send one cell, reply to each call it makes, and return the worker's `done` frame, checked. `on_output` gets what
    the cell prints before it ends. Raises Death when the worker breaks a rule, hangs up or runs out of time."""
    nonce, has_run = secrets.token_hex(8), False
    line.send(wire.encode({"t": "run", "nonce": nonce, "code": code}, wire.TO_WORKER_BYTES), clock)
    while True:
        frame = line.receive(clock)
        kind = frame.get("t")
        if frame.get("nonce") != nonce:
            raise Death("protocol")
        if kind == "done":
            return _last(line, check_done(frame), has_run)
        has_run = True
        if kind == "call":
            line.send(reply(*check_call(frame)), clock)
        elif kind == "out" and isinstance(frame.get("text"), str):
            on_output(str(frame["text"]))
        else:
            raise Death("protocol")


def _last(line: Line, done: dict[str, Any], has_run: bool) -> dict[str, Any]:
    """The frame itself. Raises Death if more came after it, or if it takes back that the cell ran."""
    if line.buffer or (has_run and done["status"] == "rejected"):
        raise Death("protocol")
    return done


def check_call(frame: dict[str, Any]) -> tuple[str, list[Json], dict[str, Json]]:
    """The parts of a call frame. Raises Death unless each has its type."""
    name, arguments, named = frame.get("name"), frame.get("args"), frame.get("kwargs")
    if not (isinstance(name, str) and isinstance(arguments, list) and isinstance(named, dict)):
        raise Death("protocol")
    return name, arguments, named


def check_done(frame: dict[str, Any]) -> dict[str, Any]:
    """The frame itself. Raises Death unless each part has its type, and what is said fits the status."""
    is_typed = all(key in frame and isinstance(frame[key], kind) for key, kind in _DONE.items())
    if not (is_typed and _status_fits(frame) and _answer_fits(frame["answer"])):
        raise Death("protocol")
    line = frame["line"]
    if len(frame["rule"] or "") > RULE_CHARS or isinstance(line, bool) or not 0 <= (line or 0) <= LAST_LINE:
        raise Death("protocol")
    return frame


def _status_fits(frame: dict[str, Any]) -> bool:
    """Only rejected code broke a rule, and it printed and answered nothing; a cell that ended well has no error."""
    is_silent = not (frame["stdout"] or frame["truncated"] or frame["answer"])
    match frame["status"]:
        case "rejected":
            return frame["rule"] is not None and is_silent
        case "error":
            return frame["rule"] is None and frame["error"] != ""
        case "ok":
            return frame["rule"] is None and frame["line"] is None and not frame["error"]
    return False


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


def _wait(poller: select.poll, clock: Clock) -> None:
    """Block until the socket is ready. Raises Death when the time is up."""
    left_s = clock.left_s()
    if left_s <= 0 or not poller.poll(left_s * 1000):
        raise Death("time")


def _poller(worker: Worker, events: int) -> select.poll:
    poller = select.poll()
    poller.register(worker.link, events)
    return poller
