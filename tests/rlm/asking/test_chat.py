"""A chat: one REPL, one budget and one trace for questions that follow each other."""

import asyncio
import contextlib
import fcntl
import io
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm import Answer, Limits, Models
from rlm.answers.demands import Demands
from rlm.asking.chat import Chat, chat_over, open_chat
from rlm.asking.options import Options
from rlm.audit import read, verify
from rlm.cli import main
from rlm.commands.typed import history_file
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from tests.helpers.model_server import MODEL, Body, ModelServer, Script, Step, error
from tests.helpers.places import ROOT

MODELS = Models(MODEL, MODEL)


Talk = Callable[..., tuple[Any, list[Body], list[dict[str, Any]]]]


@pytest.fixture
def talk(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Run `go(chat)` over a scripted server: what it returned, what was sent, and the trace's events."""

    def call(script: Script, go: Callable[[Chat], Awaitable[Any]], **limits: Any) -> Any:
        async def chatting() -> Any:
            async with open_chat(index, models=MODELS, limits=Limits(**limits), runs=tmp_path) as chat:
                return await go(chat)

        with ModelServer(script) as server:
            server.use(monkeypatch)
            result = run_blocking(chatting())
        (folder,) = tmp_path.iterdir()
        assert verify(folder).ok
        return result, server.requests, read(folder)[0]

    return call


def cell(code: str) -> str:
    return f"```python\n{code}\n```"


async def both(chat: Chat) -> list[Answer]:
    return [await chat.ask("How many masts?"), await chat.ask("And which boat?")]


def test_the_variables_of_one_question_are_there_for_the_next(talk: Talk) -> None:
    script = [cell('seen = "ketch"\nFINAL("Two.")'), cell("FINAL(seen)")]
    answers, requests, events = talk(script, both)
    assert [a.content for a in answers] == ["Two.", "ketch"]
    assert [m["role"] for m in requests[1]["messages"]] == ["system", "user", "assistant", "user"]
    assert requests[1]["messages"][3]["content"] == "The next question, in the same REPL: And which boat?"
    assert [e["content"] for e in events if e["kind"] == "answered"] == ["Two.", "ketch"]
    assert answers[0].trace == answers[1].trace
    assert answers[1].usage.calls == 2


def test_a_question_does_not_keep_the_citations_of_the_last(talk: Talk) -> None:
    first = cell('answer["content"] = "Two."; answer["citations"] = ["L0-00000"]; answer["ready"] = True')
    answers, _, _ = talk([first, cell('answer["content"] = "One."; answer["ready"] = True')], both)
    assert [(a.content, len(a.citations)) for a in answers] == [("Two.", 1), ("One.", 0)]


def test_one_budget_holds_for_the_whole_chat(talk: Talk) -> None:
    answers, requests, _ = talk([cell('FINAL("Two.")'), cell("1")], both, calls=4)
    assert [a.stop for a in answers] == ["answer", "budget"]
    assert len(requests) == answers[1].usage.calls == 4


def test_after_a_limit_the_chat_goes_on_with_its_variables(talk: Talk) -> None:
    script = [cell("kept = 7"), cell("1"), "NOT FOUND", cell("FINAL(str(kept))")]
    answers, requests, _ = talk(script, both, turns=2)
    assert [(a.content, a.stop) for a in answers] == [("", "turns"), ("7", "answer")]
    assert requests[-1]["messages"][-1]["content"].endswith("And which boat?")
    assert [m["role"] for m in requests[-1]["messages"][1:]] == ["user", "assistant"] * 2 + ["user"]


def test_a_model_that_fails_ends_the_question_and_not_the_chat(talk: Talk) -> None:
    async def go(chat: Chat) -> str:
        with pytest.raises(RlmError, match="refused the request"):
            await chat.ask("How many masts?")
        return (await chat.ask("How many masts?")).content

    content, _, events = talk([error(400, "no"), cell('FINAL("Two.")')], go)
    assert content == "Two."
    assert events[-1]["stop"] == "answer"


def test_a_chat_that_is_cancelled_leaves_a_closed_trace(talk: Talk) -> None:
    async def go(chat: Chat) -> None:
        asking = asyncio.ensure_future(chat.ask("How many masts?"))
        await asyncio.sleep(0.3)
        asking.cancel()
        await asyncio.wait([asking])

    _, _, events = talk([cell("while True: pass")], go)
    assert events[-1]["stop"] == "cancelled"


def test_a_chat_without_a_question_leaves_nothing(index: Index, tmp_path: Path) -> None:
    async def go() -> None:
        async with open_chat(index, models=MODELS, runs=tmp_path / "runs"):
            pass

    os.environ.setdefault("OPENAI_API_KEY", "sk-test")
    run_blocking(go())
    assert not (tmp_path / "runs").exists()


def test_the_command_answers_each_line_it_reads(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    typed = "How many masts has the ketch?\n\nWhat is shorter, the mizzen?\nexit\nnever asked\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert main(["chat", str(index.path), "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert '"The ketch has two masts." [1]' in out
    assert '"The mizzen is shorter." [1]' in out
    assert out.count("stop: answer") == 2


@pytest.mark.slow
def test_a_chat_over_a_pipe_ends_with_its_input(tmp_path: Path) -> None:
    (tmp_path / "boats.txt").write_text("The ketch has two masts.\nThe sloop has one mast.\n")
    done = subprocess.run(
        [sys.executable, "-m", "rlm.cli", "chat", "boats.txt", "--runs", "runs"],
        input="How many masts has the sloop?\n", capture_output=True, text=True, timeout=120, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, "The sloop has one mast." in done.stdout) == (0, True)


# -- the command -------------------------------------------------------------------------------------------


def piped(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, typed: str) -> Any:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    code = main(["chat", str(index.path), "--runs", str(tmp_path / "runs"), "--model", MODEL])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_each_answer_says_what_it_cost_and_what_all_did(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with ModelServer([cell('FINAL("Two.")')]) as server:
        server.use(monkeypatch)
        typed = "/help\n/sources\nHow many?\nWhich?\n/cost\n/what\n/exit\nnever\n"
        code, out, err = piped(index, tmp_path, monkeypatch, capsys, typed)
    assert code == 0
    costs = [line for line in out.splitlines() if line.startswith("cost: ")]
    assert [re.findall(r"(\d+) calls?", line) for line in costs] == [["1", "1"], ["1", "2"]]
    assert "all so far: " in out
    assert "/model NAME    ask another model" in out
    assert "there is no answer yet" in out
    assert "there is no command /what; /help lists them" in err


def test_commands_are_known_in_capitals_and_the_three_that_all_try_without_a_slash(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with ModelServer([cell('FINAL("Two.")')]) as server:
        server.use(monkeypatch)
        for end in ("exit", "Quit", "EXIT", "/Exit", "/QUIT"):
            code, out, err = piped(
                index, tmp_path, monkeypatch, capsys, f"help\n/Help\nHELP\n/COST\n{end}\nnever\n"
            )
            assert (code, server.calls, err.count("no command")) == (0, 0, 0)
            assert out.count("/model NAME    ask another model") == 3
        out = piped(index, tmp_path, monkeypatch, capsys, "help me\n")[1]
    assert server.calls == 1
    assert "Two." in out


def test_sources_name_document_section_and_characters(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with ModelServer([cell('FINAL("Two.", citations=["L0-00000"])')]) as server:
        server.use(monkeypatch)
        _, out, _ = piped(index, tmp_path, monkeypatch, capsys, "How many?\n/sources\n")
    assert "[1] boats.txt, characters 0-25 (verbatim)" in out


def test_a_new_conversation_has_its_own_trace_and_the_same_budget(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    script = [cell('kept = 1\nFINAL("Two.")'), cell('FINAL("kept" in SHOW_VARS())')]
    with ModelServer(script) as server:
        server.use(monkeypatch)
        _, out, _ = piped(index, tmp_path, monkeypatch, capsys, "How many?\n/new\nWhich?\n/new\n")
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 2  # the one that nothing was asked in is taken away
    assert all(verify(folder).ok for folder in folders)
    (said, _) = re.findall(r"a new conversation; its trace: (.*)", out)
    assert read(Path(said))[0][0]["question"] == "Which?"
    assert read(Path(said))[0][-1]["usage"]["calls"] == 1
    assert len(server.requests[1]["messages"]) == 2
    assert re.findall(r"all so far .* (\d+) call", out) == ["1", "2"]


def test_another_model_is_recorded_and_asked_from_then_on(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    typed = "How many?\n/model openai/other-model\nWhich?\n/model nowhere/none\n/model\n"
    with ModelServer([cell('FINAL("Two.")')]) as server:
        server.use(monkeypatch)
        _, out, err = piped(index, tmp_path, monkeypatch, capsys, typed)
    assert [body["model"] for body in server.requests] == ["test-model", "other-model"]
    (folder,) = (tmp_path / "runs").iterdir()
    events, verdict = read(folder)
    assert verdict.ok
    (changed,) = [event for event in events if event["kind"] == "models_changed"]
    assert changed["models"] == {"root": "openai/other-model", "child": "openai/other-model"}
    assert "the model is openai/other-model" in out
    assert "nowhere/none" in err


def test_a_backslash_at_the_end_goes_on_in_the_next_line(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with ModelServer([cell('FINAL("Two.")')]) as server:
        server.use(monkeypatch)
        piped(index, tmp_path, monkeypatch, capsys, "How many\\\nmasts?\n")
    assert "Question: How many\nmasts?" in server.requests[0]["messages"][1]["content"]


def test_a_chat_takes_a_route_and_demands(talk: Talk, index: Index, tmp_path: Path) -> None:
    with ModelServer(['Two.\n[boats.txt] "two masts"']) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)

        async def go() -> list[Answer]:
            options = Options("direct", MODELS, demands=Demands(citations=True), runs=tmp_path)
            async with chat_over(index, options) as chat:
                return await both(chat)

        answers = run_blocking(go())
    assert [a.content for a in answers] == ["Two.", "Two."]
    events, verdict = read(answers[0].trace)
    assert verdict.ok
    assert events[0]["route"] == "direct"
    assert not [e for e in events if e["kind"] == "code_run"]


def test_a_chat_in_python_takes_a_route_and_its_questions_are_then_calls_of_their_own(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> list[Answer]:
        async with open_chat(index, route="retrieve", models=MODELS, runs=tmp_path) as chat:
            return await both(chat)

    with ModelServer(["Two."]) as server:
        server.use(monkeypatch)
        answers = run_blocking(go())
    assert [a.content for a in answers] == ["Two.", "Two."]
    assert server.calls == 2
    assert read(answers[0].trace)[0][0]["route"] == "retrieve"


def test_a_question_that_was_stopped_leaves_the_chat_and_its_trace_whole(talk: Talk) -> None:
    async def go(chat: Chat) -> Answer:
        asking = asyncio.ensure_future(chat.ask("How many masts?"))
        await asyncio.sleep(0.3)
        asking.cancel()
        await asyncio.wait([asking])
        return await chat.ask("Which boat?")

    answer, _, events = talk([cell("while True: pass"), cell('FINAL("Ketch.")')], go)
    assert answer.content == "Ketch."
    assert "the question was given up" in [e["text"] for e in events if e["kind"] == "note"]
    assert events[-1]["stop"] == "answer"


def test_the_history_is_for_its_user_alone_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = history_file()
    assert path == tmp_path / "state" / "raptor-rlm" / "chat_history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert history_file() == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert history_file() is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert history_file() is None


def test_without_a_home_there_is_no_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(
        "os.path.expanduser", lambda path: path
    )  # as where neither HOME nor an account names one
    assert history_file() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_at_a_terminal_lines_are_edited_and_ctrl_c_ends_a_question_and_not_the_chat(tmp_path: Path) -> None:
    (tmp_path / "boats.txt").write_text("The ketch has two masts.\nThe sloop has one mast.\n")
    ours, theirs = pty.openpty()
    late = threading.Event()
    script: Script = [Step("late", until=late), cell('FINAL("One mast.")')]
    with ModelServer(script) as server:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "sk-test",
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "TERM": "xterm",
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        words = ["chat", "boats.txt", "--runs", "runs", "--model", MODEL]
        process = subprocess.Popen(
            [sys.executable, "-m", "rlm.cli", *words],
            stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        seen = bytearray()

        def until(ready: Callable[[], bool]) -> None:
            ends = time.monotonic() + 120
            while not ready():
                assert time.monotonic() < ends, bytes(seen)
                if select.select([ours], [], [], 0.1)[0]:
                    with contextlib.suppress(OSError):  # of a terminal that nobody has open any more
                        seen.extend(os.read(ours, 65_536))

        def prompted(times: int) -> None:
            until(lambda: seen.count(b"\x1b[?2004h") == times)  # what is pasted comes as a whole

        prompted(1)
        os.write(ours, b"How manz\x7fy\x1b\rmasts?\r")  # a letter taken back, and Alt-Enter
        until(lambda: server.calls == 1)
        assert "Question: How many\nmasts?" in server.requests[0]["messages"][1]["content"]
        os.write(ours, b"\x03")
        until(lambda: b"stopped; the chat goes on" in seen)
        late.set()
        prompted(2)
        os.write(ours, b"Which boat?\r")
        until(lambda: b"all so far" in seen)
        assert b"One mast." in seen
        prompted(3)
        os.write(ours, b"\x04")
        until(lambda: process.poll() is not None)
        os.close(ours)
    assert process.returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert verify(folder).ok
    history = tmp_path / "state" / "raptor-rlm" / "chat_history"
    assert "Which boat?" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


@pytest.mark.slow
def test_ctrl_c_ends_a_question_over_a_pipe_too(tmp_path: Path) -> None:
    (tmp_path / "boats.txt").write_text("The ketch has two masts.\n")
    late = threading.Event()
    with ModelServer([Step("late", until=late), cell('FINAL("Two.")')]) as server:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "sk-test",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "rlm.cli", "chat", "boats.txt", "--runs", "runs", "--model", MODEL],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env=environment,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write("How many?\n")
        process.stdin.flush()
        ends = time.monotonic() + 120
        while not server.calls:
            assert time.monotonic() < ends
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        late.set()
        out, err = process.communicate("Which?\n", timeout=120)
    assert (process.returncode, "Two." in out) == (0, True), err
    assert "stopped; the chat goes on" in err
    (folder,) = (tmp_path / "runs").iterdir()
    assert verify(folder).ok
