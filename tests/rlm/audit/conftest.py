"""What the tests of the audit share."""

from collections.abc import Callable, Iterator

import pytest

from rlm.audit.page import steps
from rlm.cli import main

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", params=["whole", "stowed"])
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """How pages keep their steps: as elements, or, as those of long runs, as texts until they are wanted."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "stowed":
            patch.setattr(steps, "LONG", 0)
        yield request.param


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """(exit code, standard output, standard error) of `rlm` with arguments of any kind."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([*map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call
