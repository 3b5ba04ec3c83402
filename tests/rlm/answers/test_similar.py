"""The nearest stretch of a text: what counts as near, where it begins and ends, and that nothing makes it slow."""

import random
import sys

import pytest
from hypothesis import example, given, strategies as st

from rlm.answers import similar
from rlm.answers.citations import NEAREST
from rlm.answers.similar import Ints, cuts_word, lower, nearest
from rlm.audit.likeness import SAME_WORDS
from tests.helpers import altered

TEXT = (
    "Either party may terminate this agreement on 30 days' written notice. The fee is 1,500 dollars, and it is not "
    "refundable. Non-compliant inter-\nnational shipments are returned. Naïve users don’t read this."
)


def found(quote: str, text: str = TEXT) -> tuple[str, float] | None:
    near = nearest(text, quote)
    return (text[near.start : near.end], near.similarity) if near else None


@pytest.mark.parametrize(
    ("quote", "words", "similarity"),
    [
        ("the FEE is **1,500** dollars", "The fee is 1,500 dollars", SAME_WORDS),
        ("international shipments are returned", "inter-\nnational shipments are returned", SAME_WORDS),
        ("naïve users don't read", "Naïve users don’t read", SAME_WORDS),
        ("Either party may terminate this contract", "Either party may terminate this", 0.833),
        ("the fee is 1,600 dollars", "The fee is 1,500 dollars", 0.571),  # a number weighs as three words
        (
            "1,500 dollars, and it is refundable. Non-compliant international shipments",
            TEXT[81:161],
            0.727,
        ),  # "not"
        ("users do read this", "read this", 0.5),
        ("party may terminate ... 30 days' written notice", TEXT[7:68], SAME_WORDS),
        ("party may terminate […] it is not refundable", TEXT[7:120], SAME_WORDS),
        ("party ... refundable", "party", 0.5),  # of pieces so short anything can be made
        ("party may terminate this the fee is 1,500 dollars", "The fee is 1,500 dollars", 0.636),
    ],
)
def test_words_are_compared_and_numbers_and_negations_weigh_more(
    quote: str, words: str, similarity: float
) -> None:
    assert found(quote) == (words, similarity)


@pytest.mark.parametrize("quote", ["", "...", "“ ”", "elephants", "\x00", "\ud800", "(" * 3_000])
def test_where_no_word_stands_there_is_nothing_near(quote: str) -> None:
    assert nearest(TEXT, quote) is None
    assert nearest("", quote) is None


@pytest.mark.parametrize(
    "parted", ["unable", "can't", "can’t", "non-toxic", "1,500", "3.5", "x1", "soft\u00adware"]
)
def test_a_border_within_a_word_or_a_number_cuts_it(parted: str) -> None:
    text = f"a {parted} b"
    assert [at for at in range(2, 2 + len(parted)) if not cuts_word(text, at)] == [2]
    assert not cuts_word(text, 2 + len(parted))
    assert not any(cuts_word("日本語。ภาษา", at) for at in range(12))


def test_lower_case_leaves_every_character_at_its_place() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert len(lower(everything)) == len(everything)


WORDS = st.lists(
    st.sampled_from(["a", "b", "not", "7", "die", "ketch's", "non-toxic", "日本", "…"]), max_size=30
).map(" ".join)


@given(text=WORDS, quote=WORDS | st.text(max_size=20))
@example(text="a a a", quote="a ... a")
def test_what_is_near_is_whole_words_and_never_called_the_same(text: str, quote: str) -> None:
    if near := nearest(text, quote):
        assert 0 < near.similarity <= SAME_WORDS
        assert 0 <= near.start < near.end <= len(text)
        assert not cuts_word(text, near.start)
        assert not cuts_word(text, near.end)


def test_in_a_long_text_the_place_is_found_by_the_rare_words_of_the_quote() -> None:
    rng = random.Random(3)
    vocabulary = ["".join(rng.choices("aeiounrstl", k=rng.randint(2, 9))) for _ in range(3_000)]
    words = rng.choices(vocabulary, k=60_000)
    text = " ".join(words)
    for at in range(0, 59_000, 4_999):
        quote = words[at : at + 40]
        quote[10:12] = ["xylophone"]
        near = nearest(text, " ".join(quote))
        assert near and text[near.start : near.end] == " ".join(words[at : at + 40])


@pytest.mark.parametrize(
    ("part", "quote"),
    [
        ("the ", "the " * 1_249 + "end"),
        ("a b ", "a b " * 1_249 + "c"),
        ("a", " ".join("a" * n + "b" for n in range(3, 90))),
        ("a-", "a-" * 2_500),
        ("1,", "1," * 2_499 + "2"),
        ("日本国民は正当に", "日本国民は不当に" * 600),
        ("ﷺ", "ﷺ" * 5_000),
        ("... the company ", "the company shall ... " * 220),
    ],
)
def test_a_long_quote_in_five_million_characters_of_hostile_text_is_looked_for_closely_in_few_places(
    part: str, quote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    last_row = similar._last_row

    def counted(
        quote: Ints, quote_weights: Ints, skips: set[int], source: Ints, weights: Ints, free_start: bool
    ) -> Ints:
        rows.append(len(quote) * (len(source) + 1))
        return last_row(quote, quote_weights, skips, source, weights, free_start)

    monkeypatch.setattr(similar, "_last_row", counted)
    nearest(part * (5_000_000 // len(part)), quote)
    assert sum(rows) < 60_000_000


def test_quotes_altered_as_models_alter_them_are_near_and_other_sentences_are_not() -> None:
    rng = random.Random(11)
    some = altered.sentences(rng)[::6]

    def share(similarities: list[float]) -> float:
        return sum(s >= NEAREST for s in similarities) / len(similarities)

    for kind in ("capitals, Markdown", "hyphenated over lines", "ellipsis over a sentence", "a word changed"):
        assert share(altered.similarities(kind, some, rng)) > 0.9, kind
    assert share(altered.similarities("every second word changed", some, rng)) < 0.15
    assert share(altered.unrelated(False, some, rng)) < 0.03
    assert max(altered.similarities("a number changed", some, rng)) < 1
