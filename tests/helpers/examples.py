"""The programs in docs/examples, run as somebody would who has an index, or has typed its path wrong."""

import runpy
import sys
from pathlib import Path

import pytest

from index_store.index import Index
from tests.helpers.places import ROOT


def check_example(
    name: str, index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example prints what it finds in the toy index, with its places."""
    _run(name, [str(index.path), "the mizzen of a yawl"], monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "boats.txt 48-100: 'A yawl differs: its mizzen stands aft of the rudder.'" in lines


def check_example_of_a_wrong_path(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example says one sentence, and ends with 2."""
    with pytest.raises(SystemExit, match="2"):
        _run(name, [str(folder / "none.index"), "mizzen"], monkeypatch)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("there is no index folder at ")


def _run(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    example = str(ROOT / "docs" / "examples" / name)
    monkeypatch.setattr(sys, "argv", [example, *arguments])
    runpy.run_path(example)
