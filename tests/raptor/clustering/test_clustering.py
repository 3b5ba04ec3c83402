"""Clusters of hand-made and of random vectors: what every level of a build may rely on."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings, strategies as st

from raptor.clustering import cluster as clustering
from raptor.clustering.cluster import cluster
from raptor.clustering.fast import near_parts, partition
from raptor.clustering.groups import Capacity, adopt_singles, maximal
from raptor.clustering.mixture import mixture
from raptor.clustering.settings import ClusterSettings
from raptor.engines import local
from raptor.errors import RaptorError
from tests.helpers.places import ROOT
from tests.helpers.plain_umap import plain_neighbours

Array = npt.NDArray[Any]
KINDS = ["random", "equal", "zero", "two values", "every row twice", "one axis"]


def rows(kind: str, n: int, dim: int, seed: int) -> Array:
    free = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    turn = np.arange(n)
    kinds: dict[str, Array] = {
        "random": free,
        "equal": free[turn * 0],
        "zero": free * 0,
        "two values": free[turn % 2 if n > 1 else turn],
        "every row twice": free[turn // 2],
        "one axis": free * (np.arange(dim) == 0),
    }
    return kinds[kind].astype(np.float32)


def blobs(centres: Array, each: int, spread: float = 0.05) -> Array:
    noise = np.random.default_rng(1).normal(size=(len(centres) * each, centres.shape[1]))
    return (np.repeat(centres, each, axis=0) + spread * noise).astype(np.float32)


def lists(clusters: Sequence[Array]) -> list[list[int]]:
    return [members.tolist() for members in clusters]


def check_promises(vectors: Array, tokens: Array, how: ClusterSettings) -> None:
    n, found = len(vectors), lists(cluster(vectors, tokens, how))
    assert sorted({node for members in found for node in members}) == list(range(n))
    assert found == sorted(found)
    assert all(members == sorted(set(members)) for members in found)
    assert not any(set(a) <= set(b) for i, a in enumerate(found) for j, b in enumerate(found) if i != j)
    assert all(len(m) <= 2 or tokens[m].sum() <= how.max_tokens for m in found)
    assert all(len(m) <= 4 * how.target_size for m in found)
    assert n <= 1 or len(found) <= 2 * n / 3 + 1 / 3
    joined = np.bincount([node for members in found for node in members], minlength=n)
    assert joined.max(initial=0) <= how.max_memberships


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(0, 90),
    dim=st.integers(1, 14),
    seed=st.integers(0, 9),
    tokens=st.sampled_from([(0, 1), (1, 60), (90, 140), (160, 400), (1, 2_000)]),
    part_size=st.sampled_from([8, 20, 4000]),
)
@example(kind="random", n=3, dim=8, seed=0, tokens=(1, 60), part_size=4000)
@example(kind="random", n=4, dim=8, seed=0, tokens=(1, 60), part_size=4000)
@example(kind="random", n=13, dim=12, seed=0, tokens=(301, 302), part_size=4000)
@example(kind="equal", n=90, dim=4, seed=0, tokens=(0, 1), part_size=20)
@example(kind="zero", n=90, dim=4, seed=0, tokens=(1, 60), part_size=4000)
@example(kind="two values", n=90, dim=4, seed=0, tokens=(1, 60), part_size=8)
def test_every_promise_holds_for_any_vectors_and_tokens(
    kind: str, n: int, dim: int, seed: int, tokens: tuple[int, int], part_size: int
) -> None:
    lengths = np.random.default_rng(seed).integers(*tokens, size=n)
    check_promises(rows(kind, n, dim, seed), lengths, ClusterSettings(max_tokens=300, part_size=part_size))


@pytest.mark.parametrize("kind", KINDS)
def test_every_promise_holds_where_umap_is_used(kind: str) -> None:
    check_promises(rows(kind, 300, 16, 0), np.full(300, 100), ClusterSettings())


def test_clustering_the_clusters_ends_in_one_root_even_when_no_two_nodes_fit_the_cap() -> None:
    vectors, levels = rows("random", 70, 8, 0), 0
    while len(vectors) > 1:
        found = cluster(vectors, np.full(len(vectors), 5_000), ClusterSettings())
        vectors, levels = np.array([vectors[members].mean(axis=0) for members in found]), levels + 1
    assert len(vectors) == 1
    assert levels <= 8


def test_no_nodes_give_no_clusters_and_one_node_gives_itself() -> None:
    assert not cluster(np.zeros((0, 3), np.float32), np.zeros(0, int))
    assert lists(cluster(np.ones((1, 3), np.float32), np.array([9_999]))) == [[0]]


def test_a_handful_of_nodes_that_fits_the_cap_is_one_cluster() -> None:
    assert lists(cluster(rows("random", 12, 5, 0), np.full(12, 100))) == [list(range(12))]


def test_three_blobs_come_back_as_three_clusters() -> None:
    found = cluster(blobs(np.eye(3, 8), each=8), np.full(24, 10))
    assert lists(found) == [list(range(8)), list(range(8, 16)), list(range(16, 24))]


def test_a_node_between_two_blobs_belongs_to_both() -> None:
    angles = np.append(0.5 + 0.15 * np.linspace(-2, 2, 30), 0)
    angles = np.append(-angles[:30], angles)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    how = ClusterSettings(target_size=40)
    assert lists(cluster(vectors, np.full(61, 10), how)) == [[*range(30), 60], list(range(30, 61))]
    alone = lists(cluster(vectors, np.full(61, 10), replace(how, max_memberships=1)))
    assert sum(60 in members for members in alone) == 1


def test_umap_keeps_thirty_blobs_apart() -> None:
    centres = np.random.default_rng(0).normal(size=(30, 48))
    found = cluster(blobs(centres, each=10, spread=0.1), np.full(300, 10))
    assert all(len({node // 10 for node in members}) == 1 for members in lists(found))
    assert len(found) <= 45


def test_a_cluster_over_the_cap_is_cut_into_near_equal_halves() -> None:
    found = cluster(rows("random", 10, 4, 0), np.full(10, 100), ClusterSettings(max_tokens=500))
    assert [len(members) for members in found] == [5, 5]


def test_equal_vectors_are_grouped_by_size_alone() -> None:
    sizes = [len(members) for members in cluster(np.ones((100, 4), np.float32), np.full(100, 1))]
    assert sum(sizes) == 100
    assert max(sizes) <= 32


def test_a_giant_among_small_nodes_takes_no_more_than_one_of_them_over_the_cap() -> None:
    tokens = np.array([9_000] + [50] * 9)
    found = lists(cluster(rows("random", 10, 4, 0), tokens))
    assert all(len(members) <= 2 for members in found if 0 in members)
    assert max(len(members) for members in found) >= 7


def test_a_lone_node_joins_the_most_similar_group_that_has_room() -> None:
    points = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0.9, 0.1]], np.float32)
    groups = [np.array([0, 1]), np.array([2, 3]), np.array([4])]
    roomy, full = np.full(5, 10), np.array([1_500, 1_500, 10, 10, 10])
    assert lists(adopt_singles(groups, points, Capacity(roomy, ClusterSettings()))) == [[0, 1, 4], [2, 3]]
    assert lists(adopt_singles(groups, points, Capacity(full, ClusterSettings()))) == [[0, 1], [2, 3, 4]]


def test_lone_nodes_that_fit_nowhere_pair_up() -> None:
    groups, tokens = [np.array([0]), np.array([1]), np.array([2])], np.full(3, 9_000)
    assert lists(adopt_singles(groups, np.eye(3), Capacity(tokens, ClusterSettings()))) == [[1, 0], [2]]


def test_a_group_inside_another_is_dropped() -> None:
    groups = [np.array([2, 0]), np.array([0, 1, 2]), np.array([2, 1, 0]), np.array([3, 2])]
    assert sorted(lists(maximal(groups))) == [[0, 1, 2], [2, 3]]


@pytest.mark.parametrize("same", [20, 200, 290])
def test_many_copies_of_one_row_among_others_are_clustered(same: int) -> None:
    vectors = rows("random", 300, 16, 0)
    vectors[:same] = vectors[0]
    check_promises(vectors, np.full(300, 100), ClusterSettings())
    vectors[:same] = 0
    check_promises(vectors, np.full(300, 100), ClusterSettings())


def test_parts_hold_every_row_once_and_no_part_is_too_large() -> None:
    points = rows("random", 500, 8, 0)
    parts = partition(points, ClusterSettings(part_size=60))
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    assert max(map(len, parts)) <= 60


def test_equal_rows_are_partitioned_into_halves() -> None:
    assert lists(near_parts(np.ones((6, 3), np.float32), ClusterSettings(part_size=8))) == [
        [0, 1, 2],
        [3, 4, 5],
    ]


def test_bic_is_lowest_at_the_true_number_of_groups() -> None:
    groups = blobs(np.array([[0.0, 0], [5, 0], [0, 5], [5, 5]]), each=20, spread=0.3).astype(np.float64)
    fits = {k: mixture(groups, groups[:: 80 // k][:k])[0] for k in (2, 4, 8, 16)}
    assert min(fits, key=fits.__getitem__) == 4


def test_posteriors_sum_to_one() -> None:
    _, posterior = mixture(rows("random", 50, 3, 0).astype(np.float64), np.eye(3))
    assert np.allclose(posterior.sum(axis=1), 1)


@pytest.mark.slow
def test_processes_give_the_same_clusters_as_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, how = rows("random", 150, 8, 0), ClusterSettings(part_size=60)
    alone = lists(cluster(vectors, np.full(150, 100), how, workers=1))
    monkeypatch.setattr(clustering, "PARALLEL", 100)
    assert lists(cluster(vectors, np.full(150, 100), how, workers=2)) == alone


BESIDE = """
import numpy as np
from raptor.clustering import cluster as clustering
if __name__ == "__main__":
    clustering.PARALLEL = 10
    vectors = np.random.default_rng(0).normal(size=(150, 8)).astype(np.float32)
    clustering.clusters_in = len
    try: clustering.cluster(vectors, np.full(150, 1), clustering.ClusterSettings(part_size=60), workers=2)
    except TypeError as error: print(error)
