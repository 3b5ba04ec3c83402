"""What sub-calls were answered is not asked again: it is from the store, for nothing, and the same in a replay."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm import Grid, Limits, Models, Question, System, ask, evaluate
from rlm.asking.asking import Answer
from rlm.asking.replaying.forking import fork
from rlm.asking.replaying.held import RecordedBudget
from rlm.asking.replaying.replay import replay
from rlm.asking.replaying.script import Script
from rlm.audit import read, verify
from rlm.audit.page import render
from rlm.audit.timeline import show
from rlm.cli import main, parser
from rlm.commands.answers import as_text
from rlm.commands.live import line_of
from rlm.evaluating.cases import Case
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.memo import TROUBLE, memo_path
from tests.helpers.forging import forged
from tests.helpers.model_server import MODEL, ModelServer, Step
from tests.helpers.recorded import DONE, MODELS, QUESTION, Play, Recording, events_of

ONE = "print(llm_query('How many?', nodes=['L0-00000']))"
BATCH = "print(llm_query_batched(['a', 'b', 'c']))"


@pytest.fixture
def recording(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    yield Recording(index, tmp_path / "runs", monkeypatch)
    memo_path(index.path).unlink(missing_ok=True)


def asked(recording: Recording, **options: Any) -> Answer:
    return ask(recording.index, QUESTION, route="rlm", runs=recording.runs, **{"models": MODELS, **options})


def sub_calls(server: ModelServer) -> int:
    return sum(
        len(body["messages"]) == 2 and "Question:" not in body["messages"][1]["content"]
        for body in server.requests
    )


def replies(answer: Answer) -> list[dict[str, Any]]:
    """Those to sub-calls, by conversation: a batch is asked side by side, so its replies are recorded as they come."""
    events = [
        e for e in events_of(answer.trace) if e["kind"] == "model_answered" and e["conversation"] != "0"
    ]
    return sorted(events, key=lambda event: tuple(int(part) for part in event["conversation"].split(".")))


def test_the_second_question_makes_no_sub_call_and_the_trace_says_where_its_replies_are_from(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recording.served(Play([ONE, BATCH, DONE])) as server:
        first, second = asked(recording), asked(recording)
        assert sub_calls(server) == 4
    assert (first.stored, second.stored) == (0, 4)
    assert second.usage.calls == first.usage.calls - 4
    assert [one["text"] for one in replies(first)] == [one["text"] for one in replies(second)]
    nothing = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "usd": 0.0}
    for one in replies(second):
        assert one["cached"] and one["usage"] == nothing and "attempts" not in one
    returned = [event for event in events_of(second.trace) if event["kind"] == "child_returned"]
    assert [event["usage"] for event in returned] == [nothing, nothing]
    events, verdict = read(second.trace)
    assert verdict.ok
    assert " and 4 from the store, " in as_text(second)
    assert second.as_json()["usage"]["stored"] == 4  # type: ignore[index,call-overload]
    assert "Had before: 4 replies from the store" in show(events, verdict)
    assert show(events, verdict).count(", from the store") == 4
    page = render(events, verdict)
    assert "4 replies from the store" in page and page.count(">from the store<") == 4
    assert line_of("model_answered", "0.1", replies(second)[0]) == f"  [1]   {MODEL}: from the store"
    for run in (first.trace, second.trace):
        memo_path(recording.index.path).unlink(missing_ok=True)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        assert replay(run, recording.index).difference is None


def test_what_is_in_the_store_needs_no_budget(recording: Recording) -> None:
    many = "print(llm_query_batched([f'q{i}' for i in range(9)]))"
    with recording.served(Play([many, DONE])):
        asked(recording)
        answer = asked(recording, limits=Limits(calls=3))
    assert (answer.content, answer.usage.calls, answer.stored) == ("Two.", 2, 9)
    assert replay(answer.trace, recording.index).is_same


def test_of_a_batch_only_what_is_new_is_asked_and_the_replies_keep_their_places(recording: Recording) -> None:
    with recording.served(Play([BATCH, DONE])):
        asked(recording)
    played = Play(["print(llm_query_batched(['c', 'new', 'a', 'newer']))", DONE])
    with recording.served(Play([BATCH, DONE])) as server:
        asked(recording)
        server._script = played
        answer = asked(recording)
        assert sub_calls(server) == 3 + 2
    (returned,) = [event for event in events_of(answer.trace) if event["kind"] == "child_returned"]
    assert [one["text"] for one in returned["results"]] == ["(c)", "(new)", "(a)", "(newer)"]
    assert [one["cached"] for one in sorted(replies(answer), key=lambda e: e["conversation"])] == [
        True,
        False,
        True,
        False,
    ]
    assert verify(answer.trace).ok and replay(answer.trace, recording.index).is_same


@pytest.mark.parametrize(
    "step",
    [
        Step("half a", finish_reason="length"),
        Step("no", status=400),
        Step("never", finish_reason="content_filter"),
        "",
    ],
    ids=["cut", "failed", "declined", "empty"],
)
def test_a_reply_that_was_cut_or_failed_is_asked_for_again(recording: Recording, step: Step | str) -> None:
    with recording.served(
        Play([BATCH, DONE], sub=lambda prompt: step if prompt == "b" else prompt)
    ) as server:
        first, second = asked(recording), asked(recording)
        assert sub_calls(server) == 3 + 1
    assert (first.stored, second.stored) == (0, 2)
    assert replay(second.trace, recording.index).is_same


@pytest.mark.parametrize(
    "options",
    [{"memo": False}, {"models": Models(MODEL, MODEL, {"temperature": 0.5})}, {"models": Models()}],
    ids=["left", "warm", "offline"],
)
def test_nothing_is_kept_where_it_is_left_or_no_reply_repeats(
    recording: Recording, options: dict[str, Any]
) -> None:
    with recording.served(Play([BATCH, DONE])) as server:
        first, second = asked(recording, **options), asked(recording, **options)
        assert sub_calls(server) in (6, 0)  # the offline models ask none
    assert (first.stored, second.stored) == (0, 0)
    assert not memo_path(recording.index.path).exists()


def test_another_address_is_another_model(recording: Recording) -> None:
    for said in ("one", "another"):
        with recording.served(Play([BATCH, DONE], sub=lambda prompt, said=said: said)):  # type: ignore[misc]
            answer = asked(recording)
        assert [one["text"] for one in replies(answer)] == [said] * 3


def test_a_broken_store_is_a_note_and_the_run_goes_on_without_it(recording: Recording) -> None:
    path = memo_path(recording.index.path)
    path.write_bytes(b"no store at all " * 100)
    with recording.served(Play([BATCH, ONE, DONE])):
        answer = asked(recording)
    path.with_name(f"{path.name}.broken").unlink()
    notes = [event["text"] for event in events_of(answer.trace) if event["kind"] == "note"]
    assert len(notes) == 1 and notes[0].startswith(TROUBLE)
    assert (answer.content, answer.stored) == ("Two.", 0)
    assert replay(answer.trace, recording.index).difference is None


def test_where_nothing_can_be_kept_one_reply_has_a_note_of_it(recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("in the way of the user's key")
    recording.patch.setenv("XDG_DATA_HOME", str(tmp_path / "a file"))
    with recording.served(Play([BATCH, ONE, DONE])):
        answer = asked(recording)
    notes = [event for event in events_of(answer.trace) if event["kind"] == "note"]
    assert len(notes) == 1 and notes[0]["text"].startswith(TROUBLE) and notes[0]["conversation"] != "0"
    assert replay(answer.trace, recording.index).difference is None


def test_a_fork_follows_a_run_that_had_replies_from_the_store_and_uses_it_when_it_goes_on(
    recording: Recording, tmp_path: Path
) -> None:
    with recording.served(Play([BATCH, ONE, DONE])) as server:
        asked(recording)
        second = asked(recording)
        before = sub_calls(server)
        forks = [
            fork(second.trace, recording.index, turn, MODELS, tmp_path / str(turn), caps=Limits(calls=40))
            for turn in (1, 2, 3)
        ]
        assert sub_calls(server) == before
        without = fork(second.trace, recording.index, 2, MODELS, tmp_path / "without", memo=False)
        assert sub_calls(server) == before + 1
    for answer in (*forks, without):
        assert answer.content == "Two." and verify(answer.trace).ok
        assert replay(answer.trace, recording.index).difference is None
    assert [answer.usage.calls for answer in forks] == [3, 2, 1]


def test_a_text_file_has_its_store_beside_it(recording: Recording, tmp_path: Path) -> None:
    text = tmp_path / "boats.txt"
    text.write_text("A ketch has two masts.\n")
    with recording.served(Play(["print(llm_query('How many?'))", DONE])):
        answers = [ask(text, QUESTION, route="rlm", models=MODELS, runs=recording.runs) for _ in range(2)]
    assert [answer.stored for answer in answers] == [0, 1]
    assert (tmp_path / "boats.txt.memo.sqlite").exists()


@pytest.mark.parametrize("noted", [False, True], ids=["plain", "after a note of trouble"])
def test_a_replay_recalls_what_the_record_has_from_the_store_and_nothing_else(
    recording: Recording, noted: bool
) -> None:
    with recording.served(Play([BATCH, DONE])):
        first, second = asked(recording), asked(recording)

    def recalled(answer: Answer, count: int) -> list[Any]:
        events = [
            e for e in events_of(answer.trace) if e["conversation"] != "0" or e["kind"] == "child_called"
        ]
        note = {"kind": "note", "conversation": "0", "seq": 0, "text": f"{TROUBLE}it is gone"}
        script = Script([note, *events] if noted else events)
        budget = RecordedBudget(Gateway(Ledger()), 1e9, script=script)
        assert budget.trouble("0") == (note["text"] if noted else "")
        return asyncio.run(budget.recall("0", ["key"] * count))

    assert recalled(first, 3) == [None] * 3
    assert recalled(second, 3) == ["(a)", "(b)", "(c)"]
    assert recalled(second, 2) == [None] * 2


# -- what the verifier makes of it -------------------------------------------------------------------------

Forge = Callable[[list[dict[str, Any]]], dict[str, Any]]


def with_usage(events: list[dict[str, Any]]) -> dict[str, Any]:
    event = next(event for event in events if event["kind"] == "model_answered" and event["cached"])
    event["usage"] = {"calls": 1, "prompt_tokens": 3, "completion_tokens": 2, "usd": 0.0}
    return event


def with_attempts(events: list[dict[str, Any]]) -> dict[str, Any]:
    nothing = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "usd": 0.0}
    event = next(event for event in events if event["kind"] == "model_answered" and event["cached"])
    attempt = {
        "status": "200",
        "waited_s": 0,
        "seconds": 0,
        "reserved": nothing,
        "settled": nothing,
        "error": "",
    }
    event["attempts"] = [{**attempt, "sent": {}}]
    return event


def of_the_root(events: list[dict[str, Any]]) -> dict[str, Any]:
    event = next(
        event for event in events if event["kind"] == "model_answered" and event["conversation"] == "0"
    )
    event |= {
        "cached": True,
        "usage": dict.fromkeys(("calls", "prompt_tokens", "completion_tokens"), 0) | {"usd": 0.0},
    }
    del event["attempts"]
    return event


@pytest.mark.parametrize("forge", [with_usage, with_attempts, of_the_root])
def test_a_stored_reply_that_was_paid_for_or_is_the_roots_is_refused(
    recording: Recording, tmp_path: Path, forge: Forge
) -> None:
    with recording.served(Play([BATCH, DONE])):
        asked(recording)
        second = asked(recording)
    events = json.loads(json.dumps(events_of(second.trace)))
    wrong = forge(events)
    verdict = verify(forged(events, tmp_path))
    assert not verdict.ok and verdict.first_bad_line == wrong["seq"] + 1
    assert "from the store" in verdict.reason


# -- how it is left ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "kept"), [((), True), (("--no-memo",), False)], ids=["kept", "left"])
def test_the_command_line_keeps_replies_unless_it_is_told_not_to(
    recording: Recording, more: tuple[str, ...], kept: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ask", str(recording.index.path), QUESTION, "--route", "rlm", "--model", MODEL, "--json", *more]
    with recording.served(Play([BATCH, DONE])) as server:
        for _ in range(2):
            assert main([*words, "--runs", str(recording.runs)]) == 0
        assert sub_calls(server) == (3 if kept else 6)
    assert '"stored": 3' in capsys.readouterr().out or not kept
    assert memo_path(recording.index.path).exists() == kept


@pytest.mark.parametrize("command", ["ask", "chat", "shell", "map"])
def test_every_command_that_asks_can_leave_the_store(command: str) -> None:
    words = {"ask": ["i", "q"], "chat": ["i"], "shell": ["i"], "map": ["i", "q"]}[command]
    assert parser().parse_args([command, *words]).no_memo is False
    assert parser().parse_args([command, *words, "--no-memo"]).no_memo is True


def test_an_evaluation_pays_for_every_call_so_that_costs_compare(
    recording: Recording, tmp_path: Path
) -> None:
    case = Case(Question("a", QUESTION), ("Two.",), (), "own")
    grid = Grid([case], [System("rlm", MODELS)])
    with recording.served(Play([BATCH, DONE])) as server:
        evaluate(recording.index, grid, tmp_path / "first.eval")
        evaluate(recording.index, grid, tmp_path / "second.eval")
        assert sub_calls(server) == 6
    assert not memo_path(recording.index.path).exists()
