"""Fenced blocks are found by the rules of CommonMark, with the code and the place of each."""

import time

import pytest
from hypothesis import example, given, strategies as st

from rlm.audit.fences import fenced_blocks, without_blocks


def codes(text: str) -> list[tuple[str, str]]:
    return [(block.name, block.code) for block in fenced_blocks(text)]


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("", []),
        ("no code, only `x` and ```y```", []),
        ("```python\nx\n```", [("python", "x")]),
        ("```Python 3\nx\n```\nwords\n~~~\ny\n~~~~\n", [("python", "x"), ("", "y")]),
        ("````\n```\nx\n```\n````", [("", "```\nx\n```")]),  # a shorter fence closes nothing
        ("```\n~~~\n```", [("", "~~~")]),  # nor does one of other marks
        ("```\nx\n```python\n```", [("", "x\n```python")]),  # nor one with words
        ("1. First:\n   ```py\n   if x:\n       y\n   ```\n", [("py", "if x:\n    y")]),
        ("```\r\nx\r\n```\r\n", [("", "x")]),
        ("```\n\n\n```", [("", "")]),
        ("```py\nx", [("py", "x")]),  # left open
        ("```py\nx = 1 ```", [("py", "x = 1 ")]),  # closed on the line of its last code
        ("```", [("", "")]),
    ],
)
def test_the_blocks_of_a_text_are_its_fenced_ones(text: str, blocks: list[tuple[str, str]]) -> None:
    assert codes(text) == blocks


def test_a_block_says_whether_it_was_closed() -> None:
    assert [block.closed for block in fenced_blocks("```\nx\n```\n```\ny")] == [True, False]


def test_what_stands_outside_the_blocks_stays_as_it_is() -> None:
    text = "First:\n```py\nx\n```\nThen:\n~~~\ny\n~~~"
    assert without_blocks(text, fenced_blocks(text)) == "First:\nThen:\n"
    assert without_blocks(text, fenced_blocks(text)[1:]) == "First:\n```py\nx\n```\nThen:\n"


@given(st.lists(st.sampled_from(["```", "~~~~", "py", "x", " ", "\n", "\r\n", "\u2028"])).map("".join))
@example("```\n```\n```\n")
def test_blocks_follow_one_another_and_hold_whole_lines(text: str) -> None:
    edges = [0, *(edge for block in fenced_blocks(text) for edge in (block.start, block.end)), len(text)]
    assert edges == sorted(edges)
    assert all(edge in (0, len(text)) or text[edge - 1] == "\n" for edge in edges)


def test_a_line_of_nothing_but_spaces_takes_no_time() -> None:
    started = time.process_time()
    fenced_blocks("```" + " " * 100_000 + "`\n```" + "`" * 100_000 + "x`")
    assert time.process_time() - started < 1
