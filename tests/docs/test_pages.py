"""The documentation says what is so: every block of every page runs, and prints what the page shows."""

import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.documentation import Block, blocks, commands, plain, run
from tests.helpers.places import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(
    path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if "handbook" not in path.parts
)


def environment(home: Path, *first: Path) -> dict[str, str]:
    """What a reader's shell has: our commands first, those of `first` before them, a home of its own, no key."""
    keys = {
        name
        for name in os.environ
        if name.endswith(("_KEY", "_BASE", "_BASE_URL")) or name.startswith("XDG_")
    }
    return {name: value for name, value in os.environ.items() if name not in keys} | {
        "PATH": os.pathsep.join([*map(str, first), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[Path]:
    """The folder of a page, in which nothing that it has started goes on."""
    yield tmp_path
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").readlink().is_relative_to(tmp_path):
                os.kill(int(place.name), signal.SIGKILL)
        except OSError:  # it has ended, or is another's
            continue


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks((DOCS / page).read_text("utf-8")))])
def test_every_block_of_a_page_runs_and_prints_what_the_page_shows(
    page: str, handbook: Path, warmed: Path, begun: Path, port: int
) -> None:
    text = (DOCS / page).read_text(encoding="utf-8").replace("8000", str(port))
    shutil.copytree(handbook / "handbook", begun / "handbook")
    if "raptor build handbook -o handbook.index" not in text:
        shutil.copytree(handbook / "handbook.index", begun / "handbook.index")
    assert run(text, begun, environment(begun, warmed)) == []


def test_a_fault_of_a_page_is_noticed(tmp_path: Path) -> None:
    def faults(page: str) -> list[str]:
        return run(page, tmp_path, environment(tmp_path))

    assert faults("```console\n$ echo it took 12 s\nit took 9 s\n```") == []
    assert "the page shows" in faults("```console\n$ echo one\ntwo\n```")[0]
    assert "exit code 3" in faults("```console\n$ exit 3\n```")[0]
    assert faults("```console\n$ exit 1\n(exit code 1)\n```") == []
    assert "no language is not run" in faults("```\nwords\n```")[0]
    assert "exit code 1" in faults("```python\nraise ValueError\n```")[0]
    assert faults('```toml title="a.toml"\nx = 1\n```\n```console\n$ cat a.toml\nx = 2\n```') == []


def test_a_block_of_commands_is_read_as_it_is_typed() -> None:
    block = Block("console", "", "$ a \\\n  b\nout\n\n$ c\n", 1)
    assert [(one.typed, one.shown) for one in commands(block)] == [("a    b", ("out", "")), ("c", ())]
    assert plain("12,345 tokens  of\n0123456789abcdef0123") == "N tokens of HASH"


def test_every_page_is_in_the_list_of_the_site_and_every_picture_is_there() -> None:
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == PAGES
    for page in PAGES:
        for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (DOCS / page).read_text(encoding="utf-8")):
            assert (DOCS / page).parent.joinpath(picture).is_file(), (
                f"{page} shows {picture}, which is not there"
            )
