"""A chat is its questions and answers in order, each with its own citations, cost and route."""

from pathlib import Path
from typing import Any

import pytest

from index_store.index import Index
from rlm.audit import read, verify
from rlm.audit.claims import YOURS_TO_JUDGE, Claim, counted, differences, marked, tally, uncited
from rlm.audit.pairs import pairs_of
from rlm.audit.timeline import show
from tests.helpers.audit_sample import sample_run
from tests.helpers.chat_sample import QUESTIONS, chat_sample
from tests.helpers.forging import forged


@pytest.fixture(scope="module")
def chat(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_sample(index, tmp_path_factory.mktemp("chat"))[0]


@pytest.fixture
def events(chat: Path) -> list[dict[str, Any]]:
    return read(chat)[0]


def test_each_question_of_a_chat_has_its_own_answer_citations_cost_and_route(events: list[Any]) -> None:
    pairs = pairs_of(events)
    assert [pair.question for pair in pairs] == list(QUESTIONS)
    assert [pair.answered and pair.answered["content"] for pair in pairs] == [
        "Two [1], and nine oars [2].",
        "The mizzen [1].",
        "Not in these documents.",
    ]
    kinds = [[claim.supported for claim in pair.claims] for pair in pairs]
    assert kinds == [["respaced", "unsupported"], ["verbatim"], []]
    assert [pair.usage.calls for pair in pairs] == [1, 2, 1]
    assert [[branch.node for branch in pair.branches] for pair in pairs] == [["L0-00000"], ["L1-00000"], []]
    assert sum(pair.usage.tokens for pair in pairs) == sum(
        events[-1]["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )
    assert [event for pair in pairs for event in pair.events] == events


def test_the_chat_of_an_earlier_version_which_recorded_one_question_is_pairs_too(
    events: list[Any], tmp_path: Path
) -> None:
    old = [event for event in events if event["kind"] != "question_put"]
    assert verify(forged(old, tmp_path)).ok
    pairs = pairs_of(old)
    assert [pair.question for pair in pairs] == list(QUESTIONS)
    assert [pair.usage.calls for pair in pairs] == [1, 2, 1]


def test_a_run_is_one_pair_and_no_events_are_none(tmp_path: Path) -> None:
    events, _ = read(sample_run(tmp_path))
    (pair,) = pairs_of(events)
    assert (pair.question, list(pair.events)) == (events[0]["question"], events)
    assert pairs_of([]) == []


def test_a_question_that_is_put_out_of_turn_is_found(events: list[Any], tmp_path: Path) -> None:
    put = next(event for event in events if event["kind"] == "question_put")
    put["question"] = "Who sank it?"
    verdict = verify(forged(events, tmp_path))
    assert not verdict.ok and "do not hold the question that was put before them" in verdict.reason


def test_the_timeline_of_a_chat_goes_question_by_question(chat: Path) -> None:
    text = show(*read(chat))
    order = [
        "Answer 1: 1 of 2 quotes stands in the documents; 1 is not in the text; whether the answer follows",
        "Answer 2: 1 of 1 quote stands in the documents; whether the answer follows",
        "The trace is whole",
        "Nobody has vouched for the end of this trace",
        "QUESTION 1 of 3",
        QUESTIONS[0],
        "Two [1], and nine oars [2: not in the text].",
        "[1] same words, other spacing: boats.txt 0-24",
        "Branches entered, in order:\nL0-00000",
        "Question 1 cost 1 call",
        "QUESTION 2 of 3",
        QUESTIONS[1],
        "The mizzen [1].",
        "Question 2 cost 2 calls",
        "QUESTION 3 of 3",
        QUESTIONS[2],
        "Question 3 cost 1 call",
    ]
    at = [text.find(words) for words in order]
    assert -1 not in at and at == sorted(at), list(zip(order, at, strict=True))


# -- claims -----------------------------------------------------------------------------------------------

GOOD, NEAR, BAD = Claim("verbatim", "good"), Claim("nearest", "near"), Claim("unsupported", "bad words")


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ([], "nothing is quoted"),
        ([GOOD], "1 of 1 quote stands in the documents"),
        ([BAD], "0 of 1 quote stands in the documents; 1 is not in the text"),
        ([GOOD] * 7 + [BAD] * 2, "7 of 9 quotes stand in the documents; 2 are not in the text"),
        ([Claim("respaced", "good"), BAD], "1 of 2 quotes stands in the documents; 1 is not in the text"),
        (
            [GOOD, Claim("summary", "sum"), BAD],
            "1 of 3 quotes stands in the documents; 1 is in a summary, in no document; 1 is not in the text",
        ),
        (
            [NEAR, NEAR, BAD],
            "0 of 3 quotes stand in the documents; 2 are there in other words; 1 is not in the text",
        ),
    ],
)
def test_quotes_are_counted_by_how_they_stand_and_no_count_vouches_for_the_answer(
    claims: list[Claim], words: str
) -> None:
    assert counted(claims) == words
    assert tally(claims) == (f"{words}; {YOURS_TO_JUDGE}" if claims else words)


@pytest.mark.parametrize(
    ("content", "number"),
    [
        ("The limit is 150 euros [1]. Dogs travel free.", 1),
        ("A limit stands. [1] Dogs travel free. [2] Cats too.", 1),
        ("A limit stands [1].", 0),
        ("Nothing here names a quote. Nor here.", 0),
        ("Two things:\n\n- Dr. Vale signs [1].\n- Dogs do not travel.\n", 1),
        ("One. Two! Three? [1]", 2),
        ('{"limits": [1, 2], "why": "So it is. It is."}', 0),
        ('"従業員は12人です。" [1]', 0),
        ("", 0),
    ],
)
def test_the_sentences_that_cite_nothing_are_counted_where_others_cite(content: str, number: int) -> None:
    assert uncited(content) == number
    verb = {0: "", 1: "; 1 sentence cites nothing", 2: "; 2 sentences cite nothing"}[number]
    assert tally([GOOD], content) == f"1 of 1 quote stands in the documents{verb}; {YOURS_TO_JUDGE}"


@pytest.mark.parametrize(
    ("quote", "found", "words"),
    [
        ("a limit of 150 euros", "a limit of 140 euros", "150 / 140"),
        ("must not be approved", "must be approved", "not / (none)"),
        ("It is paid, 1,400 of it.", "It isn't paid, 140 of it.", "1,400 / isn't 140"),
        ("a fall of 3 to 5", "a fall of 5 to 3", "(none) / 5; 5 / (none)"),
        ("It rose by five", "It rose by nine", "five / nine"),
        ("the hotels’ limit", "The limit of hotels", ""),
        ("NOT paid", "not paid", ""),
    ],
)
def test_numbers_and_denials_in_which_a_quote_differs_are_named(quote: str, found: str, words: str) -> None:
    assert differences(quote, found) == words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("A [1]. B [2]. C [3].", "A [1]. B [2: not in the text]. C [3: in other words]."),
        ("A [1, 3]. B [2]", "A [1] [3: in other words]. B [2: not in the text]"),
        ("A near [1, 2].", "A near [3: in other words] [1] [2: not in the text]."),
        ("A [1-3].", "A [1] [2: not in the text] [3: in other words]."),
        ("A “bad words”, B [1][3].", "A “bad words [2: not in the text]”, B [1][3: in other words]."),
        ("A.\n", "A. [2: not in the text] [3: in other words]\n"),
        ("", ""),
        ("A [2][2][3]", "A [2: not in the text][2: not in the text][3: in other words]"),
        ('{"ids": [1, 2]}', '{"ids": [1, 2]} [2: not in the text] [3: in other words]'),
        ("A [4] [0] [2, 3]", "A [4] [0] [2: not in the text] [3: in other words]"),
    ],
)
def test_a_quote_that_does_not_stand_is_marked_where_it_is_named(content: str, words: str) -> None:
    assert marked(content, [GOOD, BAD, NEAR]) == words
    assert marked(content, [GOOD, GOOD, GOOD]) == content
