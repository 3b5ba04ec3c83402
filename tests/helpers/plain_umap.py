"""UMAP without what it compiles anew in each process."""

import pytest

from raptor.clustering.geometry import import_umap


def plain_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """UMAP sorts a few neighbours in plain Python: to compile that, as it does anew in each process, takes eight
    seconds."""
    umap = import_umap()
    monkeypatch.setattr(umap, "fast_knn_indices", umap.fast_knn_indices.py_func)
