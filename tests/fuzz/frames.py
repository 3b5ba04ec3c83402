"""Workers that have turned: whatever bytes they send, the cell ends as checked, or in Death, and in time."""

import contextlib
import json
import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from rlm.sandbox.cage import wire
from rlm.sandbox.dialogue import READ_BYTES, Death, Line, exchange
from rlm.sandbox.shown import Shown
from rlm.sandbox.spawn import Worker
from rlm.sandbox.types import Clock, SandboxLimits
from tests.fuzz.mutate import mutated_bytes, mutated_json, value
from tests.fuzz.target import Target
from tests.helpers.sandbox_frames import DONE, FAILED, REJECTED

ANSWER = {"content": "An answer.", "citations": [{"node": "L0-00000", "quote": "words"}], "ready": True}
HONEST = (
    DONE,
    DONE | {"answer": ANSWER, "stdout": "out\n"},
    FAILED,
    REJECTED,
    {"t": "out", "text": "printed\n"},
    {"t": "call", "name": "context.read", "args": ["L0-00000"], "kwargs": {}},
    {"t": "call", "name": "llm_query", "args": [], "kwargs": {"prompt": "?", "nodes": ["L0-00000"] * 9}},
    {"t": "call", "name": "context.rows", "args": ["line"], "kwargs": {"under": None}},
    {"t": "call", "name": "context.read_rows", "args": ["{}", 0, 9], "kwargs": {}},
    {
        "t": "call",
        "name": "llm_map",
        "args": ["?", {"rows": "{}", "start": 0, "stop": 9}],
        "kwargs": {"fields": {"a": "text"}},
    },
    {"t": "call", "name": "llm_filter", "args": ["?", ["L0-00000"] * 9], "kwargs": {"sure": 0.5}},
    {"t": "call", "name": "llm_reduce", "args": ["?"], "kwargs": {"texts": ["a", "b"]}},
    {"t": "ready", "layers": {}},
)
WORDS = (
    b"[", b"{", b'{"a":' * 100, b"[" * 65, b"NaN", b"-Infinity", b"1e999", b"9" * 5_000, b"\\ud800",
    b"\\u0000", b"\xef\xbb\xbf",
    b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x02{}", b",", b'"', b"\\", b"null", b"true", b"[],",
    b'"t":"done"',
)  # fmt: skip
LIMITS = SandboxLimits()


@dataclass(frozen=True, slots=True)
class Script:
    """What a worker sends: frames, then what is done to their bytes by the numbers of `seed`; and how it ends."""

    frames: tuple[Any, ...]
    seed: int
    mutate: bool
    ending: str  # "hang up", "silent" or "flood"
    replies: Any


def drawn(rng: random.Random) -> Script:
    frames = [rng.choice(HONEST) for _ in range(rng.choice([1, 1, 2, 5]))]
    if rng.random() < 0.7:
        at = rng.randrange(len(frames))
        frames[at] = mutated_json(rng, frames[at])
    ending = "flood" if rng.random() < 0.02 else "silent" if rng.random() < 0.02 else "hang up"
    return Script(tuple(frames), rng.randrange(2**32), rng.random() < 0.5, ending, value(rng))


def bytes_of(script: Script, told: dict[str, Any], rng: random.Random) -> bytes:
    """The bytes of a worker that has read the cell, and mostly names its nonce."""
    about = {"nonce": told["nonce"]}
    parts = []
    for frame in script.frames:
        whole = frame | about if isinstance(frame, dict) and rng.random() < 0.95 else frame
        with contextlib.suppress(ValueError):  # a number of too many digits to be written
            body = json.dumps(whole).encode()
            parts.append(wire.HEADER.pack(len(body)) + body)
    raw = b"".join(parts)
    return mutated_bytes(rng, raw, WORDS) if script.mutate else raw


def act(script: Script, end: socket.socket) -> None:
    """Be the worker."""
    rng = random.Random(script.seed)
    with end, contextlib.suppress(OSError):
        (size,) = wire.HEADER.unpack(end.recv(wire.HEADER.size, socket.MSG_WAITALL))
        told = json.loads(end.recv(size, socket.MSG_WAITALL))
        raw = bytes_of(script, told, rng)
        at = 0
        while at < len(raw):
            size = rng.choice([1, 3, 4, 5, 100, len(raw)])
            end.sendall(raw[at : at + size])
            at += size
        while script.ending == "flood" and raw:
            end.sendall(raw)
        if script.ending == "hang up":
            end.shutdown(socket.SHUT_WR)
        while end.recv(1 << 16):
            pass


def check(script: Script) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    thread = threading.Thread(target=act, args=(script, theirs), daemon=True)
    thread.start()
    line = Line(cast(Worker, SimpleNamespace(link=ours)), bytearray())
    clock = Clock(5.0 if script.ending == "hang up" else 0.1)
    try:
        reply = wire.encode({"value": script.replies}, wire.TO_WORKER_BYTES)
    except wire.FrameError:
        reply = wire.encode({"error": "it is not JSON"}, wire.TO_WORKER_BYTES)
    printed: list[str] = []
    try:
        done = exchange(line, "code", lambda *call: _served(reply, *call), clock, printed.append)
        result = Shown(LIMITS).result(done, 0.1)
        json.dumps([result.stdout, result.error, result.answer, result.rule], allow_nan=False).encode()
    except Death:
        pass
    finally:
        ours.close()
        thread.join(120)
    assert all(isinstance(text, str) for text in printed)
    assert len(line.buffer) <= wire.TO_PARENT_BYTES + wire.HEADER.size + READ_BYTES


def _served(reply: bytes, name: str, args: list[Any], named: dict[str, Any]) -> bytes:
    json.dumps([name, args, named], allow_nan=False).encode()  # as a trace would keep it
    return reply


@contextlib.contextmanager
def frames(folder: Path) -> Iterator[Target]:
    """The parent's side of a session, its worker played."""
    yield Target(drawn, check)
