"""The other ways to an answer: the whole text in one call, what a search finds in one call, and who chooses."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index, open_any
from index_store.types import Json, Scope
from rlm import Answer, Limits, Models, ask, prompts
from rlm.answers.demands import Demands
from rlm.audit import read, verify
from rlm.cli import main
from rlm.errors import RlmError
from rlm.gateway import gateway as gateway_module
from rlm.gateway.blocks import outside, unquote
from rlm.loop.single import NOT_HERE, STRETCHES, parse
from tests.helpers.model_server import Body, ModelServer, Script, Step, error

QUESTION = "How many masts has a ketch?"
KNOWN = Models("openai/gpt-5-mini", "openai/gpt-5-mini")
UNKNOWN = Models("openai/test-model", "openai/test-model")
OFFLINE = Models()
REPLY = 'Two masts.\n\n[boats.txt] "The ketch has two masts."\n'
CELL = '```python\nFINAL("Two.", citations=["L0-00000"])\n```'


Asked = tuple[Answer, list[dict[str, Any]], list[Body]]


@pytest.fixture
def asked(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """Ask over a scripted server; the answer, the trace's events and what went over the wire."""
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)

    def call(script: Script, models: Models = KNOWN, limits: Limits = Limits(), **how: Any) -> Asked:
        with ModelServer(script) as server:
            server.use(monkeypatch)
            answer = ask(index, QUESTION, models=models, limits=limits, runs=tmp_path, **how)
        assert verify(answer.trace).ok
        return answer, read(answer.trace)[0], server.requests

    return call


def test_a_text_that_fits_well_is_read_whole_in_one_call(asked: Callable[..., Asked], index: Index) -> None:
    answer, events, (request,) = asked([REPLY])
    assert (answer.content, answer.stop, answer.usage.calls) == ("Two masts.", "answer", 1)
    (citation,) = answer.citations
    assert (citation.doc, citation.quote, citation.supported) == (
        "boats.txt", "The ketch has two masts.", "verbatim",
    )  # fmt: skip
    assert events[0]["route"] == "direct"
    assert "fits well inside the 272,000 of openai/gpt-5-mini" in events[0]["route_why"]
    told = request["messages"][1]["content"]
    assert all(re.search(rf"<<<DATA \w+ {re.escape(d.id)}>>>", told) for d in index.documents)
    assert told.endswith(f"QUESTION: {QUESTION}")
    assert [e["kind"] for e in events] == [
        "run_opened", "model_asked", "model_answered", "answered", "run_closed",
    ]  # fmt: skip


def test_where_the_window_is_not_known_the_loop_is_taken(asked: Callable[..., Asked]) -> None:
    answer, events, _ = asked([CELL], UNKNOWN)
    assert (answer.content, events[0]["route"]) == ("Two.", "rlm")
    assert "the window of openai/test-model is not known" in events[0]["route_why"]


def test_too_few_calls_for_the_loop_retrieve_instead(asked: Callable[..., Asked]) -> None:
    answer, events, (request,) = asked(['Two.\n[L0-00000] "two masts"'], UNKNOWN, Limits(calls=2))
    assert (answer.content, answer.citations[0].doc) == ("Two.", "boats.txt")
    assert events[0]["route"] == "retrieve"
    assert "2 calls are too few" in events[0]["route_why"]
    (visit,) = [e for e in events if e["kind"] == "visited"]
    assert (visit["verb"], visit["cell"]) == ("gather", 0)
    shown = re.findall(
        r"<<<DATA \w+ (L0-\d+(?:\.\.L0-\d+)?)(?: \| .+)?>>>", request["messages"][1]["content"]
    )
    assert shown == [
        f"{a}..{b}" if a != b else a for a, b in ((p["nodes"][0], p["nodes"][-1]) for p in visit["result"])
    ]


@pytest.mark.parametrize(("usd", "route"), [(1.0, "direct"), (0.0155, "rlm"), (0.009, "retrieve")])
def test_no_route_is_chosen_that_the_dollars_cannot_pay(
    asked: Callable[..., Asked], usd: float, route: str
) -> None:
    """The toy text in one call may cost 0.0083 dollars and is kept twice; the loop's least is 0.011."""
    _, events, _ = asked([REPLY, CELL], KNOWN, Limits(usd=usd, turns=2))
    assert events[0]["route"] == route


@pytest.mark.parametrize("route", ["direct", "retrieve", "rlm"])
def test_every_route_answers_offline_with_the_same_citation(asked: Callable[..., Asked], route: str) -> None:
    answer, events, requests = asked([""], OFFLINE, route=route)
    assert requests == []
    assert (answer.citations[0].doc, answer.citations[0].quote) == ("boats.txt", "The ketch has two masts.")
    assert (events[0]["route"], events[0]["route_why"]) == (route, "it was asked for")


