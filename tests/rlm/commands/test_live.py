"""What a person sees while a run goes on."""

import io
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from index_store.types import Json
from rlm import ask
from rlm.asking.tables import Table, map_rows
from rlm.commands.live import Fold, Lines, Now, line_of, lines, live
from rlm.gateway.models import give_price
from rlm.limits import Models
from rlm.loop.recording import PROGRESS, Watch
from rlm.mapping.types import Progress
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.rlm_toy import embedded, warm_up
from tests.helpers.row_reader import Faults, row_script
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


# -- a map


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    path = tmp_path / "messages.txt"
    path.write_text("".join(f"{'spam' if n % 7 == 0 else 'ham'} message {n}\n" for n in range(300)))
    return path


def mapped(messages: Path, watch: Watch, faults: Faults | None = None) -> Table:
    """A map over 300 rows in some 12 packs, four at once, by a model with a price."""
    give_price(MODEL, (100.0, 1_000.0))
    script = row_script(lambda text: {"label": text.split()[0]}, faults or Faults())
    with pytest.MonkeyPatch.context() as patch, ModelServer(script) as server:
        server.use(patch)
        return map_rows(
            messages,
            "Which label has it?",
            {"label": ["spam", "ham"]},
            split="line",
            sure=0.1,
            models=Models(MODEL),
            pack_tokens=200,
            runs=messages.parent / "runs",
            watch=watch,
            memo=False,
        )


def test_a_map_is_a_line_for_each_wave_and_none_for_each_pack(messages: Path) -> None:
    log, heard = io.StringIO(), list[str]()
    with live(log) as watch:

        def hear(kind: str, conversation: str, fields: dict[str, Json]) -> None:
            heard.append(kind)
            watch(kind, conversation, fields)

        table = mapped(messages, hear, Faults(failed=0.3, dropped=0.1))
    told = log.getvalue().splitlines()
    assert table.failed == 0 and heard.count("model_asked") > 10
    far = [line for line in told if re.match(r"    [\d,]+ of 300 rows, ", line)]
    assert len(far) == heard.count("child_called") + 1 and len(told) < heard.count("model_asked")
    first = re.fullmatch(r"    0 of 300 rows, 0 of (\d+) calls, \$0\.0000, about \$([\d.]+) to come", far[0])
    assert first and int(first[1]) > 10 and float(first[2]) > 0
    last = far[-1]
    assert last.startswith("    300 of 300 rows, ") and " asked again, " in last
    assert f"${table.usage.usd:.4f}" in last and "to come" not in last
    assert not [line for line in told if "tokens" in line and "stop" not in line]
    assert table.priced and PROGRESS in heard
    assert PROGRESS not in (table.trace / "trace.jsonl").read_text()


def test_at_a_terminal_a_map_is_one_line_that_goes_on_with_each_call(
    messages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    states, lines = list[str](), Lines()

    def watch(kind: str, conversation: str, fields: dict[str, Json]) -> None:
        lines.after(kind, conversation, fields)
        states.append(lines.now.line())

    screen = Terminal()
    with live(screen) as shown:

        def both(kind: str, conversation: str, fields: dict[str, Json]) -> None:
            watch(kind, conversation, fields)
            shown(kind, conversation, fields)

        table = mapped(messages, both)
    calls = table.mapped.progress.calls
    ended = [int(found[1]) for state in states if (found := re.search(r"rows, .*?(\d+) of \d+ calls", state))]
    assert ended == sorted(ended) and set(range(calls + 1)) <= set(ended)
    flying = [state for state in states if "of 300 rows" in state and not state.startswith("turn")]
    assert flying and all(re.search(r"  \d+ in flight  \d+ calls?, ", state) for state in flying)
    assert "two readings agree in 100%" in states[-3] or any("agree in 100%" in state for state in states)
    assert lines.now.line().startswith("turn 0  0 in flight")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "300 of 300 rows answered" in plain and "\n    0 of 300 rows" not in plain


def test_a_map_in_a_child_is_told_under_its_number_and_ends_with_its_cell() -> None:
    told = Lines()
    called = {"verb": "llm_map", "rows": 7, "columns": {"label": []}}
    assert told.after("map_called", "0.3", called) == ["  [3]     llm_map: 7 rows for label"]
    assert told.after("child_called", "0.3", {"verb": "llm_map", "prompts": ["a"]}) == []
    far = {**asdict(Progress(7, calls_to_come=1)), "usd": 0.0, "usd_to_come": None}
    assert told.after(PROGRESS, "0.3", far) == [
        "  [3]     0 of 7 rows, 0 of 1 call, $0.0000, price not known"
    ]
    failed = {"model": "m", "error": "500", "usage": USED, "seconds": 1.0}
    told.after("model_asked", "0.3.1", {})
    (line,) = told.after("model_failed", "0.3.1", failed)
    assert line.startswith("  [3]   m failed")
    told.after("model_asked", "0.3.2", {})
    assert told.after("model_failed", "0.3.2", failed) == []
    assert told.after("code_run", "0.3", {"cell": 1, "status": "killed", "error": "x"})[0] == f"{line} (×2)"
    told.after("model_asked", "0.3.3", {})
    assert told.after("model_answered", "0.3.3", {"model": "m", "usage": USED}) != []


def test_the_calls_of_a_reduction_are_not_shown_one_by_one() -> None:
    told = Lines()
    plan = {"levels": 2, "calls": 9, "tokens": 100, "usd": 0.1}
    assert told.after("reduce_called", "0", {"packs": 4, "plan": plan}) != []
    assert told.after("child_called", "0", {"verb": "llm_reduce", "prompts": ["a"] * 4}) == [
        "    llm_reduce: 4 asked"
    ]
    assert told.after("model_answered", "0.1", {"model": "m", "usage": USED}) == []
    assert told.now.line() == "turn 0  -1 in flight  1 call, 120 tokens, $0.2500"
