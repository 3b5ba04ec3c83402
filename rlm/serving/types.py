"""What a server knows of who asks, and of what is under way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rlm.gateway.errors import GatewayError
from rlm.gateway.purse import Purse


class StateGone(GatewayError):
    """The database cannot be used now, so that nothing is known of keys, and no call is paid: HTTP 503."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key allows. `None` means all of them, or no limit.

    `key`: the id of the key, which is no secret; '' where none is asked for, as on loopback. `name`: whose it is.
    `indexes`, `models`: those that may be asked. `access`: the labels of documents that may be read; an empty set reads
    what is open to all, None everything. `usd_per_day`: dollars in a day of UTC. `requests_per_minute`: of any kind.
    `may_write`: whether it may build and update indexes. `is_admin`: whether it sees the runs of others.
    """

    key: str = ""
    name: str = ""
    indexes: frozenset[str] | None = None
    models: frozenset[str] | None = None
    access: frozenset[str] | None = None
    usd_per_day: float | None = None
    requests_per_minute: int | None = None
    may_write: bool = True
    is_admin: bool = True


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as the database lists it; the run's folder is the truth. `folder`: its name in the folder of runs.

    `key`: by whom. `began`: ISO, UTC. `stop`: None while it is under way. `access`: the labels that it was asked with.
    """

    folder: str
    key: str
    index: str
    question: str
    began: str
    stop: str | None = None
    usd: float = 0.0
    calls: int = 0
    tokens: int = 0
    access: frozenset[str] | None = None


class State(Protocol):
    """What all processes of a server share. Every method may wait for a database: call it off the event loop. Each but
    `is_ready` and `close` raises StateGone where that cannot be used."""

    def has_keys(self) -> bool:
        """Whether any key was ever made, so that one is asked for."""
        ...

    def grant(self, secret: str) -> Grant | None:
        """What a key allows; None for an unknown or revoked one."""
        ...

    def wait_s(self, grant: Grant) -> float:
        """Count one request; 0 where it may go ahead, else the seconds until one may."""
        ...

    def purse(self, grant: Grant) -> Purse | None:
        """What the key's calls are paid from, in all processes, so that what it spends is known; None without a key."""
        ...

    def record(self, run: RunRow) -> None:
        """Add a run, or what has become of it."""
        ...

    def runs(
        self, grant: Grant, *, index: str | None = None, limit: int = 50, offset: int = 0
    ) -> Sequence[RunRow]:
        """The runs that a key may see, the newest first."""
        ...

    def run(self, grant: Grant, folder: str) -> RunRow | None:
        """One of the runs that a key may see."""
        ...

    def is_ready(self) -> bool:
        """Whether the database answers."""
        ...

    def close(self) -> None:
        """Give back what is held; reservations of calls under way end with their lease."""
        ...
