"""What counts as code in a reply, what as an answer in prose, and what a model is told whose reply holds neither."""

import json

import pytest
from hypothesis import given, strategies as st

from rlm import prompts
from rlm.loop.replies import code_of, final_in, final_variable_in, hint, is_open

# -- code --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("```repl\nx = 1\n```", "x = 1"),
        ("```py\nx = 1\n```", "x = 1"),
        ("``` Python \r\nx = 1\r\n```\r\n", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("~~~python\nx = 1\n~~~", "x = 1"),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''"),
        ("First:\n```python\nx = 1\n```\nthen\n```python\ny = 2\n```\n", "x = 1\ny = 2"),
        ("```json\n{}\n```\nProse.\n```python\nx = 1\n```", "x = 1"),
        ("```python\nx = 1\n```\nIt will print:\n```\n1\n```", "x = 1"),
        ("1. do\n   ```python\n   if x:\n       y\n   ```\n2. done", "if x:\n    y"),
        ("```python\nx = 1\ny = 2", "x = 1\ny = 2"),
        ("```python\nx = 1```", "x = 1"),
        ('```python\np = """\n```json\n{}\n"""\n```', 'p = """\n```json\n{}\n"""'),
        ("```python title=a.py\nx = 1\n```", "x = 1"),
        ("no code", None),
        ("```json\n{}\n```", None),
        ("```python\n\n```", None),
        ("```python", None),
        ("use `x` and ```y``` inline", None),
        ("", None),
    ],
)
def test_the_code_of_a_reply_is_what_stands_in_its_fences(reply: str, code: str | None) -> None:
    assert code_of(reply) == code


CODE = 'print("masts")\nx = 1'


@pytest.mark.parametrize(
    "reply",
    [
        f"~~~python\n{CODE}\n~~~",
        f"```tool_code\n{CODE}\n```",
        f"```Python\n{CODE}\n```",
        f"<think>perhaps ```python\nimport os\n``` no</think>\n```python\n{CODE}\n```",
        f"I run this: <code>{CODE}</code>",
        f"<python>\n{CODE}\n</python>",
        json.dumps({"name": "python", "arguments": {"code": CODE}}),
        "<tool_call>"
        + json.dumps({"name": "repl", "arguments": json.dumps({"code": CODE})})
        + "</tool_call>",
        "```json\n" + json.dumps([{"function": {"name": "python", "arguments": {"source": CODE}}}]) + "\n```",
    ],
)
def test_code_is_found_however_it_is_dressed(reply: str) -> None:
    assert code_of(reply) == CODE


def test_the_code_of_a_native_tool_call_is_run() -> None:
    assert code_of("", json.dumps({"name": "python", "arguments": json.dumps({"code": CODE})})) == CODE
    assert code_of("", json.dumps({"code": CODE})) == CODE
    assert code_of("", "{not json") is None


def test_a_fence_wins_over_a_tool_call() -> None:
    assert code_of(f"```python\n{CODE}\n```", json.dumps({"code": "other()"})) == CODE


def test_a_thought_alone_is_no_code() -> None:
    assert code_of("<think>```python\nx\n```") is None


def test_a_block_that_the_token_limit_cut_is_known() -> None:
    assert is_open("```python\nx = (")
    assert not is_open("```python\nx = 1\n```")
    assert not is_open("<think>```python\nx")


@given(st.text(alphabet='`~<>/codepythn_call{}[]":\n \\', max_size=400))
def test_no_reply_makes_it_raise(reply: str) -> None:
    code = code_of(reply, reply)
    assert code is None or code.strip()
    hint(reply, "stop", 1, reply)


@pytest.mark.parametrize(
    "part", ["<code>", "<tool_call>", "<think>", "```\n", "[{", '{"a":', "<code></code>"]
)
def test_a_long_hostile_reply_is_read_in_a_moment(part: str) -> None:
    code = code_of(part * 20_000)
    assert code is None or len(code) < len(part) * 20_000


# -- answers in prose --------------------------------------------------------------------------------------


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
def test_anything_else_is_no_answer_in_prose(reply: str) -> None:
    assert final_in(reply) is None


def test_a_variable_may_be_named_in_prose_too() -> None:
    assert final_variable_in('Done.\nFINAL_VAR("found")') == "found"
    assert final_variable_in("FINAL_VAR(found)") == "found"
    assert final_variable_in("FINAL_VAR(a + b)") is None
    assert final_variable_in("```\nFINAL_VAR(found)\n```") is None


@given(st.text(st.sampled_from("FINAL(VR_)\"'`\\\n x<think/>")))
def test_no_reply_makes_the_search_for_an_answer_raise(reply: str) -> None:
    answer = final_in(reply)
    assert answer is None or answer
    assert final_variable_in(reply) is None or reply


@given(st.text(st.characters(exclude_characters="()`~\"'\\\n\r<"), min_size=1))
def test_a_plain_answer_comes_back_as_it_was_written(answer: str) -> None:
    assert final_in(f"So:\nFINAL({answer})\n") == (answer.strip() or None)


# -- neither -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "finish", "tool", "message"),
    [
        ("", "stop", "", prompts.EMPTY),
        (" \n", "stop", "", prompts.EMPTY),
        ("I think it is two.", "stop", "", prompts.NO_CODE),
        ("```python\nx = (", "length", "", prompts.CUT.format(tokens=2_000)),
        ("", "length", "", prompts.CUT.format(tokens=2_000)),
        ("I'm sorry, but I can't help with that.", "stop", "", prompts.REFUSED),
        ("No.", "content_filter", "", prompts.REFUSED),
        ("", "tool_calls", '{"name": "search", "arguments": "{}"}', prompts.NO_TOOLS),
        ('<tool_call>{"name": "search"}</tool_call>', "stop", "", prompts.NO_TOOLS),
    ],
)
def test_a_reply_that_yields_nothing_gets_a_hint_of_one_line(
    reply: str, finish: str, tool: str, message: str
) -> None:
    assert hint(reply, finish, 2_000, tool) == message
    assert "\n" not in message
