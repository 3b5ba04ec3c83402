"""What pieces of work take on this machine as it is now: measured on a part of a corpus, to be scaled to the rest.

Processor time is measured, and that of the clock beside it, once for all pieces: a busy machine stretches both, but the
clock by far more, and from one moment to the next. What cannot be tried in a second is given in yardsticks: a piece of
arithmetic like that of clustering, which is measured too.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from index_store.embedder import Embedder
from raptor.clustering.mixture import best_mixture
from raptor.types import Vectors

# In yardsticks, measured: what clustering and summaries import and compile first, and what each node then takes.
UMAP, CLIENT = 80.0, 37.0
CLUSTERED, CALLED, WRITTEN = 0.025, 0.12, 0.005


@dataclass(slots=True)
class Meter:
    """Seconds of the processor, those of child processes included, by the name of a piece of work, and how much of it
    was done; seconds of the clock for all of them together, and for the embedder, whose threads share the cores."""

    used: dict[str, float] = field(default_factory=dict)
    amount: dict[str, float] = field(default_factory=dict)
    clock: dict[str, float] = field(default_factory=dict)
    _inside: dict[str, int] = field(default_factory=dict, init=False)
    _began: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @contextmanager
    def measuring(self, name: str, amount: float = 1) -> Iterator[None]:
        """Add what the block takes to `name`, of which it does so much. While several threads are in blocks of a name,
        what passes counts once."""
        with self._lock:
            self._inside[name] = self._inside.get(name, 0) + 1
            if self._inside[name] == 1:
                self._began[name] = _processor_s(), time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._inside[name] -= 1
                self.amount[name] = self.amount.get(name, 0.0) + amount
                if not self._inside[name]:
                    used, began = self._began[name]
                    self.used[name] = self.used.get(name, 0.0) + _processor_s() - used
                    self.clock[name] = self.clock.get(name, 0.0) + time.monotonic() - began

    def rate(self, name: str) -> float:
        """Processor seconds for one unit of a piece of work; 0 where none was measured."""
        return self.used.get(name, 0.0) / self.amount[name] if self.amount.get(name) else 0.0

    def pace(self) -> float:
        """Seconds of the clock for each second of the processor, in all that was measured."""
        return max(sum(self.clock.values()), 0.001) / max(sum(self.used.values()), 0.001)

    def yardstick(self) -> float:
        """Processor seconds of the yardstick, the least of three."""
        points = np.random.default_rng(0).standard_normal((400, 10))
        best_mixture(points[:50], 8, 0)  # imports what it needs
        tries = list[float]()
        for _ in range(3):
            before = self.used.get("yardstick", 0.0)
            with self.measuring("yardstick"):
                best_mixture(points, 8, 0)
            tries.append(self.used["yardstick"] - before)
        return min(tries)

    def metered(self, model: Embedder, name: str) -> Embedder:
        """An embedder whose texts are counted and timed under `name`."""

        def encode(texts: Sequence[str]) -> Vectors:
            with self.measuring(name, len(texts)):
                return model.encode(texts)

        return replace(model, encode=encode)


def _processor_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
