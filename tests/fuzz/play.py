"""The process of one target: example after example, and a line of JSON about each to whoever watches.

python -m tests.fuzz.play TARGET SEED FIRST COUNT SECONDS
"""

import faulthandler
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tests.fuzz.target import Target, prepare_of, rng_of

MOST_MB = 500  # that a target may grow by, once it is ready
ROOM_BYTES = 6 << 30  # of addresses that it may grow by: what asks for more ends here, not the machine
EXAMPLE_CHARS = 200_000  # of an example that is told of
Tell = Callable[..., None]


class Hang(BaseException):
    """An example took longer than its deadline. No Exception: the code under test must not take it for its own."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise Hang in the main thread after so long."""

    def ring(*_: object) -> None:
        raise Hang(f"it took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak_mb() -> float:
    """The most memory that this process has had so far."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def play(name: str, seed: int, first: int, count: int, seconds: float, tell: Tell) -> None:
    """Play `count` examples from the `first` on, for so many seconds at most. Ends early once too much memory is held,
    since whatever came after would be blamed for it."""
    with tempfile.TemporaryDirectory() as folder, prepare_of(name)(Path(folder)) as target:
        start_mb, ends = peak_mb(), time.monotonic() + seconds
        tell(ready=target.deadline_s)
        for number in range(first, first + count):
            if time.monotonic() > ends:
                break
            tell(begin=number)
            began = time.monotonic()
            failure = attempt(target, name, seed, number)
            grown = peak_mb() - start_mb
            tell(end=number, ms=(time.monotonic() - began) * 1000, mb=grown)
            if failure is None and grown > MOST_MB:
                text = f"it took {grown:.0f} MB, more than {MOST_MB}, it or all before it together"
                failure = {"kind": "memory", "key": "memory", "text": text, "example": ""}
            if failure:
                tell(failed=number, **failure)
            if grown > MOST_MB:
                break
        tell(done=True)


def attempt(target: Target, name: str, seed: int, number: int) -> dict[str, str] | None:
    """Play one example; how it failed, None where it did not."""
    example: Any = None
    try:
        with deadline(target.deadline_s):
            example = target.draw(rng_of(name, seed, number))
            target.check(example)
    except KeyboardInterrupt:
        raise
    except Hang as error:
        return _failure("hang", error, example)
    except MemoryError as error:
        return _failure("memory", error, example)
    except BaseException as error:  # whatever it is, it is a finding
        return _failure("exception", error, example)
    return None


def _failure(kind: str, error: BaseException, example: Any) -> dict[str, str]:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/tests/" not in f.filename and "site-packages" not in f.filename]
    place = next((f"{f.filename}:{f.name}" for f in reversed(ours) if "python3" not in f.filename), "")
    text = "".join(traceback.format_exception(error, limit=-25))[-20_000:]
    shown = repr(example)
    if len(shown) > EXAMPLE_CHARS:
        shown = f"{shown[:EXAMPLE_CHARS]}... ({len(shown):,} characters)"
    return {"kind": kind, "key": f"{kind} {type(error).__name__} {place}", "text": text, "example": shown}


def _bound_addresses() -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = held + ROOM_BYTES
    resource.setrlimit(
        resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )


def telling(file: BinaryIO) -> Tell:
    """Write facts as one line of JSON, at once."""

    def tell(**facts: Any) -> None:
        file.write(json.dumps(facts).encode() + b"\n")
        file.flush()

    return tell


def main(name: str, seed: str, first: str, count: str, seconds: str) -> None:
    """Play with standard output kept for the lines about examples; a SIGUSR1 writes to the error output where it is."""
    lines = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    _bound_addresses()
    play(name, int(seed), int(first), int(count), float(seconds), telling(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
