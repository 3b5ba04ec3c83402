"""The trace on disk: `<run>/trace.jsonl`, one event a line, each line sealed to the one before (rlm/audit/lines.py)."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from index_store.files import hold, let_go
from index_store.types import Json
from rlm.audit.events import FORMAT, RecordedEvent, event_problem
from rlm.audit.kinds import Event
from rlm.audit.lines import MAX_LINE_BYTES, Sealer, canonical
from rlm.errors import RlmError

FILE_NAME = "trace.jsonl"
_BESIDE_BYTES = 1024  # of a line, for its seal and its salt


class TraceError(RlmError):
    """A trace that cannot be written or read."""


class UnwritableTrace(TraceError):
    """A trace whose disk takes no more: the run cannot go on."""


def trace_file(run: str | Path) -> Path:
    """The trace of a run, which is named by its folder or by its trace. Raises TraceError where there is none."""
    path = Path(run)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise TraceError(f"no trace at {path}; name a run folder, which holds {FILE_NAME}")
    return path


class Trace:
    """An open trace. `record` may be called from any thread; lines are flushed as they are written.

    Its file is locked until it is closed, so that nobody replaces it meanwhile.
    """

    def __init__(self, file: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock, self._began = file, clock, clock()
        self._lock = threading.Lock()
        self._seq, self._sealer, self._finished = 0, Sealer(), False
        self.size = 0  # bytes written so far

    @classmethod
    def open(cls, folder: str | Path, clock: Callable[[], float] = time.monotonic) -> "Trace":
        """A new trace in `folder`, which is created if absent. Raises TraceError where the folder holds a trace, or
        cannot be written."""
        path = Path(folder) / FILE_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
            with suppress(OSError):  # a file system may have no locks
                hold(file.fileno())
            return cls(file, clock)
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
        return self._sealer.head

    def record(self, conversation: str, event: Event, /) -> int:
        """Append one event of a conversation and return its `seq`; raises TraceError where its fields are not as
        events.EVENTS allows, and then writes nothing."""
        with self._lock:
            self._write(self._line(self._recorded(event.kind, conversation, event.fields())))
            self._seq += 1
            self._finished = event.kind == "run_closed"
            return self._seq - 1

    def close(self) -> None:
        """Flush to the disk and close. A second close does nothing. Raises TraceError where what is left of it cannot
        be written."""
        with self._lock:
            if self._file.closed:
                return
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._unwritable(error) from error
            finally:
                with suppress(OSError):  # a process that was forked may hold the file open, and its lock
                    let_go(self._file.fileno())
                with suppress(
                    OSError
                ):  # what could not be written is tried again, and then the file is closed
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
        opening |= {"ended": _now()} if kind == "run_closed" else {}
        time_s = round(max(self._clock() - self._began, 0.0), 3)
        header = {"seq": self._seq, "time_s": time_s, "conversation": conversation, "kind": kind}
        ours = {**opening, **header}
        taken = [name for name in fields if name in ours]
        event = {**fields, **ours}
        if wrong := f"{taken[0]} is set by the trace itself" if taken else event_problem(event):
            raise TraceError(f"cannot record an event: {wrong}; see rlm/audit/events.py")
        return event

    def _line(self, event: RecordedEvent) -> bytes:
        """The line of an event; one that cannot be written leaves the sealer as it was."""
        try:
            size = len(canonical(event))
        except (ValueError, RecursionError) as error:
            raise TraceError(f"cannot record {event['kind']}: JSON cannot say it ({error})") from error
        if size > MAX_LINE_BYTES - _BESIDE_BYTES:
            raise TraceError(
                f"cannot record {event['kind']}: {size} bytes, and a line holds {MAX_LINE_BYTES}"
            )
        return self._sealer.line(event)

    def _write(self, line: bytes) -> None:
        try:
            self._file.write(line)
            self._file.flush()
            self.size += len(line)
        except OSError as error:
            # Half a line may be on disk: nothing may follow it.
            self._finished = True
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> TraceError:
        why = error.strerror or error
        return UnwritableTrace(
            f"cannot write the trace {self._file.name}: {why}; make room, or name another folder by --runs"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
