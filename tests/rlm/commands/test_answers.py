"""An answer at the terminal: what stands of it, what is not in the text, and why it is not accepted."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm import Answer, Citation, Demands, Limits, Models, ask
from rlm.asking.many import Outcome
from rlm.asking.questions import Question
from rlm.audit import read, verify
from rlm.audit.page import render
from rlm.audit.timeline import show
from rlm.cli import main
from rlm.commands.answers import _citation, as_text
from rlm.commands.ask import line
from rlm.commands.live import lines
from tests.helpers.chat_sample import chat_sample
from tests.helpers.model_server import MODEL, ModelServer


@pytest.fixture
def unmet(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Answer, str]]:
    """An answer that lacks the citations demanded, and what was written while it was asked."""

    def call(reply: str, route: Any) -> tuple[Answer, str]:
        out = io.StringIO()
        with ModelServer([reply]) as server:
            server.use(monkeypatch)
            answer = ask(
                index,
                "How many masts?",
                route=route,
                models=Models(MODEL, MODEL),
                limits=Limits(turns=2),
                demands=Demands(citations=True),
                runs=tmp_path / "runs",
                watch=lines(out),
            )
        return answer, out.getvalue()

    return call


LOOP = '```python\nFINAL("Two.", citations=["It has nine oars."])\n```'
WHY = "1 of 1 quote does not stand in the documents: 'It has nine oars.'"


@pytest.mark.parametrize(
    ("reply", "route", "why"),
    [
        ("Two.", "retrieve", "it cites nothing"),
        (LOOP, "rlm", WHY),
        ('Two.\n[boats.txt] "It has nine oars."', "retrieve", WHY),
    ],
)
def test_an_answer_that_is_not_accepted_says_why_wherever_it_is_shown(
    unmet: Callable[..., tuple[Answer, str]], reply: str, route: str, why: str
) -> None:
    answer, live = unmet(reply, route)
    assert (
        answer.stop == "unmet" and answer.lacks.startswith(why) and answer.as_json()["lacks"] == answer.lacks
    )
    assert verify(answer.trace).ok
    text, events = as_text(answer), read(answer.trace)
    assert text.startswith(f"NOT ACCEPTED: {why}") and "Two." in text and "answered" not in text
    assert f"not accepted: {why}" in live and "answered" not in live.splitlines()[-1]
    shown = show(*events)
    assert shown.index(f"NOT ACCEPTED: {why}") < shown.index("The trace is whole")
    assert shown.rindex(f"NOT ACCEPTED: {why}") < shown.index("ANSWER     (unmet)")
    assert "The answer is not accepted: </strong>" + why.replace("'", "&#x27;") in render(*events)
    assert f"unmet ({why[:60]}" in line(Outcome(Question("1", "How many masts?"), answer, None))


def test_the_trace_of_an_earlier_version_that_gives_no_reason_is_not_accepted_either(
    unmet: Callable[..., tuple[Answer, str]],
) -> None:
    events, verdict = read(unmet("Two.", "retrieve")[0].trace)
    old = [{name: value for name, value in event.items() if name != "lacks"} for event in events]
    assert "NOT ACCEPTED: it lacks what was demanded of it" in show(old, verdict)


def test_a_claim_that_is_not_in_the_text_is_marked_in_the_answer_at_the_terminal(
    index: Index, tmp_path: Path
) -> None:
    _, (answer, *_) = chat_sample(index, tmp_path)
    text = as_text(answer)
    assert text.startswith("Two [1], and nine oars [2: not in the text].\n")
    assert '[1] boats.txt 0-24 (same words, other spacing): "The ketch has two masts."' in text
    assert "\n1 of 2 quotes stands in the documents; 1 is not in the text; whether the answer follows" in text
    assert answer.content == "Two [1], and nine oars [2]."


def test_the_head_that_a_chat_prints_at_its_end_is_that_of_its_trace(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("How many masts has the ketch?\n"))
    assert main(["chat", str(index.path), "--runs", str(tmp_path)]) == 0
    (run,) = tmp_path.iterdir()
    head = capsys.readouterr().out.splitlines()[-1].removeprefix("head:  ")
    assert verify(run, expected_head=head).ok


def test_a_review_and_a_show_are_held_against_the_head_that_was_kept(
    index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = chat_sample(index, tmp_path / "runs")
    page, head = tmp_path / "page.html", verify(run).head

    def review(*more: str) -> tuple[int, str, str]:
        code = main(["review", str(run), "-o", str(page), *more])
        return code, page.read_text(encoding="utf-8"), capsys.readouterr().err

    assert "Nobody has vouched for the end of this trace" in review()[1] and str(run) in review()[1]
    code, text, _ = review("--head", head)
    assert (code, "Nobody has vouched" in text, "the one given with --head" in text) == (0, False, True)
    code, text, said = review("--head", "0" * 64)
    assert (code, "its head is not the expected one" in text) == (1, True)
    assert "its head is not the expected one" in said
    assert main(["review", str(run), "-o", str(page), "--head", "abc"]) == 2
    capsys.readouterr()
    assert main(["trace", "show", str(run), "--head", "0" * 64]) == 1
    assert capsys.readouterr().out.startswith("THE TRACE IS NOT AS IT WAS WRITTEN")
    assert main(["trace", "show", str(run), "--head", head]) == 0
    assert "Nobody has vouched" not in capsys.readouterr().out
    assert main(["trace", "verify", str(run), "--head", head, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["head"] == head


NEAR = """```repl
answer["content"] = "The mast is not short [1]."
answer["citations"] = [{"quote": "The ketch has two masts. The mizzen is not shorter."}]
answer["ready"] = True
```"""


def test_a_quote_in_other_words_is_shown_beside_the_documents_words_with_what_differs(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ModelServer([NEAR]) as server:
        server.use(monkeypatch)
        command = ["ask", str(index.path), "How many masts?", "--model", MODEL, "--route", "rlm", "--quiet"]
        assert main([*command, "--runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    shown = said[said.index("[1] boats.txt") :].splitlines()
    assert shown[0].startswith("[1] boats.txt 0-46 (nearest, 0.") and shown[0].endswith(" alike):")
    assert [line.strip() for line in shown[1:4]] == [
        'the answer:   "The ketch has two masts. The mizzen is not shorter."',
        'the document: "The ketch has two masts. The mizzen is shorter"',
        "differs: not / (none)",
    ]


def test_long_quotes_in_other_words_are_shortened() -> None:
    long = "The ketch has two masts, and so on. " * 100
    near = Citation("a.txt", 0, 9, long, None, "nearest", claimed=f"150 {long}", similarity=0.9)
    lines = _citation(1, near).splitlines()
    assert len(lines) == 4 and all(len(line) < 270 for line in lines) and lines[3].endswith("150 / (none)")


def test_a_trace_is_shown_whole_where_that_is_asked_for(
    index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts were never shown, and of replies, code, output and results a few lines."""
    run, _ = chat_sample(index, tmp_path / "runs")
    assert main(["trace", "show", str(run)]) == 0
    brief = capsys.readouterr().out
    assert main(["trace", "show", str(run), "--full"]) == 0
    full = capsys.readouterr().out
    events = read(run)[0]
    texts = [message["content"] for e in events if e["kind"] == "model_asked" for message in e["messages"]]
    texts += [e["text"] for e in events if e["kind"] == "model_answered"]
    texts += [e["code"] for e in events if e["kind"] == "code_scanned"]
    texts += [e["result"] for e in events if e["kind"] == "visited" and isinstance(e["result"], str)]
    held = {line.strip().removeprefix("| ").strip() for line in full.splitlines()}
    assert any(text not in brief for text in texts)
    for row in (row.strip() for text in texts for row in text.splitlines()):
        assert row in held or row in full, row
    assert len(full) > 2 * len(brief)
    assert [line for line in brief.splitlines() if line not in full.splitlines()] == []


@pytest.mark.parametrize(
    ("question", "limits"),
    [("Who brews beer on Neptune?", Limits()), ("Why?", Limits(calls=0))],
    ids=["none", "no"],
)
def test_no_two_blank_lines_stand_in_an_answer_at_the_terminal(
    index: Index, tmp_path: Path, question: str, limits: Limits
) -> None:
    answer = ask(index, question, route="direct", limits=limits, runs=tmp_path)
    text = as_text(answer)
    assert not answer.citations and "\n\n" in text and "\n\n\n" not in text
