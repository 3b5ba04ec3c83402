"""What the tests of stores share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.object_store import new_bucket, object_store


@pytest.fixture(scope="package")
def server() -> Iterator[str]:
    """The address of a server of S3."""
    with object_store() as address:
        yield address


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for an index that is empty yet, in a folder and in a bucket."""
    if request.param == "file":
        return (tmp_path / "shared" / "toy").as_uri()
    return f"{new_bucket(request.getfixturevalue('server'))}/some/toy"


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache of each test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "raptor-rlm"
