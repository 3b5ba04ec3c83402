"""Text from anywhere is safe to look at, and short where it must be."""

import json
import unicodedata

import pytest

from index_store.terminal import brief, one_line, print_json, spelled, visible


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        # what drives a terminal
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x07\x08\x0b\x0c\r\x7f\x9b", r"\x07\x08\x0b\x0c\x0d\x7f\x9b"),
        # what begins a line; a Windows line end is one
        ("a\r\nb\tc", "a\nb\tc"),
        ("a\x85b\u2028c\u2029d", r"a\x85b\u2028c\u2029d"),
        # what reorders words
        ("a\u202eb\u2066c\u2069", r"a\u202eb\u2066c\u2069"),
        ("a\u200eb\u200fc\u061cd", r"a\u200eb\u200fc\u061cd"),
        # what hides in a text, or keeps names apart that look the same
        ("pay\u200bpal\u2060\ufeff\xad", r"pay\u200bpal\u2060\ufeff\xad"),
        ("a\u034fb\u180ec\u3164d\uffa0\u115f\u1160\u17b4", r"a\u034fb\u180ec\u3164d\uffa0\u115f\u1160\u17b4"),
        ("\ufff9a\ufffab\ufffb", r"\ufff9a\ufffab\ufffb"),
        (
            "\U000e0041\U000e007f\U000e0100\U0001bca0\U0001d173",
            r"\U000e0041\U000e007f\U000e0100\U0001bca0\U0001d173",
        ),
        ("\ud800", r"\ud800"),
        # joiners and selectors where they shape nothing
        ("pay\u200cpal \u200d \u200c", r"pay\u200cpal \u200d \u200c"),
        ("a\ufe0fb\ufe0e\u2764\ufe0f\ufe0f", "a\\ufe0fb\\ufe0e\u2764\ufe0f\\ufe0f"),
        ("a\ufe0f\u200d\U0001f525\u200d\u200d", "a\\ufe0f\\u200d\U0001f525\\u200d\\u200d"),
        ("\u2764\ufe01\ufe00", r"❤\ufe01\ufe00"),
        ("\u0645\u200c\u200c\u06cc \u200c\u0645", "\u0645\\u200c\\u200c\u06cc \\u200c\u0645"),
    ],
)
def test_characters_that_act_unseen_are_written_out(text: str, seen: str) -> None:
    assert visible(text) == seen
    assert visible(seen) == seen


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian: "I want", whose parts must not join
        "\u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937",  # Devanagari: a half form, and none
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f\u200d\U0001f525 1\ufe0f\u20e3",  # family, heart, key
        "\U0001f469\U0001f3fd\u200d\U0001f4bb",  # with a tone of skin
        "\u05e9\u05dc\u05d5\u05dd naïve e\u0301 \ue000 \xa0 \u3000",
    ],
)
def test_what_shapes_the_letters_beside_it_stays(text: str) -> None:
    assert visible(text) == text


def test_no_character_that_unicode_calls_a_control_or_a_format_stays_where_it_shapes_nothing() -> None:
    # The signs of these are drawn: each stands over or under a number.
    drawn = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    drawn |= set(range(0x13430, 0x13440))  # places of hieroglyphs in a square
    for code in set(range(0x110000)) - drawn - {9, 10}:
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert visible(f"a{chr(code)}b").isascii(), hex(code)


def test_what_must_stay_on_one_line_does() -> None:
    breaks = "a\nb\rc\x0bd\x0ce\x1cf\x1dg\x1eh\x85i\u2028j\u2029k\tl\r\nm"
    assert one_line(breaks, 80) == "a b c d e f g h i j k l m"
    assert spelled(breaks) == r"a\nb\x0dc\x0bd\x0ce\x1cf\x1dg\x1eh\x85i\u2028j\u2029k\tl\x0d\nm"
    assert one_line("two\n words", 20) == "two words"
    assert one_line("x" * 50, 5) == "xxxx…"


def test_json_is_printed_in_ascii_that_can_be_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"\x7f\x1b": ["\u202e\ud800\n", "\\\x7f"]}
    print_json(value)
    out = capsys.readouterr().out
    assert out.isascii() and out[:-1].isprintable() and json.loads(out) == value


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        (None, "None"),
        (True, "True"),
        (-3, "-3"),
        (10**25, "1000000000000…"),
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
    assert brief(10**5000) == "1000000000000…"  # all its digits cannot even be written
    assert (brief(-(10**20)), brief(2**70)) == ("-1000000000000…", "118059162071…")
    for text in ("\U000e0041" * 1000, "\x1b\u2028\ud800" * 50, "'\"" * 90):
        assert len(brief(text)) <= 80 and brief(text).isprintable()
