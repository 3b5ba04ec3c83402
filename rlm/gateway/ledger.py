"""The ledger: set aside the most a call can cost, make the call, then enter what it did cost.

Dollars are kept as whole picodollars, so that sums are exact and the caps hold to the last digit.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from uuid import uuid4

from rlm.gateway.errors import BadCap, OverBudget
from rlm.gateway.purse import Purse
from rlm.gateway.types import Usage

_PICO = 10**12
_CAPS = ("calls", "tokens", "usd")


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that all calls together may use. `None`: no cap. `tokens` counts prompt and completion.

    Raises BadCap for what is no number of at least 0.
    """

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        for name in ("usd", "tokens", "calls"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (is_number and math.isfinite(value) and value >= 0):
                raise BadCap(
                    f"the {name} cap is {value!r:.80}; give a number of at least 0, or None for no cap"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """What is set aside for one call. Settle, exchange or release it, once. `id`: by which a purse knows it."""

    worst: Usage
    id: str = field(default_factory=lambda: uuid4().hex)

    @property
    def pico(self) -> int:
        """What is set aside, in picodollars."""
        return pico_of(self.worst.usd)


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

    With a `parent`, what is taken here is taken there too, in all ledgers above or in none: many questions, each
    with caps of its own, under one total. `floor`: what the parent keeps for this ledger alone until it is `let_go`, so
    that no other takes it; what is taken here counts against it first. Raises `OverBudget` where it does not fit there.
    `purse`: what calls are paid from besides; those of a parent's children are too. The ledger itself only asks what is
    left in it; `rlm.gateway.paying` takes from both.

    Whatever the order of calls, `spent + reserved` never passes a cap, so long as no provider reports
    more than was reserved for it. One that does is entered as reported; where that passes a cap (`passed`), not even a
    call that costs nothing is let through any more.
    """

    caps: Caps = Caps()
    parent: "Ledger | None" = field(default=None, repr=False)
    floor: Usage = Usage()  # noqa: RUF009  (frozen)
    purse: Purse | None = field(default=None, repr=False)
    _spent: _Sum = field(default=_Sum(), init=False)
    _reserved: _Sum = field(default=_Sum(), init=False)
    _open: dict[Reservation, _Sum] = field(default_factory=dict, init=False)
    _keeping: "list[Ledger]" = field(default_factory=list, init=False, repr=False)
    # One lock for a whole family, so that a chain is changed at once and no order of locks can go wrong.
    _lock: threading.Lock = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._lock = threading.Lock() if self.parent is None else self.parent._lock
        if self.parent is not None:
            self.purse = self.parent.purse
        if self.parent is not None and self.floor != Usage():
            with self._lock:
                self.parent._check([self.floor])
                self.parent._keeping.append(self)

    def let_go(self) -> None:
        """Keep nothing for this ledger any more; what its calls took stays taken."""
        if self.parent is not None:
            with self._lock:
                self.parent._keeping = [ledger for ledger in self.parent._keeping if ledger is not self]

    @property
    def spent(self) -> Usage:
        """What settled calls used."""
        return self._spent.usage()

    @property
    def reserved(self) -> Usage:
        """What calls under way may use at most."""
        return self._reserved.usage()

    def left(self) -> Caps:
        """What a new call may still reserve under each cap, here, above and in the purse; `None` for no cap."""
        with self._lock:
            usd, purse = self._least("usd"), None if self.purse is None else self.purse.left()
            usd = min((left for left in (usd, purse) if left is not None), default=None)
            return Caps(None if usd is None else usd / _PICO, self._least("tokens"), self._least("calls"))

    def passed(self) -> str:
        """Which cap, here or above, was passed by what was spent, by how much and why, in a sentence; '' where none."""
        with self._lock:
            found = ((ledger, cap) for cap, ledger in reversed([*self._rows()]) if ledger._excess(cap) > 0)
            return next((ledger._passed_words(cap) for ledger, cap in found), "")

    def sure(self) -> Caps:
        """What a new call may reserve whatever others take: of what is left, what the parent keeps, if it does."""
        left, kept = self.left(), self.floor
        if self.parent is None or kept == Usage():
            return left
        taken = self.spent + self.reserved
        return Caps(
            None if left.usd is None else min(left.usd, max(kept.usd - taken.usd, 0.0)),
            None if left.tokens is None else min(left.tokens, max(kept.tokens - taken.tokens, 0)),
            None if left.calls is None else min(left.calls, max(kept.calls - taken.calls, 0)),
        )

    def reserve(self, worst: Usage) -> Reservation:
        """Set `worst` aside for one call. Raises `OverBudget`, naming the cap, if it does not fit."""
        return self.reserve_all([worst])[0]

    def reserve_all(self, worsts: Sequence[Usage]) -> list[Reservation]:
        """Set aside what each of several calls needs: all, or none. Raises `OverBudget` if they do not fit."""
        with self._lock:
            self._check(worsts)
            return [self._take(worst) for worst in worsts]

    def exchange(self, held: Reservation, worst: Usage) -> Reservation:
        """Turn a reservation into one for `worst`, at once, of the same id. Raises `OverBudget`, keeping `held`, if
        that is more and the difference does not fit."""
        with self._lock:
            amount = self._close(held)
            try:
                self._check([worst])
            except OverBudget:
                self._open_as(held, amount)
                raise
            made = Reservation(worst, held.id)
            self._open_as(made, _exact(worst))
            return made

    def undo(self, made: Reservation, held: Reservation) -> None:
        """Take an exchange back, for which what is beside this ledger has refused the difference."""
        with self._lock:
            self._close(made)
            self._open_as(held, _exact(held.worst))

    def settle(self, reservation: Reservation, actual: Usage) -> None:
        """Close a reservation and enter what the call used, even if that is more than was reserved."""
        amount = _exact(actual)
        with self._lock:
            self._close(reservation)
            for ledger in self._chain():
                ledger._spent = ledger._spent.plus(amount)

    def release(self, reservation: Reservation) -> None:
        """Close the reservation of a call that used nothing."""
        with self._lock:
            self._close(reservation)

    def holds(self, reservation: Reservation) -> bool:
        """Whether this ledger made the reservation, and it is neither settled, released nor exchanged."""
        return reservation in self._open

    # -- under the lock ----------------------------------------------------------------------------------

    def _chain(self) -> Iterator["Ledger"]:
        ledger: Ledger | None = self
        while ledger is not None:
            yield ledger
            ledger = ledger.parent

    def _take(self, worst: Usage) -> Reservation:
        reservation = Reservation(worst)
        self._open_as(reservation, _exact(worst))
        return reservation

    def _open_as(self, reservation: Reservation, amount: _Sum) -> None:
        self._open[reservation] = amount
        for ledger in self._chain():
            ledger._reserved = ledger._reserved.plus(amount)

    def _close(self, reservation: Reservation) -> _Sum:
        if reservation not in self._open:
            raise ValueError("this reservation is not open here; settle or release each one once")
        amount = self._open.pop(reservation)
        for ledger in self._chain():
            ledger._reserved = ledger._reserved.plus(amount, sign=-1)
        return amount

    def _check(self, worsts: Sequence[Usage]) -> None:
        """Raise for the cap under which the fewest of the calls fit, if any does not."""
        amounts = [_exact(worst) for worst in worsts]
        fits, cap, ledger = min(
            ((_fitting(ledger._left(cap, self), cap, amounts), cap, ledger) for cap, ledger in self._rows()),
            key=lambda row: row[0],
        )
        if fits < len(amounts):
            raise ledger._over(cap, [amount.amount(cap) for amount in amounts], fits, self)

    def _rows(self) -> "Iterator[tuple[str, Ledger]]":
        return ((cap, ledger) for cap in _CAPS for ledger in self._chain())

    def _least(self, cap: str) -> int | None:
        """What is left under a cap in this ledger and all above; `None` where none has it."""
        lefts = [left for ledger in self._chain() if (left := ledger._left(cap, self)) is not None]
        return max(min(lefts), 0) if lefts else None

    def _left(self, cap: str, asking: "Ledger") -> int | None:
        """What is left under one cap of this ledger alone for `asking`, which is this one or stands below it; less than
        0 where a provider reported more than was reserved."""
        limit = self._limit(cap)
        if limit is None:
            return None
        return limit - self._spent.amount(cap) - self._reserved.amount(cap) - self._kept(cap, asking)

    def _limit(self, cap: str) -> int | None:
        limit = getattr(self.caps, cap)
        return None if limit is None else math.floor(_decimal(limit) * _scale(cap))

    def _excess(self, cap: str) -> int:
        """By how much what was spent passes a cap of this ledger alone; 0 or less where it does not."""
        limit = self._limit(cap)
        return 0 if limit is None else self._spent.amount(cap) - limit

    def _passed_words(self, cap: str) -> str:
        spent, excess = self._spent.amount(cap), self._excess(cap)
        return (
            f"the cap of {shown(cap, spent - excess)} was passed by {shown(cap, excess)}, to {shown(cap, spent)}, "
            f"as a provider reported more tokens than were asked for; no more calls are made"
        )

    def _kept(self, cap: str, asking: "Ledger") -> int:
        """What is kept for others than `asking`, beyond what they have taken."""
        others = (k for k in self._keeping if all(k is not own for own in asking._chain()))
        taken = ((k, k._spent.amount(cap) + k._reserved.amount(cap)) for k in others)
        return sum(max(0, _exact(k.floor).amount(cap) - amount) for k, amount in taken)

    def _over(self, cap: str, amounts: Sequence[int], fits: int, asking: "Ledger") -> OverBudget:
        scale, left, shared = _scale(cap), max(self._left(cap, asking) or 0, 0), asking is not self
        reserved = self._reserved.amount(cap) + self._kept(cap, asking)
        limit = self._limit(cap) or 0
        asked, rest, total, spent, held = (
            shown(cap, amount) for amount in (sum(amounts), left, limit, self._spent.amount(cap), reserved)
        )
        one = len(amounts) == 1
        message = (
            f"{'this call' if one else f'these {len(amounts):,} calls'} may need up to {asked}, more than the {rest} "
            f"left of the {'shared ' if shared else ''}cap of {total} ({spent} spent, {held} reserved by calls "
            f"under way){'' if one else f'; the first {fits:,} of them fit' if fits else '; not one of them fits'}; "
            f"raise the {cap} cap, or make fewer or smaller calls"
        )
        if self._excess(cap) > 0:
            message = f"this call was not made: {self._passed_words(cap)}"
        return OverBudget(message, cap, sum(amounts) / scale, left / scale)


def _fitting(left: int | None, cap: str, amounts: Sequence[_Sum]) -> int:
    """How many of the calls, from the first, fit together into what is left under a cap."""
    if left is None:
        return len(amounts)
    return sum(total <= left for total in accumulate(amount.amount(cap) for amount in amounts))


def _scale(cap: str) -> int:
    """What one unit of a cap is in a sum: dollars are kept as picodollars."""
    return _PICO if cap == "usd" else 1


def _exact(usage: Usage) -> _Sum:
    counts = (usage.calls, usage.prompt_tokens, usage.completion_tokens)
    if min(counts) < 0 or not (math.isfinite(usage.usd) and usage.usd >= 0):
        raise ValueError(f"usage must be finite and at least 0, found {usage}")
    return _Sum(*counts, pico_of(usage.usd))


def pico_of(usd: float) -> int:
    """Dollars as whole picodollars, rounded up."""
    return math.ceil(_decimal(usd) * _PICO)


@lru_cache(1024)
def _decimal(amount: float) -> Fraction:
    """The number as people write it: 0.1 is a tenth, so that ten of them fit under a cap of 1."""
    return Fraction(str(float(amount)))


def shown(cap: str, amount: int) -> str:
    """An amount under a cap, in words; dollars are given in picodollars."""
    if cap != "usd":
        return f"{amount:,} {cap if amount != 1 else cap[:-1]}"
    usd = amount / _PICO
    return f"${usd:.2f}" if usd >= 1 or usd == 0 else f"${usd:.4g}" if usd >= 1e-4 else f"${usd:.2e}"
