"""The trace on disk: `<run>/trace.jsonl`, one event a line, each line sealed to the one before.

A line is `body` with its closing brace replaced by `,"prev":"<64 hex>","hash":"<64 hex>"}` and a newline.
`body` is the event as canonical JSON: keys sorted, no spaces, ASCII only, so that any character can be written, even
the lone surrogates that models send. hash = sha256(prev as ASCII + body), and the first line's prev is 64 zeros.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from index_store.types import Json
from rlm.audit.events import FORMAT, RecordedEvent, event_problem
from rlm.audit.kinds import Event
from rlm.errors import RlmError

FILE_NAME = "trace.jsonl"
FIRST_PREV = "0" * 64
MAX_LINE_BYTES = 32 * 1024 * 1024


class TraceError(RlmError):
    """A trace that cannot be written or read."""


def canonical(event: Mapping[str, Any]) -> bytes:
    """The one form in bytes that an event has in a trace.

    Raises ValueError or RecursionError where JSON cannot say it (NaN, nesting without end).
    """
    return json.dumps(
        event, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=False
    ).encode("ascii")


def digest(prev: str, body: bytes) -> str:
    """The hash of an event whose predecessor's hash is `prev`."""
    return hashlib.sha256(prev.encode("ascii") + body).hexdigest()


def seal(prev: str, body: bytes) -> bytes:
    """The line for `body` after `prev`, newline included."""
    return body[:-1] + f',"prev":"{prev}","hash":"{digest(prev, body)}"}}\n'.encode("ascii")


class Trace:
    """An open trace. `record` may be called from any thread; lines are flushed as they are written."""

    def __init__(self, file: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock, self._began = file, clock, clock()
        self._lock = threading.Lock()
        self._seq, self._head, self._finished = 0, FIRST_PREV, False
        self.size = 0  # bytes written so far

    @classmethod
    def open(cls, folder: str | Path, clock: Callable[[], float] = time.monotonic) -> "Trace":
        """A new trace in `folder`, which is created if absent. Raises TraceError where the folder holds a trace, or
        cannot be written."""
        path = Path(folder) / FILE_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return cls(path.open("xb"), clock)
        except FileExistsError as error:
            raise TraceError(
                f"{path} exists already; a trace is never overwritten; name another folder"
            ) from error
        except OSError as error:
            raise TraceError(
                f"cannot create {path}: {error.strerror}; name a folder that can be written"
            ) from error

    @property
    def head(self) -> str:
        """The hash of the last line. Written down elsewhere, it shows later that the whole file was not rewritten."""
        return self._head

    def record(self, conversation: str, event: Event, /) -> int:
        """Append one event of a conversation and return its `seq`; raises TraceError where its fields are not as
        events.EVENTS allows, and then writes nothing."""
        with self._lock:
            line = seal(self._head, _body(self._recorded(event.kind, conversation, event.fields())))
            self._write(line)
            self._head = line[-67:-3].decode("ascii")
            self._seq += 1
            self._finished = event.kind == "run_closed"
            return self._seq - 1

    def close(self) -> None:
        """Flush to the disk and close. A second close does nothing."""
        with self._lock:
            if not self._file.closed:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _recorded(self, kind: str, conversation: str, fields: dict[str, Json]) -> RecordedEvent:
        if self._file.closed or self._finished:
            raise TraceError(f"cannot record {kind}: the trace is closed; record before run_closed")
        if (self._seq == 0) != (kind == "run_opened"):
            raise TraceError(f"cannot record {kind} as event {self._seq}: run_opened comes first, and once")
        opening = {"format": FORMAT, "started": _now()} if kind == "run_opened" else {}
        time_s = round(max(self._clock() - self._began, 0.0), 3)
        header = {"seq": self._seq, "time_s": time_s, "conversation": conversation, "kind": kind}
        ours = {**opening, **header}
        taken = [name for name in fields if name in ours]
        event = {**fields, **ours}
        if wrong := f"{taken[0]} is set by the trace itself" if taken else event_problem(event):
            raise TraceError(f"cannot record an event: {wrong}; see rlm/audit/events.py")
        return event

    def _write(self, line: bytes) -> None:
        try:
            self._file.write(line)
            self._file.flush()
            self.size += len(line)
        except OSError as error:
            # Half a line may be on disk: nothing may follow it.
            self._finished = True
            raise TraceError(
                f"cannot write the trace: {error.strerror}; the run is not recorded any more"
            ) from error


def _body(event: RecordedEvent) -> bytes:
    try:
        body = canonical(event)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"cannot record {event['kind']}: JSON cannot say it ({error})") from error
    if len(body) > MAX_LINE_BYTES - 256:
        raise TraceError(
            f"cannot record {event['kind']}: {len(body)} bytes, and a line holds {MAX_LINE_BYTES}"
        )
    return body


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
