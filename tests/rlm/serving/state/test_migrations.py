"""A database of any earlier version becomes one of this version, and nothing in it is lost."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

import rlm.serving.state
from rlm.errors import RlmError
from rlm.serving.state.connecting import Connecting
from rlm.serving.state.database import Database
from rlm.serving.state.tables import METADATA

PLACE = Path(rlm.serving.state.__file__).parent / "migrations"
KEY = (
    "insert into keys (id, name, digest, start, made, may_write, is_admin) "
    "values ('0123456789ab', 'old', 'd', 'rk-abcd', 1.0, {no}, {no})"
)


def config(connection: Connection | None = None) -> Config:
    made = Config()
    made.set_main_option("script_location", str(PLACE))
    made.attributes["connection"] = connection
    return made


REVISIONS = [
    script.revision for script in reversed([*ScriptDirectory.from_config(config()).walk_revisions()])
]


def differences(database: Database) -> object:
    """What differs between the tables there are and those that are described."""
    return database.store.read(lambda c: compare_metadata(MigrationContext.configure(c), METADATA))


@pytest.mark.parametrize("revision", [None, *REVISIONS])
def test_from_each_revision_the_tables_become_those_that_are_described(
    url: str, revision: str | None
) -> None:
    if revision is not None:
        store = Connecting(url)

        def earlier(c: Connection) -> None:
            command.upgrade(config(c), revision)
            c.exec_driver_sql(KEY.format(no="0" if store.is_sqlite else "false"))

        store.write(earlier)
        store.close()
    database = Database(url)
    assert differences(database) == []
    assert [key.grant.name for key in database.list_keys()] == (["old"] if revision else [])
    database.close()


def test_processes_that_open_a_new_database_at_once_wait_for_each_other(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        databases = list(pool.map(Database, [url] * 4))
    assert differences(databases[0]) == []
    for database in databases:
        database.close()


def test_a_database_of_a_later_version_is_refused_in_a_sentence(url: str) -> None:
    database = Database(url)
    database.store.write(lambda c: c.exec_driver_sql("update alembic_version set version_num = '9999'"))
    database.close()
    with pytest.raises(RlmError, match="was made by another version of this program"):
        Database(url)


def test_a_folder_with_a_percent_sign_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(str(tmp_path / "100% sure" / "state.sqlite"))
    assert not database.has_keys()
    database.close()
