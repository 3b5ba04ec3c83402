"""How planted runs are counted, on findings made by hand."""

import pytest

from benchmarks._planted import RIGHT, WAYS
from benchmarks.audit import AIM, Judged, Looked, chosen, precision_of, recall_of, stages_of
from rlm.audit.checking.findings import Coverage, Findings


def cites(share: float, kind: str) -> Looked:
    """A run that cites this share of the best evidence."""
    found = Findings(Coverage(), (), (), (), 1.0, share, share, "answered", True, False, 1, 1)
    return Looked(kind, 0, found, "")


def test_the_threshold_is_the_least_that_calls_enough_of_the_wrong_runs() -> None:
    wrong = [cites(i / 100, WAYS[0]) for i in range(100)]
    assert chosen([*wrong, *[cites(0.1, RIGHT)] * 500]) == AIM


def test_precision_is_told_for_as_many_wrong_runs_to_a_right_one_as_are_named() -> None:
    right = [Judged(RIGHT, called, False) for called in (True, False, False, False)]
    wrong = [Judged(WAYS[1], called, named) for called, named in ((True, True), (False, True), (True, False))]
    assert recall_of(right + wrong) == stages_of(right + wrong) == pytest.approx(2 / 3)
    assert precision_of(right + wrong, 1) == pytest.approx((2 / 3) / (2 / 3 + 1 / 4))
    assert precision_of(right + wrong) == pytest.approx((8 / 3) / (8 / 3 + 1 / 4))