def test_a_text_that_cannot_fit_is_not_sent(asked: Callable[..., Asked], index: Index) -> None:
    small = Limits(reply_tokens=272_000)
    with pytest.raises(RlmError, match=r"about \d+ tokens and .* takes 272,000; use --route retrieve"):
        asked([REPLY], KNOWN, small, route="direct")


def test_not_in_these_documents_is_an_answer(asked: Callable[..., Asked]) -> None:
    answer, _, _ = asked(["NOT FOUND"])
    assert (answer.content, answer.citations, answer.stop) == (NOT_HERE, (), "answer")


def test_an_answer_without_the_citations_demanded_is_asked_for_again(asked: Callable[..., Asked]) -> None:
    replies = ['Two.\n[boats.txt] "The ketch has three masts."', "Two.", REPLY]
    answer, events, requests = asked(replies, demands=Demands(citations=True))
    assert (answer.stop, answer.citations[0].supported, len(requests)) == ("answer", "verbatim", 3)
    assert "quotes stand word for word" in requests[0]["messages"][0]["content"]
    assert "1 of 1 quote does not stand in the documents" in requests[1]["messages"][-1]["content"]
    assert "it cites nothing" in requests[2]["messages"][-1]["content"]
    assert [e["conversation_messages"] for e in events if e["kind"] == "model_asked"] == [2, 4, 6]


def test_an_answer_that_never_meets_the_demand_is_told_as_unmet(asked: Callable[..., Asked]) -> None:
    answer, _, requests = asked(["Two."], demands=Demands(citations=True))
    assert (answer.content, answer.stop, len(requests)) == ("Two.", "unmet", 3)


def test_the_loop_hands_a_demand_back_to_the_model(asked: Callable[..., Asked]) -> None:
    wrong = '```python\nFINAL("Two.", citations=["no such words anywhere"])\n```'
    answer, _, requests = asked([wrong, CELL], UNKNOWN, demands=Demands(citations=True))
    assert (answer.content, answer.stop, len(requests)) == ("Two.", "answer", 2)
    told = requests[1]["messages"][-1]["content"]
    assert "The answer is not taken yet:" in told and "1 of 1" in told and "1 of 1" not in outside(told)


def test_the_loop_tells_an_unmet_demand_on_its_last_turn(asked: Callable[..., Asked]) -> None:
    wrong = '```python\nFINAL("Two.")\n```'
    answer, _, requests = asked([wrong], UNKNOWN, Limits(turns=2), demands=Demands(citations=True))
    assert (answer.content, answer.stop, len(requests)) == ("Two.", "unmet", 2)


def test_a_call_that_fails_is_one_sentence(asked: Callable[..., Asked]) -> None:
    with pytest.raises(RlmError, match=r"^the call to openai/gpt-5-mini failed"):
        asked([error(401, "wrong key")])


def test_a_cap_that_not_even_one_call_fits_is_a_result(asked: Callable[..., Asked]) -> None:
    answer, _, requests = asked([REPLY], limits=Limits(calls=0))
    assert (answer.content, answer.stop, requests) == ("", "budget", [])


def test_fewer_passages_are_sent_where_the_cap_is_small(asked: Callable[..., Asked]) -> None:
    tight = Limits(tokens=520, reply_tokens=50)
    answer, events, (request,) = asked(['Two.\n[L0-00000] "two masts"'], UNKNOWN, tight)
    (visit,) = [e for e in events if e["kind"] == "visited"]
    sent = request["messages"][1]["content"].count("<<<DATA")
    assert 0 < sent < len(visit["shown"])
    assert answer.stop == "answer"


# -- what is kept back for the end ------------------------------------------------------------------------


def test_at_the_cap_the_call_kept_back_answers_from_what_was_printed(asked: Callable[..., Asked]) -> None:
    def script(body: Body) -> str | Step:
        if body["messages"][0]["content"].startswith(prompts.SINGLE):
            return 'Two, it seems.\n[L0-00000] "two masts"'
        return "```python\nprint(context.read('L0-00000'))\n```"

    answer, events, requests = asked(script, UNKNOWN, Limits(calls=5), route="rlm")
    assert (answer.content, answer.stop) == ("Two, it seems.", "budget")
    assert (answer.usage.calls, len(requests)) == (5, 5)
    assert answer.citations[0].supported == "verbatim"
    last = requests[-1]["messages"]
    assert len(last) == 2
    assert re.search(r"<<<DATA \w+ output of cell 4>>>\nThe ketch has two masts", last[1]["content"])
    assert [e["stop"] for e in events if e["kind"] == "answered"] == ["budget"]


def test_what_was_kept_back_and_not_used_is_free_again(asked: Callable[..., Asked]) -> None:
    answer, events, _ = asked([CELL], UNKNOWN, Limits(calls=8))
    assert answer.usage.calls == 1
    assert events[-1]["usage"]["calls"] == 1


