"""Exact search over all texts at once gives what searching each of them alone would."""

import re
from pathlib import Path

import numpy as np
import pytest
import re2
from hypothesis import example, given, settings, strategies as st

from index_store import grep as g
from index_store.errors import BadQuery, BrokenIndex
from index_store.index import Index, open_index, open_text
from index_store.writer import Draft
from tests.helpers.toy import document, publish_toy, unit_rows

PATTERNS = [
    "a.{0,12}b", "(?i)É.{1,20}A",
    "a", "ab|b", "a+", r"a\sb", r"\s", r"\n", "[^a]+", "(?s).", "(?s)a.*b", "(?s).+", "^a", "b$", "^$", "a*",
    r"\ba", r"b\b", r"\Bb", r"a\B", r"\Aa", r"b\z", r"(?-m:^a)", r"(?-m:b$)", "é", "(?i)É", r"\pL+",
    r"^\s*a", "(a)(b)", "a??", r"a(?:\sb)?",
]  # fmt: skip


def index_of(path: Path, texts: list[str], width: int = 3) -> Index:
    """An index of these texts, cut into chunks of `width` characters, under one root."""
    chunks = [
        (d, a, min(a + width, len(text)))
        for d, text in enumerate(texts)
        for a in range(0, max(len(text), 1), width)
    ]
    n = len(chunks)
    draft = Draft(
        documents=[document(f"{d:03d}.txt", text) for d, text in enumerate(texts)],
        chunks=np.array(chunks, dtype=np.int64).reshape(-1, 3),
        labels=["half", "all"],
        summaries=["half", "all"],
        levels=[n, 1, 1],
        children=[np.arange(0, n, 2), np.array([n])],
        tokens=np.ones(n + 2, dtype=np.int64),
        vectors=unit_rows(n + 2),
    )
    publish_toy(path, draft)
    return open_index(path)


def alone(pattern: str, text: str) -> list[str]:
    raw = text.encode()
    return [
        raw[slice(*m.span())].decode() for m in re2.finditer(("(?m)" + pattern).encode(), raw) if m.group()
    ]


