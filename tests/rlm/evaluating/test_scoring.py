"""What an answer scores: by hand, and what holds of any."""

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from rlm.evaluating.scoring import exact, f1, normal, numbers, same_numbers, words_of

TEXTS = st.text(max_size=60)


@pytest.mark.parametrize(
    ("answer", "given", "score"),
    [
        ("Two masts.", ["two masts"], 1.0),
        ("The ketch", ["a ketch"], 1.0),
        ("two", ["three", "TWO!"], 1.0),
        ("two masts", ["two"], 0.0),
        ("", ["two"], 0.0),
        ("the", ["a"], 1.0),  # neither has a word
    ],
)
def test_exact_match_takes_no_account_of_case_marks_and_articles(
    answer: str, given: list[str], score: float
) -> None:
    assert exact(answer, given) == score


@pytest.mark.parametrize(
    ("answer", "given", "score"),
    [
        ("two tall masts", ["two masts"], 2 * (2 / 3) * 1 / (2 / 3 + 1)),
        ("two two masts", ["two masts"], 0.8),  # a word counts as often as the other has it
        ("one mast", ["two sails"], 0.0),
        ("a ketch", ["yawl", "the ketch rig"], 2 / 3),  # the best of the given ones
        ("the", ["an"], 1.0),
        ("the", ["mast"], 0.0),
    ],
)
def test_f1_is_of_words_that_both_have(answer: str, given: list[str], score: float) -> None:
    assert f1(answer, given) == pytest.approx(score)


@given(TEXTS, TEXTS)
def test_f1_lies_between_0_and_1_is_the_same_both_ways_and_1_where_the_words_are_the_same(
    a: str, b: str
) -> None:
    assert 0.0 <= f1(a, [b]) <= 1.0
    assert f1(a, [b]) == pytest.approx(f1(b, [a]))
    assert f1(a, [a]) == exact(a, [a]) == 1.0
    assert exact(a, [b]) <= f1(a, [b])
    assert normal(a) == normal(f" {a} ")


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=4))
def test_another_given_answer_never_lowers_a_score(answer: str, given: list[str]) -> None:
    assert f1(answer, given) >= f1(answer, given[:1])
    assert exact(answer, given) >= exact(answer, given[:1])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,234.50", ["1234.5"]),
        ("12%, 12 percent and 12 per cent", ["12"]),
        ("$3 million", ["3000000"]),
        ("$3m or £1.5bn", ["3000000", "1500000000"]),
        ("3 m long", ["3"]),
        ("-5 degrees, (-6) and −7", ["-5", "-6", "-7"]),
        ("pages 10-12", ["10", "12"]),
        ("in 1999, 2000", ["1999", "2000"]),
        ("10,11,12", ["10", "11", "12"]),
        ("two masts", []),
        ("0.5 and .5", ["0.5", "5"]),
        ("2 thousandths", ["2"]),
        ("1,234,567", ["1234567"]),
    ],
)
def test_numbers_are_found_whatever_is_written_around_them(text: str, found: list[str]) -> None:
    assert numbers(text) == {Fraction(one) for one in found}


@given(st.integers(min_value=0, max_value=10**15))
def test_a_number_is_the_same_with_and_without_commas(number: int) -> None:
    assert numbers(f"{number:,}") == numbers(str(number)) == {Fraction(number)}


def test_an_answer_must_hold_the_numbers_of_one_given_answer_and_no_other() -> None:
    assert same_numbers("It fell by 1,200 (12%).", ["12 percent, 1200"]) == 1.0
    assert same_numbers("It fell by 12% in 2021.", ["12 percent"]) == 0.0
    assert same_numbers("It fell by 12%.", ["twelve", "13", "12"]) == 1.0
    assert same_numbers("It fell by 12%.", ["twelve"]) is None


def test_marks_of_citations_are_no_words_and_a_refusal_counts_without_its_reason() -> None:
    assert words_of("Two [1, 2]. It is a ketch [3].") == "Two. It is a ketch."
    assert words_of("Not in these documents: they end in 2019.") == "Not in these documents"
    assert exact(words_of("Not in these documents: they end in 2019."), ["Not in these documents"]) == 1.0
    assert same_numbers(words_of("Two masts [1]."), ["2"]) == 0.0


def test_hostile_texts_take_linear_time() -> None:
    for text in ("1," * 50_000, "1" * 100_000, "1,234" * 20_000, "-$" * 50_000, "[1" * 50_000):
        numbers(text)
        f1(words_of(text), [text])
