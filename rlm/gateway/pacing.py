"""Keeping to a provider's rate limits, and waiting between attempts."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_WINDOW_S = 60.0


@dataclass(slots=True)
class Window:
    """At most `limit` units in any 60 seconds, counted exactly from the starts of the last minute.

    An amount above the limit is let through alone, once the window is empty.
    """

    limit: float
    _starts: deque[tuple[float, float]] = field(default_factory=deque)

    def earliest(self, amount: float, now: float) -> float:
        """The first moment, `now` or later and never before one already booked, at which `amount` may start."""
        at = max(now, self._starts[-1][0] if self._starts else now)
        excess = sum(booked for start, booked in self._starts if start + _WINDOW_S > at) + amount - self.limit
        for start, booked in self._starts:
            if excess <= 0:
                break
            if start + _WINDOW_S > at:
                at, excess = start + _WINDOW_S, excess - booked
        return at

    def book(self, amount: float, at: float) -> None:
        """Enter a start; `at` comes from `earliest`, or is later."""
        while self._starts and self._starts[0][0] + _WINDOW_S <= at:
            self._starts.popleft()
        self._starts.append((at, amount))


@dataclass(slots=True)
class Pacing:
    """Requests and tokens a minute, for each model apart; `None`: no limit. Safe between threads and loops."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    clock: Callable[[], float] = time.monotonic
    _windows: dict[tuple[str, str], Window] = field(default_factory=dict, init=False)
    _held_until: dict[str, float] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        for limit in (self.requests_per_minute, self.tokens_per_minute):
            if limit is not None and limit <= 0:
                raise ValueError(f"a rate limit of {limit} a minute lets nothing through; give one above 0")

    def wait_s(self, model: str, tokens: int) -> float:
        """Book one request of so many tokens; the seconds to wait before it may start."""
        with self._lock:
            now = self.clock()
            at = max(now, self._held_until.get(model, now))
            amounts = self._windows_of(model, tokens)
            for window, amount in amounts:
                at = max(at, window.earliest(amount, at))
            for window, amount in amounts:
                window.book(amount, at)
            return at - now

    def hold(self, model: str, seconds: float) -> None:
        """Let no new request to a model start for `seconds`, as when the provider has asked one of them to wait."""
        with self._lock:
            until = self.clock() + seconds
            self._held_until[model] = max(until, self._held_until.get(model, until))

    def held_s(self, model: str) -> float:
        """The seconds for which no request to a model may start since its provider asked for that; 0 for none."""
        with self._lock:
            now = self.clock()
            return max(self._held_until.get(model, now) - now, 0.0)

    def _windows_of(self, model: str, tokens: int) -> list[tuple[Window, float]]:
        limits = (("requests", self.requests_per_minute, 1), ("tokens", self.tokens_per_minute, tokens))
        return [
            (self._windows.setdefault((model, unit), Window(limit)), amount)
            for unit, limit, amount in limits
            if limit is not None
        ]


def backoff_s(attempt: int, first_s: float = 0.5, most_s: float = 30.0) -> float:
    """The wait before attempt 1, 2, ...: exponential with full jitter, so that clients do not return together.

    From M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), but at least a tenth of the bound.
    """
    most = min(most_s, first_s * 2.0**attempt)
    return random.uniform(most / 10, most)
