"""The code that a model's reply asks to run, in whatever form; and the hint for a model whose reply holds none.

Its fenced blocks are those of `rlm.audit.fences`. Thoughts in <think> tags do not count.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from rlm import prompts
from rlm.audit.fences import fenced_blocks, without_blocks

_NAMES = frozenset({"python", "python3", "py", "ipython", "repl", "tool_code"})
_THOUGHT = re.compile(r"<(/?)(think|thinking|reasoning)>", re.IGNORECASE)
_TAGGED = re.compile(r"<(/?)(code|python|repl|execute)>", re.IGNORECASE)
_CALLED = re.compile(r"<(/?)(tool_call|function_call)>", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\W*(?:I'm|I am|I’m)? ?(?:sorry\b|unable\b)|\W*I (?:can't|cannot|can’t|won't) ", re.IGNORECASE
)
_MARKS = r"[ \t>*_`]*"  # what Markdown puts around a line
_FINAL = re.compile(rf"^{_MARKS}FINAL[ ]?\(", re.MULTILINE)
_VARIABLE = re.compile(
    rf"^{_MARKS}FINAL_VAR[ ]?\([ ]*(['\"]?)([^\W\d]\w*)\1[ ]*\)[*_`.]*[ \t]*$", re.MULTILINE
)
_END = re.compile(r"\)[*_`.]*[ \t]*$", re.MULTILINE)
_QUOTED = re.compile(r"(\"\"\"|'''|[\"'])((?:\\.|(?!\1)[^\\])*)\1", re.DOTALL)
_ESCAPE = re.compile(r"\\([nt\"'\\])")
_ESCAPED = {"n": "\n", "t": "\t"}
_ARGUMENTS = ("arguments", "parameters", "input", "args")
_CODE_NAMES = ("code", "python", "source", "script", "cmd", "command")
CALL_CHARS = 200_000  # a longer tool call is not parsed
CALL_DEPTH = 6  # objects and lists in a tool call that are looked into


def code_of(reply: str, tool_call: str = "") -> str | None:
    """The code of a reply as one cell; None when there is none.

    In this order: its fenced blocks named python, py or repl; where there are none, blocks without a name; code in
    tags such as <code>; the code argument of a tool call, in JSON, that the reply or a line of `tool_call` holds; an
    answer in prose, as the first RLM prompts taught: FINAL(...) or FINAL_VAR(name) on a line of its own.
    """
    words = _outside(_THOUGHT, reply)
    blocks = [block for block in fenced_blocks(words) if block.code.strip()]
    cells = [b.code for b in blocks if b.name in _NAMES] or [b.code for b in blocks if not b.name]
    cells = cells or [textwrap.dedent(code).strip("\n") for code in _inside(_TAGGED, words) if code.strip()]
    return "\n".join(cells) or _called_code(words, tool_call) or _final_code(reply)


def _final_code(reply: str) -> str | None:
    """A cell that calls FINAL or FINAL_VAR as the prose of a reply does."""
    if (name := final_variable_in(reply)) is not None:
        return f"FINAL_VAR({name!r})"
    text = final_in(reply)
    return None if text is None else f"FINAL({text!r})"


def is_open(reply: str) -> bool:
    """Whether the last fenced block of a reply was never closed."""
    blocks = fenced_blocks(_outside(_THOUGHT, reply))
    return bool(blocks) and not blocks[-1].closed


def hint(reply: str, finish_reason: str, max_tokens: int, tool_call: str = "") -> str:
    """One line for a model whose reply ran no code: why, and what to write. `max_tokens`: of a reply."""
    if finish_reason == "length":
        return prompts.CUT.format(tokens=max_tokens)
    if tool_call or _CALLED.search(reply):
        return prompts.NO_TOOLS
    if finish_reason in ("content_filter", "refusal") or _REFUSAL.match(reply):
        return prompts.REFUSED
    return prompts.NO_CODE if reply.strip() else prompts.EMPTY


def _tagged_stretches(tag: re.Pattern[str], text: str) -> Iterator[tuple[int, int, int, int]]:
    """(start, end, start inside the tags, end inside) of each tagged stretch; one left open ends with the text."""
    opened: re.Match[str] | None = None
    for mark in tag.finditer(text):
        if opened is None and not mark[1]:
            opened = mark
        elif opened is not None and mark[1] and mark[2].lower() == opened[2].lower():
            yield opened.start(), mark.end(), opened.end(), mark.start()
            opened = None
    if opened is not None:
        yield opened.start(), len(text), opened.end(), len(text)


def _inside(tag: re.Pattern[str], text: str) -> list[str]:
    return [text[start:end] for _, _, start, end in _tagged_stretches(tag, text)]


def _outside(tag: re.Pattern[str], text: str) -> str:
    parts, at = [], 0
    for start, end, _, _ in _tagged_stretches(tag, text):
        parts.append(text[at:start])
        at = end
    return "".join([*parts, text[at:]])


def _called_code(reply: str, tool_call: str) -> str | None:
    in_json = (block.code for block in fenced_blocks(reply) if block.name == "json")
    texts = [*tool_call.split("\n"), *_inside(_CALLED, reply), *in_json]
    texts.append(reply if reply.lstrip().startswith(("{", "[")) else "")
    codes = (code for text in texts for value in _json(text) for code in _codes(value, CALL_DEPTH))
    return next(codes, None)


def _json(text: str) -> Iterator[Any]:
    if not text.strip() or len(text) > CALL_CHARS:
        return
    try:
        yield json.loads(text.strip())
    except (ValueError, RecursionError):
        return


def _codes(value: Any, depth: int) -> Iterator[str]:
    """The code in a call such as {"name": "python", "arguments": {"code": "..."}}; arguments may be JSON text."""
    if isinstance(value, list) and depth:
        for item in value:
            yield from _codes(item, depth - 1)
    if not (isinstance(value, dict) and depth):
        return
    yield from (v for name in _CODE_NAMES if isinstance(v := value.get(name), str) and v.strip())
    for name in (*_ARGUMENTS, "function"):
        inner = value.get(name)
        for part in _json(inner) if isinstance(inner, str) else [inner]:
            yield from _codes(part, depth - 1)


# -- an answer in prose --------------------------------------------------------------------------------------


def final_in(reply: str) -> str | None:
    """The text in the last whole `FINAL(...)` of a reply, outside code; None where there is none or it is empty.

    It may go over several lines and hold brackets; quotes around all of it are taken off.
    """
    parts = _FINAL.split(_prose(reply))[1:]
    answers = [_without_quotes(part[:end]) for part in parts if (end := _end(part)) is not None]
    return answers[-1] or None if answers else None


def final_variable_in(reply: str) -> str | None:
    """The name in the last `FINAL_VAR(name)` that has a line of its own, outside code; None where there is none."""
    names = [name for _, name in _VARIABLE.findall(_prose(reply))]
    return names[-1] if names else None


def _prose(reply: str) -> str:
    """The lines of a reply outside its fenced blocks and its thoughts."""
    words = _outside(_THOUGHT, reply).replace("\r\n", "\n")
    return without_blocks(words, fenced_blocks(words))


def _end(text: str) -> int | None:
    """Where the closing bracket is: the first one that ends a line and balances, else the last that ends a line."""
    ends = [m.start() for m in _END.finditer(text)]
    depth, at = 0, 0
    for end in ends:
        depth += text.count("(", at, end) - text.count(")", at, end)
        if depth <= 0:
            return end
        depth, at = depth - 1, end + 1
    return ends[-1] if ends else None


def _without_quotes(text: str) -> str:
    quoted = _QUOTED.fullmatch(text.strip())
    if not quoted:
        return text.strip()
    return _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]), quoted[2]).strip()
