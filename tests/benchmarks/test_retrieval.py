"""RAPTOR's ways over our tree, and settings that are chosen without a set."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import _raptor, retrieval
from benchmarks._report import Claim, Loss, Table
from benchmarks._sets import Values
from benchmarks.retrieval import BEFORE, LEFT_OUT, MOVED, OURS, PLAIN, TITLED
from index_store import walk
from index_store.index import Index
from tests.helpers.toy import toy_index

GRID = (OURS, *LEFT_OUT, *MOVED, *TITLED)


@pytest.fixture
def toy(tmp_path: Path) -> Index:
    return toy_index(tmp_path / "i")


def test_the_collapsed_tree_ranks_all_nodes_by_cosine_until_its_tokens_are_read(toy: Index) -> None:
    read = _raptor.collapsed(toy, toy.vectors[6], None, tokens=20)
    assert read[0] == 6 and len(read) == 4  # five tokens each
    cosines = (toy.vectors[read] @ toy.vectors[6]).tolist()
    assert cosines == sorted(cosines, reverse=True)


def test_a_collapsed_tree_of_one_document_has_no_summary_of_another(toy: Index) -> None:
    assert {*_raptor.collapsed(toy, toy.vectors[0], "boats.txt", 1_000)} == {0, 1, 2, 6}


def test_a_traversal_takes_the_nearest_children_of_what_it_took_before(toy: Index) -> None:
    read = _raptor.traversed(toy, toy.vectors[0], None, k=1)
    branch = max((6, 7), key=lambda number: float(toy.vectors[number] @ toy.vectors[0]))
    chunk = max(toy.neighbours(branch, "children"), key=lambda n: float(toy.vectors[n] @ toy.vectors[0]))
    assert {*read} == {branch, chunk}
    assert {*_raptor.traversed(toy, toy.vectors[0], None)} == {*range(8)}  # all but the root


def test_a_traversal_in_one_document_leads_over_branches_that_hold_others_too(toy: Index) -> None:
    assert {*_raptor.traversed(toy, toy.vectors[0], "one.txt")} == {5}


def found(**moved: dict[str, float]) -> dict[str, dict[str, Values]]:
    """Every way finds 50 on each set but where it is said otherwise."""
    ways = (*PLAIN, *GRID)
    return {
        name: {way: np.full(10, changed.get(way, 50.0)) for way in ways} for name, changed in moved.items()
    }


def test_a_sets_setting_is_chosen_by_the_other_sets_alone() -> None:
    values = found(a={"near 2": 90.0}, b={"walk 12": 60.0}, c={"walk 12": 60.0})
    assert retrieval._chosen_without("a", values) == "walk 12"
    assert retrieval._chosen_without("b", values) == "near 2"


def test_a_default_that_serves_one_set_alone_is_said_to_be_fitted_to_it() -> None:
    fitted = found(a={OURS: 80.0}, b={OURS: 40.0, BEFORE: 60.0}, c={OURS: 40.0, BEFORE: 60.0})
    chosen = {name: retrieval._chosen_without(name, fitted) for name in fitted}
    claim = retrieval._chosen_claim(fitted, chosen)
    assert not claim.holds and claim.interval == "fitted: a"
    table = retrieval._chosen_table(fitted, chosen)
    assert table.rows[0][:6] == ("a", BEFORE, "50.0", "80.0", "50.0", "-30.0 [-30.0 -30.0]")


def test_a_plain_way_that_finds_more_is_a_loss_and_one_that_finds_less_is_none() -> None:
    values = found(a={OURS: 60.0, "BM25": 61.0}, b={OURS: 60.0})
    items = list(retrieval.plain_claims(values))
    assert [item for item in items if isinstance(item, Loss)] == [
        Loss("BM25", "search on a", "61.0", "60.0", "[+1.0 +1.0]")
    ]
    (claim,) = (item for item in items if isinstance(item, Claim))
    assert claim.holds is False and claim.text == "search on a, the worst of 2"


def test_trust_in_titles_is_what_it_was_after_another_was_tried() -> None:
    before = walk.TITLED
    with pytest.raises(RuntimeError), retrieval._trusted_from(0.5):
        raise RuntimeError
    assert before == walk.TITLED


def test_a_reader_of_the_published_figures_sees_that_they_are_no_peers() -> None:
    table = retrieval._published()
    assert isinstance(table, Table) and "no peer" in table.note
