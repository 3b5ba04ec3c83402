"""What a command takes, with all its children: processor seconds, the clock, memory."""

import importlib.util
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import REPOSITORY

LIMIT_S = 3_600


@dataclass(frozen=True, slots=True)
class Spent:
    """`cpu_s`: processor seconds, None where a limit came first. `peak_mb`: of memory beside mapped files."""

    cpu_s: float | None
    wall_s: float
    peak_mb: float
    commit: str = ""

    def as_json(self) -> str:
        """As it is kept beside what was built."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_json(cls, told: str) -> "Spent":
        """From what `as_json` gave."""
        return cls(**json.loads(told))


def spent(command: Sequence[str], limit_s: float = LIMIT_S) -> Spent:
    """Run a command and its children to their end. SystemExit where it fails."""
    began, peak_mb, ended = time.monotonic(), 0.0, False
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL)
    while not ended and time.monotonic() - began < limit_s:
        peak_mb = max(peak_mb, family_mb(process.pid)[0])
        time.sleep(0.2)
        # Not `poll`, which tells nothing of what the process took; others may run beside it.
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        ended = pid != 0
    wall_s = time.monotonic() - began
    if not ended:
        process.kill()
        process.wait()
        return Spent(None, wall_s, peak_mb)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode} of {' '.join(command)}")
    return Spent(usage.ru_utime + usage.ru_stime, wall_s, peak_mb, commit())


def commit() -> str:
    """The commit that is checked out, short; "unknown" where there is none."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def environment() -> dict[str, str]:
    """That of a command that is measured."""
    # Where the reference finds its tokenizer's file without asking the network; and BLAS on one thread for all,
    # because its threads spin while they wait for each other, which says nothing of the work.
    litellm = importlib.util.find_spec("litellm")
    assert litellm
    assert litellm.origin
    cache = Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers"
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    return os.environ | one | {"TIKTOKEN_CACHE_DIR": str(cache), "PYTHONWARNINGS": "ignore"}


def family_mb(pid: int | str) -> tuple[float, float]:
    """Resident MB of a process and its children's children: beside mapped files, and of mapped files."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        own, *others = [_resident_mb(pid), *map(family_mb, children)]
        return own[0] + sum(anon for anon, _ in others), own[1] + sum(file for _, file in others)
    except OSError:  # ended meanwhile
        return 0.0, 0.0


def anonymous_mb(pid: int | str = "self") -> float:
    """Resident MB of a process beside mapped files, which are the page cache's."""
    return _resident_mb(pid)[0]


def _resident_mb(pid: int | str) -> tuple[float, float]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kb = {line.split()[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
    return kb.get("RssAnon:", 0) / 1024, kb.get("RssFile:", 0) / 1024
