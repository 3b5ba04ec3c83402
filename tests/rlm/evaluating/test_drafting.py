"""Drafts of questions: by patterns and by a scripted model; their gold stands where it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from index_store.index import Index, open_any
from index_store.types import Span
from rlm.cli import main
from rlm.evaluating import drafting
from rlm.evaluating.cases import check_cases, read_cases, span_of
from rlm.evaluating.drafting import (
    asks_for_the_gap,
    asks_what,
    draft_by_patterns,
    in_turn,
    passages,
    read_reply,
)
from tests.helpers.model_server import MODEL, Body, ModelServer, Script, error, text_of
from tests.helpers.toy import index_of

TEXTS = {
    "ada.txt": [
        "Ada Lovelace was an English mathematician, and a writer.\n",
        "She wrote a note on the engine in the year 1843.\n",
    ],
    "boats.txt": [
        "The ketch that we sailed to Bergen has two masts.\n",
        "it holds nothing that a pattern knows of at all.\n",
    ],
    "short.txt": ["Oslo.\n"],
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return index_of(tmp_path_factory.mktemp("library") / "library.index", TEXTS, alike=[0, 1, 2])


Make = Callable[..., tuple[int, list[dict[str, Any]], list[Body], str]]


@pytest.fixture
def make(library: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Make:
    def call(
        script: Script, *more: str, number: int = 3
    ) -> tuple[int, list[dict[str, Any]], list[Body], str]:
        path = tmp_path / "drafts.jsonl"
        with ModelServer(script) as server:
            server.use(monkeypatch)
            code = main(["eval", str(library.path), str(path), "--make", str(number), *more])
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return code, [json.loads(line) for line in lines], server.requests, capsys.readouterr().err

    return call


def test_patterns_make_questions_whose_gold_is_the_sentence(
    make: Make, library: Index, tmp_path: Path
) -> None:
    code, rows, requests, _ = make(["!"])
    assert (code, requests) == (0, [])
    by_doc = {(row["gold"][0]["doc"], row["gold"][0]["start"]): row for row in rows}
    ada = by_doc["ada.txt", 0]
    assert (ada["text"], ada["answers"]) == ("What was Ada Lovelace?", ["an English mathematician"])
    year = by_doc["ada.txt", len(TEXTS["ada.txt"][0])]
    assert year["answers"] == ["1843"]
    assert year["text"] == 'What stands in the gap of "She wrote a note on the engine in the year ___."?'
    assert by_doc["boats.txt", 0]["answers"] == ["Bergen"]
    assert all(row["draft"] is True and row["by"] == "patterns of sentences" for row in rows)
    cases = read_cases([tmp_path / "drafts.jsonl"])
    check_cases(library, cases)
    for case in cases:
        assert case.answers[0] in library.span_text(span_of(library, case.gold[0]))


def test_fewer_than_were_wanted_are_written_and_counted(make: Make) -> None:
    code, rows, _, err = make(["!"], number=9)
    assert (code, len(rows)) == (3, 3)
    assert "3 of 9 came" in err and "no draft of 2 passages: no sentence of the passage fits a pattern" in err


def test_an_older_file_is_never_written_over(make: Make, tmp_path: Path) -> None:
    (tmp_path / "drafts.jsonl").write_text('{"text": "corrected"}\n')
    code, rows, _, err = make(["!"])
    assert code == 2 and rows == [{"text": "corrected"}]
    assert "drafts.jsonl exists, and may hold what you corrected; name another file" in err


def written(body: Body) -> str:
    """A model that quotes what stands there, but for boats, where it makes a quote up."""
    asked = text_of(body["messages"][-1]["content"])
    if "mathematician" in asked:
        return (
            '{"question": "What was Ada?", "answer": "a mathematician", "quote": "an English mathematician"}'
        )
    if "1843" in asked:
        return '```json\n{"question": "When?", "answer": "in 1843", "quote": "in the  year 1843"}\n```'
    return '{"question": "How many?", "answer": "nine", "quote": "has nine masts"}'


def test_a_model_is_given_passages_as_data_and_a_quote_that_is_not_there_is_dropped(
    make: Make, library: Index
) -> None:
    code, rows, requests, err = make(written, "--model", MODEL, "--at-once", "1")
    assert (code, sorted(row["text"] for row in rows)) == (3, ["What was Ada?", "When?"])
    assert len(requests) == 4
    assert all("<<<DATA " in text_of(body["messages"][1]["content"]) for body in requests)
    assert "no draft of 2 passages: its quote does not stand in the passage" in err
    for row in rows:
        gold, quote = (
            row["gold"][0],
            {"What was Ada?": "an English mathematician", "When?": "in the year 1843"},
        )
        assert library.span_text(Span(gold["doc"], gold["start"], gold["end"])) == quote[row["text"]]
        assert row["by"] == MODEL


def test_a_cap_ends_drafting_with_what_there_is(make: Make) -> None:
    code, _, requests, err = make(written, "--model", MODEL, "--at-once", "1", "--max-calls", "2")
    assert (code, len(requests)) == (3, 2)
    assert "of 3 came: " in err and "the cap of 2 calls" in err


def test_a_model_whose_calls_fail_is_told_and_no_file_is_made(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, rows, requests, err = make([error(400, "no")], "--model", MODEL, "--at-once", "1", number=9)
    assert (code, rows, len(requests)) == (3, [], 4)
    monkeypatch.setattr(drafting, "FAILURES", 2)  # one after another: then no more are made
    assert len(make([error(400, "no")], "--model", MODEL, "--at-once", "1", number=9)[2]) == 2
    assert "the provider refused the request" in err and not (tmp_path / "drafts.jsonl").exists()


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("no JSON", "no JSON object"),
        ("[1]", "no JSON object"),
        ('{"question": "Who?", "answer": "", "quote": "single"}', "no JSON object"),
        ('{"question": "Who?", "answer": 3, "quote": "single"}', "no JSON object"),
        ('{"question": "Tell me.", "answer": "x", "quote": "Oslo"}', "no question"),
        ('{"question": "Who \\ud800?", "answer": "x", "quote": "Oslo"}', "no question"),
        ('{"question": "Who?", "answer": "x", "quote": "Osl"}', "does not stand"),
        ("[" * 100_000, "no JSON object"),
    ],
)
def test_a_reply_that_holds_no_draft_says_why(library: Index, reply: str, why: str) -> None:
    (chunk,) = library.document_leaves(library.document_number("short.txt"))
    assert why in str(read_reply(reply, library, chunk, "m"))


def test_the_first_passages_are_spread_over_documents_and_the_seed_says_which(library: Index) -> None:
    orders = {seed: list(passages(library, seed)) for seed in range(20)}
    for seed, order in orders.items():
        assert sorted(order) == list(range(5)) and order == list(passages(library, seed))
        assert len({int(library.leaf_documents[n]) for n in order[:3]}) == 3
    assert len({tuple(order) for order in orders.values()}) > 1


@given(st.lists(st.lists(st.integers(), max_size=5), max_size=5))
def test_queues_in_turn_lose_nothing(queues: list[list[int]]) -> None:
    assert sorted(in_turn(queues)) == sorted(one for queue in queues for one in queue)
    assert list(in_turn(queues))[: sum(map(bool, queues))] == [queue[0] for queue in queues if queue]


def test_a_text_file_can_be_drafted_from(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("Bergen is a town in the west of Norway, with a harbour for boats.\n" * 2)
    assert draft_by_patterns(open_any(path), 1).made[0].answer == "a town in the west of Norway"


@pytest.mark.parametrize(
    "sentence",
    ["He was a painter of boats.", "This is the end of it.", "nothing is known", "It was 'a' was."],
)
def test_what_names_nothing_asks_nothing(sentence: str) -> None:
    assert asks_what(sentence) is None


@given(st.text(max_size=200))
def test_a_gap_takes_out_its_answer_and_nothing_else(sentence: str) -> None:
    if found := asks_for_the_gap(sentence):
        question, answer = found
        left, right = question.removeprefix('What stands in the gap of "').removesuffix('"?').rsplit("___", 1)
        assert left + answer + right == sentence or "___" in sentence
