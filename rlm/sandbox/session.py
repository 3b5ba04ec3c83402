"""The parent's side of a session: run cells, serve their calls, outlive their worker.

The worker is disposable. When it is killed a new one takes its place, and the earlier cells are run again in
it with their recorded replies, where that is cheap; otherwise the variables are gone and the result says so.
"""

import signal
import threading
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from index_store.types import Json
from rlm.sandbox.cage import wire
from rlm.sandbox.dialogue import Death, FrameReply, Line, exchange
from rlm.sandbox.shown import Shown
from rlm.sandbox.spawn import Worker, fork_worker, running_zygote
from rlm.sandbox.types import (
    UNCONFINED,
    CallRefused,
    CellResult,
    Clock,
    Intro,
    SandboxLimits,
    SandboxUnavailable,
    Serve,
    Session,
)

START_S = 20.0
REPLAY_S = 1.0
KEPT_S = 3_600.0
REPLAY_BYTES = 16 << 20
_SIGNALS: dict[int, str] = {signal.SIGXCPU: "cpu", signal.SIGSYS: "forbidden", signal.SIGKILL: "signal"}


@dataclass(slots=True)
class CellRecord:
    """A cell and the replies that its calls got: enough to run it again."""

    code: str
    calls: list[tuple[str, list[Json], dict[str, Json], FrameReply]] = field(default_factory=list)
    seconds: float = 0.0
    served_s: float = 0.0
    size: int = 0
    status: str = ""

    def add(self, name: str, arguments: list[Json], named: dict[str, Json], frame: FrameReply) -> None:
        """Add one call; past REPLAY_BYTES, when the cell is not worth running again, nothing more is added."""
        if self.size <= REPLAY_BYTES:
            self.size += len(frame) + len(repr((arguments, named)))
            self.calls.append((name, arguments, named, frame))


class LinuxSession(Session):
    """Cells over one namespace, in a worker process that the kernel confines."""

    def __init__(self, serve: Serve, calls: frozenset[str], limits: SandboxLimits, intro: Intro) -> None:
        self.serve, self.calls, self.limits, self._intro = serve, calls, limits, dict(intro)
        self._history: list[CellRecord] = []
        self._is_costly = False  # too much has happened to be worth replaying
        self._shown = Shown(limits)
        self.ended = False
        self.clock = Clock(0.0)
        self._lock = threading.Lock()
        self.layers: dict[str, bool] = {}
        self._line: Line | None = self._start()

    def run(self, code: str) -> CellResult:
        """Run one cell. Only what `serve` raises (other than CallRefused) and SandboxUnavailable come out of
        here."""
        if self.ended:
            return self._shown.death("outside", 0.0, "", lost=True, ended=True)
        record, early, started = CellRecord(code), _EarlyOutput(self.limits.output_chars), monotonic()
        self.clock = clock = Clock(self.limits.cell_timeout_s)
        try:
            done = exchange(self._ready_line(), code, _ServedCalls(self, record).reply, clock, early.add)
        except Death as death:
            return self._recover(str(death), clock.spent_s(), early.text())
        except Exception:
            self._bring_back()  # a fault of ours: this worker's conversation cannot go on
            raise
        except BaseException:
            self.reset()  # Ctrl-C: nothing more is waited for
            raise
        # What it was served in took its time, and takes none when the replies are at hand.
        record.seconds, record.status = clock.spent_s() - record.served_s, done["status"]
        if done["status"] != "rejected":
            self._remember(record)
        return self._shown.result(done, monotonic() - started)

    def reset(self) -> None:
        """Empty the namespace."""
        self._forget()
        self._drop()

    def kill(self) -> None:
        """End the session now, whatever it is doing; a running `run` returns with status "killed"."""
        with self._lock:
            self.ended = True
            self.clock.stop()
            if self._line is not None:
                self._line.worker.kill()

    def interrupt(self) -> None:
        """End the cell under way as if its time were up."""
        with self._lock:
            self.clock.stop()
            if self._line is not None:
                self._line.worker.kill()

    def close(self) -> None:
        """End the session and free what it holds; may be called twice."""
        self.ended = True
        self._drop()

    def _ready_line(self) -> Line:
        if self._line is None:
            line = self._start()
            with self._lock:
                self._line = line
        if self.ended:
            raise Death("outside")
        return self._line

    def _start(self) -> Line:
        """A fresh worker that has the session's stubs. Raises SandboxUnavailable."""
        line = Line(fork_worker(self.limits.memory_mb, self.limits.cpu_s), bytearray())
        hello: dict[str, Any] = {
            "calls": sorted(self.calls), "intro": self._intro, "output_chars": self.limits.output_chars,
        }  # fmt: skip
        try:
            clock = Clock(START_S)
            ready = line.receive(clock)
            line.send(wire.encode(hello, wire.TO_WORKER_BYTES), clock)
        except Death as death:
            reason = _reason(str(death), line.worker)
            line.worker.close()
            raise SandboxUnavailable(f"a sandbox worker did not start: {reason}") from None
        if ready.get("t") != "ready":
            line.worker.close()
            raise SandboxUnavailable(UNCONFINED.format(layer=ready.get("layer")))
        layers = ready.get("layers")
        own = {name: on is True for name, on in layers.items()} if isinstance(layers, dict) else {}
        self.layers = running_zygote().layers | own
        return line

    def _drop(self) -> None:
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.worker.close()

    @property
    def _again_s(self) -> float:
        """What earlier cells may have taken together to be run again."""
        return KEPT_S if self.limits.keeps else REPLAY_S

    def _remember(self, record: CellRecord) -> None:
        """Add a cell to those that a new worker runs again. Past the bounds all are dropped: a worker must not fill the
        parent's memory."""
        self._history.append(record)
        self._is_costly = self._is_costly or (
            sum(t.seconds for t in self._history) > self._again_s
            or sum(t.size + len(t.code) for t in self._history) > REPLAY_BYTES
        )
        if self._is_costly:
            self._history.clear()

    def _forget(self) -> None:
        self._history.clear()
        self._is_costly = False

    def _recover(self, reason: str, seconds: float, stdout: str) -> CellResult:
        """After a death: find the reason, fork a new worker, bring the variables back where that is cheap."""
        if self._line is not None:
            reason = _reason(reason, self._line.worker)
        if self.ended:
            self._drop()
            return self._shown.death("outside", seconds, stdout, lost=True, ended=True)
        lost = not self._bring_back()
        return self._shown.death(reason, seconds, stdout, lost, self.ended)

    def _bring_back(self) -> bool:
        """A new worker with the variables of the cells that ended. False, and an empty one, where that costs too
        much."""
        self._drop()
        if not self._is_costly and self._replay():
            return True
        self.reset()
        return False

    def _replay(self) -> bool:
        """Run the history again with its recorded replies. False where it does not go the same way."""
        clock = Clock(3 * self._again_s)
        try:
            line = self._ready_line() if self._history else None
            return line is None or all(_same_again(line, record, clock) for record in self._history)
        except Death:
            return False


