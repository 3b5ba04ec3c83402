"""Faults put in on purpose, one of each kind, to see that the fuzzer finds them."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fuzz.target import Target

BAD = 3  # the number of the example that fails


def _counted(check: Callable[[], object], deadline_s: float) -> Target:
    numbers = iter(range(1_000_000))

    def drawn(rng: random.Random) -> int:
        return next(numbers)

    return Target(drawn, lambda number: check() if number == BAD else None, deadline_s)


def _raise() -> None:
    raise KeyError("nobody foresaw this")


def _spin() -> None:
    while True:  # until the alarm
        time.sleep(0.01)


def _hold() -> None:
    bytearray(700 << 20)


def _ask_for_all() -> None:
    bytearray(64 << 30)


def _die() -> None:
    import os

    os._exit(7)


def _block_everything() -> None:
    """What no alarm can interrupt, as a loop in a library's C code is."""
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(10_000)


_KINDS: dict[str, Callable[[], Any]] = {
    "exception": _raise,
    "hang": _spin,
    "memory": _hold,
    "huge": _ask_for_all,
    "death": _die,
    "stuck": _block_everything,
}


def __getattr__(name: str) -> Any:
    """The target that fails by the kind of this name."""
    if name not in _KINDS:
        raise AttributeError(name)

    @contextmanager
    def prepare(folder: Path) -> Iterator[Target]:
        yield _counted(_KINDS[name], 1.0 if name in ("hang", "stuck") else 60.0)

    return prepare
