"""A small index made by hand, for tests that need one without an embedder."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_store.embedder import BUILT_IN
from index_store.index import Index, open_index
from index_store.types import Document
from index_store.writer import Draft, Published, publish

DIM = 8
TEXTS = {
    "boats.txt": "The ketch has two masts. The mizzen is shorter.\n"
    "A yawl differs: its mizzen stands aft of the rudder.",
    "größe.md": "# Maße\nÄpfel wiegen 150 g – höchstens. \U0001f34e\u2028Birnen wiegen mehr.",
    "one.txt": "single",
}
CUTS = {"boats.txt": [0, 25, 48], "größe.md": [0, 7], "one.txt": [0]}


def unit_rows(n: int, dim: int = DIM, seed: int = 0) -> npt.NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def document(doc: str, text: str, pages: tuple[int, ...] = ()) -> tuple[Document, str]:
    return Document(
        doc, doc.split(".")[0], doc, hashlib.sha256(text.encode()).hexdigest(), len(text), pages
    ), text


def toy_draft() -> Draft:
    """Three documents, six chunks, two summaries that share chunk 2, one root."""
    spans = [
        (d, start, end)
        for d, (name, text) in enumerate(TEXTS.items())
        for start, end in zip(CUTS[name], [*CUTS[name][1:], len(text)], strict=True)
    ]
    children = [np.array([0, 1, 2]), np.array([2, 3, 4, 5]), np.array([6, 7])]
    return Draft(
        documents=[document(name, text) for name, text in TEXTS.items()],
        chunks=np.array(spans, dtype=np.int64),
        labels=["Boats and masts", "Fruit – Maße", "All"],
        summaries=["A ketch and a yawl have a mizzen.", "Äpfel und Birnen.", "Boats; fruit."],
        levels=[6, 2, 1],
        children=children,
        tokens=np.full(9, 5, dtype=np.int64),
        vectors=unit_rows(9),
    )


def publish_toy(path: Path, draft: Draft | None = None) -> Published:
    models = {"embedder": BUILT_IN, "embedder_fingerprint": "toy", "summarizer": "hand"}
    return publish(path, draft or toy_draft(), models, {"seed": 0})


def toy_index(path: Path) -> Index:
    publish_toy(path)
    return open_index(path)


def index_of(path: Path, texts: Mapping[str, Sequence[str]], alike: Sequence[int]) -> Index:
    """An index of documents in these chunks, all under one root; all vectors are the same."""
    chunks = [
        (d, sum(map(len, parts[:i])), sum(map(len, parts[: i + 1])))
        for d, parts in enumerate(texts.values())
        for i in range(len(parts))
    ]
    n = len(chunks)
    vectors = np.full((n + 1, DIM), DIM**-0.5, dtype=np.float32)
    draft = Draft(
        documents=[document(doc, "".join(parts)) for doc, parts in texts.items()],
        chunks=np.array(chunks, dtype=np.int64),
        labels=["All"],
        summaries=["Rent, notice and pets."],
        levels=[n, 1],
        children=[np.arange(n)],
        tokens=np.full(n + 1, 5, dtype=np.int64),
        vectors=vectors,
        alike=alike,
    )
    publish_toy(path, draft)
    return open_index(path)
