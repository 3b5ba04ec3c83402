"""The store of answers, beside an index: what was asked and answered is not asked again.

`my.index.memo.sqlite` stands beside the index and not in it, so that an index that is given away carries no answers.
Whoever can write there could plant an answer: so each record carries an HMAC (RFC 2104) under a key of the user's own,
and one that does not fit, be it planted or damaged, is asked for again. The store is a help and no more: where it
cannot be used, all goes on without it, and `trouble` says why. Deleting it costs money, not correctness.
"""

import hashlib
import hmac
import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from index_store.files import refuse_links
from index_store.own import make_once, own_key
from index_store.types import Json
from rlm.gateway.models import addresses
from rlm.gateway.naming import own_file
from rlm.gateway.offline import PREFIX
from rlm.gateway.types import Reply, Request

T = TypeVar("T")

SUFFIX = ".memo.sqlite"
#: The most records that are kept, and the most bytes of the file that hold any; the least recently used go first.
RECORDS, BYTES = 1_000_000, 256 << 20
#: Bytes of one value. A longer one is not kept.
VALUE_BYTES = 1 << 20
#: How all that is told of trouble with a store begins.
TROUBLE = "answers are neither taken from the store nor kept there: "
KEY_FILE = "memo.key"
_BUSY_S = 10.0
_PART = 16  # of the records, one part goes where there are too many
_AT_ONCE = 500  # keys in one statement
_FORM = b"raptor-rlm memo 1\n"
_SCHEMA = (
    "CREATE TABLE answers (key BLOB PRIMARY KEY, value BLOB NOT NULL, seal BLOB NOT NULL, used INTEGER NOT NULL)",
    "CREATE INDEX by_use ON answers (used)",
)


def memo_path(index: str | Path) -> Path:
    """Where the store of an index folder, or of a text file, is."""
    path = Path(index).resolve()
    return path.with_name(path.name + SUFFIX)


def open_memo(index: str | Path) -> "Memo":
    """The store of an index folder, or of a text file. Nothing is read or made before it is used."""
    return Memo(memo_path(index))


