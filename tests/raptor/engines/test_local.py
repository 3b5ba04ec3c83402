"""Batches computed on this machine: every one, once, with few under way, and errors as they were raised."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from raptor.engines import local
from raptor.engines.engine import AHEAD, GIVEN, Stage, in_order
from raptor.engines.local import Local
from raptor.errors import RaptorError
from tests.helpers import stages

WORKERS = [1, 2, 3]


def counted(drawn: list[int], most: int = 10**9) -> Iterator[int]:
    for number in range(most):
        drawn.append(number)
        yield number


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(), max_size=40), st.sampled_from(WORKERS))
def test_every_batch_has_its_result_once(batches: list[int], workers: int) -> None:
    stage = Stage("halve", stages.halved, 2, workers=workers, threads=True)
    found = list(Local().map_batches(stage, batches))
    assert sorted(found) == [(number, batch / 2) for number, batch in enumerate(batches)]
    assert list(in_order(found)) == [batch / 2 for batch in batches]


@pytest.mark.parametrize("workers", WORKERS)
def test_batches_are_drawn_as_results_are_taken(workers: int) -> None:
    drawn: list[int] = []
    stage = Stage("halve", stages.halved, 2, workers=workers, threads=True)
    for taken, _ in enumerate(Local().map_batches(stage, counted(drawn, 50))):
        assert len(drawn) <= taken + GIVEN * workers
    assert len(drawn) == 50


def test_a_batch_that_takes_long_holds_back_those_far_behind_it(tmp_path: Path) -> None:
    drawn: list[int] = []
    stage = Stage("wait", stages.waited, str(tmp_path / "go"), workers=2, threads=True)
    ahead = AHEAD * GIVEN * stage.workers
    results = Local().map_batches(stage, counted(drawn, 100))
    early = [number for number, _ in (next(results) for _ in range(ahead - 1))]
    assert sorted(early) == list(range(1, ahead))
    assert len(drawn) == ahead
    (tmp_path / "go").touch()
    assert next(results) == (0, 0)
    assert len(list(results)) == 100 - ahead


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(("run", "error"), [(stages.refused_at, RaptorError), (stages.broken_at, ValueError)])
def test_what_a_stage_raises_reaches_the_caller(
    workers: int, run: Callable[[int, int], int], error: type[Exception]
) -> None:
    stage = Stage("refuse", run, 3, workers=workers, threads=True)
    with pytest.raises(error, match=r"batch 3 is"):
        list(Local().map_batches(stage, range(9)))


def test_what_is_given_up_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(False, cancel_futures=cancel_futures)
            (tmp_path / "go").touch()
            super().shutdown(wait)

    monkeypatch.setattr(local, "ThreadPoolExecutor", Pool)
    before = threading.active_count()
    results = Local().map_batches(
        Stage("note", stages.noted, str(tmp_path), workers=2, threads=True), range(50)
    )
    assert next(results) == (0, 0)
    results.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"0", "1", "2", "go"}
    assert threading.active_count() == before


@pytest.mark.slow
def test_processes_compute_and_raise_as_threads_do() -> None:
    assert sorted(Local().map_batches(Stage("halve", stages.halved, 2, workers=2), range(9))) == [
        (number, number / 2) for number in range(9)
    ]
    with pytest.raises(RaptorError, match="batch 3 is refused; leave it out"):
        list(Local().map_batches(Stage("refuse", stages.refused_at, 3, workers=2), range(9)))
    with pytest.raises(RaptorError, match="a process of the stage end ended early; free memory"):
        list(Local().map_batches(Stage("end", stages.ends_at, 3, workers=2), range(9)))
