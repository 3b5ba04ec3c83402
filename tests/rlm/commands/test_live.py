"""What a person sees while a run goes on."""

import io
import re
from pathlib import Path
from typing import Any

import pytest

from index_store.types import Json
from rlm import ask
from rlm.commands.live import Fold, Now, line_of, lines, live
from tests.helpers.rlm_toy import embedded, warm_up
from tests.helpers.toy import toy_index

USED = {"calls": 1, "prompt_tokens": 100, "completion_tokens": 20, "usd": 0.25}
NODE = {"node": "L1-00004", "level": 1, "label": "Boats"}


def test_it_says_the_turn_the_branch_the_calls_in_flight_and_what_was_spent() -> None:
    now = Now()
    events: list[tuple[str, str, dict[str, Any]]] = [
        ("model_asked", "0", {}),
        ("model_answered", "0", {"usage": USED}),
        ("visited", "0", {"arguments": {"node": "L1-00004"}, "shown": [NODE | {"level": 0}, NODE]}),
        ("model_asked", "0.1", {}),
        ("model_asked", "0.2", {}),
        ("model_failed", "0.2", {"usage": USED}),
    ]
    for event in events:
        now = now.after(*event)
    assert now.line() == "turn 1  in L1-00004 Boats  1 in flight  2 calls, 240 tokens, $0.5000"


def test_a_visit_of_chunks_alone_leaves_the_branch() -> None:
    now = Now(branch="L1-00004 Boats")
    assert now.after("visited", "0", {"arguments": {}, "shown": [NODE | {"level": 0}]}) == now


def test_the_lines_of_children_are_told_apart() -> None:
    run = {"cell": 3, "status": "ok", "error": ""}
    assert line_of("code_run", "0", run) == "  cell 3: ok"
    assert line_of("code_run", "0.12", run) == "  [12]   cell 3: ok"
    assert line_of("code_run", "0.2.1", run) == "    [2.1]   cell 3: ok"
    assert line_of("model_asked", "0.1", {}) == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_both_and_a_file_only_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warm_up()
    embedded(monkeypatch)
    monkeypatch.setenv("TERM", "xterm")
    index, screen, log = toy_index(tmp_path / "toy.index"), Terminal(), io.StringIO()
    for out in (screen, log):
        with live(out) as watch:
            ask(index, "How many masts has the ketch?", runs=tmp_path / "runs", watch=watch)
    told = log.getvalue().splitlines()
    assert told[-1] == "answered: 1 citation, stop answer"
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert all(line in plain for line in told)
    assert re.search(r"turn \d  in L1-\d+ .*  \d in flight  \d+ calls, [\d,]+ tokens, \$0\.0000", plain)
    assert "in flight" not in log.getvalue()


def test_nothing_that_a_model_says_acts_on_the_terminal() -> None:
    out = io.StringIO()
    event: dict[str, Json] = {
        "verb": "grep",
        "arguments": {"pattern": "\x1b[2J"},
        "result": [],
        "shown": [],
        "error": "\x1b]0;x\x07",
    }
    lines(out)("visited", "0", event)
    assert "\x1b" not in out.getvalue()


def test_lines_that_repeat_are_folded() -> None:
    fold, shown = Fold(), list[str]()
    note = {"text": "the reply holds no code that could run"}
    for tokens in (100, 300, 500):
        answered = {"model": "m", "usage": USED | {"prompt_tokens": tokens}}
        for kind, fields in (("model_answered", answered), ("note", note)):
            shown += fold.after(kind, line_of(kind, "0", fields))
    assert shown == ["  m: 100 + 20 tokens, $0.2500", "  the reply holds no code that could run"]
    assert fold.after("budget", "  budget: x") == [
        "  the reply holds no code that could run (×3)",
        "  budget: x",
    ]
    assert fold.after("budget", "  budget: x") == fold.after("budget", "") == []
    assert fold.end() == ["  budget: x (×2)"]
    assert fold.end() == []


def test_what_waited_for_a_repetition_that_did_not_come_is_shown() -> None:
    fold = Fold()
    fold.after("note", "a")
    assert fold.after("model_answered", "b") == []
    assert fold.after("code_run", "c") == ["b", "c"]


def test_a_rejected_cell_names_what_it_used_and_where() -> None:
    scanned = {"cell": 2, "verdict": "rejected", "rule": "name open", "line_in_code": 3}
    assert line_of("code_scanned", "0", scanned) == "  cell 2: rejected, line 3: the name `open`"
    assert line_of("code_scanned", "0", scanned | {"verdict": "ok"}) == ""
