"""What the offline reader says of rows: words that stand there, dates of the calendar, and one line for every row."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rlm.gateway.offline.reader import read
from rlm.mapping.fields import parse_fields
from rlm.mapping.types import Reader, Task
from rlm.mapping.wording import messages, read_reply


def said(question: str, fields: dict[str, Any], *rows: str) -> list[dict[str, Any]]:
    task = Task(question, parse_fields(fields), Reader("offline/reader"))
    reply = read([*messages(task, rows)], 4_000)
    given = [json.loads(line) for line in reply.split("\n")]
    assert [one.pop("row") for one in given] == list(range(1, len(rows) + 1))
    return given


@pytest.mark.parametrize(
    ("row", "holds"),
    [
        ("This function is deprecated since 3.9.", True),
        ("Deprecated: use the other.", True),
        ("A function that returns a list.", False),
        ("", False),
    ],
)
def test_a_condition_holds_where_each_word_that_carries_it_stands(row: str, holds: bool) -> None:
    assert said("How many functions are deprecated?", {"holds": "yes/no"}, row) == [{"holds": holds}]


def test_all_of_its_words_have_to_stand_there() -> None:
    rows = "The delivery came late.", "The delivery came.", "I was late."
    found = said("How many complaints name a late delivery?", {"holds": "yes/no"}, *rows)
    assert [one["holds"] for one in found] == [True, False, False]


def test_a_question_of_words_that_say_nothing_of_rows_looks_for_what_it_counts() -> None:
    rows = "Complaint: it broke.", "It works."
    for question in ("How many complaints are there?", "Count the complaints"):
        assert [one["holds"] for one in said(question, {"holds": "yes/no"}, *rows)] == [True, False]


def test_what_is_quoted_or_in_capitals_stands_in_the_row_as_it_is_written() -> None:
    rows = "ERROR disk full", "raise ValueError", "an error", "ERRORS"
    found = said("How many lines contain ERROR?", {"holds": "yes/no"}, *rows)
    assert [one["holds"] for one in found] == [True, False, False, False]
    found = said('How many lines say "an error"?', {"holds": "yes/no"}, *rows)
    assert [one["holds"] for one in found] == [False, False, True, False]


def test_a_label_is_the_one_that_stands_in_the_row_else_the_one_for_the_rest() -> None:
    rows = "Spam: win a prize", "see you at ten", "a second message"
    assert [one["label"] for one in said("Which?", {"label": ["spam", "ham"]}, *rows)] == [
        "spam",
        "ham",
        "ham",
    ]


@pytest.mark.parametrize(
    ("question", "labels", "rest"),
    [
        ("Which?", ["other", "late", "broken"], "other"),
        ("Which?", ["None of these", "late", "broken"], "None of these"),
        ("Which?", ["not paid", "paid"], "not paid"),
        ("Which?", ["non-urgent", "urgent"], "non-urgent"),
        ("Which?", ["no", "yes"], "no"),
        ("Which?", ["northern", "southern"], "southern"),
        ("Is it fraud?", ["sound", "fraud"], "sound"),
        ("Is it fraud or theft?", ["fraud", "harmless", "theft"], "harmless"),
        ("Which?", ["first", "second", "third"], "third"),
    ],
)
def test_the_label_for_the_rest_denies_or_names_nothing_or_is_the_one_that_is_not_asked_for(
    question: str, labels: list[str], rest: str
) -> None:
    assert said(question, {"label": labels}, "a row about the sea") == [{"label": rest}]


def test_a_label_that_denies_is_not_taken_for_what_it_denies() -> None:
    rows = "It is paid.", "It is not paid.", "It was sent, not yet paid.", "It is not sent."
    found = said("Which?", {"label": ["not sent", "sent", "not paid", "paid"]}, *rows)
    assert [one["label"] for one in found] == ["paid", "not paid", "sent", "not sent"]


@pytest.mark.parametrize(
    ("row", "day", "month", "year"),
    [
        ("on 2024-02-29 it rained", "2024-02-29", "2024-02", "2024"),
        ("on 3 March 2021 it rained", "2021-03-03", "2021-03", "2021"),
        ("March 3rd, 2021", "2021-03-03", "2021-03", "2021"),
        ("Sept 2019", None, "2019-09", "2019"),
        ("in 1987 it rained", None, None, "1987"),
        ("on 2023-02-30 it rained", None, None, "2023"),
        ("number 12345", None, None, None),
    ],
)
def test_dates_are_those_of_the_calendar(
    row: str, day: str | None, month: str | None, year: str | None
) -> None:
    fields = {"day": "YYYY-MM-DD", "month": "YYYY-MM", "year": "YYYY"}
    assert said("When?", fields, row) == [{"day": day, "month": month, "year": year}]


def test_numbers_are_the_first_that_stand_there() -> None:
    rows = "it cost 1,234.50 for 3 days", "none at all", "-7 degrees"
    found = said("How much?", {"amount": "number", "whole": "integer"}, *rows)
    assert [one["amount"] for one in found] == [1234.5, None, -7]
    assert [one["whole"] for one in found] == [3, None, -7]


@given(st.lists(st.text(max_size=80), min_size=1, max_size=8), st.text(min_size=1, max_size=60))
def test_every_row_gets_one_line_that_its_fields_allow(rows: list[str], question: str) -> None:
    spec = {"a": ["x", "other"], "b": "yes/no", "c": "YYYY-MM", "d": "number", "e": "text", "f": "integer"}
    if not question.strip():
        return
    fields = parse_fields(spec)
    task = Task(question, fields, Reader("offline/reader"))
    found = read_reply(read([*messages(task, rows)], 4_000), fields, len(rows))
    assert [isinstance(found[row], dict) for row in range(1, len(rows) + 1)] == [True] * len(rows), found
