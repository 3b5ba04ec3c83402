"""The benchmark of the index folder runs at any size, and what it measures with is itself right."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import _synthetic, _updates, index
from benchmarks._spent import spent
from tests.helpers import tiny_embedder


@pytest.mark.slow
def test_a_small_index_is_written_and_measured(tmp_path: Path) -> None:
    index.write_index(tmp_path / "i", 2_000)
    told: Any = index.read_index(tmp_path / "i")
    rows = {row[0]: row[1:] for row in told["rows"]}
    assert told["size"].startswith("2,0")
    assert rows["recall@10 of dense search"][0] == "1.000"
    assert {f"grep, {name}" for name in index.PATTERNS} <= {*rows}
    assert rows["memory beside the page cache"][0].endswith(" MB")


def test_made_up_text_has_the_size_asked_for_and_the_tree_one_root() -> None:
    draft, queries = _synthetic.draft(2_000, 100_000, 3)
    assert sum(len(text) for _, text in draft.documents) == pytest.approx(100_000, rel=0.02)
    assert draft.levels[-1] == 1
    assert len(draft.vectors) == sum(draft.levels) == pytest.approx(2_000, rel=0.02)
    assert queries.shape == (3, _synthetic.DIM)


def test_tightness_is_one_where_members_are_equal_and_less_elsewhere() -> None:
    rows = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    assert index.tightness(rows, [np.array([0, 1])]) == pytest.approx(1)
    assert index.tightness(rows, [np.array([2, 3])]) == pytest.approx(0.5**0.5)


def test_queries_meet_their_nearest_rows_where_clusters_hold_them_and_not_where_none_does() -> None:
    rows, queries = _synthetic.vectors(2_000, 5)
    near = [np.argpartition(-(rows @ q), index.NEAREST)[: index.NEAREST] for q in queries]
    assert index.met(rows, near, queries) == pytest.approx(100)
    rest = np.setdiff1d(np.arange(2_000), np.concatenate(near))
    assert index.met(rows, np.array_split(rest, 100), queries) == 0


@pytest.mark.slow
def test_updates_are_measured_beside_full_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_embedder.use(monkeypatch)
    for name, value in {"DOCUMENTS": 20, "SIZE": 800}.items():
        monkeypatch.setattr(_updates, name, value)
    rows = _updates.table(tmp_path / "u").rows
    assert [row[0] for row in rows[:3]] == ["full build", "1 added", "full build of the same"]
    assert [row[1] for row in rows] == ["19", "20", "20", "20", "19", "19"]
    assert rows[1][2] == rows[2][2] and rows[4][2] == rows[5][2]  # chunks
    assert (
        rows[1][5:7] == rows[2][5:7] and rows[4][5:7] == rows[5][5:7]
    )  # the same chunks are found, whatever the tree


def test_a_command_over_its_limit_is_ended_and_says_so() -> None:
    took = spent([sys.executable, "-c", "import time; time.sleep(60)"], limit_s=0.5)
    assert took.cpu_s is None
    assert took.wall_s < 30


def test_a_process_and_its_children_are_counted_together() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(10**7))'])"
    took = spent([sys.executable, "-c", code])
    assert took.cpu_s and took.cpu_s > 0.05
    assert took.peak_mb > 0


def test_what_runs_beside_a_command_is_not_counted_with_it() -> None:
    busy = [sys.executable, "-c", "for _ in range(4): sum(range(10**7))"]
    with ThreadPoolExecutor(2) as pool:
        long, short = pool.map(spent, (busy, [sys.executable, "-c", "import time; time.sleep(3)"]))
    assert short.cpu_s is not None and long.cpu_s is not None
    assert short.cpu_s < long.cpu_s
