"""Both databases, each new for its test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlm.serving.state.database import Database
from tests.helpers.model_server import ModelServer
from tests.helpers.paying import SAID, priced
from tests.helpers.postgres import Cluster, binaries, cluster
from tests.helpers.rlm_toy import warm_up

Opens = Callable[..., Database]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL for the whole session."""
    folder = binaries()
    if folder is None:
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    with cluster(folder) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new, empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.sqlite"
    made: Cluster = request.getfixturevalue("postgres")
    return made.emptied()


@pytest.fixture
def opens(url: str) -> Iterator[Opens]:
    """Opens the database, as often as it is called, with the options of `Database`; each is closed after the test."""
    opened = list[Database]()

    def opens(**options: object) -> Database:
        opened.append(Database(url, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield opens
    for database in opened:
        database.close()


@pytest.fixture(scope="session")
def warm() -> None:
    """The client of models, before anything is forked."""
    warm_up()


@pytest.fixture
def server(warm: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A model that has a price, and says one thing."""
    with priced(), ModelServer([SAID]) as server:
        server.use(monkeypatch)
        yield server
