"""Where the evidence for a question lies, and what of a tree is read for it in so many characters."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from index_store.branches import Branch, best_branches, evidence_shares, softmax
from index_store.gathering import Evidence, Piece, evidence_for, gather
from index_store.index import Index, open_index
from index_store.view import View
from tests.helpers.toy import DIM, index_of, publish_toy, toy_index, unit_rows


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return toy_index(tmp_path_factory.mktemp("toy") / "i")


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=20))
def test_evidence_adds_up_to_one_and_keeps_the_order_of_scores(scores: list[int]) -> None:
    shares = softmax(np.array(scores, dtype=float))
    assert shares.sum() == pytest.approx(1)
    assert np.array_equal(
        np.argsort(-shares, kind="stable")[:1], np.argsort(-np.array(scores), kind="stable")[:1]
    )


def test_a_walk_counts_as_much_as_the_scores() -> None:
    assert evidence_shares(np.zeros(2), np.array([0.2, 0.0])).tolist() == [0.75, 0.25]
    assert evidence_shares(np.zeros(2), np.zeros(2)).tolist() == [0.5, 0.5]


def branches(index: Index, shares: list[float], k: int = 8) -> list[Branch]:
    return best_branches(index, len(index) - 1, np.arange(6), np.array(shares), k, lambda number: True)


def test_branches_come_by_their_share_with_their_best_chunks(toy: Index) -> None:
    first, second = branches(toy, [0.3, 0.1, 0.2, 0.25, 0.15, 0.0])
    assert (first.number, first.size, first.best) == (6, 3, (0, 2))
    assert (second.number, second.size, second.best) == (7, 4, (3, 2))
    assert [first.share, second.share] == pytest.approx([0.6, 0.6])
    assert [b.number for b in branches(toy, [0, 0, 0, 0.9, 0.1, 0])] == [7]
    assert len(branches(toy, [0.3, 0.1, 0.2, 0.25, 0.15, 0.0], k=1)) == 1


def test_the_home_of_a_chunk_is_among_the_branches_however_many_it_is_a_guest_in(tmp_path: Path) -> None:
    """Chunk 0 is at home in the first branch and a guest in the two others; all evidence is on it."""
    from dataclasses import replace

    from tests.helpers.toy import toy_draft

    draft = replace(
        toy_draft(),
        levels=[6, 3, 1],
        children=[np.array([0, 1]), np.array([0, 2, 3]), np.array([0, 4, 5]), np.array([6, 7, 8])],
        guests=[np.array([], dtype=int), np.array([0]), np.array([0]), np.array([], dtype=int)],
        labels=["a", "b", "c", "All"],
        summaries=["A.", "B.", "C.", "All."],
        tokens=np.full(10, 5),
        vectors=unit_rows(10),
    )
    publish_toy(tmp_path / "i", draft)
    index = open_index(tmp_path / "i")
    assert [b.number for b in branches(index, [1.0, 0, 0, 0, 0, 0])] == [6, 7, 8]
    assert index.homes.tolist() == [6, 6, 7, 7, 8, 8, 9, 9, 9, -1]
    assert (index.home(0), index.home(9), index.guests(7)) == (6, None, [0])


def test_where_one_branch_holds_nearly_all_its_own_branches_are_compared(tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.helpers.toy import toy_draft

    draft = toy_draft()
    high = [
        np.array([0, 1]),
        np.array([2, 3]),
        np.array([4, 5]),
        np.array([6, 7]),
        np.array([8]),
        np.array([9, 10]),
    ]
    labels, summaries = [f"n{i}" for i in range(6)], [f"About {i}." for i in range(6)]
    tall = replace(draft, levels=[6, 3, 2, 1], children=high, tokens=np.full(12, 5), vectors=unit_rows(12))
    tall = replace(tall, labels=labels, summaries=summaries)
    publish_toy(tmp_path / "i", tall)
    index = open_index(tmp_path / "i")
    assert [b.number for b in branches(index, [0.1, 0.1, 0.2, 0.1, 0.3, 0.2])] == [9, 10]
    assert [b.number for b in branches(index, [0.5, 0.1, 0.3, 0.1, 0.0, 0.0])] == [6, 7]


def of(scores: list[float]) -> Evidence:
    return Evidence(np.arange(len(scores)), softmax(np.array(scores)), np.array(scores))


def read_of(pieces: list[Piece]) -> list[list[int]]:
    return [list(piece.nodes) for piece in pieces]


def test_the_best_chunks_are_read_until_the_characters_are_used_up(tmp_path: Path) -> None:
    index = index_of(
        tmp_path / "i", {"a.txt": ["one. ", "two. ", "three. "], "b.txt": ["four. ", "five. "]}, [0, 1]
    )
    scores = [3.0, 1.0, 2.0, 5.0, 4.0]
    assert read_of(gather(index, of(scores), 12)) == [[3, 4]]
    assert read_of(gather(index, of(scores), 17)) == [[3, 4], [0]]
    assert read_of(gather(index, of(scores), 24)) == [[3, 4], [0], [2]]
    assert read_of(gather(index, of(scores), 100)) == [[3, 4], [0, 1, 2]]
    assert read_of(gather(index, of(scores), 3)) == []


def test_chunks_that_touch_across_two_documents_are_two_pieces(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", {"a.txt": ["one. "], "b.txt": ["two. "]}, [0, 1])
    assert read_of(gather(index, of([2.0, 1.0]), 100)) == [[0], [1]]


def test_where_the_evidence_is_broad_the_summary_of_the_best_branch_leads(
    toy: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All six chunks share it; the second branch, which has four of them, fits into a quarter of the characters."""
    monkeypatch.setattr("index_store.gathering.MUCH_OF_IT", 1)
    shares = np.full(6, 1 / 6)
    broad = Evidence(np.arange(6), shares, np.arange(6.0))
    assert read_of(gather(toy, broad, 90))[0] == [7]
    assert read_of(gather(toy, broad, 90, lambda number: number < 6))[0] != [7]
    monkeypatch.setattr("index_store.gathering.MUCH_OF_IT", 1 / 8)
    assert all(number < 6 for piece in gather(toy, broad, 90) for number in piece.nodes), (
        "half of it can be read"
    )
    monkeypatch.setattr("index_store.gathering.MUCH_OF_IT", 1)
    narrow = Evidence(np.arange(6), np.array([0.97, 0.01, 0.01, 0.01, 0, 0]), np.arange(6.0))
    assert all(number < 6 for piece in gather(toy, narrow, 90) for number in piece.nodes)