# -- the form of a reply ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "content", "offered"),
    [
        ("Two.\n\n[a] \"x y\"\n[b] \"z\"", "Two.", [{"doc": "A", "quote": "x y"}, {"node": "b", "quote": "z"}]),
        ('[a] "x\ny"', '"x y" [1]', [{"doc": "A", "quote": "x\ny"}]),
        ('Two [a] "x" masts.', 'Two [a] "x" masts.', []),
        ("NOT FOUND.", NOT_HERE, []),
        ("", "", []),
        ('Two.\n[a] "he said "no" twice"', "Two.", [{"doc": "A", "quote": 'he said "no" twice'}]),
        ("Two.\n [a] “x”  ", "Two.", [{"doc": "A", "quote": "x"}]),
    ],
)  # fmt: skip
def test_a_reply_is_an_answer_and_lines_of_sources(reply: str, content: str, offered: list[Any]) -> None:
    assert parse(reply, {"a": {"doc": "A"}}) == (content, offered)


def test_a_typed_reply_is_the_json_of_its_block() -> None:
    reply = 'Here:\n```json\n{"masts": 2}\n```\n[a] "x"'
    content, offered = parse(reply, {}, typed=True)
    assert (json.loads(content), offered) == ({"masts": 2}, [{"node": "a", "quote": "x"}])


SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {"masts": {"type": "integer"}},
    "required": ["masts"],
}


def test_a_typed_answer_is_handed_over_as_its_value(asked: Callable[..., Asked]) -> None:
    wrong, right = '```json\n{"masts": "two"}\n```', '```json\n{"masts": 2}\n```\n[boats.txt] "two masts"'
    answer, _, requests = asked([wrong, right], demands=Demands(schema=SCHEMA))
    assert (answer.value, answer.as_json()["answer"], answer.stop) == ({"masts": 2}, {"masts": 2}, "answer")
    assert '"masts"' in requests[0]["messages"][0]["content"]
    assert "$.masts" in requests[1]["messages"][-1]["content"]


def test_the_loop_returns_the_errors_of_a_typed_answer_to_the_model(asked: Callable[..., Asked]) -> None:
    cells = ["```python\nFINAL({'masts': 'two'})\n```", "```python\nFINAL({'masts': 2})\n```"]
    answer, _, requests = asked(cells, UNKNOWN, demands=Demands(schema=SCHEMA))
    assert (answer.value, answer.stop) == ({"masts": 2}, "answer")
    assert "$.masts" in requests[1]["messages"][-1]["content"]


def test_not_in_these_documents_meets_a_schema_and_a_demand_for_citations(
    asked: Callable[..., Asked],
) -> None:
    answer, _, _ = asked(["NOT FOUND"], demands=Demands(citations=True, schema=SCHEMA))
    assert (answer.content, answer.value, answer.stop) == (NOT_HERE, None, "answer")


# -- the upper levels --------------------------------------------------------------------------------------


@pytest.fixture
def asked_of_all(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Answer, list[dict[str, Any]], list[Body]]]:
    def call(question: str, script: Script = (), models: Models = UNKNOWN, **how: Any) -> Asked:
        with ModelServer(script) as server:
            server.use(monkeypatch)
            answer = ask(index, question, models=models, runs=tmp_path, **how)
        assert verify(answer.trace, index=index).ok
        return answer, read(answer.trace)[0], server.requests

    return call


def test_a_question_about_all_is_answered_from_the_upper_levels_in_one_call(asked_of_all: Any) -> None:
    reply = 'Boats, mostly.\n\n[L1-00000] "A ketch and a yawl have a mizzen."\n[L1-00001] "Äpfel"'
    answer, events, (request,) = asked_of_all("What is in here?", [reply])
    assert (events[0]["route"], answer.content, answer.usage.calls) == ("overview", "Boats, mostly.", 1)
    assert "about all that there is" in events[0]["route_why"]
    told = request["messages"][1]["content"]
    blocks = {block.name: block for block in unquote(told)}
    assert {name: block.about for name, block in blocks.items()} == {
        "L1-00000": "60% of the text",
        "L1-00001": "40% of the text",
    }
    assert "A ketch and a yawl have a mizzen." in blocks["L1-00000"].text
    assert "upper levels of a tree" in request["messages"][0]["content"]
    assert [(c.supported, c.node) for c in answer.citations] == [
        ("summary", "L1-00000"),
        ("verbatim", "L0-00004"),
    ]
    (visit,) = [event for event in events if event["kind"] == "visited"]
    assert (visit["verb"], visit["cell"]) == ("areas", 0)
    assert {node["node"]: node["score"] for node in visit["shown"]} == {
        "L1-00000": 0.6024,
        "L1-00001": 0.3976,
    }


