"""A Gaussian mixture with one covariance, and the number of its components by BIC."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from index_store.reproducible import one_thread
from raptor.clustering.geometry import Floats, squared_distances

GRID, SPAN = 5, 1.6  # values of k tried at first, and how far the mean size may lie from the wanted one


EM_ROUNDS, EM_GAIN = 50, 1e-3  # stop when a round adds less to the mean log density


def best_mixture(coords: Floats, size: int, seed: int) -> Floats:
    """Posteriors (n, k) of the mixture with the lowest BIC, of those with mean sizes within `SPAN` of `size`.

    k is tried on a geometric grid, then once more on both sides of the best.
    """
    from sklearn.cluster import kmeans_plusplus

    counts = len(coords) / size * np.geomspace(1 / SPAN, SPAN, GRID)
    grid = np.unique(np.clip(counts.round().astype(int), 1, len(np.unique(coords, axis=0))))
    with one_thread():
        _, seeds = kmeans_plusplus(coords, int(grid[-1]), random_state=seed)
    fitted: dict[int, tuple[float, Floats]] = {}
    for _ in range(2):
        fitted |= {int(k): mixture(coords, coords[seeds[:k]]) for k in grid if k not in fitted}
        best = min(fitted, key=lambda k: (fitted[k][0], k))
        grid = np.array(
            [round((a * b) ** 0.5) for a, b in pairwise(sorted(fitted)) if best in (a, b)], dtype=int
        )
    return min(fitted.values(), key=lambda fit: fit[0])[1]


def mixture(coords: Floats, seeds: Floats) -> tuple[float, Floats]:
    """BIC and posteriors (n, k) of k Gaussians that share one covariance, fitted by EM from `seeds` (k, dims).

    A covariance for each would be noise with ten members in it, and rewards components of one point: only the
    shared one has its BIC minimum inside the range of useful sizes. Sharing also makes a round one product of
    matrices, which scikit-learn's loop over components is not.
    """
    posterior, bound = np.eye(len(seeds))[squared_distances(coords, seeds).argmin(axis=1)], -np.inf
    for _ in range(EM_ROUNDS):
        log_joint = shared_log_joint(coords, posterior)
        top = log_joint.max(axis=1, keepdims=True)
        log_density = top + np.log(np.exp(log_joint - top).sum(axis=1, keepdims=True))
        posterior, before, bound = np.exp(log_joint - log_density), bound, float(log_density.mean())
        if bound - before < EM_GAIN:
            break
    (n, dims), k = coords.shape, len(seeds)
    parameters = k * dims + dims * (dims + 1) / 2 + k - 1
    return parameters * np.log(n) - 2 * n * bound, posterior


def shared_log_joint(coords: Floats, posterior: Floats) -> Floats:
    """M step, then log(weight x density) (n, k) of each point under each component."""
    n, dims = coords.shape
    weights = posterior.sum(axis=0) + 1e-9
    means = posterior.T @ coords / weights[:, None]
    within = (coords.T @ coords - (means.T * weights) @ means) / n
    floor = 1e-6 * np.trace(coords.T @ coords) / n / dims + 1e-12
    half = np.linalg.cholesky(within + floor * np.eye(dims))
    points, centres = np.linalg.solve(half, coords.T).T, np.linalg.solve(half, means.T).T
    logs: Floats = np.log(weights / n) - np.log(np.diag(half)).sum() - dims / 2 * np.log(2 * np.pi)
    return np.asarray(logs - squared_distances(points, centres) / 2)
