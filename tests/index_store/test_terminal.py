"""Text from anywhere is safe to look at, and short where it must be."""

import pytest

from index_store.terminal import brief, one_line, visible


def test_characters_that_act_unseen_are_written_out() -> None:
    assert visible("a\x1b[2Jb\u202ec\ud800\U000e0041\r\n\td") == "a\\x1b[2Jb\\u202ec\\ud800\\U000e0041\n\td"
    assert one_line("two\n words", 20) == "two words"
    assert one_line("x" * 50, 5) == "xxxx…"


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        (None, "None"),
        (True, "True"),
        (-3, "-3"),
        (10**25, "int"),
        (float("nan"), "nan"),
        ("naïve \u202e", "'naïve \\u202e'"),
        ("x" * 100, "'" + "x" * 78 + "…"),
        (["x"], "list"),
        ({"a": {}}, "dict"),
    ],
)
def test_a_value_is_quoted_in_a_few_safe_characters(value: object, quoted: str) -> None:
    assert brief(value) == quoted


def test_no_value_is_long_or_acts_unseen_when_quoted() -> None:
    assert brief(10**5000) == "int"  # its digits cannot even be written
    for text in ("\U000e0041" * 1000, "\x1b\u2028\ud800" * 50, "'\"" * 90):
        assert len(brief(text)) <= 80 and brief(text).isprintable()
