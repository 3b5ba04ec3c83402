"""`rlm overview`: a tree that fits its terminal, JSON, a page, and errors of one sentence."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm.cli import main
from tests.helpers.browser import HOSTILE
from tests.helpers.toy import publish_toy, toy_draft

BAD = HOSTILE.replace("\ud800", "")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    publish_toy(tmp_path / "toy.index")
    return tmp_path / "toy.index"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    publish_toy(tmp_path / "hostile.index", replace(toy_draft(), labels=[BAD, BAD, BAD], summaries=[BAD] * 3))
    return tmp_path / "hostile.index"


def out(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert main(["overview", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_areas_stand_inside_each_other_with_their_sizes(
    index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = out(capsys, index, "--depth", "1").splitlines()
    assert lines[0].split() == ["100%", "All", "L2-00000"]
    assert lines[1].strip() == "3 documents, 6 chunks, 166 characters"
    assert lines[2].split() == ["60%", "Boats", "and", "masts", "L1-00000"]
    assert lines[2].startswith("    60%")
    assert len(lines) == 6


@pytest.mark.parametrize("columns", [1, 40, 77, 200])
def test_no_line_is_wider_than_the_terminal_whatever_a_label_holds(
    hostile: Path, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    told = out(capsys, hostile, "--depth", "3")
    assert max(map(len, told.split("\n"))) <= max(columns, 40)
    assert not {"\x1b", "\x00", "\u202e", "\u2028"} & set(told)


def test_json_has_every_field_of_every_area(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(out(capsys, index, "--json"))
    assert set(told) == {"index", "digest", "area"}
    fields = {
        "node", "level", "label", "share", "documents", "chunks", "chars", "names", "dates", "inside", "more",
    }  # fmt: skip
    waiting = [told["area"]]
    while waiting:
        area = waiting.pop()
        assert set(area) == fields
        waiting += area["inside"]
    assert told["area"]["inside"][0]["label"] == "Boats and masts"


def test_a_branch_and_a_text_file_have_an_overview_too(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert out(capsys, index, "--under", "L1-00001").split()[:2] == ["40%", "Fruit"]
    (tmp_path / "book.txt").write_text("A sentence of a book. " * 200)
    assert "1 document" in out(capsys, tmp_path / "book.txt")


def test_a_page_is_written_over_nothing_but_a_page(
    hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert out(capsys, hostile, "-o", page) == out(capsys, hostile, "--page", page) == f"{page}\n"
    assert page.read_text().startswith("<!doctype html>")
    (tmp_path / "notes.md").write_text("mine")
    assert main(["overview", str(hostile), "-o", str(tmp_path / "notes.md")]) == 2
    assert (tmp_path / "notes.md").read_text() == "mine"
    assert "what is there is no page" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--depth", "-1"], "--depth is -1; give 0"),
        (["--under", "L9-00000"], "no node 'L9-00000'"),
        (["--under", "\x1b[2J"], "no node"),
        (["-o", "."], "it is a folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    index: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["overview", str(index), *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and "\x1b" not in told
