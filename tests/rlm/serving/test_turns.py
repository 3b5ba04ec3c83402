"""A chat as one question, and an answer as clients read it."""

from hypothesis import given, strategies as st

from rlm.serving.streams import data, place_of
from rlm.serving.turns import EARLIER, EARLIER_CHARS, pieces, question_of


@given(st.text(max_size=300))
def test_pieces_together_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


def test_a_single_message_is_the_question_as_it_stands() -> None:
    assert question_of([{"role": "user", "content": "Who?\n> I"}]) == ("Who?\n> I", "Who?\n> I")


def test_of_a_long_chat_the_last_turns_are_told_each_on_one_line_and_cut() -> None:
    turns = [{"role": "user", "content": f"turn {n}\nline\n" + "x" * 2_000} for n in range(9)]
    question, shown = question_of([*turns, {"role": "user", "content": "Who?"}])
    quoted = [line for line in question.splitlines() if line.startswith("> ")]
    assert [line[:14] for line in quoted] == [f"> user: turn {n}" for n in range(9 - EARLIER, 9)]
    assert all(len(line) <= EARLIER_CHARS + 10 for line in quoted)
    assert question.endswith("\n\nThe question: Who?")
    assert shown == "Who?"


@given(st.text(max_size=50))
def test_an_event_is_one_line_whatever_it_says(text: str) -> None:
    lines = data({"text": text}, 3).splitlines()
    assert lines[0] == "id: 3"
    assert lines[1].startswith("data: {")
    assert lines[2:] == [""]


def test_a_client_goes_on_where_it_was_and_from_the_start_where_its_place_is_none() -> None:
    assert place_of("7") == 7
    assert place_of("end") is None
    assert [place_of(told) for told in (None, "", "-1", "x", "9" * 99, "²")] == [-1] * 6
