"""A chat: one REPL, one budget and one trace for questions that follow each other."""

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm import Answer, Limits, Models
from rlm.asking.chat import Chat, open_chat
from rlm.audit import read, verify
from rlm.cli import main
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from tests.helpers.model_server import MODEL, Body, ModelServer, Script, error
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
