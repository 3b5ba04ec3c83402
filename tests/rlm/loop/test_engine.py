"""The loop against a scripted model over real HTTP: how it ends, what it records, and that nothing stays behind."""

import asyncio
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from index_store.errors import BadQuery
from index_store.index import Index
from index_store.view import View
from index_store.writer import publish
from rlm import Answer, Limits, Models, ask, ask_async, prompts
from rlm.asking.options import Options
from rlm.asking.runs import new_run
from rlm.audit import read
from rlm.audit.consistency.hearing import hear
from rlm.audit.consistency.story import Story
from rlm.audit.conversation import messages_seen
from rlm.errors import RlmError
from rlm.gateway import gateway as gateway_module
from rlm.gateway.blocks import outside
from rlm.gateway.errors import MissingKey, UnknownModel
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.limits import Route
from rlm.loop import engine
from rlm.loop.calls import Calls, Descend
from rlm.loop.checks import Refused
from rlm.loop.conversation import Conversation, close
from rlm.loop.engine import converse
from rlm.loop.opening import open_conversation
from rlm.loop.recording import Unrecorded
from rlm.loop.replies import code_of
from rlm.loop.run import SANDBOXES, Run
from rlm.sandbox import open_session, spawn
from tests.helpers.model_server import MODEL, Body, ModelServer, Step, error, half_a_body, slow
from tests.helpers.places import GOLDEN
from tests.helpers.rlm_toy import recorded_verbs
from tests.helpers.toy import TEXTS, toy_draft

Event = dict[str, Any]
SOON_S = 60.0  # a stopped run ends at once; a loaded machine takes longer
BRIEF_S = 3.0  # a run's time in which its first cell ends, on a loaded machine too
LATE_S = 300.0  # a reply after this comes too late for anything
GOLDEN_FILE = GOLDEN / "rlm_run.jsonl"
QUESTION = "How many masts has a ketch?"
DONE = 'answer["content"] = "Two."; answer["citations"] = ["L0-00000"]; answer["ready"] = True'


def cell(code: str) -> str:
    return f"I look.\n```python\n{code}\n```\nAnd so on."


Sub = Callable[[str], str | Step]


@dataclass(frozen=True)
class Play:
    """Replies: `root` for the question itself, `children` by theirs, `sub` for single calls, given the prompt."""

    root: Sequence[str | Step]
    children: Mapping[str, Sequence[str | Step]]
    sub: Sub
    single: str | Step = "NOT FOUND"

    def __call__(self, body: Body) -> str | Step:
        first, second = (message["content"] for message in body["messages"][:2])
        if first == prompts.SUB_CALL:
            return self.sub(second)
        if first.startswith(prompts.SINGLE):
            return self.single
        turn: int = sum(message["role"] == "assistant" for message in body["messages"])
        asked = next(
            (replies for q, replies in self.children.items() if f"Question: {q}\n" in second), self.root
        )
        return asked[min(turn, len(asked) - 1)]


class Stage:
    """Runs plays over the toy index and checks the trace of every one."""

    def __init__(self, index: Index, runs: Path, patch: pytest.MonkeyPatch) -> None:
        self.index, self.runs, self.patch = index, runs, patch
        self.requests: list[Body] = []
        self.events: list[Event] = []

    def play(
        self,
        *root: str | Step,
        children: Mapping[str, Sequence[str | Step]] | None = None,
        sub: Sub = lambda prompt: f"({prompt.rpartition('QUESTION: ')[2]})",
        route: Route = "rlm",
        single: str | Step = "NOT FOUND",
        **limits: Any,
    ) -> Answer:
        play = Play(
            [r if isinstance(r, Step) or "```" in r else cell(r) for r in root], children or {}, sub, single
        )
        with ModelServer(play) as server:
            server.use(self.patch)
            began = time.monotonic()
            try:
                return ask(
                    self.index, QUESTION, route=route, models=MODELS, limits=Limits(**limits), runs=self.runs
                )
            finally:
                self.seconds = time.monotonic() - began
                self.requests = server.requests
                self.read()

    def read(self) -> None:
        self.events = events_of(newest(self.runs))
        check_events(self.events)
        check_messages(self.events, self.requests)

    def kinds(self, kind: str, conversation: str | None = None) -> list[Event]:
        return [e for e in self.events if e["kind"] == kind and conversation in (None, e["conversation"])]

    def stdout(self, conversation: str = "0") -> list[str]:
        return [e["stdout"] for e in self.kinds("code_run", conversation)]


MODELS = Models(MODEL, MODEL)


@pytest.fixture
def stage(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)
    return Stage(index, tmp_path / "runs", monkeypatch)


def newest(runs: Path) -> Path:
    return max(runs.iterdir(), key=lambda p: p.stat().st_mtime_ns)


def events_of(folder: Path) -> list[Event]:
    events, verdict = read(folder)
    assert verdict.ok, verdict
    return events


def check_events(events: list[Event]) -> None:
    """What must hold of any closed trace."""
    assert events[-1]["kind"] == "run_closed"
    asked, ended = [], []
    scanned, ran = list[tuple[str, int]](), list[tuple[str, int]]()
    known = {"0"}
    for event in events:
        match event["kind"]:
            case "model_asked":
                assert event["conversation"] in known
                asked.append((event["conversation"], event["call"]))
            case "model_answered" | "model_failed":
                ended.append((event["conversation"], event["call"]))
                assert asked.count(ended[-1]) == 1
            case "code_scanned":
                scanned.append((event["conversation"], event["cell"]))
            case "visited" if event.get("by") == "run":
                assert scanned == ran  # between cells
            case "visited" | "child_called" | "child_returned":
                here = (event["conversation"], event["cell"])
                assert here in scanned
                assert here not in ran
                if event["kind"] == "child_called":
                    assert not known & set(event["children"])
                    assert all(c.rpartition(".")[0] == event["conversation"] for c in event["children"])
                    known |= set(event["children"])
            case "code_run":
                ran.append((event["conversation"], event["cell"]))
    assert sorted(asked) == sorted(ended)
    assert scanned == sorted(set(scanned), key=scanned.index)
    assert sorted(scanned) == sorted(ran) or events[-1]["stop"] == "failed"
    assert len({call for _, call in asked}) == len(asked)
    check_usage(events)


