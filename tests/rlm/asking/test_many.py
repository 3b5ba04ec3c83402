"""Many questions under one budget: each gets its part, what is answered is kept, a second run asks only the rest."""

import io
import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from index_store.types import Scope
from rlm import Caps, Limits, Models, ask_many, events
from rlm.asking import many as many_module, routes
from rlm.asking.many import Answers, Outcome
from rlm.asking.questions import Question, read_questions
from rlm.asking.runs import new_run
from rlm.audit import read, verify
from rlm.cli import main
from rlm.errors import RlmError
from rlm.gateway import gateway as gateway_module
from rlm.gateway.blocking import run_blocking
from tests.helpers.model_server import MODEL, Body, ModelServer, Script, Step, error

MODELS = Models(MODEL, MODEL)
DONE = '```python\nFINAL("Two.", citations=["L0-00000"])\n```'


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)


def questions(count: int) -> list[Question]:
    return [Question(f"q{n}", f"How many masts has boat {n}?") for n in range(count)]


@pytest.fixture
def many(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Outcome]]:
    def call(script: Script, asked: list[Question], at_once: int = 4, **limits: Any) -> list[Outcome]:

        async def go() -> list[Outcome]:
            outcomes = ask_many(
                index,
                asked,
                at_once=at_once,
                route="rlm",
                models=MODELS,
                limits=Limits(**limits),
                runs=tmp_path / "runs",
            )
            return [outcome async for outcome in outcomes]

        with ModelServer(script) as server:
            server.use(monkeypatch)
            return run_blocking(go())

    return call


def test_every_question_has_one_outcome_and_a_trace_of_its_own(many: Callable[..., list[Outcome]]) -> None:
    outcomes = many([DONE], questions(9))
    assert sorted(str(o.question.id) for o in outcomes) == [f"q{n}" for n in range(9)]
    assert {o.answer.content for o in outcomes if o.answer} == {"Two."}
    traces = {o.answer.trace for o in outcomes if o.answer}
    assert len(traces) == 9
    assert all(verify(trace).ok for trace in traces)


