"""What it is to be represented in what is read, on texts made by hand."""

from pathlib import Path

from benchmarks._report import Claim, Loss
from benchmarks.topics import (
    Row,
    _claims,
    by_marginal_relevance,
    own_words,
    represented,
    row_of,
    spent,
    titles_at_random,
    upper_levels,
    words_in,
)
from tests.helpers.toy import toy_index

TEXTS = {
    "a": "Ketch\nThe mast, the mast of the ketch.",
    "b": "Yawl\nThe mast of the yawl; rudder.",
    "c": "The",
}


def test_a_documents_own_words_stand_in_no_other() -> None:
    groups = own_words(TEXTS)
    assert {group.name: group.own for group in groups} == {"a": {"ketch"}, "b": {"yawl", "rudder"}}


def test_only_an_own_word_represents_a_document_and_only_as_a_whole_word() -> None:
    groups = own_words(TEXTS)
    for text, found in {
        "The KETCH.": [1, 0],
        "mast": [0, 0],
        "ketches, rudders": [0, 0],
        "rudder-post": [0, 1],
    }.items():
        assert represented(groups, words_in(text)).tolist() == found


def test_all_ways_spend_the_same_tokens() -> None:
    pieces = [("one", "alpha beta gamma"), ("two", "delta epsilon zeta")]
    assert spent(pieces, 1_000) == "[one]\nalpha beta gamma\n[two]\ndelta epsilon zeta"
    few = spent(pieces, 5)
    assert few.startswith("[one]\nalpha") and "delta" not in few
    assert spent(pieces, 0) == ""


def test_a_row_sets_the_levels_against_the_best_flat_way() -> None:
    groups = own_words(TEXTS)
    read = {
        "levels": [words_in("ketch yawl")],
        "search": [words_in("mast")],
        "mmr": [words_in("ketch")],
        "random": [words_in("ketch"), words_in("")],
        "titles": [words_in("yawl")],
    }
    row = row_of("toy", "documents", groups, 10, read)
    assert row.shares == {"levels": 100.0, "search": 0.0, "mmr": 50.0, "random": 25.0, "titles": 50.0}
    assert (row.best, row.gained[0], row.spread) == ("mmr", 50.0, (0.0, 50.0))


def test_what_is_read_by_each_way_is_of_the_index(tmp_path: Path) -> None:
    index = toy_index(tmp_path / "i")
    order = list(by_marginal_relevance(index, index.vectors[0]))
    assert order[0] == 0 and sorted(order) == list(range(6))
    assert sorted(title for title, _ in titles_at_random(index, 1)) == sorted(
        d.title for d in index.documents
    )
    text = spent(upper_levels(index, 500), 500)
    assert "Boats and masts" in text and "60% of the text" in text


def test_levels_that_are_behind_on_one_row_are_said_to_be_and_titles_that_say_more() -> None:
    def row(tokens: int, levels: float, mean: float) -> Row:
        shares = {"levels": levels, "search": 40.0, "mmr": 30.0, "random": 20.0, "titles": 70.0}
        return Row("toy", "documents", 9, tokens, shares, "search", (mean, mean - 5, mean + 4), (10.0, 30.0))

    claim, *losses = _claims([row(500, 80.0, 40.0), row(1_000, 35.0, -5.0)])
    assert isinstance(claim, Claim) and claim.holds is False
    assert claim.figure == "ahead on 1 of 2, by more than noise on 1"
    assert losses == [
        Loss("search", "documents of toy named in 1,000 tokens", "40.0", "35.0", "[+1.0 +10.0]"),
        Loss("titles alone", "documents of toy named in 1,000 tokens", "70.0", "35.0"),
    ]
