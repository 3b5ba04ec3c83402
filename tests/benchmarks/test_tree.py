"""What the tree is measured by, on an index made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks._sets import Trial
from benchmarks.tree import (
    as_far_as_they_fit,
    by_meaning,
    found_in,
    gold_pairs,
    next_nearest,
    of_the_index,
    shared,
    tightness,
)
from index_store.index import Index, open_index
from tests.helpers.toy import publish_toy, toy_draft, toy_index


@pytest.fixture
def toy(tmp_path: Path) -> Index:
    return toy_index(tmp_path / "i")


def gold(*docs: str) -> dict[str, object]:
    return {"text": "?", "scope": None, "gold": [{"doc": doc, "start": None, "end": None} for doc in docs]}


def test_each_two_documents_that_a_question_needs_are_a_pair(toy: Index) -> None:
    queries = [gold("boats.txt"), gold("boats.txt", "one.txt", "größe.md")]
    trial = Trial("toy", toy, queries, np.zeros((2, 8), np.float32))
    assert list(gold_pairs(trial)) == [(0, 1), (0, 2), (1, 2)]


def test_two_documents_share_a_branch_where_it_holds_a_chunk_of_both(toy: Index) -> None:
    assert shared(toy, [(0, 1), (1, 2)], of_the_index(toy)) == [True, True]
    apart = replace(of_the_index(toy), all_of=[np.array([0, 1, 2]), np.array([3, 4, 5])])
    assert shared(toy, [(0, 1), (1, 2)], apart) == [False, True]
    assert 0 < tightness(toy, apart) <= 1


def test_clusters_by_meaning_are_given_as_many_further_places_as_names_gave(tmp_path: Path) -> None:
    none = np.array([], dtype=np.int64)
    guests = [np.array([2]), none, none]
    publish_toy(tmp_path / "i", replace(toy_draft(), guests=guests))
    index = open_index(tmp_path / "i")
    assert [members.tolist() for members in by_meaning(index).members] == [[0, 1], [2, 3, 4, 5]]
    near = next_nearest(index)
    assert near.places == of_the_index(index).places == 7
    assert [own.tolist() for own in near.members] == [own.tolist() for own in by_meaning(index).members]


def test_what_does_not_fit_into_the_characters_is_passed_over(toy: Index) -> None:
    assert [one["end"] for one in as_far_as_they_fit(toy, [5, 0, 2, 1], 40)] == [6, 25]
    summary = as_far_as_they_fit(toy, [6], 40)[0]
    assert summary == {"doc": "summary L1-00000", "start": 0, "end": 33}


def test_a_document_is_found_where_a_chunk_of_it_fits_into_the_characters(toy: Index) -> None:
    queries = [gold("boats.txt", "one.txt")]
    trial = Trial("toy", toy, queries, np.zeros((1, 8), np.float32))
    hits = [{"doc": "boats.txt", "start": 0, "end": 25}, {"doc": "one.txt", "start": 0, "end": 6}]
    found = [found_in(trial, lambda *_: hits, chars)[0] for chars in (24, 30, 31)]
    assert found == [0.0, 50.0, 100.0]
