"""RAPTOR's clustering as published (arXiv 2401.18059, section 3), kept to compare with: `method = "paper"`.

UMAP over all nodes with sqrt(n) neighbours, Gaussian mixtures with k of the lowest BIC among 1 to 49, a node in
every cluster whose posterior for it is above the threshold; then the same inside each cluster, with 10 neighbours. A
cluster over the token cap is clustered again. It departs in two things, without which a build may not end: what
clustering again leaves whole is bisected, and where there are not fewer clusters than nodes the fast method serves.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from index_store.reproducible import one_thread
from raptor.clustering.fast import cluster_part
from raptor.clustering.geometry import Floats, Ints, import_umap, principal
from raptor.clustering.groups import Capacity, bisect, maximal
from raptor.clustering.settings import ClusterSettings

MOST_CLUSTERS = 50
LOCAL_NEIGHBOURS = 10


def cluster_as_published(points: Floats, tokens: Ints, settings: ClusterSettings) -> list[Ints]:
    """Member indices of each cluster of `points` (n, dim) unit rows; time and memory grow faster than n."""
    import_umap()
    with one_thread():
        clusters = maximal(list(within_cap(np.arange(len(points)), points, tokens, settings)))
    if len(points) > 1 and len(clusters) >= len(points):
        return cluster_part(points, tokens, replace(settings, method="fast"))
    return clusters


def within_cap(nodes: Ints, points: Floats, tokens: Ints, settings: ClusterSettings) -> Iterator[Ints]:
    """Clusters of `nodes`, each of at most `max_tokens` or of one or two nodes."""
    groups = two_steps(points[nodes], settings)
    for group in (nodes[inside] for inside in groups):
        if len(group) < 3 or tokens[group].sum() <= settings.max_tokens:
            yield group
        elif len(group) < len(nodes):
            yield from within_cap(group, points, tokens, settings)
        else:
            capacity = Capacity(tokens[group], replace(settings, target_size=len(group)))
            yield from (
                group[part] for part in bisect(np.arange(len(group)), _main_axes(points[group]), capacity)
            )


def two_steps(points: Floats, settings: ClusterSettings) -> list[Ints]:
    """Soft clusters of all points, then soft clusters inside each."""
    wide = soft_groups(points, max(int((len(points) - 1) ** 0.5), 2), settings)
    return [
        group[inside] for group in wide for inside in soft_groups(points[group], LOCAL_NEIGHBOURS, settings)
    ]


def soft_groups(points: Floats, neighbours: int, settings: ClusterSettings) -> list[Ints]:
    """Members of each Gaussian over UMAP coordinates; one group where UMAP has too few points to work on."""
    if len(points) <= settings.dims + 1:
        return [np.arange(len(points))]
    posterior = lowest_bic(_umap(points, neighbours, settings), settings.seed)
    joined = posterior > settings.threshold
    joined[np.arange(len(points)), posterior.argmax(axis=1)] = True
    return [np.flatnonzero(column) for column in joined.T if column.any()]


def _umap(points: Floats, neighbours: int, settings: ClusterSettings) -> Floats:
    from umap import UMAP

    reducer = UMAP(
        n_neighbors=min(neighbours, len(points) - 1),
        n_components=settings.dims,
        metric="cosine",
        random_state=settings.seed,
        n_jobs=1,
        init="random" if len(points) <= 2 * settings.dims else "spectral",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of graphs in several pieces, and of eigensolvers that gave up
        return np.asarray(reducer.fit_transform(points), dtype=np.float64)


def lowest_bic(coords: Floats, seed: int) -> Floats:
    """Posteriors (n, k) of the mixture of full covariances with the lowest BIC."""
    from sklearn.mixture import GaussianMixture

    best: Floats = np.ones((len(coords), 1))
    least = np.inf
    for k in range(1, min(MOST_CLUSTERS, len(coords))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of mixtures that did not converge
            fit = GaussianMixture(k, random_state=seed).fit(coords)
        if fit.bic(coords) < least:
            least, best = fit.bic(coords), fit.predict_proba(coords)
    return best


def _main_axes(points: Floats) -> Floats:
    return principal(points, 10)
