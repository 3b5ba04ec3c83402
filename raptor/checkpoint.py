"""What a build has already paid for: results under the hash of their inputs, in `build.sqlite` beside the index.

Each result is committed before it is used, so a build that dies goes on where it was: the same inputs find the same
results. Values are JSON or array files, never pickle, each after the sha256 of itself and its key. A damaged one counts
as none, and so does one of another shape: the file may come from a stranger, as may the rest of an index. Kinds begin
with `settled ` once a generation was published from them; the others are of a build that has not ended. Deleting the
file costs work, not correctness.
"""

import hashlib
import io
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from index_store.files import Lock, lock, refuse_links
from index_store.types import Json
from raptor.errors import RaptorError

NAME = "build.sqlite"
LOCK = "build.lock"
SETTLED = "settled "
DIGEST_BYTES = 32
_SCHEMA = "CREATE TABLE results (key TEXT PRIMARY KEY, kind TEXT NOT NULL, value BLOB NOT NULL)"

Array = npt.NDArray[Any]
Raw = bytes | memoryview


def result_key(kind: str, *inputs: Json | Raw) -> str:
    """The sha256 of a kind of result and its inputs, bytes or JSON: different lists of inputs have different keys."""
    hashed = hashlib.sha256(kind.encode())
    for item in inputs:
        is_raw = isinstance(item, Raw)
        raw = item if isinstance(item, Raw) else json.dumps(item, sort_keys=True).encode()
        hashed.update(b"%s%d:" % (b"b" if is_raw else b"j", len(raw)))
        hashed.update(raw)
    return hashed.hexdigest()


def _digest(key: str, value: bytes) -> bytes:
    return hashlib.sha256(key.encode() + value).digest()


def _check_files(folder: Path) -> None:
    """Raise OSError unless the database, and the log that SQLite keeps beside it, are plain files or missing."""
    for path in (folder / f"{NAME}{suffix}" for suffix in ("", "-wal", "-shm")):
        if path.exists() and not path.is_file():
            raise OSError(f"{path.name} is no file")


def _has_table(db: sqlite3.Connection) -> bool:
    """Whether a database is one of a build; an empty one is not. Raises OSError where it holds more, such as a view
    without end."""
    held = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    if held and held != [(_SCHEMA,)]:
        raise OSError("it holds other tables than a build makes")
    return bool(held)