def found(index: Index, pattern: str, under: str | None = None) -> list[tuple[str, str]]:
    result = index.grep(pattern, limit=10_000, under=under)
    assert result.complete
    assert result.total == len(result.matches)
    return [(m.span.doc, index.span_text(m.span)) for m in result.matches]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text("ab\n é", max_size=8), min_size=1, max_size=8),
    batch=st.sampled_from([1, 12, 1 << 20]),
)
@example(texts=["a", "b", "ab", "", "b"], batch=1 << 20)
@example(texts=["a\n", "\nb", "\n", "aé", "éa"], batch=1 << 20)
@example(texts=["a", "a" * 30, "b"], batch=12)
@example(texts=["", ""], batch=1)
@example(texts=["a", "aaa", "b"], batch=1 << 20)
def test_all_texts_at_once_give_what_each_gives_alone(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], batch: int
) -> None:
    index = index_of(tmp_path_factory.mktemp("g") / "i", texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(g, "BATCH_BYTES", batch)
        for pattern in PATTERNS:
            patch.setattr(g, "_COUNTED", re.compile(r"\{\d{2}" if batch == 12 else ""))
            expected = [(f"{d:03d}.txt", m) for d, text in enumerate(texts) for m in alone(pattern, text)]
            assert found(index, pattern) == expected, pattern


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text("ab\n é", min_size=1, max_size=14), min_size=1, max_size=5))
@example(texts=["aaaaaaa", "aaaa"])
def test_below_a_node_each_unbroken_stretch_is_searched_alone(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    index = index_of(tmp_path_factory.mktemp("g") / "i", texts)
    chunks = [index.text_at(i) for i in range(0, index.levels[0], 2)]
    for pattern in PATTERNS:
        # Every second chunk is below L1-00000; two in a row are never of one document, so each stands alone.
        assert [m for _, m in found(index, pattern, under="L1-00000")] == [
            m for chunk in chunks for m in alone(pattern, chunk)
        ], pattern


def test_a_match_does_not_cross_from_one_document_into_the_next(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", ["the main", "mast", "the main\nmast"])
    assert found(index, r"main\s*mast") == [("002.txt", "main\nmast")]
    assert found(index, "mainmast") == []
    assert found(index, r"(?s)main.*") == [("000.txt", "main"), ("002.txt", "main\nmast")]


def test_hits_name_the_chunk_that_holds_their_start(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", ["ééé\u2028abc", "abc"])
    assert [(m.node, m.span.start, m.span.end) for m in index.grep("b").matches] == [
        ("L0-00001", 5, 6),
        ("L0-00003", 1, 2),
    ]


def test_a_catastrophic_pattern_ends_at_once(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", ["a" * 20_000 + "!"], width=20_001)
    assert found(index, "(a+)+$") == []
    assert found(index, "(a|a)*b") == []


def test_a_text_without_a_literal_that_a_slow_pattern_needs_is_passed_over() -> None:
    promising = {p: g._promising(g.compile_pattern(p, True), p) for p in ("a.{300}zq9", "a.{3}zq9", ".{300}")}
    assert [promising["a.{300}zq9"](raw) for raw in (b"aaa", b"a ZQ9")] == [False, True]
    assert promising["a.{3}zq9"](b"aaa")  # fast anyway, so it is not asked
    assert promising[".{300}"](b"aaa")


def test_a_pattern_that_matches_nothing_everywhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = index_of(tmp_path / "i", ["abc" * 100])
    monkeypatch.setattr(g, "EMPTY_MATCHES", 50)
    with pytest.raises(BadQuery, match="empty string"):
        index.grep("x*")
    assert found(index, "x+") == []


def test_the_line_around_a_match_is_cut_to_size(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", ["x" * 5000 + "needle" + "y" * 5000 + "\nother"], width=9999)
    (match,) = index.grep("needle").matches
    assert "needle" in match.line
    assert len(match.line) <= 2 * g.LINE_CHARS


@pytest.mark.parametrize("under", ["L0-00000", "L0-00001", "L0-00002", "L1-00000"])
def test_the_line_around_a_match_ends_where_the_branch_does(tmp_path: Path, under: str) -> None:
    index = index_of(tmp_path / "i", ["one secret x two secret x three secret x"], width=13)
    inside = "".join(index.text(leaf.id) for leaf in index.leaves(under))
    matches = index.grep("secret|ret|x", under=under).matches
    assert matches
    assert all(match.line and match.line in inside for match in matches)


@pytest.mark.parametrize("borders", [[0, 9, 3, 4], [-1, 1, 2, 4], [0, 1, 2, 10**9]])
def test_texts_that_overlap_or_lie_outside_are_refused(tmp_path: Path, borders: list[int]) -> None:
    index_of(tmp_path / "i", ["a", "b", "ab"])
    np.save(tmp_path / "i" / "generations" / "000001" / "documents_text.npy", np.array(borders))
    with pytest.raises(BrokenIndex, match="raptor verify"):
        open_index(tmp_path / "i").grep("a")


def test_chunks_that_lie_outside_the_text_are_refused(tmp_path: Path) -> None:
    index_of(tmp_path / "i", ["aaaa", "b"])
    file = tmp_path / "i" / "generations" / "000001" / "nodes.npy"
    rows = np.load(file)
    rows["end"][0] = 10**9
    np.save(file, rows)
    with pytest.raises(BrokenIndex, match="raptor verify"):
        open_index(tmp_path / "i").grep("a", under="L1-00000")


def test_a_program_too_large_for_the_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(b"alpha beta\n" * 400_000)
    index = open_text(path)
    with pytest.raises(BadQuery, match="repeats too much"):
        index.grep("(a|b)[a-z ]{999}Q")
    assert index.grep("be[t]a", limit=1).matches


def test_once_enough_is_found_what_would_end_the_search_ends_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = index_of(tmp_path / "g.index", ["xxxx" + "y" * 50, "xx"])
    monkeypatch.setattr(g, "EMPTY_MATCHES", 20)
    assert (len(index.grep("x*?x|", limit=2).matches), index.grep("x", limit=2).total) == (2, 6)
    result = index.grep("x*", limit=1)
    assert (len(result.matches), result.complete) == (1, False)
    with pytest.raises(BadQuery, match="matches the empty string"):
        index.grep("x*", limit=2)
    monkeypatch.setattr(g, "BATCH_BYTES", 1)  # so that there is a check between the documents
    result = index.grep("x", limit=2, count_s=-1.0)
    assert (len(result.matches), result.total, result.complete) == (2, 4, False)
