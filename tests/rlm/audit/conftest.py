"""What the tests of the audit share."""

from collections.abc import Iterator

import pytest

from rlm.audit.page import steps


@pytest.fixture(scope="module", params=["whole", "stowed"])
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """How pages keep their steps: as elements, or, as those of long runs, as texts until they are wanted."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "stowed":
            patch.setattr(steps, "LONG", 0)
        yield request.param
