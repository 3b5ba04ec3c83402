"""The pages of CONTRIBUTING.md do what they say: in a copy, their lines stand where they belong and their tests run."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from tests.helpers.thorough import cases

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = dict(re.findall(r"^## (Adding [^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
EDIT = re.compile(
    r"^(?:In `(?P<file>[^`]+)`, (?P<where>after|before|in place of) the line `(?P<line>[^`\n]+)`"
    r"|At the end of `(?P<end>[^`]+)`|A new file `(?P<new>[^`]+)`):\n\n```\w+\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = re.compile(r"^Then run `pytest ([^`]+)`", re.MULTILINE)
#: The tests of verbs, which run anyway, are played here for the new one; all but those of any JSON by make thorough.
NEW = f"siblings or not {cases('test_verbs', 'any_json')}"


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines for a file: a whole new one, or beside the one line there that begins so."""

    file: str
    block: str
    where: str = "new"
    line: str = ""

    def apply(self, root: Path) -> None:
        path = root / self.file
        if self.where == "new":
            assert not path.exists(), f"{self.file} is there already"
            path.write_text(self.block, encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if self.where == "end":
            path.write_text("".join([*lines, "\n\n", self.block]), encoding="utf-8")
            return
        places = [place for place, line in enumerate(lines) if line.startswith(self.line)]
        fault = f"{self.file} has {len(places)} lines that begin with {self.line!r}"
        assert len(places) == 1, f"{fault}, which CONTRIBUTING.md names: mend the page"
        start = places[0] + (self.where == "after")
        lines[start : places[0] + (self.where != "before")] = [self.block]
        path.write_text("".join(lines), encoding="utf-8")


def edit_of(m: re.Match[str]) -> Edit:
    if m["new"] or m["end"]:
        return Edit(m["new"] or m["end"], m["block"], "new" if m["new"] else "end")
    return Edit(m["file"], m["block"], m["where"], m["line"])


def edits(page: str) -> list[Edit]:
    return [edit_of(m) for m in EDIT.finditer(page)]


def test_there_is_a_page_for_each_thing_that_is_added_often() -> None:
    assert set(PAGES) == {
        "Adding a verb",
        "Adding a loader",
        "Adding a model provider",
        "Adding an event kind",
        "Adding a sandbox backend",
    }


@pytest.mark.parametrize("title", PAGES)
def test_every_block_of_a_page_says_where_it_goes(title: str) -> None:
    blocks = re.findall(r"^```(?:python|text)$", PAGES[title], re.MULTILINE)
    assert len(edits(PAGES[title])) == len(blocks) > 1
    assert RUN.search(PAGES[title])


def copied(folder: Path) -> Path:
    """The parts of the checkout that pages change and checks read."""
    for part in ("index_store", "raptor", "rlm", "tests", "benchmarks"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile"):
        shutil.copy(ROOT / file, folder / file)
    return folder


def check(folder: Path, *command: str) -> None:
    """Run a module of Python in a folder, whose packages it imports. It must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(folder)},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_lines_that_pages_name_are_there(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for page in PAGES.values():
        for edit in edits(page):
            edit.apply(folder)


@pytest.mark.slow
@pytest.mark.parametrize("title", PAGES)
def test_the_tests_of_a_page_pass(title: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for edit in edits(PAGES[title]):
        edit.apply(folder)
    run = RUN.search(PAGES[title])
    assert run
    check(folder, "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", NEW, *run[1].split())


@pytest.mark.slow
def test_what_the_pages_add_passes_the_checks_of_style_and_types(tmp_path: Path) -> None:
    folder, changed = copied(tmp_path), set[str]()
    for page in PAGES.values():
        for edit in edits(page):
            edit.apply(folder)
            changed.add(edit.file)
    python = sorted(file for file in changed if file.endswith(".py"))
    check(folder, "ruff", "format", "--check", *python)
    check(folder, "ruff", "check", *python)
    if (kept := ROOT / ".mypy_cache").exists():  # `make lint` was here: only what changed is looked at again
        shutil.copytree(kept, folder / kept.name)
    check(folder, "mypy", *python)  # and what they import: whatever is beside them is as `make lint` found it
