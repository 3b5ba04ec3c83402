"""Embed the texts of a level: in batches of like length, wherever the engine computes, each kept as it comes.

A batch is as wide as its longest text, and what the others lack is computed in vain: so the texts are sorted by length.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_store.embedder import CPU, Embedder
from index_store.spool import Lazy, order_of, room
from raptor.engines.engine import Engine, Stage
from raptor.engines.local import Local, cores
from raptor.errors import RaptorError

#: Texts in a batch. A batch is a second's work: what was done when a build is stopped is kept to the last one, and the
#: bar moves. A GPU does more at once.
BATCH, GPU_BATCH = 32, 256
_COUNTED = 1_024  # texts whose tokens are counted together

Rows = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


def embed(
    embedder: Embedder,
    texts: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
    engine: Engine | None = None,
    recorded: Callable[[list[str]], Rows | None] = lambda batch: None,
    record: Callable[[list[str], Rows], None] = lambda batch, rows: None,
    folder: Path | None = None,
) -> Rows:
    """(n, dim) float32 unit rows in the order of `texts`; `progress(done, n)` after each batch.

    `recorded`: the rows of a batch that was embedded before; `record` keeps those of one that now was. Many rows are
    mapped from a file in `folder`. On the processor a thread for each core shares the work. Raises RaptorError where
    the model gives other rows than such.
    """
    rows: Rows = room((len(texts), embedder.dim), np.float32, folder)
    batches = by_length(embedder, texts, folder)
    under_way, done = dict[int, tuple[Places, list[str]]](), 0

    def place(places: Places, found: Rows) -> None:
        nonlocal done
        rows[places], done = found, done + len(places)
        progress(done, len(texts))

    def missing() -> Iterator[list[str]]:
        number = 0
        for places in batches:
            batch = [texts[i] for i in places.tolist()]
            if (found := recorded(batch)) is not None:
                place(places, found)
            else:
                under_way[number] = places, batch
                number += 1
                yield batch

    most, on_gpu = cores() if embedder.device == CPU else 1, embedder.device == "cuda"
    workers = min(most, len(batches))
    stage = Stage("embed", encoded, embedder, keeps_model=True, workers=workers, threads=True, on_gpu=on_gpu)
    for number, found in (engine or Local()).map_batches(stage, missing()):
        places, batch = under_way.pop(number)
        if not are_rows(found, (len(places), embedder.dim)):
            raise RaptorError(
                f"the embedder {embedder.name!r} gave no vectors of numbers; choose another one"
            )
        record(batch, found)
        place(places, found)
    return rows


def encoded(embedder: Embedder, batch: list[str]) -> Rows:
    """The stage: what an embedder gives of a batch."""
    return embedder.encode(batch)


def by_length(embedder: Embedder, texts: Sequence[str], folder: Path | None = None) -> Sequence[Places]:
    """The places of texts in batches, those with most tokens first; ties in order."""
    counts = count_tokens(embedder, texts, folder)
    order = order_of(np.subtract(counts.max(initial=0), counts, out=counts), folder)
    size = BATCH if embedder.device == CPU else GPU_BATCH
    return Lazy(-(-len(order) // size), lambda batch: order[batch * size : (batch + 1) * size])


def count_tokens(embedder: Embedder, texts: Sequence[str], folder: Path | None = None) -> Places:
    """(n,) how many tokens each text has. Many numbers are mapped from a file in `folder`."""
    counts: Places = room((len(texts),), np.int64, folder)
    for start in range(0, len(texts), _COUNTED):
        counted = embedder.count_tokens(texts[start : start + _COUNTED])
        counts[start : start + _COUNTED] = counted
    return counts


def are_rows(value: npt.NDArray[np.generic], shape: tuple[int, int]) -> bool:
    """Whether an array holds vectors as `embed` gives them."""
    return value.shape == shape and value.dtype == np.float32 and bool(np.isfinite(value).all())