def check_usage(events: list[Event]) -> None:
    """The run's cost is the sum of its calls', where none was cut off; a child_returned sums its children's."""
    calls = [e for e in events if e["kind"] in ("model_answered", "model_failed")]
    if not any("was stopped" in e.get("error", "") for e in calls):
        assert events[-1]["usage"] == total(calls)
    for event in events:
        if event["kind"] == "child_returned":
            below = tuple(f"{child}." for child in event["children"])
            own = [e for e in calls if f"{e['conversation']}.".startswith(below)]
            assert event["usage"] == total(e for e in own if e["seq"] < event["seq"])


def total(calls: Any) -> dict[str, Any]:
    sums: Counter[str] = Counter({"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "usd": 0})
    for event in calls:
        sums.update(event.get("usage", {}))
    return dict(sums)


def check_messages(events: list[Event], requests: list[Body]) -> None:
    """Every prompt that went over the wire can be put together from the trace, byte for byte."""
    seen = [messages_seen(events, e["seq"]) for e in events if e["kind"] == "model_asked"]
    told = Counter(json.dumps(messages, sort_keys=True) for messages in seen)
    assert all(told[json.dumps(body["messages"], sort_keys=True)] for body in requests)


# -- what counts as code -----------------------------------------------------------------------------------


# -- finishing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finish", "cited"),
    [
        (DONE, ["L0-00000"]),
        ('answer = {"content": "Two.", "citations": [{"node": "L0-00000"}], "ready": True}', ["L0-00000"]),
        ('FINAL("Two.", citations=["L0-00000"])', ["L0-00000"]),
        ('said = "Two. (L0-00000)"\nFINAL_VAR("said")', ["L0-00000"]),
        ('SUBMIT("Two.", citations=[{"node": "L0-00000"}])', ["L0-00000"]),
        ('SUBMIT(answer="Two.")', []),
        ('FINAL({"answer": "Two.", "citations": ["L0-00000"]})', ["L0-00000"]),
        ('FINAL("Two.")', []),
    ],
)
def test_code_can_finish_in_every_way_that_models_know(stage: Stage, finish: str, cited: list[str]) -> None:
    answer = stage.play(finish)
    assert (answer.content[:4], answer.stop, answer.usage.calls) == ("Two.", "answer", 1)
    assert [c.node for c in answer.citations] == cited


def test_an_answer_can_grow_over_cells_and_is_taken_when_it_is_ready(stage: Stage) -> None:
    answer = stage.play('answer["content"] = "Two"', 'answer["content"] += "."', 'answer["ready"] = True')
    assert (answer.content, answer.usage.calls) == ("Two.", 3)


def test_the_answer_json_is_the_shape_that_is_promised(stage: Stage) -> None:
    answer = stage.play(DONE)
    said: dict[str, Any] = answer.as_json()
    assert said["answer"] == "Two."
    assert said["citations"][0].items() >= {
        "doc": "boats.txt", "start": 0, "end": 25, "quote": "The ketch has two masts. ", "page": None,
    }.items()  # fmt: skip
    assert (said["stop"], said["trace"]) == ("answer", str(answer.trace))
    figures = {"calls", "prompt_tokens", "completion_tokens", "usd", "stored", "cached_tokens"}
    assert set(said["usage"]) == figures
    assert said["head"] == answer.head == read(answer.trace)[1].head


def test_the_largest_answer_there_can_be_is_recorded(stage: Stage) -> None:
    answer = stage.play(
        'big = "x" * 10**6\nFINAL(big + big, citations=[str(i) + big[:9_000] for i in range(150)])'
    )
    assert len(answer.content) > 100_000
    assert len(answer.citations) == 100
    assert {c.supported for c in answer.citations} == {"unsupported"}


def test_a_reply_without_code_is_told_so_and_the_run_goes_on(stage: Stage) -> None:
    answer = stage.play(Step("I think it is two."), Step("```json\n{}\n```"), DONE)
    assert (answer.content, answer.usage.calls) == ("Two.", 3)
    told = [body["messages"][-1]["content"] for body in stage.requests]
    assert told[1] == told[2] == prompts.NO_CODE
    assert len(stage.kinds("code_run")) == 1


def test_a_model_that_writes_no_code_three_times_in_a_row_ends_the_run_and_says_so(stage: Stage) -> None:
    answer = stage.play(*[Step("It has two, I think.")] * 5)
    assert (answer.stop, answer.content) == ("no code", "")
    assert "test-model gave 3 replies in a row that hold no code" in answer.why
    assert answer.why in answer.as_json()["why"]  # type: ignore[operator]
    assert stage.events[-1]["stop"] == "no code"
    assert stage.events[-1]["error"] == answer.why
    single = [body for body in stage.requests if body["messages"][0]["content"].startswith(prompts.SINGLE)]
    assert len(stage.requests) - len(single) == 3
    assert [e["text"] for e in stage.kinds("note")].count("the reply holds no code that could run") == 3


def test_code_between_replies_without_it_begins_the_count_anew(stage: Stage) -> None:
    none = Step("I think.")
    answer = stage.play(none, none, cell("x = 1"), none, none, DONE)
    assert (answer.content, answer.stop) == ("Two.", "answer")


def test_where_nothing_was_read_the_run_searches_by_itself_for_the_call_kept_back(stage: Stage) -> None:
    reply = 'Two.\n[L0-00000] "The ketch has two masts."'
    answer = stage.play(*[Step("It has two, I think.")] * 3, single=reply)
    assert (answer.content, answer.stop) == ("Two.", "no code")
    assert answer.citations[0].supported == "verbatim"
    (visit,) = stage.kinds("visited")
    assert (visit["by"], visit["verb"], visit["cell"]) == ("run", "gather", 0)
    assert visit["arguments"]["question"] == QUESTION
    assert re.search(
        r"<<<DATA [0-9a-f]{4,} L0-00000\.\.L0-00002 \| boats>>>", stage.requests[-1]["messages"][1]["content"]
    )


def test_the_trace_lets_the_run_search_once_and_only_between_cells(stage: Stage) -> None:
    stage.play("print(1)", "print(2)", turns=2, single="Two.")
    at = next(i for i, event in enumerate(stage.events) if event["kind"] == "visited")
    ran = next(i for i, event in enumerate(stage.events) if event["kind"] == "code_run")
    visit, before = stage.events[at], stage.events[:at]

    def told(events: list[Event]) -> str:
        story = Story()
        return next(filter(None, (hear(story, event) for event in events)), "")

    assert told(stage.events) == ""
    assert "done something else than gather" in told([*before, visit | {"verb": "read"}])
    assert "search twice" in told([*before, visit, visit])
    assert "while a cell or a call is under way" in told([*stage.events[:ran], visit | {"cell": 1}])
    assert "was not scanned, or had ended" in told(
        [*before, {name: value for name, value in visit.items() if name != "by"}]
    )


def test_cells_that_read_nothing_are_no_evidence_either(stage: Stage) -> None:
    stage.play("print(1)", "print(2)", turns=2, single="Two.")
    (visit,) = stage.kinds("visited")
    assert (visit["by"], visit["cell"]) == ("run", 2)
    assert "The ketch has two masts." in stage.requests[-1]["messages"][1]["content"]


def test_passages_that_were_seen_and_not_printed_go_into_the_call_kept_back(stage: Stage) -> None:
    stage.play('hits = context.search("masts of a ketch")', "print(7)", turns=2, single="Two.")
    assert [visit.get("by") for visit in stage.kinds("visited")] == [None]
    sent = stage.requests[-1]["messages"][1]["content"]
    assert "The ketch has two masts." in sent
    assert "output of cell 2" in sent


def test_without_any_evidence_no_call_is_bought(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any) -> NoReturn:
        raise Refused("no search here")

    monkeypatch.setattr("rlm.loop.ending.retrieved_text", nothing)
    answer = stage.play("print(1)", "print(2)", turns=2, single="Two.")
    assert (answer.content, answer.stop, answer.usage.calls) == ("", "turns", 2)
    assert "there is no evidence to answer from, and no call was made" in answer.why
    assert stage.events[-1]["error"] == answer.why


def test_code_in_the_reply_of_the_call_kept_back_is_no_answer(stage: Stage) -> None:
    answer = stage.play("print(1)", "print(2)", turns=2, single="```repl\nprint(context)\n```")
    assert (answer.content, answer.stop) == ("", "turns")


def test_the_blocks_of_one_reply_run_as_one_cell(stage: Stage) -> None:
    stage.play("First.\n```python\nx = 20\n```\nThen\n```repl\nprint(x + 1)\n```", DONE)
    assert stage.stdout()[0] == "21\n"
    assert [e["cell"] for e in stage.kinds("code_run")] == [1, 2]


def test_the_model_sees_what_its_code_printed_and_raised_as_data(stage: Stage) -> None:
    stage.play('print(context.read("L0-00000"))', "1/0", "import os", DONE)
    told = [body["messages"][-1]["content"] for body in stage.requests[1:]]
    assert "Cell 1: ok." in told[0]
    assert "\nThe ketch has two masts. \n" in told[0]
    assert re.search(r"<<<DATA [0-9a-f]{4,} output of cell 1>>>", told[0])
    assert "ZeroDivisionError" in told[1]
    assert "Cell 3: rejected." in told[2]
    assert "calls 197, seconds " in told[1]
    (rejected,) = [e for e in stage.kinds("code_scanned") if e["verdict"] == "rejected"]
    assert (rejected["cell"], rejected["line_in_code"], rejected["code"]) == (3, 1, "import os")


def test_what_a_bound_cut_from_a_result_is_told_below_the_output_and_in_the_trace(stage: Stage) -> None:
    stage.play('print(len(context.grep("e", limit=2)))', "context.grep('ketch')", DONE)
    told = f"context.grep gave the first 2 of {sum(text.count('e') for text in TEXTS.values())} matches"
    assert [visit.get("cut") for visit in stage.kinds("visited")] == [told, None]
    first, second = (body["messages"][-1]["content"] for body in stage.requests[1:])
    assert told in outside(first)
    assert "context.grep gave" not in second


def test_of_many_cuts_in_one_cell_a_few_are_told(stage: Stage) -> None:
    stage.play("for n in range(1, 9):\n    context.grep('e', limit=n)", DONE)
    told = outside(stage.requests[1]["messages"][-1]["content"])
    assert (told.count("context.grep gave"), "and 3 more results were cut" in told) == (5, True)


def test_a_visit_is_recorded_in_its_cell_and_after_the_scan(stage: Stage) -> None:
    stage.play("context.peek('L1-00000')", "len(context); context[0:3]; 'ketch' in context", DONE)
    assert [(e["cell"], e["verb"]) for e in stage.kinds("visited")] == [
        (1, "peek"), (2, "slice"), (2, "contains"),
    ]  # fmt: skip
    assert stage.kinds("visited")[1]["result"] == "The"


def test_half_a_surrogate_pair_in_a_reply_does_not_end_the_run(stage: Stage) -> None:
    raw = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "\ud800"}}]})
    assert stage.play(Step(raw=raw.encode()), DONE).content == "Two."


