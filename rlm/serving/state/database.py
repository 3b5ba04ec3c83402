"""The state of a server in a database: keys, money, rates and runs, shared by all processes that open it."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from rlm.gateway.purse import Purse
from rlm.serving.state import keys, leases
from rlm.serving.state.connecting import Connecting
from rlm.serving.state.keys import Key, listed, unlisted
from rlm.serving.state.leases import Asking, Taken
from rlm.serving.state.tables import KEYS, REQUESTS, RUNS
from rlm.serving.types import Grant, RunRow, StateGone

T = TypeVar("T")
LEASE_S = 60.0
MINUTE_S = 60.0
_log = logging.getLogger(__name__)


class Database:
    """A `State`, and what the commands for keys do. Its tables are made, or those of an earlier version changed, when
    it is opened.

    `url`: as SQLAlchemy writes it, `sqlite:///FILE` or `postgresql://...`; without :// a file. `lease_s`: seconds after
    which the reservations of a process that has died are counted as spent; one that lives renews its own. `clock`:
    gives seconds since 1970; by default that of the database, or of the machine where that is a file.

    Raises RlmError where the address is none, and StateGone where the database cannot be used.
    """

    def __init__(self, url: str, lease_s: float = LEASE_S, clock: Callable[[], float] | None = None) -> None:
        self.store, self.process, self.lease_s = Connecting(url), uuid4().hex, lease_s
        self._clock, self._has_keys = clock, False
        self._purses: dict[str, _KeysPurse] = {}
        self._lock = threading.Lock()
        self._open, self._owed = set[str](), list[tuple[str, dict[str, int]]]()
        self._beat, self._ended = threading.Thread(target=self._beats, daemon=True), threading.Event()
        try:
            self.store.upgrade()
        except BaseException:
            self.store.close()
            raise

    # -- what a server asks ------------------------------------------------------------------------------

    def has_keys(self) -> bool:
        """Whether any key was ever made."""
        self._has_keys = self._has_keys or self.store.read(
            lambda c: c.execute(select(KEYS.c.id).limit(1)).first() is not None
        )
        return self._has_keys

    def grant(self, secret: str) -> Grant | None:
        """What a key allows; None for an unknown or revoked one."""
        return self.store.read(lambda c: keys.find(c, secret))

    def wait_s(self, grant: Grant) -> float:
        """Count one request; 0 where it may go ahead, else the seconds until one may.

        No 60 seconds hold more than a key's requests a minute, whichever processes they come to.
        """
        most = grant.requests_per_minute
        return 0.0 if most is None else self.store.write(lambda c: self._counted(c, grant.key, most))

    def purse(self, grant: Grant) -> Purse | None:
        """What the key's calls are paid from, the same for all runs of this process; None without a key."""
        if not grant.key:
            return None
        left = self.store.write(lambda c: leases.close(c, self._asking(c, grant.key), {}))
        with self._lock:
            purse = self._purses.setdefault(grant.key, _KeysPurse(self, grant.key))
        purse.known = left
        return purse

    def record(self, run: RunRow) -> None:
        """Add a run, or what has become of it."""
        self.store.write(lambda c: put(c, run))

    def runs(
        self, grant: Grant, *, index: str | None = None, limit: int = 50, offset: int = 0
    ) -> Sequence[RunRow]:
        """The runs that a key may see, the newest first."""
        wanted = select(RUNS).order_by(RUNS.c.began.desc(), RUNS.c.folder.desc())
        if not grant.is_admin:
            wanted = wanted.where(RUNS.c.key == grant.key)
        if index is not None:
            wanted = wanted.where(RUNS.c.index == index)
        page = wanted.limit(max(limit, 0)).offset(max(offset, 0))
        return self.store.read(lambda c: [_run(row) for row in c.execute(page)])

    def run(self, grant: Grant, folder: str) -> RunRow | None:
        """One of the runs that a key may see."""
        row = self.store.read(lambda c: c.execute(select(RUNS).where(RUNS.c.folder == _kept(folder))).first())
        return _run(row) if row is not None and (grant.is_admin or row.key == grant.key) else None

    def is_ready(self) -> bool:
        """Whether the database answers."""
        try:
            return self.store.read(lambda c: c.scalar(select(func.count()).select_from(KEYS))) is not None
        except StateGone:
            return False

    def close(self) -> None:
        """Enter what is owed, and give back what is held; reservations of calls under way end with their lease."""
        self._ended.set()
        if self._beat.ident is not None:
            self._beat.join()
        try:
            self._pay_owed()
        except StateGone as error:
            _log.warning("%s; %d calls stay counted at the most that they could cost", error, len(self._owed))
        self.store.close()

    # -- what the commands for keys ask ------------------------------------------------------------------

    def add_key(self, wanted: Grant) -> tuple[Grant, str]:
        """Make a key, as `keys.add`."""
        return self.store.write(lambda c: keys.add(c, wanted, self._now(c)))

    def list_keys(self) -> list[Key]:
        """All keys, the first one first."""
        return self.store.write(lambda c: keys.every(c, self._now(c)))

    def revoke_key(self, named: str) -> Grant:
        """Revoke a key, as `keys.revoke`."""
        return self.store.write(lambda c: keys.revoke(c, named, self._now(c)))

    # -- money -------------------------------------------------------------------------------------------

    def take(self, key: str, ids: Sequence[str], work: Callable[[Connection, Asking], Taken]) -> int | None:
        """Reserve, or exchange, by `work`; what is left. Raises what it is refused with, and StateGone."""
        with self._lock:
            self._open.update(ids)
            if self._beat.ident is None and not self._ended.is_set():
                self._beat.start()
        taken = self.store.write(lambda c: work(c, self._asking(c, key)))
        if taken.refusal is not None:
            with self._lock:
                self._open.difference_update(ids)
            raise taken.refusal
        return taken.left

    def pay(self, key: str, costs: Mapping[str, int], known: int | None) -> int | None:
        """Close reservations at what their calls cost; what is left. Where the database cannot be used, that is done as
        soon as it can be, and what was `known` to be left stays so."""
        try:
            return self._closed(key, dict(costs))
        except StateGone as error:
            _log.warning("%s; what a call cost is entered later", error)
            with self._lock:
                self._owed.append((key, dict(costs)))
            return known

    def _closed(self, key: str, costs: Mapping[str, int]) -> int | None:
        left = self.store.write(lambda c: leases.close(c, self._asking(c, key), costs))
        with self._lock:
            self._open.difference_update(costs)
        return left

    def _pay_owed(self) -> None:
        while self._owed:
            key, costs = self._owed[0]
            self._closed(key, costs)
            with self._lock:
                self._owed.pop(0)

    def _beats(self) -> None:
        """Renew this process's reservations, as long as it lives, and enter what it owes."""
        while not self._ended.wait(self.lease_s / 3):
            try:
                self._pay_owed()
                if self._open:
                    self.store.write(self._renewed)
            except StateGone as error:
                _log.warning("%s; reservations were not renewed", error)

    def _renewed(self, c: Connection) -> None:
        now = self._now(c)
        leases.renew(c, self.process, now + self.lease_s)
        leases.forget(c, now)

    def _asking(self, c: Connection, key: str) -> Asking:
        return Asking(key, self.process, self._now(c), self.lease_s)

    def _now(self, c: Connection) -> float:
        return self.store.now(c) if self._clock is None else self._clock()

    # -- rates -------------------------------------------------------------------------------------------

    def _counted(self, c: Connection, key: str, most: int) -> float:
        leases.locked(c, key)
        now, of_key = self._now(c), REQUESTS.c.key == key
        c.execute(delete(REQUESTS).where(of_key, REQUESTS.c.at <= now - MINUTE_S))
        times = select(REQUESTS.c.at).where(of_key).order_by(REQUESTS.c.at.desc())
        # As many requests ago, the minute began that must be over first.
        begun = c.scalar(times.offset(most - 1).limit(1))
        if begun is not None:
            return max(float(begun) + MINUTE_S - now, 0.001)
        c.execute(insert(REQUESTS).values(key=key, at=now))
        return 0.0


