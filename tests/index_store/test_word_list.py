"""A sorted list of words, in which one is looked up."""

from pathlib import Path

from hypothesis import example, given, strategies as st

from index_store.word_list import MARK, STEP, WordList

LONG = "n" * MARK
WORDS = st.sets(
    st.text("abnß\U0001f600", max_size=3) | st.text("ab", max_size=3).map(lambda end: LONG + end), min_size=1
)


def listed(words: set[str]) -> tuple[list[str], WordList]:
    ordered = sorted(words, key=str.encode)
    return ordered, WordList(Path("unread"), len(ordered), "\n".join(ordered).encode())


@given(WORDS, st.text("abnß", max_size=4))
@example({f"{LONG}{number:03}" for number in range(3 * STEP)}, LONG)
@example({f"{number:03}" for number in range(3 * STEP + 1)}, "0640")
def test_each_word_of_a_list_has_its_place_and_no_other_word_has_one(words: set[str], other: str) -> None:
    ordered, words_at = listed(words)
    assert [words_at.place(word) for word in ordered] == list(range(len(ordered)))
    for absent in {other, f"{LONG}{other}c"} - words:
        assert words_at.place(absent) is None
