"""Embed many texts a batch at a time, with progress; the model itself comes from `index_store.embedder`."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from index_store.embedder import Embedder
from raptor.engines.engine import Engine, Stage
from raptor.engines.local import Local

Rows = npt.NDArray[np.float32]
_BATCH = (
    64  # a second's work: what was done when a build is stopped is kept to the last batch, and the bar moves
)


def embed(
    embedder: Embedder,
    texts: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
    engine: Engine | None = None,
    recorded: Callable[[Sequence[str]], Rows | None] = lambda batch: None,
    record: Callable[[Sequence[str], Rows], None] = lambda batch, rows: None,
) -> Rows:
    """(n, dim) float32 unit rows in the order of `texts`; `progress(done, n)` after each batch.

    `recorded`: the rows of a batch that was embedded before; `record` keeps those of one that now was.
    """
    batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
    rows = [recorded(batch) for batch in batches]
    missing = [number for number, known in enumerate(rows) if known is None]
    done = sum(len(known) for known in rows if known is not None)
    if done:
        progress(done, len(texts))
    stage = Stage("embed", encoded, embedder, keeps_model=True)
    for number, made in (engine or Local()).map_batches(stage, (batches[place] for place in missing)):
        place = missing[number]
        rows[place] = made
        record(batches[place], made)
        done += len(made)
        progress(done, len(texts))
    return np.concatenate([embedder.encode([]), *(each for each in rows if each is not None)])


def encoded(embedder: Embedder, texts: Sequence[str]) -> Rows:
    """The stage: what an embedder gives of a batch."""
    return embedder.encode(texts)
