"""The ledger: set aside the most a call can cost, make the call, then enter what it did cost.

Dollars are kept as whole picodollars, so that sums are exact and the caps hold to the last digit.
"""

import math
import threading
from dataclasses import dataclass, field
from fractions import Fraction

from rlm.gateway.errors import OverBudget
from rlm.gateway.types import Usage

_PICO = 10**12


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that all calls together may use. `None`: no cap. `tokens` counts prompt and completion."""

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        for name in ("usd", "tokens", "calls"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(
                    f"the {name} cap is {value}; give a number of at least 0, or None for no cap"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """What one call has been promised. Settle it or release it, once."""

    worst: Usage


@dataclass(frozen=True, slots=True)
class _Sum:
    """Exact amounts: whole calls, tokens and picodollars."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    pico: int = 0

    def plus(self, other: "_Sum", sign: int = 1) -> "_Sum":
        return _Sum(
            self.calls + sign * other.calls,
            self.prompt_tokens + sign * other.prompt_tokens,
            self.completion_tokens + sign * other.completion_tokens,
            self.pico + sign * other.pico,
        )

    def usage(self) -> Usage:
        return Usage(self.calls, self.prompt_tokens, self.completion_tokens, self.pico / _PICO)

    def amount(self, cap: str) -> int:
        """This sum in the unit of one cap; dollars in picodollars."""
        tokens = self.prompt_tokens + self.completion_tokens
        return {"usd": self.pico, "tokens": tokens, "calls": self.calls}[cap]


@dataclass(slots=True)
class Ledger:
    """One pool for a run and all its descendants; safe to share between threads and event loops.

    Whatever the order of calls, `spent + reserved` never passes a cap, so long as no provider reports
    more than was reserved for it. One that does is entered as reported, and the pool then has nothing left.
    """

    caps: Caps = Caps()
    _spent: _Sum = field(default=_Sum(), init=False)
    _reserved: _Sum = field(default=_Sum(), init=False)
    _open: dict[Reservation, _Sum] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def spent(self) -> Usage:
        """What settled calls used."""
        return self._spent.usage()

    @property
    def reserved(self) -> Usage:
        """What calls under way may use at most."""
        return self._reserved.usage()

    def left(self) -> Caps:
        """What a new call may still reserve under each cap; `None` where there is no cap."""
        with self._lock:
            usd = self._room("usd")
            return Caps(None if usd is None else usd / _PICO, self._room("tokens"), self._room("calls"))

    def reserve(self, worst: Usage) -> Reservation:
        """Set `worst` aside for one call. Raises `OverBudget`, naming the cap, if it does not fit."""
        amount = _exact(worst)
        with self._lock:
            for cap in ("calls", "tokens", "usd"):
                room = self._room(cap)
                if room is not None and amount.amount(cap) > room:
                    raise self._over(cap, amount, room)
            reservation = Reservation(worst)
            self._open[reservation] = amount
            self._reserved = self._reserved.plus(amount)
        return reservation

    def settle(self, reservation: Reservation, actual: Usage) -> None:
        """Close a reservation and enter what the call used, even if that is more than was reserved."""
        amount = _exact(actual)
        with self._lock:
            self._close(reservation)
            self._spent = self._spent.plus(amount)

    def release(self, reservation: Reservation) -> None:
        """Close the reservation of a call that used nothing."""
        with self._lock:
            self._close(reservation)

    def _close(self, reservation: Reservation) -> None:
        if reservation not in self._open:
            raise ValueError("this reservation is not open here; settle or release each one once")
        self._reserved = self._reserved.plus(self._open.pop(reservation), sign=-1)

    def _room(self, cap: str) -> int | None:
        limit = getattr(self.caps, cap)
        if limit is None:
            return None
        scale = _PICO if cap == "usd" else 1
        used = self._spent.amount(cap) + self._reserved.amount(cap)
        return max(0, math.floor(_decimal(limit) * scale) - used)

    def _over(self, cap: str, amount: _Sum, room: int) -> OverBudget:
        scale = _PICO if cap == "usd" else 1
        limit = math.floor(_decimal(getattr(self.caps, cap)) * scale)
        asked, spent, held = (
            _shown(cap, total.amount(cap)) for total in (amount, self._spent, self._reserved)
        )
        message = (
            f"this call may need up to {asked}, more than the {_shown(cap, room)} left of the cap of "
            f"{_shown(cap, limit)} ({spent} spent, {held} reserved by calls under way); "
            f"raise the {cap} cap, or make fewer or smaller calls"
        )
        return OverBudget(message, cap, amount.amount(cap) / scale, room / scale)


def _exact(usage: Usage) -> _Sum:
    counts = (usage.calls, usage.prompt_tokens, usage.completion_tokens)
    if min(counts) < 0 or not (math.isfinite(usage.usd) and usage.usd >= 0):
        raise ValueError(f"usage must be finite and at least 0, found {usage}")
    return _Sum(*counts, math.ceil(_decimal(usage.usd) * _PICO))


def _decimal(amount: float) -> Fraction:
    """The number as people write it: 0.1 is a tenth, so that ten of them fit under a cap of 1."""
    return Fraction(str(float(amount)))


def _shown(cap: str, amount: int) -> str:
    if cap != "usd":
        return f"{amount:,} {cap if amount != 1 else cap[:-1]}"
    usd = amount / _PICO
    return f"${usd:.2f}" if usd >= 1 or usd == 0 else f"${usd:.4g}" if usd >= 1e-4 else f"${usd:.2e}"
