"""A person's REPL: one result line for every input line, whatever the lines hold and whatever the cells do."""

import asyncio
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index, open_index
from rlm import Limits, Models
from rlm.asking.options import Options
from rlm.audit.verifying import read, verify
from rlm.cli import main
from rlm.commands import shell as shell_module
from rlm.commands.shell import Shell, open_shell, run_own_cell, talk, talk_json
from rlm.errors import RlmError
from rlm.gateway.errors import UnknownModel
from tests.helpers.toy import publish_toy, toy_draft

OFFLINE = Models("offline/navigator", "offline/reader")


@pytest.fixture(scope="module")
def folder(index: Index) -> Path:
    return index.path


@pytest.fixture(scope="module")
def shell(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    options = Options(
        models=OFFLINE, limits=Limits(cell_timeout_s=120.0), runs=tmp_path_factory.mktemp("runs")
    )
    with open_shell(folder, options) as opened:
        yield opened


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go where a test's files go."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def talked(shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Result lines for input lines: texts are code, bytes are lines as they stand."""

    def talk_over(*lines: str | bytes, fresh: bool = False) -> list[dict[str, Any]]:
        raw = [x if isinstance(x, bytes) else json.dumps({"code": x}).encode() + b"\n" for x in lines]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"".join(raw))))
        shell.session.reset()
        talk_json(shell, fresh)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return talk_over


def test_every_kind_of_end_has_its_status_and_the_session_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = [
        "x = 1", "open('/etc/passwd')", "import os", "while True: pass", "'a'*10**11", "print('x'*10**7)",
        "print(x, len(context))",
    ]  # fmt: skip
    lines = "".join(json.dumps({"code": code}) + "\n" for code in codes)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert main(["shell", str(folder), "--json", "--cell-timeout", "0.5"]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["status"] for r in results] == ["ok", "rejected", "rejected", "killed", "error", "ok", "ok"]
    assert [set(r) for r in results] == [{"status", "stdout", "error", "seconds", "answer"}] * 7
    assert "longer than 0.5 s" in results[3]["error"]
    assert "MemoryError" in results[4]["error"]
    assert len(results[5]["stdout"]) < 21_000
    assert "of 10,000,001 characters left out" in results[5]["stdout"]
    assert results[6]["stdout"] == "1 166\n"


def test_an_answer_is_shown(talked: Any, shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"content": "Two.", "citations": ["L0-00000"], "ready": True}
    code = 'FINAL("Two.", citations=["L0-00000"])'
    assert [r.get("answer") for r in talked("x = 1", code, 'SUBMIT("One.")')] == [
        None,
        answer,
        answer | {"content": "One."},
    ]
    shell_module._print(run_own_cell(shell, code))
    assert capsys.readouterr().out == "answer: Two.\n  cites L0-00000\n"


def test_a_person_is_told_what_was_rejected(talked: Any) -> None:
    (result,) = talked("x = 1\nopen('a')")
    assert result["error"].startswith(
        "line 2: the name `open`. The code was rejected before it ran: there are no files"
    )


def test_variables_stay_unless_each_cell_is_fresh(talked: Any) -> None:
    assert [r["stdout"] for r in talked("x = 2", "print(x)")] == ["", "2\n"]
    kept, lost = talked("x = 2", "print(x)", fresh=True)
    assert (kept["status"], lost["status"]) == ("ok", "error")
    assert "NameError" in lost["error"]


MALFORMED = [
    b"\n",
    b"   \n",
    b"{}\n",
    b"[]\n",
    b"null\n",
    b"7\n",
    b'"code"\n',
    b"not json\n",
    b'{"code": 5}\n',
    b'{"code": null}\n',
    b'{"CODE": "1"}\n',
    b'{"code": "1"\n',
    b"\xff\xfe\x00\n",
    b'{"code": "\xff"}\n',
    b"[" * 100_000 + b"\n",
    b'{"code": ' + b"9" * 5_000 + b"}\n",
    b"\x00\n",
]


def test_a_malformed_line_gets_a_result_line_too(talked: Any) -> None:
    results = talked("y = 1", *MALFORMED, "print(y)")
    assert len(results) == len(MALFORMED) + 2
    assert {r["status"] for r in results[1:-1]} == {"error"}
    assert all(r["error"].startswith('expected a line {"code": "..."}') for r in results[1:-1])
    assert all(len(r["error"]) < 500 for r in results[1:-1])
    assert not any("b'" in r["error"] or 'b"' in r["error"] for r in results)
    assert results[1]["error"].endswith("found an empty line (Expecting value: line 2 column 1 (char 1))")
    assert results[-1]["stdout"] == "1\n"