# -- limits ------------------------------------------------------------------------------------------------


def test_the_turn_limit_ends_the_run_with_a_result(stage: Stage) -> None:
    answer = stage.play("print(1)", turns=3)
    assert (answer.content, answer.citations, answer.stop, answer.usage.calls) == ("", (), "turns", 4)
    told = [body["messages"][-1]["content"] for body in stage.requests]
    assert [prompts.LAST_TURN in text for text in told] == [False, False, True, False]


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ('answer["content"] = "Two, I think."; answer["citations"] = ["L0-00000"]', "Two, I think."),
        ('answer = "Two, I think."', "Two, I think."),
        ("answer = None", "None"),
        ("del answer", ""),
        ("answer = 1 / 0", ""),
    ],
)
def test_the_best_answer_so_far_comes_back_at_a_limit(stage: Stage, code: str, content: str) -> None:
    answer = stage.play(code, "print(1)", turns=2)
    assert (answer.content, answer.stop) == (content, "turns")
    assert [c.node for c in answer.citations] == (["L0-00000"] if "citations" in code else [])
    notes = [note["text"] for note in stage.kinds("note")]
    assert notes[0] == "stopped by turns: the answer is taken as the code had left it"
    assert len(notes) == (1 if content else 2)


def test_a_call_cap_ends_the_run_with_a_result(stage: Stage) -> None:
    answer = stage.play('answer["content"] = "a draft"', 'print("more")', calls=2)
    assert (answer.content, answer.stop, answer.usage.calls) == ("a draft", "budget", 2)
    assert len(stage.requests) == 2
    (budget,) = stage.kinds("budget")
    assert (budget["spent"]["calls"], budget["left"]["calls"]) == (2, 0)


def test_a_token_cap_ends_the_run_before_it_is_passed(stage: Stage) -> None:
    answer = stage.play("print('word ' * 500)", tokens=6_000, reply_tokens=100)
    assert (answer.content, answer.stop) == ("", "budget")
    assert 0 < answer.usage.tokens <= 6_000


