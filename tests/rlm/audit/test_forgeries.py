"""A trace that was rewritten with right hashes is found where its events contradict each other, on that line."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index, open_index
from rlm import Demands, Limits, Models, ask, prompts
from rlm.audit import Verdict, read, verify
from rlm.audit.consistency.cells import told_in
from rlm.audit.page import render
from rlm.audit.timeline import show
from rlm.cli import main
from tests.helpers.audit_sample import sample_run
from tests.helpers.forging import forged
from tests.helpers.model_server import MODEL, Body, ModelServer
from tests.helpers.toy import publish_toy, toy_draft, toy_index

Event = dict[str, Any]
#: Changes the events, and returns the one whose line must be named.
Forge = Callable[[list[Event]], Event]

CELLS = (
    "hits = context.search('mizzen', k=3)\nprint(context.read('L0-00001'))",
    "import os",
    "print(llm_query_batched(['How many masts?', 'Which is shorter?']), rlm_query('What is aft?'))",
    'answer["content"] = "The ketch has two masts."\nanswer["citations"] = [{"quote": "The mizzen is shorter."}]\n'
    'answer["ready"] = True',
)


def play(body: Body) -> str:
    first, second = (message["content"] for message in body["messages"][:2])
    if first == prompts.SUB_CALL:
        return "Two."
    if "Question: What is aft?" in second:
        return "```python\nFINAL('The mizzen of a yawl.')\n```"
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    return f"```python\n{CELLS[min(turn, len(CELLS) - 1)]}\n```"


@pytest.fixture(scope="module")
def honest(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with ModelServer(play) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        limits = Limits(calls=40, tokens=1_000_000)
        answer = ask(
            index,
            "How many masts?",
            route="rlm",
            models=Models(MODEL, MODEL),
            limits=limits,
            runs=tmp_path_factory.mktemp("honest"),
        )
    assert (answer.content, answer.citations[0].supported) == ("The ketch has two masts.", "verbatim")
    return answer.trace


@pytest.fixture
def events(honest: Path) -> list[Event]:
    return read(honest)[0]


def first(events: list[Event], kind: str, conversation: str = "0", **fields: Any) -> Event:
    fitting = (e for e in events if e["kind"] == kind and e["conversation"] == conversation)
    return next(e for e in fitting if all(e[name] == value for name, value in fields.items()))


def last(events: list[Event], kind: str, conversation: str = "0") -> Event:
    return first(list(reversed(events)), kind, conversation)


def another_question(events: list[Event]) -> Event:
    events[0]["question"] = "What is something else?"
    return first(events, "model_asked")


def another_model(events: list[Event]) -> Event:
    events[0]["models"] = {"root": "gpt-5", "child": MODEL}
    for event in events:
        if event["kind"] in ("model_asked", "model_answered") and event["conversation"] == "0":
            event["model"] = "gpt-4"
    return first(events, "model_asked")


def other_output(events: list[Event]) -> Event:
    ran = next(e for e in events if e["kind"] == "code_run" and e["stdout"])
    ran["stdout"] = "Something else was printed."
    return next(
        e for e in events[events.index(ran) :] if e["kind"] == "model_asked" and e["conversation"] == "0"
    )


def cost_lowered(events: list[Event]) -> Event:
    events[-1]["usage"]["completion_tokens"] -= 1
    return events[-1]


def cost_of_a_call_lowered(events: list[Event]) -> Event:
    answered = first(events, "model_answered", "0.1")
    for amount in (answered["usage"], answered["attempts"][0]["settled"]):
        amount["prompt_tokens"] -= 1
    return first(events, "child_returned")


def call_removed(events: list[Event]) -> Event:
    gone = first(events, "model_asked", "0.2")
    events[:] = [e for e in events if e.get("call") != gone["call"]]
    return first(events, "child_returned")


def call_removed_from_the_sums(events: list[Event]) -> Event:
    used = first(events, "model_answered", "0.2")["usage"]
    for event in (call_removed(events), events[-1]):
        event["usage"] = {name: event["usage"][name] - used[name] for name in used}
    returned = first(events, "child_returned")
    returned["results"][1] = {"ok": False, "text": "it failed"}
    return first(events, "model_asked", "0.3")


def calls_swapped(events: list[Event]) -> Event:
    asked, answered = (first(events, kind, "0.1") for kind in ("model_asked", "model_answered"))
    a, b = events.index(asked), events.index(answered)
    events[a], events[b] = answered | {"time_s": asked["time_s"]}, asked | {"time_s": answered["time_s"]}
    return events[a]


def quote_altered(events: list[Event]) -> Event:
    answered = last(events, "answered")
    answered["citations"][0]["quote"] = "The mizzen is longer.."
    return answered


def quote_and_found_altered(events: list[Event]) -> Event:
    answered = last(events, "answered")
    answered["citations"][0] |= {"quote": "The mizzen is longest.", "found": "The mizzen is longest."}
    return answered


def place_moved(events: list[Event]) -> Event:
    answered = last(events, "answered")
    answered["citations"][0]["start"] += 1
    answered["citations"][0]["end"] += 1
    answered["citations"][0]["context_before"] = "x" + answered["citations"][0]["context_before"]
    return answered


def scan_removed(events: list[Event]) -> Event:
    events.remove(first(events, "code_scanned", cell=1))
    return first(events, "visited")


def rejected_cell_ran(events: list[Event]) -> Event:
    ran = first(events, "code_run", cell=2)
    assert ran["status"] == "rejected"
    ran |= {"status": "ok", "error": "", "stdout": "it ran\n"}
    return ran


def rejected_cell_looked_around(events: list[Event]) -> Event:
    ran, visit = first(events, "code_run", cell=2), first(events, "visited")
    put_in = visit | {"cell": 2, "time_s": ran["time_s"]}
    events.insert(events.index(ran), put_in)
    return put_in


def child_without_parent(events: list[Event]) -> Event:
    events.remove(first(events, "child_called"))
    return first(events, "model_asked", "0.1")


def child_talks_on(events: list[Event]) -> Event:
    asked = first(events, "model_asked", "0.1") | {"call": 99, "time_s": events[-2]["time_s"]}
    events.insert(len(events) - 2, asked)
    return asked


def child_says_another(events: list[Event]) -> Event:
    returned = first(events, "child_returned")
    returned["results"][0]["text"] = "Three."
    return returned


def child_concluded_another(events: list[Event]) -> Event:
    returned = first(events, "child_returned", verb="rlm_query")
    returned["results"][0]["text"] = "The mizzen of a ketch."
    return returned


def usage_of_children_off(events: list[Event]) -> Event:
    returned = first(events, "child_returned")
    returned["usage"]["calls"] += 1
    return returned


def answer_altered(events: list[Event]) -> Event:
    answered = last(events, "answered")
    answered["content"] = "The ketch has three masts."
    return answered


def cap_passed(events: list[Event]) -> Event:
    events[0]["limits"]["calls"] = 2
    return [e for e in events if e["kind"] == "model_answered"][2]


def tokens_passed(events: list[Event]) -> Event:
    events[0]["limits"]["tokens"] = 5_000
    spent = 0
    for event in events:
        if event["kind"] == "model_answered":
            if spent + 4_000 > 5_000:
                return event
            spent += event["usage"]["prompt_tokens"] + event["usage"]["completion_tokens"]
    raise AssertionError("no call is over the cap")


def call_took_too_long(events: list[Event]) -> Event:
    answered = first(events, "model_answered")
    answered["seconds"] = answered["time_s"] + 60
    return answered


def stop_altered(events: list[Event]) -> Event:
    events[-1]["stop"] = "budget"
    return events[-1]


def cell_removed(events: list[Event]) -> Event:
    events[:] = [e for e in events if e.get("cell") != 1 or e["conversation"] != "0"]
    return first(events, "code_scanned", cell=2)


def answer_alone(events: list[Event]) -> Event:
    answered = last(events, "answered")
    events[:] = [events[0], answered, events[-1]]
    return answered


def visit_cut(events: list[Event]) -> Event:
    visit = first(events, "visited", verb="read")
    visit["result"] += " And more."
    return visit


def visit_refused(events: list[Event]) -> Event:
    visit = first(events, "visited", verb="read")
    visit["error"] = "no such node"
    return visit


def words_put_in(events: list[Event]) -> Event:
    asked = next(e for e in events if any(m["role"] == "assistant" for m in e.get("messages", ())))
    next(m for m in asked["messages"] if m["role"] == "assistant")["content"] += " I will lie."
    return asked


def child_denied(events: list[Event]) -> Event:
    returned = first(events, "child_returned")
    returned["results"][0] = {"ok": False, "text": "it failed"}
    return returned


def cell_took_too_long(events: list[Event]) -> Event:
    ran = last(events, "code_run")
    ran["seconds"] += 1000
    return ran


def children_took_too_long(events: list[Event]) -> Event:
    returned = first(events, "child_returned")
    returned["seconds"] += 1000
    return returned


def _citation_with(events: list[Event], **fields: Any) -> Event:
    answered = last(events, "answered")
    answered["citations"][0] |= fields
    return answered


def half_alike(events: list[Event]) -> Event:
    return _citation_with(events, similarity=0.5)


def same_with_another_word(events: list[Event]) -> Event:
    return _citation_with(events, supported="respaced", similarity=0.99, quote="The mizzen is longer.")


def same_and_half_alike(events: list[Event]) -> Event:
    return _citation_with(events, supported="respaced", similarity=0.5, quote="The mizzen  is shorter.")


def lacking_and_accepted(events: list[Event]) -> Event:
    answered = last(events, "answered")
    answered["lacks"] = "it cites nothing"
    return answered


def another_next_question(events: list[Event]) -> Event:
    asked = [e for e in events if e["kind"] == "model_asked" and e["conversation"] == "0"][1]
    events.insert(events.index(asked), {**asked, "kind": "question_put", "question": "Who rows?"})
    put = events[events.index(asked) - 1]
    for name in ("call", "model", "messages", "conversation_messages", "max_tokens", "temperature"):
        del put[name]
    return asked


def nowhere_in_a_place(events: list[Event]) -> Event:
    return _citation_with(events, supported="unsupported", similarity=0.0)


def summed_in_a_place(events: list[Event]) -> Event:
    return _citation_with(events, supported="summary")


def summed_and_half_alike(events: list[Event]) -> Event:
    return _citation_with(events, **SUMMED | {"similarity": 0.5})


def words_before_the_beginning(events: list[Event]) -> Event:
    return _citation_with(events, context_before="x" * 200)


#: A citation of words that only a summary has.
SUMMED = {
    "supported": "summary", "node": "L1-00000", "quote": "A ketch and a yawl", "similarity": 1.0, "doc": None,
    "start": None, "end": None, "page": None, "context_before": "", "context_after": "",
}  # fmt: skip

FORGERIES: dict[str, tuple[Forge, str]] = {
    "another question": (another_question, "do not hold the question"),
    "another model": (another_model, "which is no model of the run"),
    "other output of a cell": (other_output, "something else than what cell 1 printed"),
    "the cost lowered in the total": (cost_lowered, "its calls together"),
    "the cost of a call lowered": (cost_of_a_call_lowered, "their calls together"),
    "a call removed": (call_removed, "their calls together"),
    "a call removed, and from the sums": (call_removed_from_the_sums, "a call was removed"),
    "a call ended before it began": (calls_swapped, "was not begun here"),
    "a citation's quote altered": (quote_altered, "the words found are not those quoted"),
    "a quote altered with the words found": (quote_and_found_altered, "other words there than event"),
    "a citation moved": (place_moved, "other words there than event"),
    "a cell's scan removed": (scan_removed, "was not scanned"),
    "a rejected cell that ran": (rejected_cell_ran, "was rejected by its scan"),
    "a rejected cell that looked around": (rejected_cell_looked_around, "was rejected by its scan"),
    "a child without a parent": (child_without_parent, "before any other called it"),
    "a child that goes on after it returned": (child_talks_on, "after it had returned"),
    "a child's reply altered": (child_says_another, "another text than it ended with"),
    "a child's conclusion altered": (child_concluded_another, "another text than it ended with"),
    "the usage of children off": (usage_of_children_off, "their calls together"),
    "the answer altered": (answer_altered, "not the one that cell 4 wrote"),
    "a cap of calls passed": (cap_passed, "of a run that may make 2"),
    "a cap of tokens passed": (tokens_passed, "of 5000 tokens were spent"),
    "a call longer than its time": (call_took_too_long, "passed since it was begun"),
    "another end": (stop_altered, "its last answer by 'answer'"),
    "a cell removed": (cell_removed, "a cell was removed"),
    "an answer that no model gave": (answer_alone, "no model said anything"),
    "a visit that gave more than it counts": (visit_cut, "and gave"),
    "a visit that was refused and gave something": (visit_refused, "was refused, and gave something"),
    "words put into the model's mouth": (words_put_in, "that it has not said"),
    "an error where the child answered": (child_denied, "gives back an error"),
    "a cell longer than its time": (cell_took_too_long, "passed since it could begin"),
    "children longer than their time": (children_took_too_long, "passed since it could begin"),
    "word for word, and half alike": (half_alike, "0.5 alike"),
    "the same words, and others": (same_with_another_word, "the words found are others"),
    "the same words, and half alike": (same_and_half_alike, "0.5 alike"),
    "accepted, and lacking something": (lacking_and_accepted, "said to lack something"),
    "a next question that no model was asked": (another_next_question, "that was put before them"),
    "nowhere, and in a place": (nowhere_in_a_place, "is said to stand nowhere"),
    "in a summary, and in a place": (summed_in_a_place, "names none, or a place in a document"),
    "in a summary, and half alike": (summed_and_half_alike, "0.5 alike"),
    "words before the beginning": (words_before_the_beginning, "of which 200 are shown"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_that_contradicts_itself_is_found_on_its_line(
    events: list[Event], tmp_path: Path, name: str
) -> None:
    forge, words = FORGERIES[name]
    culprit = forge(events)
    verdict = verify(forged(events, tmp_path))
    assert not verdict.ok and words in verdict.reason, verdict
    assert verdict.first_bad_line == [e is culprit for e in events].index(True) + 1
    assert verdict.events == verdict.first_bad_line - 1


def test_the_honest_trace_agrees_with_itself_and_with_its_index(honest: Path, index: Index) -> None:
    assert verify(honest, index=index).ok


def test_a_trace_of_an_earlier_version_still_verifies(tmp_path: Path) -> None:
    assert verify(sample_run(tmp_path)).ok


@pytest.mark.parametrize(
    ("forge", "words", "line"),
    [
        (lambda e: e[0]["index"].update(documents=4), "asked 4 documents", 1),
        (
            lambda e: last(e, "answered")["citations"][0].update(
                doc="one.txt", start=0, end=6, quote="double", found="double", context_before="", context_after=""
            ),
            "other words than the document",
            None,
        ),
        (lambda e: e[0]["index"].update(nodes=8), "asked 8 nodes", 1),
        (lambda e: last(e, "answered")["citations"][0].update(doc="no.txt"), "other words than the document", None),
        (lambda e: last(e, "answered")["citations"][0].update(context_after=""), "other words than the document", None),
    ],
)  # fmt: skip
def test_with_the_index_at_hand_what_it_does_not_hold_is_found(
    events: list[Event],
    index: Index,
    tmp_path: Path,
    forge: Callable[[list[Event]], None],
    words: str,
    line: int | None,
) -> None:
    forge(events)
    path = forged(events, tmp_path)
    assert verify(path).ok  # it does not contradict itself
    verdict = verify(path, index=index)
    assert not verdict.ok and words in verdict.reason
    assert verdict.first_bad_line == (line or len(events) - 1)


@pytest.mark.parametrize(
    ("fields", "is_held"),
    [
        ({}, True),
        ({"quote": "Boats and  masts"}, True),
        ({"quote": "A ketch and a raft"}, False),
        ({"node": "L1-00001"}, False),
        ({"node": "L0-00000", "quote": "two masts"}, False),
        ({"node": "L9-00000"}, False),
        ({"quote": " "}, False),
    ],
)
def test_words_of_a_summary_are_held_against_the_index(
    events: list[Event], index: Index, tmp_path: Path, fields: dict[str, Any], is_held: bool
) -> None:
    cited = last(events, "answered")["citations"][0]
    cited |= SUMMED | fields
    cited.pop("found", None)
    path = forged(events, tmp_path)
    assert verify(path).ok
    verdict = verify(path, index=index)
    assert verdict.ok == is_held, verdict
    assert is_held or "neither its label nor its summary" in verdict.reason


def test_a_passage_that_a_verb_is_said_to_have_given_is_held_against_the_index(
    events: list[Event], index: Index, tmp_path: Path
) -> None:
    search = next(e for e in events if e["kind"] == "visited" and e["verb"] == "search")
    entry = next(e for e in search["result"] if e.get("text") and (e["doc"], e["start"]) != ("boats.txt", 25))
    entry["text"] = entry["text"][::-1]  # not the one that is cited, which the trace itself holds twice
    path = forged(events, tmp_path)
    assert verify(path).ok
    verdict = verify(path, index=index)
    assert verdict.first_bad_line == search["seq"] + 1
    assert "were shown with other words than the document in toy.index has" in verdict.reason


def test_a_trace_is_held_against_the_generation_that_it_asked_though_another_is_live(
    events: list[Event], honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_index(tmp_path / "toy.index")
    publish_toy(tmp_path / "toy.index", replace(toy_draft(), labels=["Masts", "Fruit", "Everything"]))
    live = open_index(tmp_path / "toy.index")
    assert live.generation == 2
    verdict = verify(honest, index=live)
    assert verdict.ok
    assert verdict.compared == "citations and passages compared with generation 1 of toy.index"
    assert main(["trace", "verify", str(honest), "--index", str(tmp_path / "toy.index")]) == 0
    assert f"; {verdict.compared}; not checked" in capsys.readouterr().out
    last(events, "answered")["citations"][0]["context_after"] = ""
    assert verify(forged(events, tmp_path), index=live).first_bad_line == len(events) - 1


def test_an_index_that_has_not_the_generation_that_was_asked_is_no_sign_of_a_changed_trace(
    honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_toy(tmp_path / "new.index", replace(toy_draft(), labels=["Masts", "Fruit", "Everything"]))
    assert main(["trace", "verify", str(honest), "--index", str(tmp_path / "new.index")]) == 1
    out = capsys.readouterr().out
    assert out.startswith(
        "the trace by itself is whole, but new.index is another generation than the run asked"
    )
    (tmp_path / "one.txt").write_text("A text file is no index.", encoding="utf-8")
    assert main(["trace", "verify", str(honest), "--index", str(tmp_path / "one.txt"), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["line"] is None and "another generation" in said["reason"]


def test_what_contradicts_itself_is_told_before_a_head_that_does_not_fit(
    events: list[Event], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last(events, "answered")["content"] = "The ketch has three masts."
    path, page = str(forged(events, tmp_path)), tmp_path / "page.html"
    for command in (["trace", "verify"], ["trace", "show"], ["review", "-o", str(page)]):
        assert main([*command, path, "--head", "0" * 64]) == 1
        said = "".join(capsys.readouterr())
        assert "the answer is not the one that cell 4 wrote" in said and "head is not" not in said
    text = page.read_text(encoding="utf-8")
    assert "the answer is not the one that cell 4 wrote" in text and "three masts" not in text


def test_a_forged_answer_that_only_its_head_gives_away_stands_under_no_green_count(
    events: list[Event], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events[0]["started"] = "2020-01-01T00:00:00.000+00:00"
    path, page = str(forged(events, tmp_path)), tmp_path / "page.html"
    assert main(["review", path, "-o", str(page), "--head", "0" * 64]) == 1
    head = page.read_text(encoding="utf-8").partition("</header>")[0]
    assert "seal good" not in head
    assert head.index("Nobody vouches for what follows.") < head.index("1 of 1 quote stands")
    capsys.readouterr()
    assert main(["trace", "show", path, "--head", "0" * 64]) == 1
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith("Nobody vouches for what follows.") and second.startswith("1 of 1 quote stands")


def test_the_head_of_an_earlier_line_says_how_many_lines_were_added_after_it(
    events: list[Event], tmp_path: Path
) -> None:
    path = forged(events, tmp_path)
    lines = (path if path.is_file() else path / "trace.jsonl").read_bytes().splitlines()
    for line, words in (
        (len(lines) - 3, "the 3 lines after it were"),
        (len(lines) - 1, "the line after it was"),
    ):
        verdict = verify(path, json.loads(lines[line - 1])["hash"])
        assert not verdict.ok and not verdict.vouched and verdict.first_bad_line is None
        assert verdict.reason == (
            f"the head that was given is that of line {line}: up to there the trace is as it was kept, and {words} "
            "added later"
        )


def test_lines_after_a_bad_one_are_counted_and_no_answer_among_them_is_denied(
    events: list[Event], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, page = forged(events, tmp_path), tmp_path / "page.html"
    file = path if path.is_file() else path / "trace.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    cases: tuple[tuple[list[bytes], str], ...] = (
        ([*lines[:3], b"\n", *lines[4:]], f"{len(lines) - 3} lines after line 3 are not shown, whatever they hold;"),
        ([*lines[:-1], lines[-1][:-9]], f"1 line after line {len(lines) - 1} is not shown, whatever it holds"),
        ([b"{}\n", *lines[1:]], f"{len(lines)} lines are not shown, whatever they hold; no answer stands before that"),
        (lines[:3], "The file ends after line 3; no answer stands before that"),
        ([], "The file ends before its first line; no answer stands before that"),
    )  # fmt: skip
    for changed, words in cases:
        file.write_bytes(b"".join(changed))
        main(["trace", "show", str(file)])
        assert words in capsys.readouterr().out
        main(["review", str(file), "-o", str(page)])
        capsys.readouterr()
        text = page.read_text(encoding="utf-8")
        assert words in text and "There is no answer" not in text


@pytest.mark.parametrize("route", ["rlm", "direct"])
def test_show_and_the_page_say_what_was_demanded_what_was_sent_and_why_an_answer_was_not_taken(
    index: Index, tmp_path: Path, route: Any
) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"masts": {"type": "integer"}},
        "required": ["masts"],
    }
    values = ('{"masts": "two"}', '{"masts": 2}')
    replies = [f"```python\nanswer = {{'content': {v!r}, 'ready': True}}\n```" for v in values]
    with (
        ModelServer(replies if route == "rlm" else list(values)) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        server.use(patch)
        answer = ask(
            index,
            "How many masts?",
            route=route,
            demands=Demands(schema=schema),
            models=Models(MODEL, MODEL),
            runs=tmp_path,
        )
    assert answer.stop == "answer", answer
    said = " ".join(show(*read(answer.trace)).split())
    page = " ".join(unescape(re.sub(r"<[^>]+>", "", render(*read(answer.trace)))).split())
    assert "On the way: 1 answer not taken" in said and "On the way: 1 answer not taken" in page
    why = "it does not fit the schema: $.masts: 'two' is not of type 'integer'"
    assert f"NOT TAKEN {why}" in said and f"The answer was not taken: {why}" in page
    assert 'demands schema={"properties": {"masts": {"type": "integer"}}' in said
    assert "…" not in said.partition("limits")[2].partition("route")[0] and "window=none" in said


def test_a_sound_trace_says_what_was_not_checked(
    honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_index(tmp_path / "toy.index")
    assert main(["trace", "verify", str(honest)]) == 0
    out = capsys.readouterr().out
    assert "no head was given, and the trace bears no signature" in out and "the texts of the index" in out
    head = verify(honest).head
    index = str(tmp_path / "toy.index")
    assert main(["trace", "verify", str(honest), "--head", head, "--index", index]) == 0
    assert "not checked" not in capsys.readouterr().out
    assert main(["trace", "verify", str(honest), "--index", index, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"].endswith("the trace bears no signature)")


def test_show_and_review_say_so_too(
    events: list[Event], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cost_lowered(events)
    path = str(forged(events, tmp_path))
    assert main(["trace", "show", path]) == 1
    assert "contradicts" in capsys.readouterr().out
    assert main(["review", path, "-o", str(tmp_path / "page.html")]) == 1
    assert "contradicts" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_odd_values_are_a_verdict_and_no_error(events: list[Event], tmp_path: Path) -> None:
    odd: list[Any] = [None, True, -1, 1e300, 10**30, "x", [], {}, [[]], {"a": None}]
    for value in odd:
        events[0]["limits"] = {"calls": value, "tokens": value, "usd": value, "depth": value}
        for event in events:
            if event["kind"] == "visited":
                event |= {"arguments": {"node": value, "start": value, "end": value}, "result": value}
        verdict = verify(forged(events, tmp_path))
        assert isinstance(verdict, Verdict) and verdict.reason.isprintable()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = 1", ""),
        ('answer["content"] = "A"; answer["ready"] = True', "A"),
        ('answer["content"] = "A"\nanswer["content"] = "B"', "B"),
        ("FINAL('A')", "A"),
        ("FINAL(x)", None),
        ("FINAL('A'); answer['content'] = 'B'", None),
        ('answer["content"] = f"{x}"', None),
        ('answer["content"] = "A"\nfinish(answer)', None),
        ('if x:\n    answer["content"] = "A"', None),
        ('answer = {"content": "A", "ready": True}', None),
        ('answer.update(content="A")', None),
        ("ａｎｓｗｅｒ.clear()", None),
        ('answer["content"] = \'{"answer": "A", "citations": []}\'', None),
        ("answer[", None),
        ("(" * 3000 + "answer", None),
        ("x" * 10_000, None),
    ],
)
def test_only_an_answer_in_so_many_words_is_held_against_the_answer(code: str, told: str | None) -> None:
    assert told_in(code) == told


def test_the_index_can_be_opened_anew(honest: Path, index: Index) -> None:
    assert verify(honest, index=open_index(index.path)).ok
