"""How fast the sandbox is, beside a plain Python subprocess and, where it is installed, Monty: medians of many runs."""

import importlib.util
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from benchmarks import Options
from benchmarks._report import Claim, Item, Table
from rlm.sandbox import SandboxLimits, Session, open_session
from rlm.sandbox.spawn import stop_zygote

CALLS = frozenset({"llm_query"})
RUNS = 100
# What each measure may take at most, in milliseconds, on 2 cores.
TARGETS_MS = {
    "session ready, warm": 8.0,
    "empty cell": 0.2,
    "proxied call": 0.1,
    "deadline to death": 5.0,
    "deadline to death, 500 MB to free": 30.0,
}
_PLAIN = """
import sys, json
for line in sys.stdin:
    exec(json.loads(line), {})
    print("done", flush=True)
"""


def measure(options: Options, runs: int = RUNS) -> Iterator[Item]:
    """The medians of each measure, and whether they are within what it may take."""
    columns = {"sandbox": medians("linux", runs), "plain Python": plain_medians(runs)}
    if importlib.util.find_spec("pydantic_monty"):
        columns["monty"] = medians("monty", runs)
    yield table(columns)
    for name, most in TARGETS_MS.items():
        took = columns["sandbox"][name]
        plain = columns["plain Python"].get(name)
        peer = "" if plain is None else f"{plain:.3f} ms plain Python"
        yield Claim("sandbox", name, f"below {most:g} ms", f"{took:.3f} ms", peer, holds=took < most)


def table(columns: Mapping[str, Mapping[str, float]]) -> Table:
    """Milliseconds by measure and column, beside what a measure may take; "-" where there is no such thing."""

    def row(name: str) -> tuple[str, ...]:
        cells = (f"{column[name]:.3f}" if name in column else "-" for column in columns.values())
        return (name, *cells, f"{TARGETS_MS[name]:g}" if name in TARGETS_MS else "-")

    heads = ("milliseconds, median", *columns, "at most")
    note = "Plain Python: a process with no protection at all, asked over pipes."
    return Table("Sandbox", heads, tuple(map(row, columns["sandbox"])), note)


def medians(backend: str, runs: int) -> dict[str, float]:
    """Each measure's median in milliseconds, for one backend."""
    with _session(backend):
        pass  # what is only ever done once, is done
    found = {"session ready, cold": _cold(runs)} if backend == "linux" else {}
    found["session ready, warm"] = median_ms(lambda: _ready(backend), runs)
    with _session(backend) as session:
        found["empty cell"] = median_ms(lambda: timed(lambda: session.run("")), runs * 5)
        found["proxied call"] = median_ms(lambda: _calls(session, 1000) / 1000, max(runs // 10, 1))
    found["deadline to death"] = median_ms(lambda: _late(backend, "while True: pass"), max(runs // 5, 1))
    filling = "x = 'a' * (500 << 20)\nwhile True: pass"
    found["deadline to death, 500 MB to free"] = median_ms(
        lambda: _late(backend, filling, 2.0), max(runs // 20, 1)
    )
    return found


def plain_medians(runs: int) -> dict[str, float]:
    """The same of a Python process with no protection at all, asked over pipes."""
    found = {"session ready, cold": median_ms(lambda: timed(_plain_once), max(runs // 10, 1))}
    with _plain() as process:
        found["empty cell"] = median_ms(lambda: timed(lambda: _ask_plain(process)), runs * 5)
    return found


def median_ms(sample: Callable[[], float], runs: int) -> float:
    """The median of `runs` samples of seconds, in milliseconds."""
    return statistics.median(sample() for _ in range(runs)) * 1000


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


@contextmanager
def _session(backend: str, timeout_s: float = 30.0) -> Iterator[Session]:
    limits = SandboxLimits(cell_timeout_s=timeout_s, memory_mb=1024)
    with open_session(
        lambda name, items, named: 1, CALLS, limits, {"context_length": 1}, backend=backend
    ) as session:
        yield session


def _ready(backend: str) -> float:
    """From asking for a session to its first answer; closing it is not part of it."""
    started = time.perf_counter()
    with _session(backend) as session:
        session.run("")
        return time.perf_counter() - started


def _cold(runs: int) -> float:
    def once() -> float:
        stop_zygote()
        return _ready("linux")

    return median_ms(once, max(runs // 20, 1))


def _calls(session: Session, count: int) -> float:
    return timed(lambda: session.run(f"for _ in range({count}): llm_query(1)"))


def _late(backend: str, code: str, timeout_s: float = 0.05) -> float:
    """Seconds past the deadline until `run` has said that the cell is dead and its process is gone."""
    with _session(backend, timeout_s) as session, _gone(session) as wait_until_gone:
        started = time.perf_counter()
        assert session.run(code).status == "killed"
        wait_until_gone()
        return time.perf_counter() - started - timeout_s


@contextmanager
def _gone(session: Session) -> Iterator[Callable[[], object]]:
    """A wait for the end of the session's present worker."""
    line = getattr(session, "_line", None)
    if line is None:
        yield lambda: None  # not a worker of ours
        return
    pidfd, poller = os.pidfd_open(line.worker.pid), select.poll()
    poller.register(pidfd, select.POLLIN)
    try:
        yield lambda: poller.poll(10_000)
    finally:
        os.close(pidfd)


@contextmanager
def _plain() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-I", "-S", "-c", _PLAIN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def _ask_plain(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write('""\n')
    process.stdin.flush()
    process.stdout.readline()


def _plain_once() -> None:
    with _plain() as process:
        _ask_plain(process)