@pytest.mark.parametrize(
    ("line", "stdout"),
    [
        (b'{"code": "print(1)", "more": 2}\n', "1\n"),
        (b' {"code": "print(1)"} \r\n', "1\n"),
        (b'{"code": "print(1)"}', "1\n"),
        ('{"code": "print(\'\u2028é\')"}\n'.encode(), "\u2028é\n"),
        (b'{"code": "print(1)\\r\\nprint(2)"}\n', "1\n2\n"),
        (b'{"code": ""}\n', ""),
        (b'{"code": "print(\'\\ud83c\\udf4e\')"}\n', "\U0001f34e\n"),
    ],
)
def test_a_line_is_what_ends_in_a_newline_and_holds_code(talked: Any, line: bytes, stdout: str) -> None:
    (result,) = talked(line)
    assert (result["status"], result["stdout"]) == ("ok", stdout)


@pytest.mark.parametrize("code", ["\x00", "\ud800", "print('\ud800')", "(" * 5_000, "x = " + "9" * 6_000])
def test_odd_code_is_an_error_of_that_cell_alone(talked: Any, code: str) -> None:
    first, second = talked(code, "print('on')")
    assert first["status"] in ("error", "rejected", "ok", "killed")
    assert second["stdout"] == "on\n"


def test_a_line_that_is_too_long_is_one_line_all_the_same(
    talked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell_module, "LINE_BYTES", 40)
    for size in (38, 39, 40, 41, 42, 79, 80, 81, 82, 83, 200):
        long = b'{"code": "print(1) #' + b"x" * (size - 22) + b'"}'
        assert len(long) == size
        results = talked(long + b"\n", "print(2)", long)
        assert [r["status"] for r in results] == [
            "ok" if size < 40 else "error", "ok", "ok" if size <= 40 else "error",
        ]  # fmt: skip
        assert size < 41 or "longer than 40 bytes" in results[0]["error"]


def test_an_error_of_the_sandbox_itself_is_a_result_line(
    talked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: Any) -> None:
        raise RlmError("a sandbox worker did not start")

    monkeypatch.setattr(shell_module, "run_own_cell", unavailable)
    (result,) = talked("1")
    assert result == {
        "status": "error",
        "stdout": "",
        "error": "a sandbox worker did not start",
        "seconds": 0.0,
    }


def test_a_person_is_told_what_a_bound_cut(talked: Any) -> None:
    cut, whole = talked("context.grep('e', limit=2)", "context.grep('ketch')")
    assert cut["cut"][0].startswith("context.grep gave the first 2 of ")
    assert "cut" not in whole


def test_a_long_session_is_not_cut_short(talked: Any) -> None:
    results = talked(*["print('x' * 19_000)"] * 30)
    assert {len(r["stdout"]) for r in results} == {19_001}


def test_the_verbs_and_the_sub_calls_work(talked: Any) -> None:
    found, asked, child, left = talked(
        "print(context.search('mizzen', k=1, mode='lexical')[0]['node'])",
        "print(llm_query('how many masts has the ketch?', nodes=['L0-00000']))",
        "print(rlm_query('How many masts has the ketch?', under='L1-00000')['answer'])",
        "print(budget()['calls'])",
    )
    assert found["stdout"].startswith("L0-0000")
    assert asked["error"] == ""
    assert asked["stdout"].endswith('\n[L0-00000] "The ketch has two masts."\n')
    assert "The ketch has two masts." in child["stdout"]
    assert int(left["stdout"]) < 199


def test_the_wall_clock_begins_anew_with_each_cell(shell: Shell) -> None:
    shell.run.budget.began -= 10_000
    result = run_own_cell(
        shell, "print(budget()['seconds'] > 500, rlm_query('How many masts?')['answer'][:6])"
    )
    assert result.stdout.startswith("True ")
    assert "ERROR" not in result.stdout


