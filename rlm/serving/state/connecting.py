"""A connection to the database of a server: what is done in it is done whole or not at all, and one after another.

In SQLite a transaction begins by taking the only lock there is (BEGIN IMMEDIATE), so that none that has read must be
thrown away; in PostgreSQL it locks the rows that it names, and is done anew where two stood in each other's way.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from random import uniform
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from index_store.terminal import brief, one_line
from rlm.errors import RlmError
from rlm.serving.types import StateGone

T = TypeVar("T")

WAIT_S = 30
_TRIES = 12
#: What PostgreSQL says of transactions that stood in each other's way.
_AGAIN = ("40001", "40P01")
#: A number of our own: by it processes that upgrade a database wait for each other.
_UPGRADING = 7_268_571_103


class Connecting:
    """A pool of connections to one database. Every method waits; each raises StateGone where it cannot be used."""

    def __init__(self, url: str) -> None:
        self._url = _url_of(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        # SQLite lets those that wait poll, without an order: within a process they have one.
        self._turn: Any = threading.Lock() if self.is_sqlite else nullcontext()
        self._engine = self._sqlite() if self.is_sqlite else self._postgres()

    @property
    def name(self) -> str:
        """The address, without a password."""
        return one_line(self._url.render_as_string(hide_password=True), 200)

    def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives, done in one transaction; called again where the transaction came to nothing."""
        return self._done(work, writes=True)

    def read(self, work: Callable[[Connection], T]) -> T:
        """As `write`, for work that only reads, which waits for nobody."""
        return self._done(work, writes=False)

    def now(self, connection: Connection) -> float:
        """Seconds since 1970, by the one clock that all processes share."""
        if self.is_sqlite:
            return time.time()
        return float(connection.scalar(text("select extract(epoch from clock_timestamp())")) or 0)

    def upgrade(self) -> None:
        """Make the tables, or change those of an earlier version; processes that do so at once wait for each other."""
        self.write(self._upgraded)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _done(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        for left in reversed(range(_TRIES)):
            try:
                with self._turn if writes else nullcontext(), self._engine.connect() as raw:
                    connection = raw.execution_options(writes=writes)
                    with connection.begin():
                        return work(connection)
            except DBAPIError as error:
                if not left or getattr(error.orig, "sqlstate", None) not in _AGAIN:
                    raise self._gone(error.orig) from error
                time.sleep(uniform(0, 0.01) * (_TRIES - left))
            except SQLAlchemyError as error:
                raise self._gone(error) from error
        raise AssertionError("unreachable: the last try raises")

    def _gone(self, error: object) -> StateGone:
        why = one_line(str(error).splitlines()[0] if str(error) else type(error).__name__, 200)
        if password := self._url.password:
            why = why.replace(str(password), "***")
        return StateGone(
            f"the database {self.name} cannot be used: {why}; without it no key is known and no call is paid, so see "
            "that it runs and ask again"
        )

    def _upgraded(self, connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        if not self.is_sqlite:
            connection.execute(text("select pg_advisory_xact_lock(:number)"), {"number": _UPGRADING})
        config = Config()
        place = str(Path(__file__).parent / "migrations")
        config.set_main_option("script_location", place.replace("%", "%%"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise RlmError(
                f"the database {self.name} was made by another version of this program ({one_line(str(error), 100)}); "
                "use that version, or a later one"
            ) from error

    def _sqlite(self) -> Engine:
        path = Path(self._url.database or "")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # nobody else reads hashes of keys
        except OSError as error:
            raise RlmError(
                f"cannot open the database {path}: {error.strerror}; name another by --db"
            ) from error
        engine = create_engine(
            self._url, hide_parameters=True, connect_args={"timeout": WAIT_S, "check_same_thread": False}
        )

        @event.listens_for(engine, "connect")
        def connected(connection: Any, record: object) -> None:
            connection.isolation_level = None  # we begin transactions, not the driver
            connection.execute("PRAGMA journal_mode = WAL")
            # A power cut must not take back what was reserved: the call has been made.
            connection.execute("PRAGMA synchronous = FULL")

        @event.listens_for(engine, "begin")
        def begun(connection: Connection) -> None:
            writes = connection.get_execution_options().get("writes")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    def _postgres(self) -> Engine:
        waits = f"-c lock_timeout={WAIT_S}s -c statement_timeout={2 * WAIT_S}s"
        try:
            return create_engine(
                self._url,
                hide_parameters=True,
                pool_pre_ping=True,
                pool_size=8,
                connect_args={"connect_timeout": 10, "options": waits},
            )
        except ModuleNotFoundError as error:
            raise RlmError(
                "a database in PostgreSQL needs the extra `postgres`: pip install 'raptor-rlm[postgres]'"
            ) from error


def missing_file(words: str) -> Path | None:
    """The file of SQLite that an address names, where it is not there; to connect would make it. Raises RlmError."""
    url = _url_of(words)
    file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
    return file if file is not None and not file.exists() else None


def _url_of(words: str) -> URL:
    """The address of a database; words without :// name a file of SQLite. Raises RlmError, without a password."""
    if "://" not in words:
        return URL.create("sqlite", database=words)
    kind = brief(words.partition("://")[0])
    try:
        url = make_url(words)
    except (ArgumentError, ValueError) as error:
        raise RlmError(
            f"the address of a database that begins with {kind} cannot be read; write it as "
            "postgresql://USER:PASSWORD@HOST:PORT/NAME, and @ : / in a password as %40 %3A %2F"
        ) from error
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite":
        raise RlmError(
            f"{kind} is no database that can be used here; give sqlite:///FILE or postgresql://..."
        )
    if url.database in (None, "", ":memory:") or "mode" in url.query:
        raise RlmError("a database in memory is gone with its process; give sqlite:///FILE")
    return url.set(drivername="sqlite")
