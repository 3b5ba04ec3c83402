"""A database that goes: no call is made without a reservation, and what was under way is entered when it is back."""

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from rlm.errors import RlmError
from rlm.serving.state import connecting
from rlm.serving.state.connecting import Connecting
from rlm.serving.state.database import Database
from rlm.serving.types import Grant, StateGone
from tests.helpers.gateway_calls import about, run
from tests.helpers.model_server import ModelServer, Step
from tests.helpers.paying import BILLED, CALL, SAID, gateway_of, key_of, purse_of
from tests.helpers.postgres import Cluster
from tests.rlm.serving.state.test_money import eventually, sums

SECRET = "ge:h@im"


def test_a_postgresql_that_stops_is_one_sentence_and_all_is_well_when_it_is_back(
    postgres: Cluster, server: ModelServer
) -> None:
    database = Database(postgres.emptied(), lease_s=0.3)
    grant = key_of(database)
    purse = purse_of(database, grant)
    answers = threading.Event()
    server._script = [Step(SAID.text, usage=SAID.usage, until=answers)]
    replies: list[object] = []
    asking = threading.Thread(target=lambda: replies.extend(run(gateway_of(purse), CALL)))
    asking.start()
    eventually(lambda: server.calls == 1)
    postgres.stop()
    try:
        (refused,) = run(gateway_of(purse), CALL)
        assert isinstance(refused, StateGone) and "without it no key is known and no call is paid" in str(
            refused
        )
        assert not database.is_ready()
        with pytest.raises(StateGone):
            database.grant("rk-x")
        answers.set()
        asking.join()
        assert getattr(replies[0], "text", replies[0]) == SAID.text
        assert server.calls == 1
    finally:
        postgres.start()
    eventually(lambda: database.is_ready() and sums(database) == (about(BILLED), 0))
    assert getattr(run(gateway_of(purse), CALL)[0], "text", "") == SAID.text
    database.close()


def test_a_file_that_another_program_keeps_locked_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ModelServer
) -> None:
    monkeypatch.setattr(connecting, "WAIT_S", 0.05)
    database = Database(str(tmp_path / "state.sqlite"), lease_s=0.3)
    purse = purse_of(database, key_of(database))
    purse.reserve({"a": 10**10})
    locker = sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)
    locker.execute("begin immediate")
    (refused,) = run(gateway_of(purse), CALL)
    assert isinstance(refused, StateGone) and "database is locked" in str(refused)
    purse.settle("a", 5 * 10**9)  # does not fail
    locker.execute("rollback")
    locker.close()
    eventually(lambda: sums(database) == (about(0.005), 0))
    assert server.calls == 0
    database.close()


def test_what_is_owed_at_the_end_is_entered_as_it_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "WAIT_S", 0.05)
    path = tmp_path / "state.sqlite"
    database = Database(str(path))
    purse = purse_of(database, key_of(database))
    purse.reserve({"a": 10**10})
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("begin immediate")
    purse.settle("a", 5 * 10**9)
    locker.execute("rollback")
    locker.close()
    database.close()
    again = Database(str(path))
    assert sums(again) == (about(0.005), 0)
    again.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://jane:ge%3Ah%40im@127.0.0.1:1/state",
        "postgresql+psycopg://jane:ge%3Ah%40im@127.0.0.1:1/state",
        "postgresql://jane:ge:h@im@127.0.0.1:nan/state",
        "postgresql://jane:ge:h@im@[::1/state",
        "mysql://jane:ge%3Ah%40im@127.0.0.1/state",
        "postgresql+nothing://jane:ge%3Ah%40im@127.0.0.1/state",
        "post\x1b[2Jgres://jane:ge%3Ah%40im@127.0.0.1/state",
        "://jane:ge%3Ah%40im@127.0.0.1/state",
    ],
)
def test_no_message_shows_the_password_of_an_address(url: str) -> None:
    with pytest.raises(RlmError) as told:
        Database(url)
    assert not any(secret in str(told.value) for secret in (SECRET, "ge%3Ah%40im", "h@im", "\x1b"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(RlmError, match="in memory"):
        Connecting(url)


def test_a_file_that_is_none_or_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RlmError, match="cannot open the database"):
        Database(str(tmp_path))
    (tmp_path / "text").write_text("no database, but a text that is long enough for its first page" * 40)
    with pytest.raises(RlmError, match="file is not a database"):
        Database(str(tmp_path / "text"))


def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "data/serve/state.sqlite"))
    database.add_key(Grant(name="x"))
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "data/serve").iterdir()}
    assert modes == {0} and (tmp_path / "data/serve").stat().st_mode & 0o077 == 0
    database.close()


def test_reading_waits_for_no_writer(tmp_path: Path) -> None:
    path = str(tmp_path / "state.sqlite")
    database, other = Database(path), Database(path)
    key_of(database)
    held, let_go = threading.Event(), threading.Event()

    def hold(c: object) -> None:
        held.set()
        assert let_go.wait(120)

    writing = threading.Thread(target=lambda: other.store.write(hold))
    writing.start()
    assert held.wait(120)
    began = time.monotonic()
    assert database.has_keys() and database.is_ready()
    assert time.monotonic() - began < connecting.WAIT_S
    let_go.set()
    writing.join()
    database.close()
    other.close()
