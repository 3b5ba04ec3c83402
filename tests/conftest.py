"""What holds for every test: no clock of a busy machine decides, and CI tries the same examples each time."""

import os
import signal
import sys
from collections.abc import Iterator
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


@pytest.fixture(autouse=True)
def no_price_outlives_its_test() -> Iterator[None]:
    """A short name may say what a model costs, for the whole process: other tests ask a model of that name too."""
    yield
    if models := sys.modules.get("rlm.gateway.models"):
        models._given.clear()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Index]":
    """The toy index with its embedder, for tests that ask it over HTTP."""
    from tests.helpers.rlm_toy import embedded, warm_up
    from tests.helpers.toy import toy_index

    warm_up()
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        yield toy_index(tmp_path_factory.mktemp("toy") / "toy.index")
