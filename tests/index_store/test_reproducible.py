"""Centroids do not depend on how many threads the machine would give."""

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from index_store.reproducible import one_thread, spherical_kmeans
from tests.helpers.toy import unit_rows


def test_inside_one_thread_no_library_has_more() -> None:
    with one_thread():
        assert {library["num_threads"] for library in threadpool_info()} == {1}


def test_centroids_are_unit_rows_and_the_same_bits_whatever_the_threads() -> None:
    points = unit_rows(2_000, 48)
    with threadpool_limits(limits=1):
        alone = spherical_kmeans(points, 20, rounds=5, seed=3)
    with threadpool_limits(limits=4):
        among_threads = spherical_kmeans(points, 20, rounds=5, seed=3)
    assert alone.shape == (20, 48)
    assert np.allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-6)
    assert alone.tobytes() == among_threads.tobytes()
    assert alone.tobytes() != spherical_kmeans(points, 20, rounds=5, seed=4).tobytes()
