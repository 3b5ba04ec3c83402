"""Figures over many questions: percentiles, intervals, the frontier."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rlm.asking.questions import Question
from rlm.evaluating.cases import Case
from rlm.evaluating.figures import Row, against, frontier, interval, nearest_rank, summary_of

VALUES = st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=40)


def rows(system: str, f1: dict[str, float | None], stop: str = "answer") -> list[Row]:
    return [
        Row(
            system,
            Case(Question(id, "?"), ("x",), (), "set"),
            "runs/x",
            "0",
            stop,
            "words",
            (),
            {"f1": value, "usd": 1.0},
        )
        for id, value in f1.items()
    ]


@pytest.mark.parametrize(
    ("n", "rank"), [(1, 1), (2, 2), (19, 19), (20, 19), (21, 20), (40, 38), (100, 95), (101, 96), (200, 190)]
)
def test_the_95th_percentile_is_the_value_of_nearest_rank(n: int, rank: int) -> None:
    assert nearest_rank([float(i) for i in range(1, n + 1)], 0.95) == rank


@given(VALUES)
def test_an_interval_holds_the_middle_of_the_means_and_repeats(differences: list[float]) -> None:
    low, high = interval(differences)
    assert (low, high) == interval(differences)
    assert min(differences) - 1e-9 <= low <= high <= max(differences) + 1e-9


def test_an_interval_is_that_of_the_resamples_that_are_described() -> None:
    differences = [0.5, -0.25, 0.0, 1.0, 0.125]
    drawn = np.random.default_rng(0).integers(0, 5, (2_000, 5))
    means = sorted(sum(differences[i] for i in row) / 5 for row in drawn)
    assert interval(differences) == pytest.approx((means[49], means[1949]))


def test_systems_are_compared_over_the_questions_that_both_have_the_figure_of() -> None:
    first, other = (
        rows("a", {"1": 0.5, "2": 0.5, "3": None, "4": 1.0}),
        rows("b", {"1": 1.0, "2": 0.25, "3": 1.0, "5": 0.0}),
    )
    compared = against(other, first, "f1")
    assert compared is not None
    assert (compared["n"], compared["higher"], compared["lower"]) == (2, 1, 1)
    assert compared["difference"] == pytest.approx((0.5 - 0.25) / 2)
    assert against(other, rows("a", {"9": 1.0}), "f1") is None


def test_a_summary_counts_what_ended_how_and_says_n_of_each_figure() -> None:
    own = rows("a", {"1": 0.5, "2": None}) + rows("a", {"3": 0.0}, stop="turns")
    summary = summary_of(own, own)
    assert (summary["questions"], summary["answered"]) == (3, 3)
    assert summary["stops"] == {"answer": 2, "turns": 1}
    assert summary["quality"]["f1"] == {"n": 2, "mean": 0.25}  # type: ignore[call-overload, index]
    assert summary["cost"]["usd"] == {"n": 3, "sum": 3.0, "mean": 1.0, "median": 1.0, "p95": 1.0}  # type: ignore[call-overload, index]
    assert summary["against_first"] == {}


def test_no_system_beats_one_on_the_frontier() -> None:
    points = {
        "cheap": (1.0, 0.2),
        "dear": (5.0, 0.9),
        "worse": (5.0, 0.8),
        "dearer": (6.0, 0.9),
        "twin": (1.0, 0.2),
    }
    assert frontier(points) == ["cheap", "dear", "twin"]


@given(st.dictionaries(st.text(max_size=3), st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_each_point_is_on_the_frontier_or_beaten_by_one_that_is(points: dict[str, tuple[int, int]]) -> None:
    best = [
        points[name] for name in frontier({name: (float(c), float(q)) for name, (c, q) in points.items()})
    ]
    assert best
    assert all(any(c <= cost and q >= quality for c, q in best) for cost, quality in points.values())
