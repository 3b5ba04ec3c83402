"""The toy index with an embedder, and a recorder of visits, for tests of what stands on an index."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_store.reader import Index
from rlm.context import Context
from tests.toy import DIM, toy_index

Visit = dict[str, Any]


class ToyEmbedder:
    """A vector for each text from the hashes of its words: deterministic, and no model."""

    fingerprint = "toy"

    def encode(self, texts: list[str]) -> Any:
        rows = np.array([self._row(text) for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def _row(self, text: str) -> Any:
        seeds = (int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) for word in ["", *text.split()])
        return sum(np.random.default_rng(seed).normal(size=DIM) for seed in seeds)


def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every index embed queries with the toy embedder."""
    monkeypatch.setattr(Index, "_embedder", ToyEmbedder())


def recorded_context(index: Index, under: str | None = None) -> tuple[Context, list[Visit]]:
    """A context, and the list that each of its visits is added to."""
    visits: list[Visit] = []
    names = ("verb", "arguments", "shown", "not_taken", "result", "error")
    context = Context(index, lambda *told: visits.append(dict(zip(names, told, strict=True))), under)
    return context, visits


__all__ = ["Path", "ToyEmbedder", "Visit", "embedded", "recorded_context", "toy_index"]
