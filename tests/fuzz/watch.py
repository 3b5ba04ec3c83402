"""The parent of a target: starts its process, kills it where it is stuck, and keeps the tally."""

import json
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

START_S = 240.0  # until a target is ready: it builds indexes, and a first import of some libraries takes long
SLACK_S = 15.0  # after its deadline, in which an example may still end by itself
SHOWN_CHARS = 4_000
EVERY_S = 10.0  # seconds between lines about how far it is
TRIES = 20  # processes for one target: where each ends at once, more will do so too

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Finding:
    """An example that failed. `kind`: "exception", "hang" or "memory"; `text`: its traceback, or what else is known."""

    target: str
    seed: int
    number: int
    kind: str
    text: str
    example: str = ""

    @property
    def command(self) -> str:
        """What plays this example alone."""
        return f"python -m tests.fuzz --target {self.target} --seed {self.seed} --example {self.number}"


@dataclass(slots=True)
class Tally:
    """What came of a target. `slowest`: the number of its slowest example; `peak_mb`: above its size when ready;
    `failures`: all examples that failed; `findings`: one for each place where they did."""

    target: str
    examples: int = 0
    slowest_ms: float = 0.0
    slowest: int = 0
    peak_mb: float = 0.0
    failures: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)

    def add(self, key: str, finding: Finding) -> bool:
        """Count a failure; whether there was none like it before."""
        self.failures += 1
        return self.findings.setdefault(key, finding) is finding


class Stuck(Exception):
    """A target that has not said a word for longer than it may."""


@dataclass(slots=True)
class Watch:
    """One target under way: where it is, and how long it may be silent."""

    name: str
    seed: int
    say: Say
    out: Path
    tally: Tally
    next: int = 0
    begun: int | None = None
    patience_s: float = START_S
    told: float = field(default_factory=time.monotonic)

    def process(self, count: int, seconds: float, errors: IO[bytes]) -> bool:
        """Play examples from `next` on in one process; whether it came to its end."""
        facts = [str(fact) for fact in (self.seed, self.next, count, seconds)]
        self.begun, self.patience_s = None, START_S
        command = [sys.executable, "-m", "tests.fuzz.play", self.name, *facts]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as child:
            try:
                for line in _lines(child, lambda: self.patience_s):
                    if self.hear(line):
                        return True
                code = child.wait(SLACK_S)
            except (Stuck, subprocess.TimeoutExpired):
                child.send_signal(signal.SIGUSR1)
                time.sleep(1)
                child.kill()
                where = _tail(errors)
                self.found("hang", "stuck", f"it was stuck for {self.patience_s:g} s and was killed\n{where}")
                return False
            finally:
                child.kill()
        self.found("exception", f"died {code}", f"its process ended with exit code {code}\n{_tail(errors)}")
        return False

    def hear(self, line: dict[str, Any]) -> bool:
        """Take down one line of a target; whether it is the last."""
        if "ready" in line:
            self.patience_s = float(line["ready"]) + SLACK_S
        elif "begin" in line:
            self.begun, self.next = line["begin"], line["begin"] + 1
        elif "end" in line:
            self.ended(line["end"], line["ms"], line["mb"])
        elif "failed" in line:
            self.begun = line["failed"]
            self.found(line["kind"], line["key"], line["text"], line["example"])
        return "done" in line

    def ended(self, number: int, ms: float, mb: float) -> None:
        tally = self.tally
        tally.examples += 1
        tally.peak_mb = max(tally.peak_mb, mb)
        if ms > tally.slowest_ms:
            tally.slowest_ms, tally.slowest = ms, number
        if time.monotonic() - self.told > EVERY_S:
            self.told = time.monotonic()
            self.say(f"  {self.name}: {tally.examples:,} examples, {tally.failures:,} failures")

    def found(self, kind: str, key: str, text: str, example: str = "") -> None:
        """Count a failure of the example under way, and tell of the first of its like."""
        finding = Finding(self.name, self.seed, self.begun or 0, kind, text, example)
        if not self.tally.add(key, finding):
            return
        self.out.mkdir(parents=True, exist_ok=True)
        file = self.out / f"{self.name.replace(':', '.')}-{self.seed}-{finding.number}.txt"
        file.write_text(f"{finding.command}\n\n{text}\n{example}\n", encoding="utf-8", errors="replace")
        self.say(f"\n{kind} in {self.name}, kept in {file}; again: {finding.command}\n{text[-SHOWN_CHARS:]}")


def watch(
    name: str, seed: int, seconds: float, out: Path, say: Say, first: int = 0, count: int = 1 << 40
) -> Tally:
    """Play a target for so long, in a new process wherever one died, and say and keep (in `out`) what fails."""
    watched, ends = Watch(name, seed, say, out, Tally(name), first), time.monotonic() + seconds
    for _ in range(TRIES):
        left = ends - time.monotonic()
        still = first + count - watched.next
        if left <= 0 or still <= 0:
            break
        with tempfile.TemporaryFile() as errors:
            # A process that ended in order did so because the time was up, or because it had grown too large.
            watched.process(still, left, errors)
        if watched.begun is None:
            break  # it never came to an example
    return watched.tally


def _lines(child: subprocess.Popen[bytes], patience_s: Callable[[], float]) -> Iterator[dict[str, Any]]:
    """What a target tells, until it ends. Raises Stuck when it is silent for too long."""
    assert child.stdout is not None
    poller, buffer = select.poll(), b""
    poller.register(child.stdout, select.POLLIN)
    while True:
        if not poller.poll(patience_s() * 1000):
            raise Stuck
        part = child.stdout.read1(1 << 16)  # type: ignore[attr-defined]
        if not part:
            return
        *lines, buffer = (buffer + part).split(b"\n")
        yield from (json.loads(line) for line in lines)


def _tail(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read().decode(errors="replace")[-SHOWN_CHARS:]


def table(tallies: list[Tally]) -> str:
    """The tallies in columns."""
    head = (
        f"{'target':10} {'examples':>10} {'slowest ms':>11} {'its number':>11} {'peak MB':>8} {'failures':>9}"
    )
    rows = [
        f"{t.target:10} {t.examples:10,} {t.slowest_ms:11,.0f} {t.slowest:11} {t.peak_mb:8,.0f} {t.failures:9,}"
        for t in tallies
    ]
    return "\n".join([head, *rows])