class _ServedCalls:
    """Replies to a cell's calls through `serve`, and records the replies."""

    def __init__(self, session: LinuxSession, record: CellRecord) -> None:
        self._session, self._record = session, record
        self._count = self._refused = 0

    def reply(self, name: str, arguments: list[Json], named: dict[str, Json]) -> FrameReply:
        """The frame for a call: a value, or why there is none. Raises Death past the limits, or when killed
        meanwhile."""
        self._count += 1
        if name not in self._session.calls:
            raise Death("protocol")  # an honest worker refuses it itself
        try:
            self._check(name)
            frame = self._served(name, arguments, named)
        except CallRefused as refused:
            self._refused += 1
            frame = wire.encode({"error": str(refused)}, wire.TO_WORKER_BYTES)
        if self._session.ended:
            raise Death("outside")
        if self._refused > self._session.limits.refusals:
            raise Death("refusals")
        self._record.add(name, arguments, named, frame)
        return frame

    def _served(self, name: str, arguments: list[Json], named: dict[str, Json]) -> FrameReply:
        clock = self._session.clock
        began_s = clock.spent_s()
        try:
            return _value_frame(name, self._session.serve(name, arguments, named))
        finally:
            self._record.served_s += clock.spent_s() - began_s

    def _check(self, name: str) -> None:
        limit = self._session.limits.calls_per_cell
        if self._count > limit:
            raise CallRefused(f"{name}: one cell may make {limit:,} calls; go on in the next cell")


def _value_frame(name: str, value: Json) -> bytes:
    """The frame for a value. One too large is refused; one that is not JSON is a fault of whoever wrote `serve`."""
    try:
        return wire.encode({"value": value}, wire.TO_WORKER_BYTES)
    except wire.FrameTooLarge as error:
        raise CallRefused(f"{name}: the reply has {error}; ask for a part of it") from None
    except wire.FrameError as error:
        raise TypeError(f"serve({name!r}) returned what is not JSON: {error}") from error


def _same_again(line: Line, record: CellRecord, clock: Clock) -> bool:
    """Run a cell again; whether it asked for the same and ended the same way."""
    calls = _RecordedCalls(record)
    done = exchange(line, record.code, calls.reply, clock, lambda text: None)
    return done["status"] == record.status and calls.are_used_up()


class _RecordedCalls:
    """Replies to a replayed cell's calls from the record. Raises Death as soon as it asks for something else."""

    def __init__(self, record: CellRecord) -> None:
        self._calls = iter(record.calls)

    def are_used_up(self) -> bool:
        """Whether every recorded call was made again."""
        return next(self._calls, None) is None

    def reply(self, name: str, arguments: list[Json], named: dict[str, Json]) -> FrameReply:
        recorded = next(self._calls, None)
        if recorded is None or recorded[:3] != (name, arguments, named):
            raise Death("protocol")
        return recorded[3]


class _EarlyOutput:
    """Output that arrived before the cell ended, at most `cap` characters of it."""

    def __init__(self, cap: int) -> None:
        self._cap, self._parts, self._size = cap, [""], 0

    def add(self, text: str) -> None:
        part = text[: self._cap - self._size]
        self._size += len(part)
        if part:
            self._parts.append(part)

    def text(self) -> str:
        return "".join(self._parts)


def _reason(reason: str, worker: Worker) -> str:
    """The reason for a death; for a worker that is simply gone, from its exit code."""
    if reason != "gone":
        return reason
    code = worker.exit_code(timeout_s=1.0)
    if code is None or code == 70:
        return "gone"
    if code == 71:
        return "memory"
    return _SIGNALS.get(-code, "crash") if code < 0 else "gone"