def build_lock(folder: Path) -> Lock:
    """Take the lock of an index folder, one build at a time. Raises RaptorError where another build has it."""
    busy = RaptorError(f"another build is writing {folder}; wait for it to end, or choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock(folder / LOCK, busy)
    except OSError as e:
        raise RaptorError(f"cannot write in {folder}: {e.strerror or e}; choose another folder") from e


class Checkpoint:
    """An open `build.sqlite`. Safe from several threads; one writer at a time is the build lock's business.

    `read_only`: what is recorded can be read, nothing is written, and what is put is forgotten.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path, self._read_only = folder / NAME, read_only
        self._lock = threading.Lock()
        try:
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True)
            refuse_links(folder, *(f"{NAME}{suffix}" for suffix in ("", "-wal", "-shm", "-journal")))
            if not read_only:
                # A build writes a log ahead and leaves no rollback journal. A stranger's may name any file as its
                # super-journal, which SQLite would delete.
                (folder / f"{NAME}-journal").unlink(missing_ok=True)
            _check_files(folder)
            self._db = self._reader() if read_only else self._writer()
        except (sqlite3.Error, OSError) as e:
            raise self._broken(e) from e

    def _writer(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        if not _has_table(db):
            db.execute(_SCHEMA)
        db.execute("PRAGMA journal_mode=WAL")
        # A dead process loses nothing; a power cut, the last moments.
        db.execute("PRAGMA synchronous=NORMAL")
        return db

    def _reader(self) -> sqlite3.Connection:
        if self.path.exists():
            # Without a log beside it nothing else has the file open, and no file needs to be made to read it.
            mode = "mode=ro" if self.path.with_name(f"{NAME}-wal").exists() else "immutable=1"
            uri = f"{self.path.absolute().as_uri()}?{mode}"
            db = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
            if _has_table(db):
                return db
            db.close()
        db = sqlite3.connect(":memory:", check_same_thread=False)
        db.execute(_SCHEMA)
        return db

    @property
    def folder(self) -> Path | None:
        """Where what does not fit into memory goes while work is done: beside it, or where nothing is written, None."""
        return None if self._read_only else self.path.parent

    def get_json(self, key: str, fits: Callable[[Any], bool]) -> Any | None:
        """A recorded JSON result that `fits`, or None."""
        raw = self._get(key)
        try:
            value = None if raw is None else json.loads(raw)
        except (ValueError, RecursionError):
            return None
        return value if value is not None and fits(value) else None

    def put_json(self, key: str, kind: str, value: Json) -> None:
        """Record a JSON result."""
        self._put(key, kind, json.dumps(value).encode())

    def get_array(self, key: str, fits: Callable[[Array], bool]) -> Array | None:
        """A recorded array that `fits`, or None."""
        raw = self._get(key)
        try:
            value = None if raw is None else np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
        except (ValueError, TypeError, OverflowError, MemoryError):
            return None
        return value if value is not None and fits(value) else None

    def put_array(self, key: str, kind: str, value: Array) -> None:
        """Record an array of numbers."""
        out = io.BytesIO()
        np.save(out, value, allow_pickle=False)
        self._put(key, kind, out.getvalue())

    def json(
        self,
        kind: str,
        inputs: Sequence[Json | Raw],
        compute: Callable[[], Json],
        fits: Callable[[Any], bool],
    ) -> Any:
        """The recorded result for these inputs; computed and recorded when there is none that `fits`."""
        key = result_key(kind, *inputs)
        result = self.get_json(key, fits)
        if result is None:
            result = compute()
            self.put_json(key, kind, result)
        return result

    def array(
        self,
        kind: str,
        inputs: Sequence[Json | Raw],
        compute: Callable[[], Array],
        fits: Callable[[Array], bool],
    ) -> Array:
        """As `json`, for an array."""
        key = result_key(kind, *inputs)
        result = self.get_array(key, fits)
        if result is None:
            result = compute()
            self.put_array(key, kind, result)
        return result

    def count(self, kind: str) -> int:
        """How many results of a kind are recorded by a build that has not ended."""
        return int(self._run("SELECT count(*) FROM results WHERE kind = ?", (kind,))[0][0])

    def bytes_of(self, kind: str) -> int:
        """How many bytes the results of a kind take that are recorded by a build that has not ended."""
        sql = "SELECT coalesce(sum(length(value)), 0) FROM results WHERE kind = ? AND typeof(value) = 'blob'"
        return int(self._run(sql, (kind,))[0][0])

    def settle(self, *dropped: str) -> None:
        """A generation was published: drop the kinds that it holds itself, and settle the others."""
        for kind in dropped:
            self._run("DELETE FROM results WHERE kind = ?", (kind,))
        self._run("UPDATE results SET kind = ? || kind WHERE kind NOT LIKE ?", (SETTLED, f"{SETTLED}%"))
        self._run("VACUUM")

    def settled(self, kind: str, fits: Callable[[Any], bool]) -> Iterator[Any]:
        """The settled JSON results of a kind, those that `fits` says are such."""
        for (key,) in self._run("SELECT key FROM results WHERE kind = ?", (SETTLED + kind,)):
            if (result := self.get_json(key, fits)) is not None:
                yield result

    def retain(self, kind: str, needed: Callable[[Any], bool]) -> int:
        """Drop the settled results of a kind that are not `needed`, and say how many those were."""
        keys = [key for (key,) in self._run("SELECT key FROM results WHERE kind = ?", (SETTLED + kind,))]
        gone = [key for key in keys if self.get_json(key, needed) is None]
        for key in gone:
            self._run("DELETE FROM results WHERE key = ?", (key,))
        self._run("VACUUM")
        return len(gone)

    def _get(self, key: str) -> bytes | None:
        for (raw,) in self._run("SELECT value FROM results WHERE key = ? AND typeof(value) = 'blob'", (key,)):
            digest, value = bytes(raw[:DIGEST_BYTES]), bytes(raw[DIGEST_BYTES:])
            return value if digest == _digest(key, value) else None
        return None

    def _put(self, key: str, kind: str, value: bytes) -> None:
        if self._read_only:
            return
        self._run("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (key, kind, _digest(key, value) + value))

    def _run(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as e:
            raise self._broken(e) from e

    def _broken(self, error: Exception) -> RaptorError:
        return RaptorError(
            f"cannot use {self.path} ({error}); free disk space if it is full, else delete the file: "
            "what was paid for and not yet published is then paid for again"
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