def test_a_question_that_names_something_takes_another_route(asked_of_all: Any) -> None:
    _, events, _ = asked_of_all("What is in the Ketch?", [CELL])
    assert events[0]["route"] == "rlm"


def test_where_quotes_must_stand_in_documents_a_passage_of_each_area_is_read(asked_of_all: Any) -> None:
    def quoting(body: Body) -> str:
        blocks = unquote(body["messages"][1]["content"])
        return "\n".join(["Two things.", "", *(f'[{block.name}] "{block.text.strip()}"' for block in blocks)])

    answer, events, (request,) = asked_of_all("What is in here?", quoting, demands=Demands(citations=True))
    assert (events[0]["route"], answer.stop, answer.usage.calls) == ("overview", "answer", 1)
    blocks = unquote(request["messages"][1]["content"])
    assert [block.about for block in blocks] == [
        "from 60% of the text, L1-00000 Boats and masts",
        "from 40% of the text, L1-00001 Fruit – Maße",
    ]
    assert all(block.name.startswith("L0-") for block in blocks)
    assert "each from another part" in request["messages"][0]["content"]
    assert [(c.supported, c.node) for c in answer.citations] == [("verbatim", b.name) for b in blocks]
    assert [event["verb"] for event in events if event["kind"] == "visited"] == ["areas", "read"]


def test_a_summary_does_not_meet_a_demand_for_citations(asked_of_all: Any) -> None:
    reply = 'Boats.\n\n[L1-00000] "A ketch and a yawl have a mizzen."'
    answer, *_ = asked_of_all("What is in here?", [reply] * 3, demands=Demands(citations=True))
    assert (answer.stop, answer.citations[0].supported) == ("unmet", "summary")


def test_a_question_about_all_that_is_to_fit_a_schema_takes_another_route(asked_of_all: Any) -> None:
    reply = "```python\nFINAL({'masts': 2})\n```"
    _, events, _ = asked_of_all("What is in here?", [reply], demands=Demands(schema=SCHEMA))
    assert events[0]["route"] == "rlm"


def test_offline_the_areas_are_told_and_no_three_quotes_pass_for_an_answer(asked_of_all: Any) -> None:
    answer, _, requests = asked_of_all("What are the main themes?", (), OFFLINE, route="overview")
    assert requests == []
    lines = answer.content.splitlines()
    assert "no language model has read any of it" in lines[0]
    assert lines[1].startswith("- 60% Boats and masts (L1-00000)") and lines[1].endswith("[1]")
    assert lines[2].startswith("- 40% Fruit – Maße (L1-00001)")
    assert [c.node for c in answer.citations] == ["L1-00000", "L1-00001"]


@pytest.mark.parametrize("demand", [[], ["--require-citations"]], ids=["plain", "cited"])
def test_what_is_in_a_text_file_is_told_by_passages_from_all_over_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], demand: list[str]
) -> None:
    book, runs = tmp_path / "book.txt", str(tmp_path / "runs")
    book.write_text("\n\n".join(f"Chapter {n} tells of the keeper and his lamp. " * 30 for n in range(40)))
    assert main(["ask", str(book), "What is in here?", "--runs", runs, "--json", *demand]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert verify(answer["trace"], index=open_any(book)).ok
    assert "told by a sentence of one passage in it" in answer["answer"]
    assert (answer["stop"], answer["usage"]["calls"]) == ("answer", 1)
    assert {c["supported"] for c in answer["citations"]} == {"verbatim"}
    starts = [c["start"] for c in answer["citations"]]
    size = len(book.read_text())
    assert len(starts) == STRETCHES and starts[0] == 0 and starts[-1] > 0.8 * size


@pytest.mark.parametrize("scope", [[], ["--doc", "größe.md"]], ids=["whole", "scoped"])
def test_what_is_in_an_index_is_told_in_quotes_of_its_documents_where_they_are_demanded(
    index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str], scope: list[str]
) -> None:
    words = ["ask", str(index.path), "What is in here?", "--require-citations", "--json", *scope]
    assert main([*words, "--runs", str(tmp_path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert verify(answer["trace"], index=index).ok
    assert answer["stop"] == "answer" and not answer["answer"].startswith(NOT_HERE)
    assert answer["citations"] and {c["supported"] for c in answer["citations"]} == {"verbatim"}
    assert not scope or {c["doc"] for c in answer["citations"]} == {"größe.md"}


def test_only_what_is_in_the_scope_is_told(asked_of_all: Any) -> None:
    reply = "Fruit."
    _, _, (request,) = asked_of_all("What is in here?", [reply], route="overview", scope=Scope(doc="one.txt"))
    told = request["messages"][1]["content"]
    assert "one" in told and "Äpfel" not in told and "Fruit" not in told and "ketch" not in told