@dataclass(slots=True)
class _KeysPurse:
    """The money of one key. `known`: picodollars left, when it was last asked."""

    database: Database
    key: str
    known: int | None = None

    def reserve(self, amounts: Mapping[str, int]) -> None:
        """Set picodollars aside."""
        self.known = self.database.take(self.key, [*amounts], lambda c, a: leases.reserve(c, a, amounts))

    def exchange(self, reservation: str, pico: int) -> None:
        """Make a reservation one of so much."""
        self.known = self.database.take(
            self.key, [reservation], lambda c, a: leases.exchange(c, a, reservation, pico)
        )

    def settle(self, reservation: str, pico: int) -> None:
        """Close a reservation, at what its call cost."""
        self.known = self.database.pay(self.key, {reservation: pico}, self.known)

    def release(self, reservations: Sequence[str]) -> None:
        """Close reservations of calls that cost nothing."""
        self.known = self.database.pay(self.key, dict.fromkeys(reservations, 0), self.known)

    def left(self) -> int | None:
        """Picodollars left, when it was last asked."""
        return self.known


def put(c: Connection, run: RunRow) -> None:
    """Enter a run, in place of what was known of it."""
    row = {
        "folder": _kept(run.folder),
        "key": _kept(run.key)[:64],
        "index": _kept(run.index),
        "question": _kept(run.question),
        "began": _kept(run.began)[:40],
        "stop": None if run.stop is None else _kept(run.stop),
        "usd": run.usd,
        "calls": run.calls,
        "tokens": run.tokens,
        "access": listed(run.access),
    }
    if c.execute(update(RUNS).where(RUNS.c.folder == row["folder"]).values(**row)).rowcount == 0:
        c.execute(insert(RUNS).values(**row))


def _run(row: Row[Any]) -> RunRow:
    return RunRow(
        row.folder,
        row.key,
        row._mapping["index"],  # as each row is a tuple, with a method of that name
        row.question,
        row.began,
        row.stop,
        row.usd,
        row.calls,
        row.tokens,
        unlisted(row.access),
    )


def _kept(words: str) -> str:
    """Words as a database can keep them: PostgreSQL has no NUL, and nobody half a surrogate pair."""
    return words.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
