"""Made-up corpora of any size: vectors that lie as embeddings do, text of made-up words, a tree over both."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from index_store.types import Document
from index_store.writer import Draft

Floats = npt.NDArray[np.float32]

DIM = 384
CHUNKS, CENTRE = 10, 50  # chunks of a document, chunks around a centre
FANOUT = 8
BLOCK = 100_000


def spectrum() -> Floats:
    """Standard deviations on each axis: they fall about as those of 11,000 MiniLM chunks of five corpora did."""
    axis = np.arange(1, DIM + 1)
    variance = axis**-0.4 * np.exp(-((axis / 230) ** 2))
    return np.asarray(np.sqrt(variance / variance.sum()), dtype=np.float32)


def vectors(count: int, queries: int = 0, seed: int = 0) -> tuple[Floats, Floats]:
    """Unit rows (count, DIM) and (queries, DIM).

    Chunks lie around their document, documents around one of count / CENTRE centres, centres around broader ones,
    each with noise of its own strength; a query is a further chunk of some document. Nearest neighbours have
    cosines of 0.5 to 0.9, as in the corpora.
    """
    random, scale = np.random.default_rng(seed), spectrum()

    def noise(n: int, low: float, high: float) -> Floats:
        strength = random.uniform(low, high, (n, 1)).astype(np.float32)
        return strength * random.standard_normal((n, DIM), dtype=np.float32) * scale

    fields, centres = max(count // CENTRE // 40, 2), max(count // CENTRE, 2)
    middle = noise(fields, 1, 1)[random.integers(0, fields, centres)] + noise(centres, 1, 1)
    documents = -(-count // CHUNKS)
    about = middle[random.integers(0, centres, documents)] + noise(documents, 0.5, 2)
    rows = np.empty((count, DIM), dtype=np.float32)
    for start in range(0, count, BLOCK):
        chunk = np.arange(start, min(start + BLOCK, count))
        rows[chunk] = unit(about[chunk // CHUNKS] + noise(len(chunk), 0.5, 2.5))
    return rows, unit(about[random.integers(0, documents, queries)] + noise(queries, 0.5, 2.5))


def unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def texts(count: int, size: int, seed: int = 0) -> Iterator[str]:
    """`count` texts of about `size` characters each: lines of made-up words, as frequent as words are."""
    random = np.random.default_rng(seed)
    letters = random.integers(97, 123, (50_000, 9), dtype=np.uint8)
    lengths = random.integers(2, 10, 50_000)
    words = [row[:n].tobytes().decode() for row, n in zip(letters, lengths, strict=True)]
    rank = 1 / np.arange(1, 50_001)
    order = random.choice(50_000, size=2_000_000, p=rank / rank.sum())
    for start in random.integers(0, len(order) - size, count).tolist():
        chosen = [words[i] for i in order[start : start + size // 5].tolist()]
        lines = [" ".join(chosen[i : i + 12]).capitalize() + "." for i in range(0, len(chosen), 12)]
        yield "\n".join(lines)[: size - 1] + "\n"


def draft(nodes: int, characters: int, queries: int) -> tuple[Draft, Floats]:
    """A tree of about `nodes` nodes over documents of about `characters` together, and queries (queries, DIM)."""
    chunks = nodes * (FANOUT - 1) // FANOUT // CHUNKS * CHUNKS
    size = characters * CHUNKS // chunks
    documents = [_document(i, text) for i, text in enumerate(texts(chunks // CHUNKS, size))]
    cuts = [np.linspace(0, len(text), CHUNKS + 1).astype(int).tolist() for _, text in documents]
    spans = [(d, a, b) for d, cut in enumerate(cuts) for a, b in pairwise(cut)]
    leaves, asked = vectors(chunks, queries)
    levels, rows, children = [chunks], [leaves], []
    while levels[-1] > 1:
        starts = np.arange(0, levels[-1], FANOUT)
        first = sum(levels[:-1])
        children += [np.arange(a, min(a + FANOUT, levels[-1])) + first for a in starts.tolist()]
        rows.append(unit(np.add.reduceat(rows[-1], starts, axis=0)))
        levels.append(len(starts))
    above = sum(levels[1:])
    index = Draft(
        documents=documents,
        chunks=np.array(spans, dtype=np.int64),
        labels=[f"Topic {i}" for i in range(above)],
        summaries=list(texts(above, 200, seed=1)),
        levels=levels,
        children=children,
        tokens=np.full(sum(levels), 25),
        vectors=np.concatenate(rows),
    )
    return index, asked


def _document(number: int, text: str) -> tuple[Document, str]:
    name = f"folder {number % 100:02d}/document {number:07d}.txt"
    return Document(name, name, name, hashlib.sha256(text.encode()).hexdigest(), len(text)), text
