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
    gives_away,
    in_turn,
    is_mostly_letters,
    is_telling,
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


def test_each_document_gives_passages_in_its_turn_and_the_seed_says_which(library: Index) -> None:
    orders = {seed: list(in_turn(passages(library, seed))) for seed in range(20)}
    for seed, order in orders.items():
        assert sorted(order) == list(range(5)) and order == list(in_turn(passages(library, seed)))
        assert len({int(library.leaf_documents[n]) for n in order[:3]}) == 3
    assert len({tuple(order) for order in orders.values()}) > 1


LEASE = "The tenant Marit Dahl pays the rent of the flat on the first of May.\n"


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """A lease, one that says the same after other words, one of something else, and a long book."""
    texts = {
        "a.txt": [LEASE],
        "b.txt": ["A copy for the file of the house.\n", LEASE.replace("the rent", "the\nrent")],
        "c.txt": [LEASE.replace("flat", "cellar")],
        "book.txt": [f"In the autumn Nils saw {n + 10} boats at the quay of Bergen.\n" for n in range(40)],
    }
    return index_of(tmp_path_factory.mktemp("copies") / "copies.index", texts, alike=[0, 0, 0, 3])


@pytest.mark.parametrize("seed", range(6))
def test_a_draft_has_gold_in_each_near_duplicate_that_says_the_same(copies: Index, seed: int) -> None:
    made = draft_by_patterns(copies, 50, seed).made
    (flat,) = [draft for draft in made if "flat" in draft.text]
    assert {gold.doc for gold in flat.gold} == {"a.txt", "b.txt"}
    (cellar,) = [draft for draft in made if "cellar" in draft.text]
    assert [gold.doc for gold in cellar.gold] == ["c.txt"]
    for gold in flat.gold:
        words = copies.span_text(Span(gold.doc, gold.start or 0, gold.end or 0))
        assert " ".join(words.split()) == LEASE.strip()
    assert flat.as_json(1)["gold"] == [gold.as_json() for gold in flat.gold]


@pytest.mark.parametrize("seed", range(6))
def test_drafts_are_taken_from_documents_evenly(copies: Index, seed: int) -> None:
    made = draft_by_patterns(copies, 4, seed).made
    assert sum(draft.gold[0].doc == "book.txt" for draft in made) == 2


def test_a_draft_whose_answer_stands_in_its_question_is_dropped(library: Index, tmp_path: Path) -> None:
    (chunk,) = library.document_leaves(library.document_number("short.txt"))
    reply = '{"question": "Is it the Oslo?", "answer": "oslo.", "quote": "Oslo"}'
    assert read_reply(reply, library, chunk, "m") == "its answer stands in its question"
    path = tmp_path / "twice.txt"
    path.write_text("The road from Bergen to Oslo is closed, and so is Oslo.\n")
    assert draft_by_patterns(open_any(path), 1).dropped == {"its answer stands in its question": 1}


@pytest.mark.parametrize(
    ("question", "answer", "is_given"),
    [
        ("Is the ketch red?", "The ketch", True),
        ("How many of 1500?", "150", False),
        ("東京はどこですか?", "東京", True),
        ("Who?", "...", True),
        ("Who?", "the", True),
        ("What of Oslo?", "Oslo and Bergen", False),
    ],
)
def test_an_answer_is_given_away_by_its_own_words_alone(question: str, answer: str, is_given: bool) -> None:
    assert gives_away(question, answer) == is_given


@pytest.mark.parametrize(
    ("sentence", "tells"),
    [
        ("The ketch that we sailed to Bergen has two masts.", True),
        ("In 1843 Ada Lovelace wrote a note on the engine.", True),
        ("within a display that was generated by the Derivative Works.", False),
        ("-o INDEX was given files, folders and what the Globs have", False),
        ("Copyright (C) 2007 Free Software Foundation, Inc.", False),
        ("Licensed under the Apache License, Version 2.0 (the License).", False),
        ("You may obtain a copy of the License at the address below.", False),
        ('THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND.', False),
        ("Write to Nils Dahl at nils@example.org for a copy of it.", False),
        ("Amphitheatre Parkway, Mountain View, California, United States", False),
        ("Marit Dahl, Storgata 12, 0155 Oslo, Norway, and Bergen", False),
        ("a 1,200 1,300 b 17.5 c 2,000,000 and (12) [13] {14} 15,000", False),
    ],
)
def test_notices_addresses_and_numbers_tell_nothing(sentence: str, tells: bool) -> None:
    assert is_telling(sentence) == tells


def test_signs_of_vowels_are_letters_too() -> None:
    assert is_mostly_letters("वर्ष 1843 में एडा ने इंजन पर एक लंबी टिप्पणी लिखी थी।")
    assert not is_mostly_letters("12 34 56 | 78 90 | Oslo")


def test_a_sentence_with_a_name_and_a_verb_is_preferred(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text(
        "There were about 300 boats of that kind in all of the ports. Then the ketch was sold to Nils Dahl by them.\n"
    )
    assert [draft.answer for draft in draft_by_patterns(open_any(path), 1).made] == ["Nils Dahl"]


def test_a_passage_that_is_mostly_no_letters_is_not_put_to_a_model(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafting, "is_mostly_letters", lambda text: "1843" not in text)
    _, _, requests, _ = make(written, "--model", MODEL, "--at-once", "1", number=9)
    assert len(requests) == 3 and not any("1843" in text_of(b["messages"][-1]["content"]) for b in requests)


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
