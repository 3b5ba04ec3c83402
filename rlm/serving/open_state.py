"""A server without keys and without a database: everybody on this machine may do everything."""

import threading
from collections.abc import Sequence

from rlm.gateway.purse import Purse
from rlm.serving.types import Grant, RunRow

EVERYTHING = Grant()


class OpenState:
    """The state of one process, in memory: no key is asked for, and runs are known until it ends."""

    def __init__(self) -> None:
        self._runs: dict[str, RunRow] = {}
        self._lock = threading.Lock()

    def has_keys(self) -> bool:
        """No key was ever made."""
        return False

    def grant(self, secret: str) -> Grant | None:
        """No key is known."""
        return None

    def wait_s(self, grant: Grant) -> float:
        """No request waits."""
        return 0.0

    def purse(self, grant: Grant) -> Purse | None:
        """There is no ceiling but that of each question."""
        return None

    def record(self, run: RunRow) -> None:
        """Add a run, or what has become of it."""
        with self._lock:
            self._runs[run.folder] = run

    def runs(
        self, grant: Grant, *, index: str | None = None, limit: int = 50, offset: int = 0
    ) -> Sequence[RunRow]:
        """All runs, the newest first."""
        with self._lock:
            found = [run for run in reversed(self._runs.values()) if index in (None, run.index)]
        return found[offset : offset + limit]

    def run(self, grant: Grant, folder: str) -> RunRow | None:
        """One of the runs."""
        return self._runs.get(folder)

    def is_ready(self) -> bool:
        """It always answers."""
        return True

    def close(self) -> None:
        """Nothing is held."""
