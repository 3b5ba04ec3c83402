"""Answers in prose: what counts as one, and what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.loop.replies import final_in, final_variable_in


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("FINAL(42)", "42"),
        ("I have read enough.\n\n  FINAL(42)  \n", "42"),
        ('FINAL("nine weeks")', "nine weeks"),
        ("FINAL('it\\'s \"nine\"\\nweeks')", "it's \"nine\"\nweeks"),
        ('FINAL("""two\nlines""")', "two\nlines"),
        ('FINAL("a" and "b")', '"a" and "b"'),
        ("FINAL(Nine weeks (see page 3)\nor ten (see 4).)\nThat is all :)", "Nine weeks (see page 3)\nor ten (see 4)."),
        ("FINAL(1) yes\n2) no)", "1) yes\n2) no"),
        ("**FINAL(42)**", "42"),
        ("`FINAL(42)`.", "42"),
        ("FINAL(a guess)\nNo, rather:\nFINAL(42)", "42"),
        ("```python\nprint(1)\n```\nFINAL(42)", "42"),
        ("<think>FINAL(41)</think>\nFINAL(42)", "42"),
        ("FINAL(\\frac{1}{2})", "\\frac{1}{2}"),
        ("FINAL(42)\r\n", "42"),
    ],
)  # fmt: skip
def test_an_answer_on_a_line_of_its_own_is_found(reply: str, answer: str) -> None:
    assert final_in(reply) == answer


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "FINAL()",
        "FINAL('')",
        "When done I write FINAL(42)",
        "FINAL_VAR(x)",
        "MY_FINAL(42)",
        "FINAL(cut off",
        "```python\nFINAL(42)\n```",
        "~~~\nFINAL(42)\n```\nFINAL(43)\n~~~",
        "```repl\nFINAL(42)",
        "<think>\nFINAL(42)\n</think>\nI am not done.",
    ],
)
def test_anything_else_is_no_answer(reply: str) -> None:
    assert final_in(reply) is None


def test_a_variable_may_be_named_in_prose_too() -> None:
    assert final_variable_in('Done.\nFINAL_VAR("found")') == "found"
    assert final_variable_in("FINAL_VAR(found)") == "found"
    assert final_variable_in("FINAL_VAR(a + b)") is None
    assert final_variable_in("```\nFINAL_VAR(found)\n```") is None


@given(st.text(st.sampled_from("FINAL(VR_)\"'`\\\n x<think/>")))
def test_no_reply_breaks_it(reply: str) -> None:
    found = final_in(reply)
    assert found is None or found
    assert final_variable_in(reply) is None or reply


@given(st.text(st.characters(exclude_characters="()`~\"'\\\n\r<"), min_size=1))
def test_a_plain_answer_comes_back_as_it_was_written(answer: str) -> None:
    assert final_in(f"So:\nFINAL({answer})\n") == (answer.strip() or None)
