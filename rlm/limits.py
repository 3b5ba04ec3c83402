"""What a run may use, who answers in it, and which way it goes. Light to import: the command line takes its choices
and defaults from here."""

from dataclasses import dataclass
from typing import Literal, get_args

from rlm.errors import RlmError
from rlm.sandbox.opening import BACKENDS

Route = Literal["auto", "direct", "retrieve", "rlm"]
ROUTES: tuple[Route, ...] = get_args(Route)
#: Of each hit, what `rlm search --json` prints.
HIT_CHARS = 1_000
#: Where the folders of runs are made.
RUNS = "rlm-runs"
MOST = 1e9  # beyond any use, and within what clocks and counters of every kind can hold
_ABOVE_0 = ("turns", "timeout_s", "cell_timeout_s", "output_chars", "reply_tokens", "concurrency")
_RATES = ("requests_per_minute", "tokens_per_minute", "window")
_NUMBERS = ("usd", "tokens", "calls", "depth", *_ABOVE_0, *_RATES)


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps of one root call and all its descendants together; None is no cap.

    `calls`: every model call, the root's own included. `turns`: of the root and of each child. `depth`: levels of
    children that have a REPL of their own. `timeout_s`: wall clock of the whole run. `cell_timeout_s`: of one
    cell, not counting what the parent serves. `output_chars`: of one cell's output, as the model sees it.
    `reply_tokens`: of one model reply, its reasoning included. `requests_per_minute`, `tokens_per_minute`: to
    each model. `allow_unpriced`: under a dollar cap, call models without a known price all the same, and count
    them as $0. `window`: tokens that the root model takes, where litellm does not know. `backend`: what confines
    the code; never another than the one named.
    """

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = 200
    turns: int = 16
    depth: int = 1
    timeout_s: float = 600.0
    cell_timeout_s: float = 30.0
    output_chars: int = 8_000
    reply_tokens: int = 4_000
    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    allow_unpriced: bool = False
    window: int | None = None
    backend: str = "linux"

    def __post_init__(self) -> None:
        if self.backend not in list(BACKENDS):
            raise RlmError(f"backend is {str(self.backend)[:40]!r}; give one of {', '.join(BACKENDS)}")
        for name in ("usd", "tokens", "calls", "depth"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MOST:
                raise RlmError(f"{name} is {str(value)[:40]}; give a number from 0 to {MOST:g}")
        for name in _ABOVE_0 + _RATES:
            value = getattr(self, name)
            if value is not None and not 0 < value <= MOST:
                raise RlmError(f"{name} is {str(value)[:40]}; give more than 0 and at most {MOST:g}")


@dataclass(frozen=True, slots=True)
class Models:
    """The model of the root conversation, and the one that sub-calls and children ask."""

    root: str = "offline/navigator"
    child: str = "offline/reader"
