"""Where the tests find things: the repository, what stands beside them, and the data that no clone brings along."""

from pathlib import Path

import pytest

HELPERS = Path(__file__).parent
GOLDEN = HELPERS / "golden"
ROOT = HELPERS.parents[1]
#: Real text with gold answers, beside the repository.
DATA = ROOT.parent / "shared" / "data"


def data_file(name: str) -> Path:
    """A file of the data; whatever test or fixture asks for one that is not there is skipped."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"this test reads {name} of the development data, and there is no such file in {DATA}")
    return path
