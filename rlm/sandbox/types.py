"""The types of the sandbox: limits, results, sessions, and the two errors that a caller meets."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal, Protocol, Self, TypeAlias

from index_store.types import Json
from rlm.errors import RlmError

Serve: TypeAlias = Callable[
    [str, list[Json], dict[str, Json]], Json
]  # name, arguments, named arguments -> value
Status: TypeAlias = Literal["ok", "error", "rejected", "killed"]

# Its first sentence is also why Monty was chosen.
UNCONFINED = (
    "this machine cannot confine model-written code by its kernel; missing layer {layer}. `rlm doctor` shows all"
    " layers; Monty needs none of them: pip install 'raptor-rlm[monty]'"
)


class SandboxUnavailable(RlmError):
    """This machine cannot confine model-written code; the message names the missing layer."""


class CallRefused(RlmError):
    """Raised by `serve` to refuse a call. The cell gets its text as an exception, so write it for the model."""


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one session may use. `cell_timeout_s` runs on a `Clock`; `cpu_s` and
    `memory_mb` (address space, interpreter included) hold for one worker; `calls_per_cell` and `refusals` (calls
    that `serve` may refuse before the cell is stopped) for one cell. `keeps`: earlier cells are run again after
    a kill however long they took; else their variables are lost where that takes more than a second."""

    cell_timeout_s: float = 30.0
    memory_mb: int = 512
    cpu_s: int = 120
    output_chars: int = 20_000
    session_output_chars: int = 400_000
    calls_per_cell: int = 10_000
    refusals: int = 200
    keeps: bool = False


@dataclass(slots=True)
class Clock:
    """How long a cell has run, on its own account: its code, and the calls that the parent serves for it.

    Whoever serves a call pauses the clock for what the cell is not to pay for, which is the time that a model takes. A
    worker that floods the parent with frames runs out of time as surely as one that is silent.
    """

    limit_s: float
    started: float = field(default_factory=monotonic)
    paused_s: float = 0.0

    def spent_s(self) -> float:
        """Seconds on the cell's account."""
        return monotonic() - self.started - self.paused_s

    def left_s(self) -> float:
        """Seconds that the cell still has; 0 or less when its time is up."""
        return self.limit_s - self.spent_s()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside is not on the cell's account."""
        began = monotonic()
        try:
            yield
        finally:
            self.paused_s += monotonic() - began

    def stop(self) -> None:
        """The cell's time is up, now."""
        self.limit_s = 0.0


@dataclass(frozen=True, slots=True)
class CellResult:
    """What one cell did. `error` is for the model; `rule` and `line` are for the trace (set when status is
    "rejected"; `line` also on errors). `answer`, a dict of `content`, `citations` and `ready`, is set once, by the
    cell that made it ready. `state_lost`: the variables of earlier cells are gone.

    All this is the word of the process that ran the cell, but for "killed", `seconds` and `state_lost`. A cell that is
    "rejected" was served no call."""

    status: Status
    stdout: str
    error: str = ""
    seconds: float = 0.0
    rule: str | None = None
    line: int | None = None
    answer: dict[str, Json] | None = None
    truncated: bool = False
    state_lost: bool = False


Intro: TypeAlias = Mapping[str, Json]


class Session(Protocol):
    """Cells over one namespace, whatever runs them: what a backend provides. Blocking; `run`, `reset` and `close`
    belong to one thread, `kill` and `interrupt` to any. `layers`: which means of confinement hold, by name. `ended`:
    nothing runs any more. `clock`: of the cell under way, for who serves its calls; `kill` stops it."""

    layers: dict[str, bool]
    limits: SandboxLimits
    ended: bool
    clock: Clock

    def run(self, code: str) -> CellResult:
        """Run one cell. Only what `serve` raises (other than CallRefused) and SandboxUnavailable come out of
        here."""

    def reset(self) -> None:
        """Empty the namespace."""

    def kill(self) -> None:
        """End the session now, whatever it is doing; a running `run` returns with status "killed"."""

    def interrupt(self) -> None:
        """End the cell under way as if its time were up."""

    def close(self) -> None:
        """End the session and free what it holds; may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


OpenSession: TypeAlias = Callable[[Serve, frozenset[str], SandboxLimits, Intro], Session]