def test_no_calls_at_all_are_a_result_too(stage: Stage) -> None:
    answer = stage.play(DONE, calls=0)
    assert (answer.content, answer.stop, answer.usage.calls) == ("", "budget", 0)
    assert stage.requests == []


def test_a_slow_model_ends_in_a_timeout_with_the_draft(stage: Stage) -> None:
    answer = stage.play('answer["content"] = "a draft"', slow(cell(DONE), LATE_S), timeout_s=BRIEF_S)
    assert (answer.content, answer.stop) == ("a draft", "timeout")
    assert stage.seconds < SOON_S
    (failed,) = stage.kinds("model_failed")
    assert failed["error"] == "the run was stopped before the model answered"


def test_a_cell_that_never_ends_ends_in_a_timeout_with_the_draft(stage: Stage) -> None:
    answer = stage.play('answer["content"] = "a draft"', "while True: pass", timeout_s=BRIEF_S)
    assert (answer.content, answer.stop) == ("a draft", "timeout")
    assert stage.seconds < SOON_S
    first, *killed, draft = [e["status"] for e in stage.kinds("code_run")]
    assert (first, set(killed), draft) == ("ok", {"killed"}, "ok")


def test_a_cell_has_a_clock_of_its_own_and_the_run_goes_on(stage: Stage) -> None:
    answer = stage.play("kept = 1", "while True: pass", "print(kept)\n" + DONE, cell_timeout_s=3)
    assert (answer.content, stage.stdout()[2]) == ("Two.", "1\n")


@pytest.mark.parametrize(
    "call",
    [
        'llm_query("wait")',
        'llm_query_batched(["wait", "wait"])',
        'try:\n    llm_query("wait")\nexcept Exception as e:\n    print(e)',
    ],
)
def test_a_sub_call_in_flight_is_given_up_at_the_timeout(stage: Stage, call: str) -> None:
    answer = stage.play(
        f'answer["content"] = "a draft"\n{call}', sub=lambda prompt: slow("late", LATE_S), timeout_s=BRIEF_S
    )
    assert (answer.content, answer.stop) == ("a draft", "timeout")
    assert stage.seconds < SOON_S
    assert {e["error"] for e in stage.kinds("model_failed")} == {
        "the run was stopped before the model answered"
    }


def test_a_cell_that_calls_on_without_end_is_stopped_too(stage: Stage) -> None:
    work = "while True:\n    try:\n        llm_query('again')\n    except Exception: pass"
    answer = stage.play(work, timeout_s=0.5, calls=None)
    assert answer.stop == "timeout"
    assert stage.seconds < SOON_S


def test_a_child_in_flight_is_given_up_at_the_timeout(stage: Stage) -> None:
    answer = stage.play(
        'answer["content"] = "a draft"\nrlm_query_batched(["part one", "part two"])',
        children={"part one": [slow("late", LATE_S)], "part two": [cell("while True: pass")]},
        timeout_s=BRIEF_S,
    )
    assert (answer.content, answer.stop) == ("a draft", "timeout")
    assert stage.seconds < SOON_S


def test_a_budget_that_runs_out_inside_a_cell_is_an_exception_there(stage: Stage) -> None:
    work = 'print(llm_query("one"))\ntry:\n    llm_query("two")\nexcept Exception as e:\n    print(e)'
    answer = stage.play(work + f"\n{DONE}", calls=2)
    assert (answer.content, answer.stop) == ("Two.", "answer")
    assert "(one)\n" in stage.stdout()[0]
    assert "calls" in stage.stdout()[0].splitlines()[1]


# -- sub-calls ---------------------------------------------------------------------------------------------


def test_a_sub_call_reads_the_passages_it_is_given(stage: Stage) -> None:
    stage.play(
        'print(llm_query("what?", nodes=["L0-00005", {"doc": "one.txt", "start": 0, "end": 3}]))', DONE
    )
    (body,) = [b for b in stage.requests if b["messages"][0]["content"] == prompts.SUB_CALL]
    assert re.fullmatch(
        r"<<<DATA (\w+) L0-00005 \| one>>>\nsingle\n"
        r"<<<DATA \1 one.txt 0-3 \| one>>>\nsin\n<<<END \1 2>>>\n\nQUESTION: what\?",
        body["messages"][1]["content"],
    )
    assert stage.stdout()[0] == "(what?)\n"


def test_a_batch_keeps_its_order_and_length_and_a_failure_its_slot(stage: Stage) -> None:
    def sub(prompt: str) -> str | Step:
        return error(400, "no") if prompt == "3" else slow(prompt, 0.2 - int(prompt) / 100)

    stage.play("print(llm_query_batched([str(i) for i in range(8)]))", DONE, sub=sub)
    replies = eval(stage.stdout()[0])  # noqa: S307  (a list of texts, printed by the sandbox)
    assert replies[:3] + replies[4:] == ["0", "1", "2", *"4567"]
    assert replies[3]["error"].startswith("the call to openai/test-model failed")
    (returned,) = stage.kinds("child_returned")
    assert [r["ok"] for r in returned["results"]] == [i != 3 for i in range(8)]
    assert returned["children"] == [f"0.{i}" for i in range(1, 9)]


def test_an_empty_batch_is_an_empty_list(stage: Stage) -> None:
    stage.play("print(llm_query_batched([]), llm_query_batched([], nodes=[]))", DONE)
    assert stage.stdout()[0] == "[] []\n"


def test_a_child_has_a_namespace_and_a_conversation_of_its_own(stage: Stage) -> None:
    answer = stage.play(
        'secret = 1\nr = rlm_query("what fruit?", under="L1-00001")\nprint(r)\nprint(SHOW_VARS())',
        DONE,
        children={
            "what fruit?": [
                cell("print(SHOW_VARS())\nfruit = 2\nprint(len(context), context.documents())"),
                cell('FINAL("Pears.", citations=["L0-00004"])'),
            ]
        },
    )
    assert answer.stop == "answer"
    assert stage.stdout("0.1")[0].startswith("no variables yet\n")
    assert "boats" in stage.stdout("0.1")[0]  # L0-00002 stands in both branches
    assert "one.txt" in stage.stdout("0.1")[0]
    assert "fruit" not in stage.stdout()[0].splitlines()[1]
    given = eval(stage.stdout()[0].splitlines()[0])  # noqa: S307
    assert given["answer"] == "Pears."
    assert [(c["doc"], c["supported"]) for c in given["citations"]] == [("größe.md", "verbatim")]
    first = next(b for b in stage.requests if "Question: what fruit?\n" in b["messages"][1]["content"])
    assert [m["role"] for m in first["messages"]] == ["system", "user"]
    assert QUESTION not in json.dumps(first)
    assert "the branch under L1-00001" in first["messages"][1]["content"]
    (called,) = stage.kinds("child_called")
    assert (called["under"], called["children"]) == (["L1-00001"], ["0.1"])