@given(st.integers(1, 400), st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_no_more_is_read_than_was_asked_for_and_nothing_twice(
    toy: Index, chars: int, scores: list[float]
) -> None:
    pieces = gather(toy, of(scores), chars)
    numbers = [number for piece in pieces for number in piece.nodes]
    assert len(numbers) == len({*numbers})
    assert sum(map(toy.chars_at, numbers)) <= chars


def test_a_view_gathers_from_what_is_in_it_alone(toy: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Index, "embed_queries", lambda self, queries: unit_rows(len(queries), DIM, 3))
    view = View(toy, "L1-00000")
    inside = {n for n in range(len(toy)) if n in view}
    assert {n for piece in view.gather("mizzen mast?", (), 500) for n in piece.nodes} <= inside
    assert view.evidence_for("mizzen mast?").chunks.tolist() == [0, 1, 2]
    assert view.best_branches("mizzen mast?", None, 8)


def test_a_text_without_vectors_is_gathered_by_words(tmp_path: Path) -> None:
    from index_store.index import open_text

    (tmp_path / "t.txt").write_text("The ketch has two masts.\n" * 400 + "\nA yawl has a mizzen aft.\n")
    text = open_text(tmp_path / "t.txt")
    about = evidence_for(text, "mizzen of a yawl", np.arange(text.levels[0]), None)
    assert "yawl" in text.text_at(gather(text, about, 9_000)[0].nodes[-1])