def test_so_many_are_asked_at_a_time(many: Callable[..., list[Outcome]]) -> None:
    most, came = 3, 0
    together = [threading.Event(), threading.Event()]

    def script(body: Body) -> Step:
        nonlocal came
        party = together[came // most]
        came += 1
        if came % most == 0:
            party.set()
        return Step(DONE, until=party)  # answered only when three wait together

    assert stops(many(script, questions(6), at_once=most)) == {f"q{n}": "answer" for n in range(6)}


GREEDY = "```python\nprint(context.read('L0-00000'))\n```"


def greedy_first(body: Body) -> str:
    return GREEDY if "boat 0" in body["messages"][1]["content"] else DONE


def stops(outcomes: list[Outcome]) -> dict[Any, str]:
    return {o.question.id: o.stop for o in outcomes}


def test_a_question_that_waits_for_others_is_looked_at_anew_and_made_ready_once(
    many: Callable[..., list[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = list[object](), list[str]()

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return new_run(*arguments)

    def to_begin(run: Any, question: str, route: Any) -> Any:
        asked.append(question)
        return routes.to_begin(run, question, route)

    monkeypatch.setattr(many_module, "new_run", counted)
    monkeypatch.setattr(many_module, "to_begin", to_begin)
    outcomes = many([DONE], questions(12), at_once=6, calls=24)
    assert {outcome.stop for outcome in outcomes} == {"answer"}
    assert len(made) == 12 < len(asked)


def test_what_one_leaves_over_is_there_for_the_next(many: Callable[..., list[Outcome]]) -> None:
    outcomes = many(greedy_first, questions(4), at_once=1, calls=20, turns=16)
    spent = {o.question.id: o.usage.calls for o in outcomes}
    assert spent == {"q0": 17, "q1": 1, "q2": 1, "q3": 1}  # an even part were 5
    assert stops(outcomes) == {"q0": "turns", "q1": "answer", "q2": "answer", "q3": "answer"}


def test_a_small_total_is_spent_on_as_many_as_it_can_pay_and_the_others_are_not_asked(
    many: Callable[..., list[Outcome]],
) -> None:
    outcomes = many([DONE], questions(40), at_once=4, calls=7)
    assert [o.stop for o in outcomes if o.asked] == ["answer"] * 7
    unasked = [o for o in outcomes if not o.asked]
    assert len(unasked) == 33
    assert [o.question.id for o in unasked] == [f"q{n}" for n in range(7, 40)]  # in order
    assert "not asked: these 1 calls" not in str(unasked[0].error)
    assert "left of the cap of 7 calls" in str(unasked[0].error)
    assert unasked[0].as_json()["stop"] == "not asked"


def test_the_total_is_never_exceeded_and_one_that_runs_keeps_what_it_began_with(
    many: Callable[..., list[Outcome]],
) -> None:
    outcomes = many(greedy_first, questions(12), at_once=4, calls=12)
    assert sum(o.usage.calls for o in outcomes) <= 12
    assert {o.stop for o in outcomes if o.question.id != "q0" and o.asked} == {"answer"}


def test_each_has_its_own_cap_beside_that_of_all(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> list[Outcome]:
        asking = ask_many(
            index,
            questions(4),
            at_once=2,
            each=Caps(calls=4),
            route="rlm",
            models=MODELS,
            limits=Limits(calls=11),
            runs=tmp_path,
        )
        return [outcome async for outcome in asking]

    with ModelServer(greedy_first) as server:
        server.use(monkeypatch)
        outcomes = run_blocking(go())
    assert {o.question.id: o.usage.calls for o in outcomes} == {"q0": 4, "q1": 1, "q2": 1, "q3": 1}
    assert stops(outcomes)["q0"] == "budget"
    assert read(outcomes[0].answer.trace)[0][0]["limits"]["calls"] == 4  # type: ignore[union-attr]


def test_a_question_begins_when_one_that_ends_leaves_enough(many: Callable[..., list[Outcome]]) -> None:
    # Two may begin: what a call may use at most is some 6,000 tokens, and what it uses a tenth of that.
    outcomes = many([DONE], questions(6), at_once=6, tokens=14_000)
    assert set(stops(outcomes).values()) == {"answer"}


def test_one_that_fails_leaves_the_others_alone(many: Callable[..., list[Outcome]]) -> None:
    def script(body: Body) -> str | Step:
        return error(400, "no") if "boat 1" in body["messages"][1]["content"] else DONE

    outcomes = {o.question.id: o for o in many(script, questions(3))}
    assert outcomes["q1"].answer is None
    assert "the provider refused the request" in str(outcomes["q1"].error)
    assert outcomes["q0"].done
    assert outcomes["q2"].done
    assert not outcomes["q1"].done


# -- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def asked(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., Any]:
    file, answers = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps({"_id": q.id, "text": q.text}) + "\n" for q in questions(4)))

    def call(script: Script, *more: str) -> tuple[int, dict[str, Any], list[Body], str]:
        words = [
            "ask",
            str(index.path),
            "--questions",
            str(file),
            "--answers",
            str(answers),
            "--route",
            "rlm",
        ]
        with ModelServer(script) as server:
            server.use(monkeypatch)
            code = main([*words, "--model", MODEL, "--runs", str(tmp_path / "runs"), *more])
        rows = [json.loads(line) for line in answers.read_text().splitlines()] if answers.exists() else []
        return code, {row["_id"]: row for row in rows}, server.requests, capsys.readouterr().err

    return call


def test_a_second_run_asks_only_what_is_not_answered(asked: Callable[..., Any], tmp_path: Path) -> None:
    def first(body: Body) -> str | Step:
        return error(400, "no") if "boat 2" in body["messages"][1]["content"] else DONE

    code, rows, requests, err = asked(first)
    assert (code, len(requests), rows["q2"]["stop"]) == (3, 4, "failed")
    assert "run the same command again" in err
    code, rows, requests, err = asked([DONE])
    assert (code, len(requests)) == (0, 1)
    assert "boat 2" in requests[0]["messages"][1]["content"]
    assert {row["answer"] for row in rows.values()} == {"Two."}
    assert rows["q0"]["citations"][0]["doc"] == "boats.txt"
    assert asked([DONE])[2] == []


def test_the_end_says_what_came_of_all_and_what_those_left_may_need(
    asked: Callable[..., Any], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[Any] = []
    monkeypatch.setattr("rlm.commands.ask.print_json", printed.append)

    def script(body: Body) -> str | Step:
        return error(400, "no") if "boat 0" in body["messages"][1]["content"] else DONE

    code, rows, _, _ = asked(script, "--json", "--max-calls", "2", "--at-once", "1")
    (total,) = printed
    assert code == 3
    assert (total["asked"], total["answered"], total["not_asked"]) == (3, 2, 1)
    assert (total["out_of_budget"], total["left"]) == (0, 2)
    ((why, number),) = total["failed"].items()
    assert (number, "trace" in why) == (1, False)
    assert "the provider refused the request" in why
    assert total["spent"]["calls"] == 2
    assert total["estimate_for_those_left"]["calls"] == 2
    assert rows["q3"]["stop"] == "not asked"

    code, rows, requests, _ = asked(script, "--json")
    assert (code, len(requests)) == (3, 2)  # one that was not asked is asked the next time
    assert printed[1]["answered_before"] == 2


def test_the_end_is_told_in_words_too(asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("rlm.commands.ask.say", lambda text, **_: said.append(text))
    asked([DONE], "--max-calls", "3", "--at-once", "1")
    told = "\n".join(said)
    assert "this run: 3 asked, 3 answered; 1 not asked" in told
    assert "those left may need" in told
    assert "(an estimate: as much for each as those answered used on average)" in told
    said.clear()
    asked([error(400, "no")])
    assert "none was answered that could tell" in "\n".join(said)


def test_a_line_of_answers_and_the_end_have_the_same_fields_whatever_came_of_a_question(
    asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[Any] = []
    monkeypatch.setattr("rlm.commands.ask.print_json", printed.append)

    def script(body: Body) -> str | Step:
        return error(400, "no") if "boat 0" in body["messages"][1]["content"] else DONE

    rows = asked(script, "--json", "--max-calls", "2", "--at-once", "1")[1]
    assert {row["stop"] for row in rows.values()} == {"answer", "failed", "not asked"}
    assert len({tuple(sorted(row)) for row in rows.values()}) == 1
    assert (rows["q0"]["answer"], rows["q0"]["usage"], rows["q0"]["scope"]) == (None, None, None)
    assert (rows["q1"]["error"], rows["q1"]["why"], rows["q1"]["warnings"]) == (None, None, [])
    asked([DONE], "--json")
    assert printed[0].keys() == printed[1].keys()
    assert (printed[1]["read_by"], printed[1]["stopped"]) == (None, 0)


def test_a_batch_that_is_stopped_says_what_it_has_in_the_form_that_was_asked_for(
    asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[Any] = []
    monkeypatch.setattr("rlm.commands.ask.print_json", printed.append)

    def script(body: Body) -> str:
        if "boat 2" in body["messages"][1]["content"]:
            signal.raise_signal(signal.SIGINT)
        return DONE

    code, rows, _, err = asked(script, "--json", "--at-once", "1")
    (total,) = printed
    assert code == 130
    assert err.splitlines()[-1] == "rlm: stopped"
    assert (total["asked"], total["answered"], total["stopped"], total["left"]) == (2, 2, 2, 2)
    assert set(rows) == {"q0", "q1"}
    said: list[str] = []
    monkeypatch.setattr("rlm.commands.ask.say", lambda text, **_: said.append(text))
    assert asked(script, "--at-once", "1")[0] == 130
    assert "this run: 0 asked, 0 answered; 2 stopped, or never begun" in "\n".join(said)
    assert asked([DONE])[0] == 0


def test_prose_of_a_model_that_writes_no_code_is_an_answer_of_one_question_and_of_many(
    asked: Callable[..., Any], index: Index, tmp_path: Path
) -> None:
    code, rows, _, _ = asked(["It has two masts."])
    assert {(row["stop"], row["answer"]) for row in rows.values()} == {("no code", "It has two masts.")}
    assert code == 0
    assert asked(["It has two masts."])[2] == []
    single = ["ask", str(index.path), "How many?", "--route", "rlm", "--model", MODEL]
    with ModelServer(["It has two masts."]) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        assert main([*single, "--runs", str(tmp_path / "one")]) == 0


def test_an_answer_that_lacks_what_was_demanded_has_one_exit_code_alone_and_among_many(
    asked: Callable[..., Any],
) -> None:
    code, rows, _, _ = asked(['```python\nFINAL("Two.")\n```'], "--require-citations", "--max-turns", "1")
    assert {row["stop"] for row in rows.values()} == {"unmet"}
    assert code == 3


@pytest.mark.parametrize("source", ["q.jsonl", "-"])
def test_questions_come_from_standard_input_too(
    index: Index, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = '{"text": "How many masts has the ketch?"}\n\n{"text": "What is shorter?"}\n'
    Path("q.jsonl").write_text(rows)
    monkeypatch.setattr(sys, "stdin", io.StringIO(rows))
    words = ["ask", str(index.path), "--questions", source, "--answers", "a.jsonl"]
    assert main(words) == 0
    assert {json.loads(line)["_id"] for line in Path("a.jsonl").read_text().splitlines()} == {"1", "3"}
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"text": 5}'))
    assert main([*words[:3], "-", *words[4:]]) == 2
    assert "rlm: standard input, line 1: expected" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", None)
    assert main([*words[:3], "-", *words[4:]]) == 2
    assert "standard input holds no questions" in capsys.readouterr().err


def test_a_line_that_a_crash_cut_is_asked_again(asked: Callable[..., Any], tmp_path: Path) -> None:
    asked([DONE])
    answers = tmp_path / "answers.jsonl"
    answers.write_bytes(answers.read_bytes()[:-5])
    code, rows, requests, _ = asked([DONE])
    assert (code, len(requests), len(rows)) == (0, 1, 4)


def test_a_question_that_was_changed_is_asked_again(asked: Callable[..., Any], tmp_path: Path) -> None:
    asked([DONE])
    file = tmp_path / "questions.jsonl"
    file.write_text(file.read_text().replace("boat 3", "boat three"))
    assert len(asked([DONE])[2]) == 1


@pytest.mark.parametrize("path", [".", "/", ".."])
def test_answers_into_a_folder_are_refused(index: Index, tmp_path: Path, path: str, capsys: Any) -> None:
    asked = tmp_path / "q.jsonl"
    asked.write_text('{"text": "How many?"}\n')
    assert main(["ask", str(index.path), "--questions", str(asked), "--answers", path]) == 2
    assert "are a folder; name a file" in capsys.readouterr().err


NOTES = [
    '{"_id": 1, "question": "?", "stop": {}}\n',
    "my notes\n",
    "my notes",
    '{"_id": "user", "email": "x"}\n',
    '{"_id": "user", "email": "x"}',
    "[]\n",
]


@pytest.mark.parametrize("notes", NOTES)
def test_a_file_that_holds_no_answers_is_left_alone(
    index: Index, tmp_path: Path, notes: str, capsys: Any
) -> None:
    answers, asked = tmp_path / "answers.jsonl", tmp_path / "q.jsonl"
    answers.write_text(notes)
    asked.write_text('{"text": "How many?"}\n')
    code = main(["ask", str(index.path), "--questions", str(asked), "--answers", str(answers)])
    assert (code, answers.read_text()) == (2, notes)
    assert "line 1, is no answer" in capsys.readouterr().err


def test_the_questions_themselves_are_never_written_over(index: Index, tmp_path: Path, capsys: Any) -> None:
    asked = tmp_path / "q.jsonl"
    asked.write_text('{"text": "How many?"}\n')
    (tmp_path / "link.jsonl").symlink_to(asked)
    code = main(
        ["ask", str(index.path), "--questions", str(asked), "--answers", str(tmp_path / "link.jsonl")]
    )
    assert (code, asked.read_text()) == (2, '{"text": "How many?"}\n')
    assert "holds the questions" in capsys.readouterr().err


def test_answers_to_other_questions_stay(asked: Callable[..., Any], tmp_path: Path) -> None:
    asked([DONE])
    file = tmp_path / "questions.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0])
    _, rows, requests, _ = asked([DONE])
    assert (set(rows), requests) == ({"q0", "q1", "q2", "q3"}, [])
    file.write_text('{"_id": "new", "text": "What is a sloop?"}\n')
    _, rows, requests, _ = asked([DONE])
    assert (set(rows), len(requests)) == ({"q0", "q1", "q2", "q3", "new"}, 1)


def test_answers_by_other_means_are_not_mixed_into_a_file(asked: Callable[..., Any], tmp_path: Path) -> None:
    _, rows, _, _ = asked([DONE])
    assert rows["q0"]["by"]["models"] == {"root": MODEL, "child": MODEL}
    before = (tmp_path / "answers.jsonl").read_bytes()
    for more, what in (
        (["--require-citations"], "under other demands"),
        (["--child-model", "openai/other"], "by other models, or by these with other options"),
        (["--doc", "boats.txt"], "in another scope"),
        (["--child-model", "openai/other", "--doc", "boats.txt"], "other options, in another scope"),
    ):
        code, _, requests, err = asked([DONE], *more)
        assert (code, requests) == (2, [])
        assert f"{what}; name another file for the answers of this run" in err
        assert re.search(r"says that 'q\d' was answered ", err)  # any of them may have ended first
    assert (tmp_path / "answers.jsonl").read_bytes() == before
    assert asked([DONE], "--max-calls", "100")[0] == 0  # limits are no means


def test_two_runs_cannot_write_one_file(asked: Callable[..., Any], tmp_path: Path) -> None:
    with Answers(tmp_path / "answers.jsonl").lock():
        code, _, requests, err = asked([DONE])
    assert (code, requests) == (2, [])
    assert "another run is writing" in err
    assert asked([DONE])[0] == 0
    assert not (tmp_path / ".answers.jsonl.lock").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no questions"),
        ('{"text": "a"}\nnonsense\n', "line 2 is not JSON"),
        ('{"_id": "a"}\n', 'line 1: expected {"_id"'),
        ('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n', "line 2: the id 'a' stands twice"),
        ('{"_id": [], "text": "x"}\n', "line 1: expected"),
        ("[1]\n", "line 1: expected"),
    ],
)
def test_a_bad_line_of_questions_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(RlmError) as raised:
        read_questions(tmp_path / "q.jsonl")
    assert sentence in str(raised.value)


def test_a_scope_and_a_missing_id_are_taken(tmp_path: Path) -> None:
    where = {"where": {"year": 2021}, "section": "Masts"}
    rows = [{"question": "How many?", "scope": "boats.txt"}, {"id": "b", "text": "Who?", "scope": where}]
    (tmp_path / "q.jsonl").write_text("\n" + "\n".join(map(json.dumps, rows)))
    first, second = read_questions(tmp_path / "q.jsonl")
    assert (first.id, first.text, first.scope) == ("2", "How many?", Scope("boats.txt"))
    assert (second.id, second.scope) == ("b", Scope(None, {"year": "2021"}, "Masts"))


def test_answers_that_cannot_be_written_are_one_sentence(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(RlmError, match="cannot write the answers"), answers.lock():
        pass
    with pytest.raises(RlmError, match="cannot write the answers"):
        answers.begin(questions(1))


# -- events as they come -----------------------------------------------------------------------------------


def test_the_events_of_a_run_come_as_they_are_recorded(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> list[dict[str, Any]]:
        asking = events(index, "How many?", models=MODELS, runs=tmp_path)
        return [event async for event in asking]

    with ModelServer(["```python\ncontext.overview()\n```", DONE]) as server:
        server.use(monkeypatch)
        seen = run_blocking(go())
    recorded = read(seen[-1]["answer"].trace)[0]
    assert [e["kind"] for e in seen] == [*(e["kind"] for e in recorded), "result"]
    assert seen[-1]["answer"].content == "Two."


def test_leaving_the_events_early_stops_the_run_and_closes_its_trace(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        asking = events(index, "How many?", models=MODELS, runs=tmp_path)
        async for event in asking:
            if event["kind"] == "code_run":
                break
        await asking.aclose()

    with ModelServer(["```python\ncontext.overview()\n```"]) as server:
        server.use(monkeypatch)
        run_blocking(go())
    (folder,) = tmp_path.iterdir()
    recorded = read(folder)[0]
    assert verify(folder).ok
    assert (recorded[-1]["kind"], recorded[-1]["stop"]) == ("run_closed", "cancelled")


def test_an_error_of_the_run_comes_out_of_its_events(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async for _ in events(index, "How many?", models=MODELS, runs=tmp_path):
            pass

    with ModelServer([error(401, "wrong")]) as server:
        server.use(monkeypatch)
        with pytest.raises(RlmError, match="refused the key"):
            run_blocking(go())
