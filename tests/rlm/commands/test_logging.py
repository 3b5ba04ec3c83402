"""What `rlm` says while it works: nothing torn, nothing forged, and no more than was asked for."""

import io
import re
import threading
from pathlib import Path

import pytest

from index_store.terminal import say
from rlm import Limits
from rlm.cli import main, parser
from rlm.commands.live import lines
from rlm.errors import RlmError
from tests.helpers.rlm_toy import embedded, warm_up
from tests.helpers.toy import toy_index

QUESTION = "How many masts has the ketch?"


class Slow(io.StringIO):
    """A stream that lets other threads run between two writes."""

    def write(self, text: str) -> int:
        written = super().write(text)
        threading.Event().wait(0.0005)
        return written


def test_lines_of_children_that_write_at_once_are_whole() -> None:
    out = Slow()
    watch, start = lines(out), threading.Barrier(4)

    def child(number: int) -> None:
        start.wait()
        for cell in range(40):
            watch("code_run", f"0.{number}", {"cell": cell, "status": "ok", "error": ""})
            say(f"from {number}: {cell}", file=out)

    threads = [threading.Thread(target=child, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = out.getvalue().splitlines()
    wanted = [
        line for n in range(1, 5) for c in range(40) for line in (f"  [{n}]   cell {c}: ok", f"from {n}: {c}")
    ]
    assert sorted(told) == sorted(wanted)


def test_quiet_prints_the_answer_alone_and_verbose_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warm_up()
    embedded(monkeypatch)
    folder = str(toy_index(tmp_path / "toy.index").path)
    ask = ["ask", folder, "--route", "rlm", QUESTION, "--runs", str(tmp_path / "runs")]
    assert main([*ask, "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert quiet.err == ""
    assert "two masts" in quiet.out
    assert main(ask) == 0
    assert "answered: 1 citation" in capsys.readouterr().err
    assert main([*ask, "-q", "-v"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*ask, "-v"]) == 0
    told = capsys.readouterr().err
    assert re.search(r"^\d{4}-\d\d-\d\d \S+ INFO rlm\.asking\.asking: .* by rlm \(", told, re.MULTILINE)
    assert "DEBUG" not in told
    assert main([*ask, "-vv"]) == 0
    assert re.search(
        r" DEBUG rlm\.loop\.recording: conversation 0: run_opened$", capsys.readouterr().err, re.MULTILINE
    )


@pytest.mark.parametrize("command", ["ask", "chat"])
def test_what_shows_a_run_can_be_quiet(command: str) -> None:
    assert parser().parse_args([command, "my.index", "-q"]).quiet is True


def test_options_may_stand_between_the_index_and_the_question() -> None:
    args = parser().parse_args(["ask", "my.index", "--route", "retrieve", QUESTION, "--max-usd", "1"])
    assert (args.index, args.question, args.route, args.max_usd) == ("my.index", QUESTION, "retrieve", 1.0)
    args = parser().parse_args(["search", "-k", "3", "my.index", "--json", "--", "-x"])
    assert (args.index, args.query, args.k, args.json) == ("my.index", "-x", 3, True)


@pytest.mark.parametrize("window", [1, 100, 5_999])
def test_a_window_that_holds_no_prompt_is_refused_in_one_sentence(
    window: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RlmError, match=f"window is {window}.*give a window of at least 6000"):
        Limits(window=window)
    text = tmp_path / "story.txt"
    text.write_text("The king lived in a castle.")
    assert main(["ask", str(text), QUESTION, "--window", str(window), "--runs", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err.startswith("rlm: window is ")
    assert not (tmp_path / "runs").exists()
    assert Limits(window=6_000).window == 6_000