def test_children_of_children_go_as_deep_as_is_allowed(stage: Stage) -> None:
    deeper = cell(
        'try:\n    print(rlm_query("deeper", under="L0-00002"))\nexcept Exception as e:\n    FINAL(str(e))'
    )
    answer = stage.play(
        'FINAL(rlm_query("deep", under="L1-00000")["answer"])',
        children={
            "deep": [cell('FINAL(rlm_query("deeper", under="L0-00002")["answer"])')],
            "deeper": [deeper],
        },
        depth=2,
    )
    assert answer.content == "children go 2 deep and you are at 2; use llm_query with nodes=[...]"
    assert {e["conversation"] for e in stage.kinds("model_asked")} == {"0", "0.1", "0.1.1"}


def test_a_hundred_children_have_few_sandboxes_at_a_time_and_children_of_their_own(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_now, most = Counter[int](), Counter[int]()

    def opening(
        run: Run, question: str, under: str | None, id: str, depth: int, descend: Descend
    ) -> Conversation:
        open_now[depth] += 1
        most[depth] = max(most[depth], open_now[depth])
        return open_conversation(run, question, under, id, depth, descend)

    async def closing(talk: Conversation) -> None:
        await close(talk)
        open_now[talk.depth] -= 1

    monkeypatch.setattr(engine, "open_conversation", opening)
    monkeypatch.setattr(engine, "close", closing)
    deep = cell('FINAL(rlm_query_batched(["deeper"] * 2)[1]["answer"])')
    answer = stage.play(
        'found = rlm_query_batched(["flat", "flat", "flat", "deep"] * 25)\nFINAL(" ".join(f["answer"] for f in found))',
        children={"flat": [cell('FINAL("f")')], "deep": [deep], "deeper": [cell('FINAL("d")')]},
        depth=2,
        calls=None,
    )
    assert answer.content == " ".join(["f f f d"] * 25)
    assert most == {0: 1, 1: SANDBOXES, 2: most[2]} and most[2] <= SANDBOXES
    assert not +open_now


def test_a_cell_cannot_fill_the_disk_with_what_it_asks(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm.loop.recording.TRACE_BYTES", 50_000)
    ask = "    try: context.grep('x' * 900)\n    except Exception as e: print(e); break"
    work = f"for i in range(1000):\n{ask}\nprint(i)"
    stage.play(work, DONE)
    assert "its trace is full; answer from what your variables hold\n" in stage.stdout()[0]
    assert 20 < len(stage.kinds("visited")) < 60


def test_a_child_that_fails_says_so_in_its_slot(stage: Stage) -> None:
    stage.play(
        'for r in rlm_query_batched(["good", "bad", "idle"]): print(r["answer"], r["error"])',
        DONE,
        children={"good": [cell('FINAL("fine")')], "bad": [error(400, "no")], "idle": [cell("1")]},
        turns=2,
    )
    good, bad, idle = stage.stdout()[0].splitlines()
    assert good == "fine None"
    assert bad.startswith("None the call to openai/test-model failed")
    assert idle == "None stopped by turns"
    (returned,) = stage.kinds("child_returned")
    assert [r["ok"] for r in returned["results"]] == [True, False, False]
    assert {e["conversation"]: e["stop"] for e in stage.kinds("answered")} == {
        "0.1": "answer", "0.2": "failed", "0.3": "turns", "0": "answer",
    }  # fmt: skip


REFUSED = [
    "llm_query()",
    "llm_query(5)",
    'llm_query("a", nodes="L0-00000")',
    'llm_query("a", nodes=5)',
    'llm_query("a", nodes=[["L0-00000"]])',
    'llm_query("a", nodes=["L9-00000"])',
    'llm_query("a", nodes=[{"doc": "one.txt", "start": -1, "end": 9}])',
    'llm_query("a", nodes=["L0-00000"] * 10_001)',
    'llm_query("a", nodes=[{"doc": "boats.txt", "start": i} for i in range(6)])',
    'llm_query("a", self=1)',
    'llm_query("a", bogus=1)',
    'llm_query_batched("a")',
    'llm_query_batched({"a": 1})',
    'llm_query_batched(["a", None])',
    'llm_query_batched(["a"] * 501)',
    'llm_query_batched(["a"], nodes=5)',
    'llm_query_batched(["a"], nodes={})',
    'llm_query_batched(["a"], nodes=[])',
    'llm_query_batched(["a"], nodes=[5])',
    "rlm_query(5)",
    'rlm_query("a", under=5)',
    'rlm_query("a", under=["L1-00000"])',
    'rlm_query("a", under={"doc": "one.txt", "start": 0, "end": 1})',
    'rlm_query("a", under="L1-99999")',
    'rlm_query_batched("a")',
    'rlm_query_batched(["a"], under=5)',
    'rlm_query_batched(["a"], under=[])',
    'rlm_query_batched(["a"], under=[{}])',
    'rlm_query_batched(["a", "b"], under=[["L1-00000"], {}])',
    "budget(1)",
]


def test_calls_with_wrong_arguments_are_refused_with_a_sentence(stage: Stage) -> None:
    stage.patch.setattr("rlm.loop.calls.PASSAGE_CHARS", 500)
    tries = "\n".join(
        f"try:\n    {call}\n    print('ANSWERED')\nexcept Exception as e:\n    print(e)" for call in REFUSED
    )
    answer = stage.play(tries, DONE)
    assert answer.stop == "answer"
    said = stage.stdout()[0].splitlines()
    assert len(said) == len(REFUSED)
    assert "ANSWERED" not in said
    assert stage.kinds("child_called") == []
    assert said[2] == 'nodes is a list such as ["L0-00012"], found str'


def test_budget_tells_what_is_left(stage: Stage) -> None:
    stage.play(
        'llm_query("a"); b = budget(); print(b["calls"], b["usd"], b["tokens"], b["seconds"] > 500)', DONE
    )
    assert stage.stdout()[0] == "197 None None True\n"


# -- failures and cancelling -------------------------------------------------------------------------------


def test_a_model_that_fails_is_one_sentence_and_a_closed_trace(stage: Stage) -> None:
    with pytest.raises(RlmError, match=r"^the call to openai/test-model failed .* \(trace: .*\)$"):
        stage.play("print(1)", error(400, "no such thing"))
    assert stage.events[-1]["stop"] == "failed"
    assert "no such thing" in stage.events[-1]["error"]
    assert stage.kinds("answered")[0]["stop"] == "failed"


@pytest.mark.parametrize(
    ("models", "kind"),
    [
        (Models("offline/nobody"), UnknownModel),
        (Models("nonsense-model"), UnknownModel),
        (Models("offline/navigator", "offline/nobody"), UnknownModel),
        (Models("anthropic/claude-sonnet-4-5"), MissingKey),
    ],
)
def test_a_model_that_cannot_be_asked_is_refused_before_anything_is_done(
    stage: Stage, models: Models, kind: type[Exception]
) -> None:
    stage.patch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(kind):
        ask(stage.index, QUESTION, models=models, runs=stage.runs)
    assert not stage.runs.exists()


@pytest.mark.parametrize("question", ["", " \n", "\udcff"])
def test_a_question_that_is_none_is_refused(stage: Stage, question: str) -> None:
    with pytest.raises(RlmError, match="the question"):
        ask(stage.index, question, runs=stage.runs)


@pytest.mark.parametrize(
    "limits",
    [{"usd": float("inf")}, {"usd": -1}, {"usd": float("nan")}, {"turns": 0}, {"timeout_s": 0},
     {"timeout_s": float("nan")}, {"cell_timeout_s": 1e12}, {"tokens": 10**400}, {"depth": -1}],
)  # fmt: skip
def test_limits_that_are_none_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(RlmError, match=f"^{next(iter(limits))} is "):
        Limits(**limits)


def test_a_run_folder_that_cannot_be_made_is_one_sentence(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RlmError, match="cannot make a run folder"):
        ask(stage.index, QUESTION, runs=tmp_path / "file" / "runs")


CANCELLED_IN: dict[str, str | Step] = {
    "a model call": slow(cell(DONE), 30),
    "a cell": cell("while True: pass"),
    "a sub-call": cell("llm_query('slow')"),
    "a child": cell("rlm_query('slow child')"),
}


@pytest.mark.parametrize("where", CANCELLED_IN)
def test_a_cancelled_run_leaves_a_closed_trace(stage: Stage, where: str) -> None:
    script = Play([CANCELLED_IN[where]], {"slow child": [slow("", 30)]}, lambda prompt: slow("late", 30))

    async def cancelled() -> None:
        limits = Limits(calls=None)
        work = asyncio.create_task(
            ask_async(stage.index, QUESTION, models=MODELS, limits=limits, runs=stage.runs)
        )
        while len(server.requests) < calls:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # into the cell
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    calls = 1 if where in ("a model call", "a cell") else 2
    with ModelServer(script) as server:
        server.use(stage.patch)
        asyncio.run(asyncio.wait_for(cancelled(), 60))
    stage.read()
    assert stage.events[-1]["stop"] == "cancelled"
    assert len(server.requests) == calls


@pytest.mark.parametrize("where", CANCELLED_IN)
def test_a_run_that_is_cancelled_twice_is_closed_all_the_same(stage: Stage, where: str) -> None:
    script = Play(
        [CANCELLED_IN[where]], {"slow child": [cell("while True: pass")]}, lambda _: slow("late", 30)
    )

    async def cancelled() -> None:
        work = asyncio.create_task(ask_async(stage.index, QUESTION, models=MODELS, runs=stage.runs))
        await asyncio.sleep(0.3)
        work.cancel()
        await asyncio.sleep(0.02)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    with ModelServer(script) as server:
        server.use(stage.patch)
        threads = threading.active_count()
        asyncio.run(cancelled())
    events = events_of(newest(stage.runs))
    assert (events[-1]["kind"], events[-1]["stop"]) == ("run_closed", "cancelled")
    calls = {e["call"]: e["kind"] for e in events if e["kind"].startswith("model_")}
    assert "model_asked" not in calls.values()  # each has ended
    assert threading.active_count() <= threads


def broken(*_: Any, **__: Any) -> NoReturn:
    raise KeyError("gone")


def test_an_error_of_our_own_leaves_a_closed_trace(stage: Stage) -> None:
    stage.patch.setattr("rlm.loop.engine.code_of", broken)
    with pytest.raises(KeyError, match="gone"):
        stage.play("context.peek('L0-00000')")
    assert stage.events[-1]["stop"] == "failed"
    assert stage.events[-1]["error"] == "KeyError: 'gone'"


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("rlm.loop.verbs.Verbs.peek", "context.peek"),
        ("rlm.loop.calls.Calls._history", "history"),
        ("rlm.loop.calls.Calls._passages", "llm_query"),
        ("rlm.loop.run.Run.shares", "rlm_query"),
        ("rlm.loop.opening.open_session", "rlm_query"),
    ],
)
def test_an_error_of_our_own_while_a_call_is_served_is_a_refusal_and_ends_no_run(
    stage: Stage, caplog: pytest.LogCaptureFixture, place: str, call: str
) -> None:
    before = iter([open_session] if place.endswith("open_session") else [])  # the root's own opens
    stage.patch.setattr(place, lambda *a, **k: next(before, broken)(*a, **k))
    argument = {"context.peek": "'L0-00000'", "history": "1"}.get(call, "'?'")
    answer = stage.play(f"try:\n    {call}({argument})\nexcept Exception as e:\n    print(e)", DONE)
    assert (answer.content, answer.stop) == ("Two.", "answer")
    (told,) = (e["stdout"] for e in stage.kinds("code_run")[:1])
    assert told.startswith(f"{call} failed by a fault of the system itself (KeyError: 'gone')")
    (note,) = (e["text"] for e in stage.kinds("note") if "failed" in e["text"])
    assert note == f"{call} failed while it was served (KeyError: 'gone')"
    logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert logged == [f"{note}; this is a fault of raptor-rlm"]


