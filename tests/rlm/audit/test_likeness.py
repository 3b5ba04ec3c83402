"""The same words, spaced otherwise: what a line's end may do to a text, and that nothing else passes for it."""

import re
from typing import Any

import pytest
from hypothesis import assume, example, given, strategies as st

from rlm.audit.likeness import same_words

SAME = [
    ("inter-\nnational", "international"),
    ("well-\nknown", "well-known"),
    ("well-\nknown", "well- known"),
    ("foo-\r\n   bar", "foobar"),
    ("soft\u00adware", "software"),
    ("soft\u00ad\n  ware", "software"),
    ("e\ufb03cient \ufb02ow", "efficient flow"),
    ("1990-\n2000", "1990-2000"),
    ("1990–\n2000", "1990-2000"),
    ("COVID-\n19", "COVID-19"),
    ("it ends—\nand begins", "it ends—and begins"),
    ("a  b\n\tc\f d", " a b c d\n"),
    ("“it’s” – so", '"it\'s" - so'),
    ("日本\n国民", "日本国民"),
    ("cafe\u0301", "café"),
]
OTHER = [
    ("re-sign", "resign"),
    ("inter- national", "international"),
    ("1990-\n2000", "19902000"),
    ("COVID-\n19", "COVID19"),
    ("10 –\n5", "10 –5"),
    ("10²", "102"),
    ("½", "1/2"),
    ("word–\nword", "wordword"),
    ("the ketch", "theketch"),
    ("Ketch", "ketch"),
    ("two masts", "masts two"),
    ("two masts.", "two masts"),
    ("a\x00b", "ab"),
    ("", "a"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_a_line_end_or_a_typesetter_does_leaves_the_words_the_same(one: str, other: str) -> None:
    assert same_words(one, other) and same_words(other, one)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_other_letters_digits_marks_case_or_order_are_not_the_same(one: str, other: str) -> None:
    assert not same_words(one, other) and not same_words(other, one)


WORDS = "the efficient office paid not 1,500 dollars in 2019 COVID-19 well-known don't “quoted” costs — a flow of Teme"
TEXT = st.lists(st.sampled_from(WORDS.split()), min_size=4, max_size=25)


def set_anew(data: Any, text: str) -> str:
    """The text with its lines broken elsewhere, within words too, and other ligatures, hyphens, marks and blanks."""

    def choose(*forms: str) -> Any:
        return lambda match: data.draw(st.sampled_from(forms))

    text = re.sub(r"(?<=[a-z])(?=[a-z])", choose("", "", "", "", "\u00ad", "-\n", "-\n   ", "\u00ad\n"), text)
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", choose("-", "-\n"), text)
    for marks in ('"“”', "'’‘", "—–-"):  # a dash that stands alone is no hyphen
        pattern = rf"(?<= )[{marks}](?= )" if "-" in marks else f"[{marks}]"
        text = re.sub(pattern, choose(*marks), text)
    text = re.sub(" ", choose(" ", "\n", "  ", " \n\t", "\f", "\u00a0"), text)
    return text.replace("ffi", data.draw(st.sampled_from(["ffi", "ﬃ"]))).replace("fl", "ﬂ")


@given(words=TEXT, data=st.data())
def test_a_text_that_is_set_anew_keeps_its_words(words: list[str], data: Any) -> None:
    text = " ".join(words)
    one, other = set_anew(data, text), set_anew(data, text)
    assert same_words(text, one) and same_words(one, text) and same_words(one, other)


@given(words=TEXT, data=st.data())
def test_a_text_that_is_set_anew_with_one_word_or_digit_changed_has_others(
    words: list[str], data: Any
) -> None:
    at = data.draw(st.integers(0, len(words) - 1))
    digits = [i for i, char in enumerate(words[at]) if char.isdigit()]
    if digits and data.draw(st.booleans()):
        i = data.draw(st.sampled_from(digits))
        changed = words[at][:i] + str((int(words[at][i]) + 1) % 10) + words[at][i + 1 :]
    else:
        changed = data.draw(st.sampled_from([*WORDS.split(), ""]))
    assume(changed != words[at])
    other = [*words[:at], *([changed] if changed else []), *words[at + 1 :]]
    assert not same_words(set_anew(data, " ".join(words)), set_anew(data, " ".join(other)))


ODD = st.text("aB1-–\n\u00ad \t'ﬁ国", max_size=12)


@given(one=ODD, other=ODD)
@example(one="a-\nb", other="a–\nb")
@example(one="-\n", other="-")
def test_any_two_texts_are_compared_alike_from_both_sides(one: str, other: str) -> None:
    assert same_words(one, one)
    assert same_words(one, other) == same_words(other, one)
