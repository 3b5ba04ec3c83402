"""What the tree is measured by, on an index made by hand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.retrieval import Trial
from benchmarks.tree import branches_of, found_in, gold_pairs, tightness
from index_store.index import Index
from tests.helpers.toy import toy_index


@pytest.fixture
def toy(tmp_path: Path) -> Index:
    return toy_index(tmp_path / "i")


def gold(*docs: str) -> dict[str, object]:
    return {"text": "?", "scope": None, "gold": [{"doc": doc, "start": None, "end": None} for doc in docs]}


def test_each_two_documents_that_a_question_needs_are_a_pair(toy: Index) -> None:
    queries = [gold("boats.txt"), gold("boats.txt", "one.txt", "größe.md")]
    trial = Trial("toy", toy, queries, np.zeros((2, 8), np.float32), {})
    assert list(gold_pairs(trial)) == [(0, 1), (0, 2), (1, 2)]


def test_a_document_stands_in_the_branches_of_its_chunks(toy: Index) -> None:
    assert branches_of(toy, guests=True) == [{6, 7}, {7}, {7}]
    assert branches_of(toy, guests=False) == branches_of(toy, guests=True)
    assert 0 < tightness(toy) <= 1


def test_a_document_is_found_where_a_chunk_of_it_fits_into_the_characters(toy: Index) -> None:
    queries = [gold("boats.txt", "one.txt")]
    trial = Trial("toy", toy, queries, np.zeros((1, 8), np.float32), {})
    hits = [{"doc": "boats.txt", "start": 0, "end": 25}, {"doc": "one.txt", "start": 0, "end": 6}]
    found = [found_in(trial, lambda *_: hits, chars)[0] for chars in (24, 30, 31)]
    assert found == [0.0, 50.0, 100.0]
