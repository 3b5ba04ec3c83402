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

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = dict(re.findall(r"^## (Adding [^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
EDIT = re.compile(
    r"^(?:In `(?P<file>[^`]+)`, (?P<where>after|before|in place of) the line `(?P<line>[^`\n]+)`"
    r"|At the end of `(?P<end>[^`]+)`|A new file `(?P<new>[^`]+)`):\n\n```\w+\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = re.compile(r"^Then run `pytest ([^`]+)`", re.MULTILINE)


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
        assert len(places) == 1, f"{self.file} has {len(places)} lines that begin with {self.line!r}"
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


@pytest.mark.slow
@pytest.mark.parametrize("title", PAGES)
def test_the_lines_of_a_page_work_where_it_puts_them(title: str, tmp_path: Path) -> None:
    for folder in ("index_store", "raptor", "rlm", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile"):
        shutil.copy(ROOT / file, tmp_path / file)
    for edit in edits(PAGES[title]):
        edit.apply(tmp_path)
    run = RUN.search(PAGES[title])
    assert run
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
        *run[1].split(),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