def test_an_error_of_our_own_in_a_child_ends_its_siblings_and_not_the_run(stage: Stage) -> None:
    real = code_of
    stage.patch.setattr(engine, "code_of", lambda text, *a: (broken if "boom" in text else real)(text, *a))
    children = {"good": [slow("late", 30)], "bad": [slow(cell("boom"), 0.2)]}
    answer = stage.play('rlm_query_batched(["good", "bad"])', DONE, children=children)
    assert answer.stop == "answer"
    assert stage.seconds < SOON_S
    assert [e["conversation"] for e in stage.kinds("model_failed")] == ["0.1"]


def test_what_failed_calls_were_charged_is_in_the_trace(stage: Stage) -> None:
    stage.play("print(llm_query_batched(['a']))", DONE, sub=lambda prompt: half_a_body(), reply_tokens=50)
    (failed,) = stage.kinds("model_failed")
    assert failed["usage"]["calls"] > 1
    assert stage.kinds("child_returned")[0]["usage"] == failed["usage"]


def test_after_it_is_stopped_no_call_is_answered(index: Index) -> None:
    async def stopped() -> str:
        options = Options(models=MODELS)
        run = new_run(View(index), options, Gateway(Ledger()), Unrecorded(), asyncio.get_running_loop())
        calls = Calls(run, recorded_verbs(index)[0], "0", 0, converse, lambda: 1)
        left = await asyncio.to_thread(calls.serve, "budget", [], {})
        assert isinstance(left, Mapping) and left["calls"] is None
        calls.stop()
        with pytest.raises(Refused) as refused:
            await asyncio.to_thread(calls.serve, "budget", [], {})
        return str(refused.value)

    assert asyncio.run(stopped()) == "the run is being stopped; no more calls are answered"


