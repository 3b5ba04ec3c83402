"""What reads a stranger's text takes time in proportion to it: eight times the text, not sixty-four times the time."""

import time
from collections.abc import Callable

import pytest

from index_store.names import names_asked, names_in
from index_store.terminal import one_line, visible
from raptor.loading.html import extract
from raptor.loading.markdown import markdown_sections
from rlm.answers.citations import find_nearly
from rlm.audit.fences import fenced_blocks
from rlm.audit.page.steps import _coloured
from rlm.audit.suspicion import instructions_in
from rlm.gateway.blocks import Block, outside, quote, unquote
from rlm.loop.marking import marked, pieces
from rlm.loop.replies import code_of, final_in
from rlm.loop.single import parse

CHARS = 8_000  # of the small text


def nested(size: int) -> str:
    """Marks one in another, each with a hash that is not that of what it encloses."""
    marks = [f"{number:012x}" for number in range(size // 60)]
    begin = (f"<<<DATA {mark} a>>>\n" for mark in marks)
    return "".join([*begin, *(f"<<<END {mark} 1>>>\n" for mark in reversed(marks))])


READERS: dict[str, Callable[[str], object]] = {
    "the blocks of a prompt": unquote,
    "a prompt without its blocks": outside,
    "fences": fenced_blocks,
    "the code of a reply": code_of,
    "an answer in prose": final_in,
    "the answer of a single call": lambda text: parse(text, {}),
    "the marking of a prompt": lambda text: marked(text, pieces([text[:1_000]])),
    "flags": instructions_in,
    "the colours of code": lambda text: _coloured(text, None),
    "what is seen": visible,
    "a line": lambda text: one_line(text, len(text)),
    "a quote with other spaces": lambda text: find_nearly(text, 'a b "c" d'),
    "Markdown": lambda text: list(markdown_sections(text)),
    "HTML": extract,
    "names": lambda text: list(names_in(text)),
    "names in a question": names_asked,
}
# fmt: off
UNITS = [
    "<", "```", "`", "~", "[", "{", '"', "\\", "\\\"", "\\'", "'''\"", '"""\'', " ", "\t", "a:", "\n", "9", "1.",
    "[]", "()",
    "```python\n", "~~~\n", "<think>", "<code>", "FINAL(", "FINAL(\n", ")\n", '[a] "b\n', '[a] "b"\n\n', '"\n\n', "# ",
    "- ", "&#", "<a ", "<!--", "</", "<a b='", ".", "! ", "ignore ", "your answer ", "context.", "“", "\u200d", "\r\n",
    "A", "A ", "A of ", "St. ", "a.", "aB", "a_", "a1", "1.", "1-", "A’s ", "Aa 1 ",
    "<<<DATA aaaa x>>>\n", "<<<DATA aaaa x>>>\n<<<END aaaa 1>>>\n", "<<<END aaaa 999999999>>>\n",
]
# fmt: on
TEXTS: dict[str, Callable[[int], str]] = {
    **{repr(unit): lambda size, unit=unit: unit * (size // len(unit)) for unit in UNITS},  # type: ignore[misc]
    **{f"{unit!r} and x`": lambda size, unit=unit: unit * (size // len(unit)) + "x`" for unit in UNITS},  # type: ignore[misc]
    "marks one in another": nested,
}


def seconds(read: Callable[[str], object], text: str) -> float:
    began = time.process_time()  # of this process alone, since the machine may be busy
    read(text)
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_eight_times_the_text_takes_no_more_than_some_eight_times_the_time(name: str) -> None:
    read = READERS[name]
    for which, text in TEXTS.items():
        small, large = text(CHARS), text(8 * CHARS)
        # Where the large one is read at once there is nothing to compare: a quadratic reader takes seconds.
        if (took := seconds(read, large)) > 0.5 and took >= 24 * seconds(read, small):
            ratio = min(seconds(read, large) for _ in range(3)) / min(seconds(read, small) for _ in range(3))
            assert ratio < 24, f"{which}: {ratio:.0f} times"


def test_a_true_block_is_found_whatever_false_marks_stand_before_it_or_around_it() -> None:
    blocks = [Block("a", "the text"), Block("b", "<<<DATA 0123 x>>>\n")]
    true, many = quote(blocks), "<<<DATA aaaa x>>>\n" * 50
    assert unquote(f"{many}{true}\n{many}") == blocks
    around = "".join(f"<<<DATA {n:012x} x>>>\n" for n in range(7))
    after = "".join(f"\n<<<END {n:012x} 1>>>" for n in reversed(range(7)))
    assert unquote(f"{around}{true}{after}") == blocks
    assert outside(f"{around}{true}{after}") == f"{around}{after}"
    assert unquote(f"{nested(600)}{true}") == blocks


@pytest.mark.parametrize(
    ("code", "string"),
    [("x = 'a", "'a"), ('x = "\\"\\"', '"\\"\\"'), ("x = '''a\nb", "'''a"), ("x = 'a' + b", "'a'")],
)
def test_a_string_without_an_end_is_coloured_to_the_end_of_its_line(code: str, string: str) -> None:
    import html

    (line, *_) = _coloured(code, None)
    assert f'<span class="string">{html.escape(string)}</span>' in line
