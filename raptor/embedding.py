"""Embed many texts a batch at a time, with progress; the model itself comes from `index_store.embedder`."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from index_store.embedder import Embedder

_BATCH = (
    64  # a second's work: what was done when a build is stopped is kept to the last batch, and the bar moves
)


def embed(
    embedder: Embedder, texts: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None
) -> npt.NDArray[np.float32]:
    """(n, dim) float32 unit rows in the order of `texts`; `progress(done, n)` after each batch."""
    rows = [embedder.encode([])]
    for start in range(0, len(texts), _BATCH):
        rows.append(embedder.encode(texts[start : start + _BATCH]))
        progress(min(start + _BATCH, len(texts)), len(texts))
    return np.concatenate(rows)
