"""Chunks tile a document, keep the token budget, and are cut where a reader would cut."""

import json
import re
from collections.abc import Sequence
from time import process_time

import pytest
from hypothesis import example, given, settings, strategies as st

from index_store.embedder import TokenOffsets, load_tokenizer
from raptor.chunking import CHARS_PER_TOKEN, chunk
from tests.helpers.places import data_file


def by_words(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
    return [[match.span() for match in re.finditer(r"\w+|[^\w\s]", text)] for text in texts]


def by_bytes(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
    """As a byte-level vocabulary without merges: white space counts, and one character may be four tokens."""
    return [[(i, i + 1) for i, char in enumerate(text) for _ in char.encode()] for text in texts]


def by_pairs(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
    """Counts depend on where a text starts: `ab|ab` is two tokens, and `b|ab` too."""
    return [[(i, min(i + 2, len(text))) for i in range(0, len(text), 2)] for text in texts]


minilm = load_tokenizer()

texts = st.text(st.sampled_from("ab  \n\r\t.!?#-,。、漢é\u2028\u2029\x85\f\0\u200d👩\u0301_")) | st.text()


def pieces(text: str, max_tokens: int = 20, tokens: TokenOffsets = by_words) -> list[str]:
    return [text[start:end] for start, end in chunk(text, tokens, max_tokens)]


@pytest.mark.parametrize(
    "tokens", [by_words, by_bytes, by_pairs, minilm], ids=["words", "bytes", "pairs", "minilm"]
)
@settings(max_examples=150, deadline=None)
@given(text=texts, max_tokens=st.integers(1, 12))
@example("", 1)
@example("\u2028", 1)
@example("one\u2028two\u2029three\x85four", 1)
@example("a\r\n\r\nb\r\n", 1)
@example(" \n lead and trail \n ", 2)
@example("👩\u200d👩\u200d👧" * 40, 3)
@example("supercalifragilisticexpialidocious" * 30, 2)
@example("# a\n## b\n### c\n", 1)
@example("a" + " " * 400 + "b", 1)
@example("embedding" * 3, 1)
@example("abc" * 60, 2)
def test_chunks_tile_the_text_and_keep_the_budget(tokens: TokenOffsets, text: str, max_tokens: int) -> None:
    spans = chunk(text, tokens, max_tokens)
    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert all(start < end for start, end in spans)
    assert "".join(text[start:end] for start, end in spans) == text
    counts = [len(found) for found in tokens([text[start:end] for start, end in spans])]
    assert all(n <= max_tokens or e - s == 1 for n, (s, e) in zip(counts, spans, strict=True))


@settings(max_examples=150, deadline=None)
@given(texts, st.integers(1, 12))
@example(" " * 5000 + "a" + " " * 5000 + "b" + " " * 5000, 2)
@example("a b c.\n\n    ", 3)
def test_no_chunk_is_white_space_only_unless_the_text_is(text: str, max_tokens: int) -> None:
    blank = [piece for piece in pieces(text, max_tokens) if not piece.strip()]
    assert not blank or not text.strip()


@settings(max_examples=100, deadline=None)
@given(texts, st.integers(1, 12))
def test_the_same_text_gives_the_same_chunks(text: str, max_tokens: int) -> None:
    assert chunk(text, by_words, max_tokens) == chunk(text, by_words, max_tokens)


def test_a_carriage_return_stays_with_its_line_feed() -> None:
    assert all(not piece.startswith("\n") for piece in pieces("a line of words\r\n" * 50, 6))


def test_an_empty_text_has_no_chunks() -> None:
    assert chunk("", by_words, 5) == []


def test_a_budget_below_one_is_refused_with_its_value() -> None:
    with pytest.raises(ValueError, match="max_tokens is 0"):
        chunk("a", by_words, 0)


def test_a_text_within_the_budget_is_one_chunk() -> None:
    assert pieces("# One\n\ntwo. three\n\nfour") == ["# One\n\ntwo. three\n\nfour"]


def test_a_paragraph_break_comes_before_a_later_sentence_end() -> None:
    first = "one two three four five six seven eight nine ten eleven.\n\n"
    rest = "Twelve thirteen. Fourteen fifteen sixteen seventeen. " + "more words here " * 12
    assert pieces(first + rest)[0] == first


def test_a_sentence_that_ends_its_line_comes_before_a_later_one() -> None:
    first = "one two three four five six seven eight nine ten eleven.\n"
    assert pieces(first + "Twelve thirteen. Fourteen fifteen sixteen seventeen. " + "w " * 40)[0] == first


def test_short_sentences_fill_the_budget() -> None:
    assert {len(by_words([piece])[0]) for piece in pieces("Two words. " * 60, 20)} == {18}


def test_a_long_line_is_tokenised_in_pieces_that_end_between_words() -> None:
    seen: list[str] = []
    chunk("unbelievable " * 2000, lambda texts: seen.extend(texts) or by_words(texts), 50)  # type: ignore[func-returns-value]
    assert max(map(len, seen)) < 5000
    assert all(text.endswith(" ") for text in seen)


def test_a_sentence_end_comes_before_a_later_line_end_in_wrapped_prose() -> None:
    text = (
        "one two three four\nfive six seven eight nine ten. Eleven twelve\nthirteen fourteen fifteen "
        + "w " * 40
    )
    assert pieces(text)[0].endswith("ten. ")


def test_lines_without_sentences_are_cut_at_line_ends_and_keep_their_indentation() -> None:
    cut = pieces("def f(a):\n" + "    return a\n" * 40, 15)
    assert all(piece.endswith("\n") for piece in cut)
    assert all(piece.startswith("    return") for piece in cut[1:])


def test_text_without_line_or_sentence_ends_is_cut_between_words() -> None:
    assert all(piece.endswith("word ") for piece in pieces("word " * 100, 7))


def test_a_word_is_cut_only_where_there_is_nothing_else() -> None:
    assert all(
        re.fullmatch(r"(unbelievable )+", piece) for piece in pieces("unbelievable " * 2000, 7, by_pairs)
    )


def test_chinese_sentences_are_cut_after_their_full_stops() -> None:
    assert all(piece.endswith("。") for piece in pieces("漢字漢字漢字漢。" * 40, 20, minilm))


def test_a_heading_starts_a_chunk_although_a_paragraph_ends_later() -> None:
    before = "one two three four five six.\n"
    assert pieces(before + "## Next\nseven eight nine ten.\n\neleven twelve " + "word " * 40)[0] == before


def test_a_heading_just_past_the_budget_starts_the_next_chunk() -> None:
    before = "one two three four five six seven eight nine ten eleven.\n\nthirteen a b c d e f g\n"
    assert pieces(before + "## Next\n" + "word " * 40)[0] == before


@pytest.mark.parametrize("blank", ["\n", "\n\n"])
def test_a_chunk_never_ends_with_a_heading(blank: str) -> None:
    sections = (
        f"Words, words. Words under number {i}.\n\n## Heading of eleven words, so that it is wide\n"
        for i in range(30)
    )
    cut = pieces(blank.join(sections) + "The end.")
    assert len(cut) > 10
    assert not [piece for piece in cut if piece.rstrip().splitlines()[-1].endswith("wide")]


def test_a_heading_alone_is_no_chunk() -> None:
    assert (
        "word"
        in pieces("# A heading of twelve words, which is more than half a chunk.\n\n" + "word " * 40)[0]
    )


def test_a_heading_longer_than_the_budget_is_cut_between_words() -> None:
    assert all(piece.endswith("headings ") for piece in pieces("# " + "headings " * 50, 30, by_pairs))


def test_the_end_of_a_text_is_shared_by_its_last_two_chunks() -> None:
    sizes = [len(piece.split()) for piece in pieces("word " * 21, 20)]
    assert min(sizes) >= 7


def test_an_unknown_word_does_not_hide_a_megabyte_in_one_token() -> None:
    cut = pieces("a" * 100_000, 100, minilm)
    assert max(map(len, cut)) <= 100 * CHARS_PER_TOKEN


@pytest.mark.parametrize(
    "text",
    [
        "word " * 200_000,
        "a" * 1_000_000,
        "漢字かな" * 50_000,
        "\n" * 1_000_000,
        "a. " * 300_000,
        "# a\n" * 50_000,
        "word " * 70 + "\r" * 400_000 + "word " * 300,
        "word " * 70 + "\n# a\n" + "\r" * 400_000 + "word " * 300,
    ],
    ids=[
        "one line",
        "no space",
        "no space, many tokens",
        "line ends",
        "sentences",
        "headings",
        "line ends between words",
        "line ends below a heading",
    ],
)
def test_a_megabyte_of_anything_takes_seconds(text: str) -> None:
    began = process_time()
    chunk(text, by_words, 100)
    assert process_time() - began < 20


def test_real_documents_fill_most_of_the_budget() -> None:
    with data_file("chroma/corpus.jsonl").open(encoding="utf-8", newline="\n") as lines:
        text = max((json.loads(line)["text"] for line in lines), key=len)[:200_000]
    spans = chunk(text, minilm, 100)
    counts = [len(found) for found in minilm([text[start:end] for start, end in spans])]
    assert max(counts) <= 100
    assert sum(counts) / len(counts) > 70
