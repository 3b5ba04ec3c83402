"""Replies already paid for, kept in one sqlite file: JSON values under the sha256 of the whole request."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm.gateway.errors import BrokenCache

_BUSY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Cache:
    """A store of JSON objects at `path`; safe between threads, processes and forks: it keeps nothing open."""

    path: Path

    def __post_init__(self) -> None:
        with self._open() as database:
            database.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, value TEXT NOT NULL)")

    def get(self, key: str) -> dict[str, Any] | None:
        """The object stored under a key. Raises `BrokenCache` if the file is damaged."""
        with self._open() as database:
            row = database.execute("SELECT value FROM replies WHERE key = ?", (key,)).fetchone()
            value = None if row is None else json.loads(row[0])
        if value is not None and not isinstance(value, dict):
            raise self._broken("a value is not an object")
        return value

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Store an object; a later one under the same key replaces it."""
        with self._open() as database:
            database.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, json.dumps(value)))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S)
            try:
                with database:
                    yield database
            finally:
                database.close()
        except (sqlite3.Error, ValueError, RecursionError) as error:
            raise self._broken(str(error)) from error

    def _broken(self, found: str) -> BrokenCache:
        return BrokenCache(
            f"the reply cache {self.path} cannot be used ({found}); "
            f"delete it, or name another: it holds only copies of replies"
        )


def key_of(value: Any) -> str:
    """The sha256 of a JSON value, written one way only."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