class Memo:
    """Values by keys. Safe from several threads and processes, and nothing is held open between two uses.

    `records`, `size`: the most records, and bytes of the file.
    """

    def __init__(self, path: Path, records: int = RECORDS, size: int = BYTES) -> None:
        self.path, self._records, self._size = path, records, size
        self._lock = threading.Lock()
        self._trouble = ""
        self._is_off = False

    def recall(self, keys: Sequence[str]) -> list[Json]:
        """The value of each key, in order; None where there is none to be believed. Any number at once.

        `keys`: each a sha256 as 64 hexadecimal digits.
        """
        if not keys or not os.path.lexists(self.path):
            return [None] * len(keys)
        names = [bytes.fromhex(key) for key in keys]
        found = self._used(lambda db, secret: _read(db, secret, names)) or {}
        return [found.get(name) for name in names]

    def keep(self, values: Mapping[str, Json]) -> None:
        """Keep a value for each key, all or none; None and what is very long are left out."""
        written = {
            bytes.fromhex(key): json.dumps(value).encode()
            for key, value in values.items()
            if value is not None
        }
        short = {name: raw for name, raw in written.items() if len(raw) <= VALUE_BYTES}
        if short:
            self._used(lambda db, secret: self._write(db, secret, short), make=True)

    def trouble(self) -> str:
        """Why the store is not used from now on, in a sentence that begins with TROUBLE; '' for no reason, and once it
        has been told."""
        with self._lock:
            told, self._trouble = self._trouble, ""
            return told

    def _write(self, db: sqlite3.Connection, secret: bytes, values: Mapping[bytes, bytes]) -> None:
        now = time.time_ns()
        rows = [(name, raw, _seal(secret, name, raw), now) for name, raw in values.items()]
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", rows)
        if len(_believed(db, secret, list(values))) < len(values):
            raise sqlite3.DatabaseError("it does not give back what it was given")
        while (held := _one(db, "SELECT count(*) FROM answers")) and self._is_over(db, held):
            leaving = max(held // _PART, held - self._records, 1)
            oldest = "SELECT rowid FROM answers ORDER BY used, rowid LIMIT ?"
            db.execute(f"DELETE FROM answers WHERE rowid IN ({oldest})", (leaving,))
        db.execute("COMMIT")

    def _is_over(self, db: sqlite3.Connection, held: int) -> bool:
        return held > self._records or _bytes_in_use(db) > self._size

    def _used(self, work: Callable[[sqlite3.Connection, bytes], T], *, make: bool = False) -> T | None:
        """What `work` gives, with the store open and the user's key; None, and no more is done, where there is trouble.

        `make`: a store that is not there is made.
        """
        with self._lock:
            if self._is_off:
                return None
            try:
                secret = user_key()
                if make and not os.path.lexists(self.path):
                    _make(self.path)
                with closing(_opened(self.path)) as db:
                    return work(db, secret)
            except (sqlite3.DatabaseError, OSError) as e:
                self._is_off = True
                self._trouble = f"{TROUBLE}{_explained(e, self.path)}"
                # Busy, full and read-only pass; a file that is no such database does not.
                if isinstance(e, sqlite3.DatabaseError) and not isinstance(e, sqlite3.OperationalError):
                    self._trouble += _moved_aside(self.path)
                return None


def user_key() -> bytes:
    """The user's own key, which is made where there is none. Raises OSError."""
    return own_key(own_file("data", KEY_FILE), f"{KEY_FILE} in your folder for data")


def is_repeatable(request: Request) -> bool:
    """Whether a reply to this may be given again: at temperature 0, and by a model that costs something to ask."""
    return request.parameters["temperature"] == 0 and not request.model.startswith(PREFIX)


def is_whole(reply: Reply) -> bool:
    """Whether a reply may be kept: it was neither cut nor declined."""
    return reply.finish_reason == "stop" and bool(reply.text) and not reply.tool_call


def reply_key(request: Request) -> str:
    """The key of the reply to a request: all that it was asked with, and where."""
    parameters = request.parameters
    asked = {
        "model": request.model,
        "addresses": addresses(),
        "messages": list(request.messages),
        "max_tokens": request.max_tokens,
        "parameters": parameters | {"temperature": float(parameters["temperature"])},
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


# -- the file ----------------------------------------------------------------------------------------------


def _read(db: sqlite3.Connection, secret: bytes, names: Sequence[bytes]) -> dict[bytes, Json]:
    """The values that are believed, by their keys; they are then those that were used last."""
    found = _believed(db, secret, names)
    with suppress(sqlite3.OperationalError):  # a store that can be read and not written still answers
        db.execute("BEGIN IMMEDIATE")
        used = [(time.time_ns(), name) for name in found]
        db.executemany("UPDATE answers SET used = ? WHERE key = ?", used)
        db.execute("COMMIT")
    return {name: json.loads(raw) for name, raw in found.items()}


def _believed(db: sqlite3.Connection, secret: bytes, names: Sequence[bytes]) -> dict[bytes, bytes]:
    """The values of the records whose seals fit, by their keys."""
    found = dict[bytes, bytes]()
    for some in (names[at : at + _AT_ONCE] for at in range(0, len(names), _AT_ONCE)):
        marks = ", ".join("?" * len(some))
        wanted = (
            f"SELECT key, value, seal FROM answers WHERE key IN ({marks}) AND length(value) <= {VALUE_BYTES}"
        )
        found |= {row[0]: row[1] for row in db.execute(wanted, some) if _is_sealed(secret, *row)}
    return found


def _seal(secret: bytes, name: bytes, raw: bytes) -> bytes:
    return hmac.digest(secret, _FORM + name + raw, "sha256")


def _is_sealed(secret: bytes, name: object, raw: object, seal: object) -> bool:
    return (
        isinstance(name, bytes)
        and isinstance(raw, bytes)
        and isinstance(seal, bytes)
        and hmac.compare_digest(seal, _seal(secret, name, raw))
    )


def _opened(path: Path) -> sqlite3.Connection:
    """The database at `path`. Raises OSError or sqlite3.DatabaseError where it is none of ours."""
    refuse_links(path.parent, *_names(path, "", "-wal", "-shm", "-journal"))
    for name in _names(path, "", "-wal", "-shm"):
        if not _is_file_or_none(path.with_name(name)):
            raise OSError(f"{name} is no file")
    # It writes a log ahead and leaves no rollback journal. A stranger's may name any file as its super-journal, which
    # SQLite would delete.
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    uri = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S)
    try:
        db.text_factory = bytes
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("PRAGMA synchronous = NORMAL")  # a power cut loses the last answers, and no others
        held = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
        if held != [(sql.encode(),) for sql in _SCHEMA]:
            raise sqlite3.DatabaseError("it holds other tables than a store of answers")
    except BaseException:
        db.close()
        raise
    return db


def _is_file_or_none(path: Path) -> bool:
    """Asked once: another process may take its log away at any time."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True


def _make(path: Path) -> None:
    def fill(partial: Path) -> None:
        with closing(sqlite3.connect(partial, isolation_level=None)) as db:
            for sql in ("PRAGMA journal_mode = WAL", *_SCHEMA):
                db.execute(sql)

    make_once(path, fill)


def _moved_aside(path: Path) -> str:
    """Move a file that is broken out of the way, with the log beside it; the end of the sentence about it."""
    try:
        for name in _names(path, "-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                path.with_name(name).replace(path.with_name(f"{name}.broken"))
    except OSError as e:
        return f"; it cannot be moved aside ({e.strerror}): delete it"
    return f"; it is now {path.name}.broken, and the next run begins another"


def _names(path: Path, *suffixes: str) -> Iterable[str]:
    return (f"{path.name}{suffix}" for suffix in suffixes)


def _bytes_in_use(db: sqlite3.Connection) -> int:
    pages, free, size = (_one(db, f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


def _one(db: sqlite3.Connection, sql: str) -> int:
    return int(db.execute(sql).fetchone()[0])


def _explained(error: Exception, path: Path) -> str:
    """Why, without the folder, as a trace tells of it."""
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"{path.name}: {why.replace(f'{path.parent}{os.sep}', '')}"