def test_a_child_that_takes_too_long_is_told_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(*_: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(shell_module, "converse", endless)
    with open_shell(folder, Options(models=OFFLINE, limits=Limits(timeout_s=0.1))) as opened:
        result = run_own_cell(opened, "print(rlm_query('How many masts?'))")
    assert result.stdout == "{'answer': None, 'citations': [], 'error': 'stopped by timeout'}\n"


def test_a_shell_leaves_no_thread_behind(folder: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        with open_shell(folder, Options(models=OFFLINE, limits=Limits())) as opened:
            run_own_cell(opened, "llm_query('a'); rlm_query('b')")
    # By name, not by number: a library may start a thread of its own the first time that it is used.
    left = [t.name for t in threading.enumerate() if t not in before]
    assert not [name for name in left if name.startswith(("rlm", "cell"))]


@pytest.mark.parametrize("models", [Models("offline/nobody"), Models("offline/navigator", "offline/nobody")])
def test_a_model_that_does_not_exist_is_refused_at_once(folder: Path, models: Models) -> None:
    before = threading.active_count()
    with (
        pytest.raises(UnknownModel, match="offline/navigator, offline/reader"),
        open_shell(folder, Options(models=models, limits=Limits())),
    ):
        pass
    assert threading.active_count() <= before


# -- at a terminal -----------------------------------------------------------------------------------------


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> None:
    rest = iter(lines)

    def read_line(prompt: str) -> str:
        line = next(rest, EOFError)
        if not isinstance(line, str):
            raise line
        return line

    monkeypatch.setattr("builtins.input", read_line)


def test_blocks_end_with_an_empty_line(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(
        monkeypatch,
        "for i in range(2):",
        "    print(i)",
        "",
        "",
        "1 +",
        "1/0",
        "6 * 7",
        "print('a\\x1b[0mb')",
    )
    talk(shell, fresh=True)
    said = capsys.readouterr()
    assert said.out.startswith("0\n1\nerror: SyntaxError")
    assert "error: ZeroDivisionError" in said.out
    assert said.out.endswith("42\na\\x1b[0mb\n")
    assert "3 documents, 9 nodes" in said.err


@pytest.mark.parametrize("word", ["exit", "quit", " exit() ", "quit()"])
def test_exit_ends_the_shell(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    typed(monkeypatch, "1 + 1", word, "2 + 2")
    talk(shell, fresh=False)
    assert capsys.readouterr().out == "2\n"


def test_ctrl_c_drops_the_typed_lines_and_ctrl_d_runs_them(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "if True:", KeyboardInterrupt, "if True:", "    print('end')")
    talk(shell, fresh=False)
    assert capsys.readouterr().out == "end\n"


def test_ctrl_c_stops_a_cell_and_not_the_shell(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "x = 1", "while True: pass", "", "print('on', 'x' in SHOW_VARS())")
    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
    earlier = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # an earlier test may have left another
    try:
        timer.start()
        talk(shell, fresh=False)
        timer.join()
    finally:
        signal.signal(signal.SIGINT, earlier)
    said = capsys.readouterr()
    assert said.out == "on False\n"
    assert "stopped; the variables are gone" in said.err


def test_a_shell_calls_models_under_the_limits_it_is_given(folder: Path) -> None:
    limits = Limits(requests_per_minute=7, allow_unpriced=True)
    with open_shell(folder, Options(models=OFFLINE, limits=limits)) as opened:
        gateway = opened.run.budget.gateway
        assert (gateway.allow_unpriced, gateway.lanes.requests_per_minute) == (True, 7)


# -- its trace ---------------------------------------------------------------------------------------------


def test_a_shell_leaves_a_trace_that_verifies_and_says_where(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = [
        "x = context.search('mizzen', k=1, mode='lexical')",
        "import os",
        "print(llm_query('how many masts has the ketch?', nodes=['L0-00000']))",
        "print(rlm_query('How many masts has the ketch?', under='L1-00000')['answer'])",
        "answer['content'] = 'two'; answer['ready'] = True",
        "while True: pass",
        "print('\ud800', x)",
    ]
    lines = "".join(json.dumps({"code": code}) + "\n" for code in codes)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    runs = tmp_path / "runs"
    assert main(["shell", str(folder), "--json", "--cell-timeout", "2", "--runs", str(runs)]) == 0
    (run,) = runs.iterdir()
    assert capsys.readouterr().err.splitlines()[-1] == f"trace: {run}"
    events, verdict = read(run)
    assert (verify(run).ok, verify(run).reason, verdict.ok) == (True, "every line is as it was written", True)
    kinds = [event["kind"] for event in events if event["conversation"] == "0"]
    assert (kinds[0], kinds[-1]) == ("run_opened", "run_closed")
    assert kinds.count("code_scanned") == kinds.count("code_run") == len(codes)
    assert kinds.count("child_called") == kinds.count("child_returned") == 2
    assert "visited" in kinds
    assert main(["trace", "show", str(run)]) == 0
    assert main(["review", str(run), "-o", str(tmp_path / "page.html")]) == 0


def test_a_cell_that_is_stopped_by_hand_is_in_the_trace_too(folder: Path, tmp_path: Path) -> None:
    with open_shell(folder, Options(models=OFFLINE, limits=Limits(), runs=tmp_path)) as opened:
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run_own_cell(opened, "while True: pass")
        timer.join()
        opened.session.reset()
        assert run_own_cell(opened, "print(1)").stdout == "1\n"
    assert verify(opened.folder).ok
    ran = [event["status"] for event in read(opened.folder)[0] if event["kind"] == "code_run"]
    assert ran == ["killed", "ok"]


def test_an_index_that_is_narrowed_to_a_reader_is_named_as_it_was_typed(tmp_path: Path) -> None:
    draft = toy_draft()
    labels = [{"access": "hr"}, *({} for _ in draft.documents[1:])]
    documents = [(replace(d, meta=own), text) for (d, text), own in zip(draft.documents, labels, strict=True)]
    publish_toy(tmp_path / "toy.index", replace(draft, documents=documents))
    narrowed = open_index("toy.index", access="staff")
    assert narrowed.path != Path("toy.index")
    with open_shell(narrowed, Options(models=OFFLINE, limits=Limits())) as opened:
        assert opened.about.startswith("toy.index: 2 documents, ")