def test_an_index_whose_embedder_was_not_named_is_refused_before_anything_is_spent(
    stage: Stage, tmp_path: Path
) -> None:
    models = {"embedder": "/a/strangers/model", "embedder_fingerprint": "f", "summarizer": "hand"}
    publish(tmp_path / "theirs.index", toy_draft(), models, {"seed": 0})
    with ModelServer([cell(DONE)]) as server:
        server.use(stage.patch)
        with pytest.raises(BadQuery, match="names the embedder '/a/strangers/model'"):
            ask(tmp_path / "theirs.index", QUESTION, models=MODELS, runs=stage.runs)
    assert server.calls == 0
    assert not stage.runs.exists()


@pytest.mark.parametrize(("route", "loads"), [("rlm", 1), ("direct", 0)])
def test_the_embedder_is_loaded_before_a_cells_clock_starts(stage: Stage, route: Route, loads: int) -> None:
    loaded: list[float] = []
    stage.patch.setattr(Index, "warm_up", lambda index: loaded.append(time.monotonic()))
    stage.play(DONE, route=route, single="Two.")
    assert len(loaded) == loads


def test_ask_works_where_a_loop_runs_already(stage: Stage) -> None:
    async def notebook() -> Answer:
        return stage.play(DONE)

    assert asyncio.run(notebook()).content == "Two."


def test_runs_at_the_same_time_have_folders_of_their_own(stage: Stage) -> None:
    async def several() -> list[Answer]:
        asks = (ask_async(stage.index, QUESTION, models=MODELS, runs=stage.runs) for _ in range(4))
        return await asyncio.gather(*asks)

    with ModelServer([cell(DONE)]) as server:
        server.use(stage.patch)
        answers = asyncio.run(several())
    assert len({answer.trace for answer in answers}) == 4
    for answer in answers:
        check_events(events_of(answer.trace))


def test_a_watcher_sees_every_event_as_it_is_recorded(stage: Stage) -> None:
    seen: list[str] = []
    with ModelServer([cell(DONE)]) as server:
        server.use(stage.patch)
        ask(stage.index, QUESTION, models=MODELS, runs=stage.runs, watch=lambda kind, *_: seen.append(kind))
    assert seen == [e["kind"] for e in events_of(newest(stage.runs))]


# -- nothing stays behind ----------------------------------------------------------------------------------


def footprint() -> tuple[int, int, int]:
    """(threads, open files, sandbox workers) of this process; a worker that was killed is given time to be buried."""
    until = time.monotonic() + SOON_S
    while _workers() and time.monotonic() < until:
        time.sleep(0.01)
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), _workers()


def _workers() -> int:
    parents = Counter(
        stat.rpartition(")")[2].split()[1] for stat in map(_stat, Path("/proc").glob("[0-9]*")) if stat
    )
    zygote = str(spawn.running_zygote().process.pid)
    return parents[zygote]


def _stat(process: Path) -> str:
    try:
        return (process / "stat").read_text()
    except OSError:
        return ""  # it ended meanwhile


def test_nothing_is_left_over_after_many_runs(stage: Stage) -> None:
    plays: list[Callable[[], Answer]] = [
        lambda: stage.play("llm_query_batched(['a', 'b'])", DONE),
        lambda: stage.play("rlm_query('part')", DONE, children={"part": [cell('FINAL("x")')]}),
        lambda: stage.play("llm_query('wait')", sub=lambda prompt: slow("", 9), timeout_s=0.2),
        lambda: stage.play("while True: pass", DONE, cell_timeout_s=0.1),
    ]
    for play in plays:
        play()
    before = footprint()
    for play in plays * 5:
        play()
    threads, files, workers = footprint()
    assert (threads, workers) == (before[0], before[2])
    assert files <= before[1] + 1


# -- the golden transcript ---------------------------------------------------------------------------------


def test_a_small_run_leaves_the_golden_transcript(stage: Stage) -> None:
    stage.play(
        "view = context.overview()\nfor child in view['children']: print(child['node'], child['label'])",
        "hits = context.search('masts of a ketch', k=2, mode='lexical')\nprint([hit['node'] for hit in hits])\n"
        "print(llm_query('How many masts?', nodes=[hit['node'] for hit in hits]))",
        "try: context.peek('L7-00000')\nexcept RuntimeError as error: print(error)",
        'answer["content"] = "Two masts."\n'
        'answer["citations"] = [{"node": "L0-00000", "quote": "two masts"}, "three masts"]\nanswer["ready"] = True',
    )
    lines = [json.dumps(_timeless(e), ensure_ascii=False, sort_keys=True) for e in stage.events]
    text = re.sub(r"(seconds )[\d.]+", r"\1...", "\n".join(lines) + "\n")
    text = text.replace(json.dumps(prompts.SYSTEM)[1:-1], "(SYSTEM)").replace(
        json.dumps(prompts.SUB_CALL)[1:-1], "(SUB_CALL)"
    )
    if os.environ.get("GOLDEN") == "write":
        GOLDEN_FILE.parent.mkdir(exist_ok=True)
        GOLDEN_FILE.write_text(text, encoding="utf-8")
    assert text == GOLDEN_FILE.read_text(encoding="utf-8")


