"""What model calls of a key may cost, reserved by one row a call, and what was spent on each day.

Whoever asks next closes what a process has left behind: a call that was under way when it died may have been billed, so
it is counted as spent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from rlm.gateway.errors import CallFailed, GatewayError, OverBudget
from rlm.gateway.ledger import shown
from rlm.gateway.purse import PURSE
from rlm.serving.state.tables import KEYS, LEASES, MOST_PICO, SPENDING

PICO = 10**12
#: Closed reservations are kept as long, so that one that is closed late, or twice, is known.
KEPT_S = 2 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, and when: a key, a process, the time in seconds since 1970, and how long a lease lasts."""

    key: str
    process: str
    now: float
    lease_s: float

    @property
    def day(self) -> str:
        """The day of UTC."""
        return day_of(self.now)


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a reservation: why it was refused, if it was, and picodollars left, None for no ceiling."""

    refusal: GatewayError | None
    left: int | None


def day_of(now: float) -> str:
    """The day of UTC, as 2026-01-31."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def locked(c: Connection, key: str) -> Row[Any] | None:
    """The row of a key, which no other transaction has until this one ends; None for a key that there is not."""
    return c.execute(select(KEYS).where(KEYS.c.id == key).with_for_update()).first()


def reserve(c: Connection, asking: Asking, amounts: Mapping[str, int]) -> Taken:
    """Reserve picodollars by id: all, or none."""
    row = locked(c, asking.key)
    if row is None or row.revoked is not None:
        return _revoked(asking, row)
    expire(c, asking.key, asking.now)
    spent, reserved = spending(c, asking.key, asking.day)
    left, asked = _left(row, spent, reserved), sum(amounts.values())
    if left is not None and asked > left:
        return Taken(_refusal(row.name, row.pico_per_day, spent, reserved, amounts), left)
    ends = asking.now + asking.lease_s
    kept = {"key": asking.key, "day": asking.day, "process": asking.process, "ends": ends, "state": "open"}
    c.execute(
        insert(LEASES), [{"id": one, "pico": min(pico, MOST_PICO), **kept} for one, pico in amounts.items()]
    )
    _add(c, asking.key, asking.day, reserved=asked)
    return Taken(None, None if left is None else left - asked)


def exchange(c: Connection, asking: Asking, reservation: str, pico: int) -> Taken:
    """Make a reservation one of so much, where the difference fits, on the day on which it was made."""
    row, held = locked(c, asking.key), _lease(c, reservation)
    if row is None or row.revoked is not None:
        return _revoked(asking, row)
    if held is None or held.state != "open":  # it had expired, as its process was held up
        close(c, asking, {reservation: 0})
        c.execute(delete(LEASES).where(LEASES.c.id == reservation))
        return reserve(c, asking, {reservation: pico})
    spent, reserved = spending(c, asking.key, held.day)
    left, more = _left(row, spent, reserved), min(pico, MOST_PICO) - held.pico
    if left is not None and more > left:
        others = reserved - held.pico
        return Taken(_refusal(row.name, row.pico_per_day, spent, others, {reservation: pico}), left)
    c.execute(update(LEASES).where(LEASES.c.id == reservation).values(pico=held.pico + more))
    _add(c, asking.key, held.day, reserved=more)
    return Taken(None, None if left is None else left - more)


def close(c: Connection, asking: Asking, costs: Mapping[str, int]) -> int | None:
    """Close reservations, each at what its call cost, on the day on which it was made; what is left today.

    One that is closed already stays as it is; one that had expired is corrected; one that never was counts from now on.
    """
    row = locked(c, asking.key)
    for reservation, cost in costs.items():
        pico = min(cost, MOST_PICO)
        held = _lease(c, reservation)
        if held is None:
            if pico:
                kept = {"key": asking.key, "day": asking.day, "process": asking.process, "ends": asking.now}
                c.execute(insert(LEASES).values(id=reservation, pico=pico, state="closed", **kept))
                _add(c, asking.key, asking.day, spent=pico)
            continue
        if held.state == "closed":
            continue
        counted = held.pico if held.state == "expired" else 0
        _add(c, held.key, held.day, spent=pico - counted, reserved=counted - held.pico)
        c.execute(update(LEASES).where(LEASES.c.id == reservation).values(pico=pico, state="closed"))
    return None if row is None else _left(row, *spending(c, asking.key, asking.day))


def expire(c: Connection, key: str, now: float) -> None:
    """Count as spent what processes of a key have reserved and not renewed in time."""
    over = (LEASES.c.state == "open", LEASES.c.key == key, LEASES.c.ends < now)
    for held in c.execute(select(LEASES).where(*over).with_for_update()).all():
        c.execute(update(LEASES).where(LEASES.c.id == held.id).values(state="expired"))
        _add(c, key, held.day, spent=held.pico, reserved=-held.pico)


def renew(c: Connection, process: str, ends: float) -> None:
    """Renew the reservations of a process."""
    c.execute(update(LEASES).where(LEASES.c.process == process, LEASES.c.state == "open").values(ends=ends))


def forget(c: Connection, now: float) -> None:
    """Forget closed reservations of long ago; their sums stay."""
    c.execute(delete(LEASES).where(LEASES.c.state != "open", LEASES.c.ends < now - KEPT_S))


def spending(c: Connection, key: str, day: str) -> tuple[int, int]:
    """Picodollars that a key has spent and reserved on a day."""
    wanted = select(SPENDING.c.spent, SPENDING.c.reserved).where(SPENDING.c.key == key, SPENDING.c.day == day)
    row = c.execute(wanted).first()
    return (0, 0) if row is None else (row.spent, row.reserved)


def _lease(c: Connection, reservation: str) -> Row[Any] | None:
    return c.execute(select(LEASES).where(LEASES.c.id == reservation).with_for_update()).first()


def _left(row: Row[Any], spent: int, reserved: int) -> int | None:
    return None if row.pico_per_day is None else max(row.pico_per_day - spent - reserved, 0)


def _revoked(asking: Asking, row: Row[Any] | None) -> Taken:
    name = asking.key if row is None else row.name
    return Taken(CallFailed(f"the key {name} was revoked, so no call is made; ask with another"), 0)


def _add(c: Connection, key: str, day: str, spent: int = 0, reserved: int = 0) -> None:
    """Add to the sums of a day; whoever calls has locked the key's row."""
    before = spending(c, key, day)
    now = {"spent": min(before[0] + spent, MOST_PICO), "reserved": min(before[1] + reserved, MOST_PICO)}
    where = (SPENDING.c.key == key, SPENDING.c.day == day)
    if c.execute(update(SPENDING).where(*where).values(**now)).rowcount == 0:
        c.execute(insert(SPENDING).values(key=key, day=day, **now))


def _refusal(name: str, ceiling: int, spent: int, reserved: int, amounts: Mapping[str, int]) -> OverBudget:
    asked, left = sum(amounts.values()), max(ceiling - spent - reserved, 0)
    calls = "this call" if len(amounts) == 1 else f"these {len(amounts):,} calls"
    words = [shown("usd", amount) for amount in (asked, left, ceiling, spent, reserved)]
    return OverBudget(
        f"{calls} may need up to {words[0]}, more than the {words[1]} left today of the daily ceiling of {words[2]} of "
        f"the key {name} ({words[3]} spent, {words[4]} reserved by calls under way); ask again tomorrow, by UTC, or "
        "with a key that may spend more",
        PURSE,
        asked / PICO,
        left / PICO,
    )
