"""What crosses the sandbox's front door: limits in, results out, and the two errors a caller meets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from index_store.types import Json
from rlm.errors import RlmError

Serve: TypeAlias = Callable[[str, list[Json], dict[str, Json]], Json]
Backend: TypeAlias = Literal["linux", "monty"]
Status: TypeAlias = Literal["ok", "error", "rejected", "killed"]

# Never a silent fall back: whoever is told this decides.
UNCONFINED = (
    "this machine cannot confine model-written code; missing layer {layer}. `rlm doctor` shows all layers; the Monty"
    " backend (extra `monty`) needs none of them"
)


class SandboxUnavailable(RlmError):
    """This machine cannot confine model-written code; the message names the missing layer."""


class CallRefused(RlmError):
    """Raised by `serve` to turn a call down; its text becomes an exception in the cell, so write it for the
    model."""


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one session may use. `cell_timeout_s` does not run while the parent serves a call; `cpu_s` and
    `memory_mb` (address space, interpreter included) hold for one worker; `calls_per_cell` and `refusals`
    for one cell."""

    cell_timeout_s: float = 30.0
    memory_mb: int = 512
    cpu_s: int = 120
    output_chars: int = 20_000
    session_output_chars: int = 400_000
    calls_per_cell: int = 10_000
    refusals: int = 200


@dataclass(frozen=True, slots=True)
class CellResult:
    """What one cell did. `error` is for the model; `rule` and `line` are for the trace (set when status is
    "rejected"; `line` also on errors). `answer` is set once, by the cell that made it ready."""

    status: Status
    stdout: str
    error: str
    seconds: float
    rule: str | None
    line: int | None
    answer: dict[str, Json] | None
    truncated: bool
    state_lost: bool


Intro: TypeAlias = Mapping[str, Json]


class Session(Protocol):
    """Cells over one namespace, whatever runs them. Blocking; `run`, `reset` and `close` belong to one thread,
    `kill` to any."""

    layers: dict[str, bool]
    limits: SandboxLimits
    ended: bool  # nothing runs any more

    def run(self, code: str) -> CellResult:
        """Run one cell. Only what `serve` raises (other than CallRefused) and SandboxUnavailable come out of
        here."""

    def reset(self) -> None:
        """Empty the namespace."""

    def kill(self) -> None:
        """End the session now, whatever it is doing; a running `run` returns with status "killed"."""

    def close(self) -> None:
        """End the session and free what it holds; may be called twice."""

    def __enter__(self) -> "Session": ...

    def __exit__(self, *error: object) -> None: ...
