"""How reading is scored, and how the sets' questions are chosen."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from benchmarks import Options
from benchmarks._report import NotRun
from benchmarks._sets import cover, evenly, interval, recall, there

SCORER = Path(__file__).parents[3] / "shared" / "score.py"
spans = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 20)).map(
        lambda one: {"doc": one[0], "start": one[1], "end": one[1] + one[2]}
    ),
    max_size=8,
)


def test_recall_counts_gold_documents_among_the_first_different_ones() -> None:
    gold = [{"doc": "a"}, {"doc": "b"}]
    read: list[dict[str, Any]] = [{"doc": doc} for doc in "ccda"]
    assert (recall(gold, read, 2), recall(gold, read, 3)) == (0.0, 0.5)


def test_cover_counts_gold_characters_among_the_first_different_ones_read() -> None:
    gold = [{"doc": "a", "start": 10, "end": 20}]
    read = [{"doc": "a", "start": 0, "end": 15}, {"doc": "a", "start": 5, "end": 18}]
    assert cover(gold, read, 12) == 0.2
    assert cover(gold, read, 17) == 0.7
    assert cover(gold, read, 100) == 0.8


@given(gold=spans.filter(bool), read=spans, chars=st.integers(1, 60))
def test_scores_are_those_of_the_script_beside_the_data(gold: Any, read: Any, chars: int) -> None:
    if not SCORER.is_file():
        pytest.skip("the development data is not there")
    theirs = runpy.run_path(str(SCORER))
    assert cover(gold, read, chars) == pytest.approx(theirs["cover"](gold, read, chars))
    assert recall(gold, read, 2) == pytest.approx(theirs["recall"](gold, read, 2))


def test_a_few_questions_are_chosen_from_first_to_last() -> None:
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly([1, 2], 4) == [1, 2]


def test_the_interval_of_equal_differences_is_one_point() -> None:
    assert interval(np.full(20, 5.0)) == (5.0, 5.0, 5.0)
    mean, low, high = interval(np.array([0.0, 10.0] * 50))
    assert low < mean == 5.0 < high


def test_without_data_no_part_that_needs_it_runs(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="questions with gold"):
        there(Options(tmp_path, tmp_path))