def _timeless(event: Event) -> Event:
    """The event without what differs from run to run, or from version to version."""
    left_out = ("time_s", "seconds", "started", "ended", "prev", "hash", "code_version", "versions")
    kept = {name: value for name, value in event.items() if name not in left_out}
    if event["kind"] == "run_opened":
        kept["index"] = {k: v for k, v in event["index"].items() if k != "digest"}
        kept["prompts"] = {}
    if "attempts" in kept:
        kept["attempts"] = [(one["status"], one["sent"]) for one in kept["attempts"]]
    if "usage" in kept:  # counts words of prompts, which may be rewritten
        kept["usage"] = {"calls": kept["usage"]["calls"]}
    return kept


# -- replies of other shapes -------------------------------------------------------------------------------


def test_code_in_a_tool_call_is_run(stage: Stage) -> None:
    call = {
        "type": "function",
        "id": "1",
        "function": {"name": "python", "arguments": json.dumps({"code": DONE})},
    }
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    raw = {"choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}
    assert stage.play(Step(raw=json.dumps(raw).encode())).content == "Two."


@pytest.mark.parametrize(
    ("prose", "content"), [("FINAL(It has two masts.)", "It has two masts."), ("FINAL_VAR(seen)", "two")]
)
def test_an_answer_in_prose_is_taken_through_the_sandbox(stage: Stage, prose: str, content: str) -> None:
    answer = stage.play('seen = "two"', Step(f"I am done.\n\n{prose}"))
    assert (answer.content, answer.stop) == (content, "answer")
    assert stage.kinds("code_scanned")[1]["code"].startswith("FINAL")


def test_a_block_that_was_cut_is_not_run_and_the_model_is_told(stage: Stage) -> None:
    cut = Step("```python\nprint(1)\nprint(2", finish_reason="length")
    assert stage.play(cut, DONE, reply_tokens=100).content == "Two."
    assert [e["code"] for e in stage.kinds("code_scanned")] == [DONE]
    assert stage.requests[1]["messages"][-1]["content"] == prompts.CUT.format(tokens=100)


def test_a_refusal_gets_its_own_hint(stage: Stage) -> None:
    stage.play(Step("I'm sorry, I can't help with that."), DONE)
    assert stage.requests[1]["messages"][-1]["content"] == prompts.REFUSED


# -- a long conversation -----------------------------------------------------------------------------------


def test_old_turns_are_put_away_and_stay_within_reach(stage: Stage) -> None:
    say = "print('mast ' * 300)"
    last = 'FINAL(history(1)["code"] + " / " + str(len(history(1)["output"])) + " / " + str(x))'
    with ModelServer([*map(cell, ["x = 7; " + say, *[say] * 8, last])]) as server:
        server.use(stage.patch)
        limits = Limits(window=4_000, reply_tokens=100)
        answer = ask(stage.index, QUESTION, route="rlm", models=MODELS, limits=limits, runs=stage.runs)
    stage.requests = server.requests
    stage.read()
    assert answer.content == f"x = 7; {say} / 1501 / 7"
    sent = [body["messages"] for body in stage.requests]
    assert max(len(messages) for messages in sent) < 2 + 2 * 9
    assert "\nok: x = 7;" in sent[-1][1]["content"]
    assert [m["role"] for m in sent[-1][:4]] == ["system", "user", "assistant", "user"]
    assert any("were put away" in note["text"] for note in stage.kinds("note"))


def test_history_of_a_cell_that_was_not_is_an_error_there(stage: Stage) -> None:
    stage.play("history(1)", "history(True)", DONE)
    assert "there are cells 1 to 0, found 1" in stage.kinds("code_run")[0]["error"]
    assert "there are cells 1 to 1, found True" in stage.kinds("code_run")[1]["error"]


def test_some_models_are_told_more(stage: Stage) -> None:
    assert prompts.system("openrouter/qwen/qwen3-coder") == prompts.SYSTEM + prompts.OVER_CALLING
    assert prompts.system("gpt-5-mini") == prompts.SYSTEM


# -- children ----------------------------------------------------------------------------------------------


def test_a_child_is_given_a_share_and_cannot_spend_more(stage: Stage) -> None:
    answer = stage.play(
        'r = rlm_query_batched(["greedy", "modest"])\nprint(r[0]["error"], r[1]["answer"], budget()["calls"])',
        DONE,
        children={"greedy": [cell("1")], "modest": [cell('print(budget()["calls"])\nFINAL("fine")')]},
        calls=32,
    )
    # 32, less the root's first call and the one kept back: 30, of which each child gets a third
    assert stage.stdout()[0] == "stopped by budget fine 19\n"
    assert stage.stdout("0.2") == ["9\n"]
    assert answer.usage.calls == 1 + 10 + 1 + 1


def test_children_can_have_children_as_deep_as_the_limit_says(stage: Stage) -> None:
    deeper = {
        "one": [cell('FINAL(rlm_query("two")["answer"] + "!")')],
        "two": [cell('try:\n    rlm_query("three")\nexcept RuntimeError as e:\n    FINAL(str(e))')],
    }
    answer = stage.play('FINAL(rlm_query("one")["answer"])', children=deeper, depth=2)
    assert answer.content == "children go 2 deep and you are at 2; use llm_query with nodes=[...]!"
    assert {e["conversation"] for e in stage.kinds("answered")} == {"0", "0.1", "0.1.1"}


def test_a_child_sees_only_its_branch_and_hands_back_its_conclusion(stage: Stage) -> None:
    stage.play(
        'r = rlm_query("inside", under="L1-00001"); print(r["answer"], [c["doc"] for c in r["citations"]])',
        DONE,
        children={
            "inside": [
                cell('print("noise " * 50)\nFINAL(str(len(context.leaves("L1-00001"))), ["L0-00003"])')
            ]
        },
    )
    assert "noise" not in stage.stdout()[0]
    assert not any("noise" in m["content"] for m in stage.requests[-1]["messages"])


# -- which model answers a sub-call ------------------------------------------------------------------------


def test_a_cell_may_name_either_model_of_the_run_and_no_other(stage: Stage) -> None:
    code = f"print(llm_query('a', model={MODEL!r}))\nprint(llm_query_batched(['b'], model='openai/gpt-5'))"
    stage.play(code, DONE)
    assert stage.stdout()[0] == "(a)\n"
    (ran, *_) = stage.kinds("code_run")
    assert f"sub-calls are answered by {MODEL}, found model='openai/gpt-5'; leave it out" in ran["error"]
    assert {event["model"] for event in stage.kinds("model_asked")} == {MODEL}
