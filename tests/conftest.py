"""What holds for every test: no clock of a busy machine decides, and CI tries the same examples each time."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from index_store.index import Index

# Started in a shell's background, tests would hand an ignored Ctrl-C on to the programs that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("house"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "house")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--portable",
        action="store_true",
        help="as on a system without the kernel's layers: code runs in Monty",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes, and waits for most of them, begins first: begun last, it would end long after all else."""
    items.sort(key=lambda item: item.path.name != "test_on_ray.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """The collector need not look through ten thousand tests, and all that they import, each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def the_kernel_has_no_layers_where_that_is_asked_for(request: pytest.FixtureRequest) -> Iterator[None]:
    """Only this process is told so: the system itself has nothing that a user could switch them off by."""
    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("portable"):
            from rlm.sandbox import BACKENDS
            from tests.helpers.sandbox_sessions import no_layers

            patch.setitem(BACKENDS, "linux", no_layers)
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_is_kept_in_the_users_own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nor by what runs outside of a single test, such as a fixture of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Paths for one test each, in a folder apart: pytest reads a whole folder to number the next one in it."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def no_answer_outlives_its_test(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test's model answered is not believed in another, which has another key: ports are given out again."""
    monkeypatch.setenv("XDG_DATA_HOME", str(next(homes)))


@pytest.fixture(autouse=True)
def no_price_outlives_its_test() -> Iterator[None]:
    """A short name may say what a model costs, for the whole process: other tests ask a model of that name too."""
    yield
    if models := sys.modules.get("rlm.gateway.models"):
        models._given.clear()


@pytest.fixture(scope="session")
def warmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of commands that begin at once, shared by the workers of xdist."""
    from tests.helpers.warm import warm

    base = tmp_path_factory.getbasetemp()
    with warm((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "warm") as commands:
        yield commands


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Index]":
    """The toy index with its embedder, for tests that ask it over HTTP."""
    from tests.helpers.rlm_toy import embedded, warm_up
    from tests.helpers.toy import toy_index

    warm_up()
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        yield toy_index(tmp_path_factory.mktemp("toy") / "toy.index")
