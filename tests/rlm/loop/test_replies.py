"""What counts as code in a reply, and what a model is told whose reply holds none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm import prompts
from rlm.loop.replies import code_of, hint, is_open


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


@pytest.mark.parametrize(
    ("reply", "finish", "tool", "told"),
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
    reply: str, finish: str, tool: str, told: str
) -> None:
    said = hint(reply, finish, 2_000, tool)
    assert said == told
    assert "\n" not in said


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
