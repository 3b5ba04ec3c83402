"""A tiny deterministic embedder, for tests in which the real one is not the point: hashed words, no weights."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from index_store.embedder import Embedder

DIM = 16
_TOKEN = re.compile(r"\w+|[^\w\s]")


class Tiny(Embedder):
    """Loaded as what it is by a worker too, in which nothing stands in for another."""

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self.name,)


def load(name: str = "minilm", *, offline: bool = False) -> Embedder:
    """Stands in for `index_store.embedder.load_embedder`, under any name."""
    return Tiny(
        name, "tiny", DIM, 254, encode, token_offsets, lambda texts: [len(t) for t in token_offsets(texts)]
    )


def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """(n, DIM) unit rows: the sum of a fixed vector for each lower-case word."""
    rows = np.array([_sum(_TOKEN.findall(text.lower())) for text in texts], dtype=np.float32).reshape(-1, DIM)
    unit: npt.NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return unit


def token_offsets(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
    return [[match.span() for match in _TOKEN.finditer(text)] for text in texts]


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index_store.embedder.load_embedder", load)


def write_documents(folder: Path, count: int, sentences: int = 12) -> Path:
    """`count` text files about five subjects, the same each time."""
    random = np.random.default_rng(count)
    subjects = [
        "ketch mast sail",
        "apple pear orchard",
        "ledger debit audit",
        "lens focus light",
        "oven yeast bread",
    ]
    common = ["the", "a", "of", "and", "to", "in", "keeps", "turns", "holds", "never", "old", "small"]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        words = common + subjects[number % len(subjects)].split() * 3
        lines = [" ".join(random.choice(words, 14)).capitalize() + f" {number}." for _ in range(sentences)]
        (folder / f"d{number:03}.txt").write_text(" ".join(lines) + "\n", encoding="utf-8")
    return folder


def _sum(tokens: Sequence[str]) -> npt.NDArray[np.float32]:
    total = np.zeros(DIM, dtype=np.float32)
    for token in tokens:
        total += _vector(token)
    return total


def _vector(token: str) -> npt.NDArray[np.float32]:
    raw = hashlib.sha256(token.encode("utf-8", "replace")).digest()[:DIM]
    return np.frombuffer(raw, dtype=np.uint8).astype(np.float32) - 127.5
