"""The handbook that the pages tell of, and its index, built once."""

import shutil
from pathlib import Path

import pytest

from tests.docs.test_pages import DOCS, environment
from tests.helpers.documentation import run


@pytest.fixture(scope="session")
def handbook(warmed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the handbook and its index, which a page may begin with."""
    folder = tmp_path_factory.mktemp("handbook")
    shutil.copytree(DOCS / "handbook", folder / "handbook")
    assert (
        run("```console\n$ raptor build handbook -o handbook.index\n```", folder, environment(folder, warmed))
        == []
    )
    return folder
