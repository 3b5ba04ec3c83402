"""An answer written in a reply's prose: `FINAL(42)` on a line of its own, as the first RLM prompts taught."""

import re

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})(.*)")
_MARKS = r"[ \t>*_`]*"  # what Markdown puts around a line
_FINAL = re.compile(rf"^{_MARKS}FINAL[ ]?\(", re.MULTILINE)
_VARIABLE = re.compile(
    rf"^{_MARKS}FINAL_VAR[ ]?\([ ]*(['\"]?)([^\W\d]\w*)\1[ ]*\)[*_`.]*[ \t]*$", re.MULTILINE
)
_END = re.compile(r"\)[*_`.]*[ \t]*$", re.MULTILINE)
_QUOTED = re.compile(r"(\"\"\"|'''|[\"'])((?:\\.|(?!\1)[^\\])*)\1", re.DOTALL)
_ESCAPE = re.compile(r"\\([nt\"'\\])")
_ESCAPED = {"n": "\n", "t": "\t"}


def final_in(reply: str) -> str | None:
    """The text in the last whole `FINAL(...)` of a reply, outside code; None where there is none or it is empty.

    It may go over several lines and hold brackets; quotes around all of it are taken off.
    """
    parts = _FINAL.split(_prose(reply))[1:]
    found = [_without_quotes(part[:end]) for part in parts if (end := _end(part)) is not None]
    return found[-1] or None if found else None


def final_variable_in(reply: str) -> str | None:
    """The name in the last `FINAL_VAR(name)` on a line of its own, outside code; None where there is none."""
    found = [name for _, name in _VARIABLE.findall(_prose(reply))]
    return found[-1] if found else None


def _prose(reply: str) -> str:
    """The lines of a reply outside its fenced blocks and its thoughts; a fence left open ends with the reply."""
    kept, fence = [], ""
    for line in _THOUGHT.sub("", reply).replace("\r\n", "\n").split("\n"):
        marks = _FENCE.fullmatch(line)
        if fence:
            closes = marks and marks[1].startswith(fence) and not marks[2].strip()
            fence = "" if closes else fence
        elif marks:
            fence = marks[1]
        else:
            kept.append(line)
    return "\n".join(kept)


def _end(text: str) -> int | None:
    """Where the closing bracket stands: the first at a line's end that balances, else the last at one."""
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