"""


def test_a_process_imports_nothing_from_the_folder_it_stands_in(tmp_path: Path) -> None:
    docs, script = tmp_path / "docs", tmp_path / "scripts/build.py"
    script.parent.mkdir()
    script.write_text(BESIDE)
    docs.mkdir()
    for name in ("multiprocessing", "pickle", "socket", "threading", "signal", "runpy"):
        (docs / f"{name}.py").write_text(f"open({str(tmp_path / name)!r}, 'w')\nraise SystemExit(7)\n")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=docs,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "len() takes exactly one argument" in done.stdout, done.stderr[-1000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "scripts"]


def ends_early(*_: object) -> None:
    os._exit(1)


def test_a_process_that_ends_early_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "PARALLEL", 100)
    monkeypatch.setattr(clustering, "clusters_in", ends_early)
    with pytest.raises(RaptorError, match="ended early; free memory"):
        cluster(rows("random", 150, 8, 0), np.full(150, 1), ClusterSettings(part_size=60), workers=2)


def test_few_nodes_start_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_spread", lambda *_: pytest.fail("started processes"))
    assert cluster(rows("random", 150, 8, 0), np.full(150, 100), ClusterSettings(part_size=60), workers=2)


def check_published(n: int, tokens: int, how: ClusterSettings) -> list[list[int]]:
    found = lists(cluster(blobs(np.eye(6, 24), each=n // 6, spread=0.1), np.full(n, tokens), how))
    assert sorted({node for members in found for node in members}) == list(range(n))
    assert found == sorted(found)
    assert len(found) < n
    assert all(len(m) <= 2 or len(m) * tokens <= how.max_tokens for m in found)
    return found


def test_the_published_method_makes_one_cluster_of_what_umap_cannot_reduce() -> None:
    assert check_published(6, 100, ClusterSettings(method="paper")) == [list(range(6))]
    assert len(check_published(6, 1000, ClusterSettings(method="paper"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [10, 400, 4_000])
def test_the_published_method_keeps_blobs_apart_and_ends(
    tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_neighbours(monkeypatch)
    found = check_published(90, tokens, ClusterSettings(method="paper", dims=4))
    assert all(len({node // 15 for node in members}) == 1 for members in found)


def test_vectors_that_are_not_finite_are_named() -> None:
    vectors = rows("random", 5, 3, 0)
    vectors[3, 1] = np.nan
    with pytest.raises(RaptorError, match="1 vector is not finite, first at row 3"):
        cluster(vectors, np.full(5, 1))


def test_tokens_of_another_length_are_refused() -> None:
    with pytest.raises(RaptorError, match=r"\(5, 3\) and tokens \(4,\)"):
        cluster(rows("random", 5, 3, 0), np.full(4, 1))


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": 0}, {"target_size": 1}, {"part_size": 7}, {"threshold": 0.0}, {"method": "fastest"}],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RaptorError, match=next(iter(wrong))):
        ClusterSettings(**wrong)


DIGEST = """
import hashlib, numpy as np
from raptor.clustering.cluster import cluster
vectors = np.random.default_rng(0).normal(size=(400, 32)).astype(np.float32)
print(hashlib.sha256(repr([m.tolist() for m in cluster(vectors, np.full(400, 100))]).encode()).hexdigest())
"""


def digest() -> str:
    vectors = np.random.default_rng(0).normal(size=(400, 32)).astype(np.float32)
    return hashlib.sha256(repr(lists(cluster(vectors, np.full(400, 100)))).encode()).hexdigest()


def test_the_same_input_gives_the_same_clusters_again() -> None:
    assert digest() == digest()


@pytest.mark.slow
def test_another_process_with_other_threads_gives_the_same_clusters() -> None:
    threads = "2" if os.cpu_count() == 1 else "1"  # this process has as many as there are cores
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    env = dict.fromkeys(names, threads) | {"PYTHONHASHSEED": threads, "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", DIGEST], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest()


def test_few_nodes_need_no_umap() -> None:
    code = (
        "import sys, numpy as np; from raptor.clustering.cluster import cluster; "
        "cluster(np.eye(100, dtype=np.float32), np.full(100, 9)); sys.exit('umap' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


COMPILED = """
import numpy as np, umap.layouts, umap.umap_
from raptor.clustering.fast import reduce_dims
from raptor.clustering.settings import ClusterSettings
reduce_dims(np.eye(99, dtype=np.float32), ClusterSettings())
layout = umap.layouts._nb_optimize_layout_euclidean_single_epoch
for compiled in (umap.umap_.smooth_knn_dist, umap.umap_.compute_membership_strengths, layout):
    print(*(sum(counts.values()) for counts in (compiled.stats.cache_hits, compiled.stats.cache_misses)))
"""


@pytest.mark.slow
def test_what_clustering_compiles_is_compiled_once_for_all_processes() -> None:
    """By one that came before: this test, or any other. Two that write at once may lose what one of them compiled."""

    def hits_and_misses() -> list[str]:
        surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", COMPILED]
        return subprocess.run(
            command, env=surroundings, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    assert any(hits_and_misses() == ["1 0"] * 3 for _ in range(3))
