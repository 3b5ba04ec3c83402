"""Functions that tests map over batches: where they are computed, a worker finds them by their name."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raptor.errors import RaptorError


def halved(shared: int, batch: int) -> float:
    return batch / shared


def refused_at(shared: int, batch: int) -> int:
    if batch == shared:
        raise RaptorError(f"batch {batch} is refused; leave it out")
    return batch


def broken_at(shared: int, batch: int) -> int:
    if batch == shared:
        raise ValueError(f"batch {batch} is broken")
    return batch


def ends_at(shared: int, batch: int) -> int:
    if batch == shared:
        os._exit(1)
    return batch


def noted(shared: str, batch: int) -> int:
    """Leaves a file for each batch that is begun; all but the first then wait until there is a file `go`."""
    folder = Path(shared)
    (folder / str(batch)).touch()
    for _ in range(60_000):
        if not batch or (folder / "go").exists():
            break
        time.sleep(0.01)
    return batch


def waited(shared: str, batch: int) -> int:
    """Batch 0 waits until a file is there."""
    while not batch and not Path(shared).exists():
        time.sleep(0.01)
    return batch


def ends_once(shared: str, batch: int) -> int:
    """The first worker that gets batch 3 ends."""
    mark = Path(shared) / "ended"
    if batch == 3 and not mark.exists():
        mark.touch()
        os._exit(1)
    return batch


def where(shared: int, batch: int) -> dict[str, Any]:
    """What a worker is, and imports from."""
    del shared, batch
    return {
        "path": sys.path,
        "pid": os.getpid(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def row_sums(shared: float, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    return [batch.sum(axis=1) * np.float32(shared)] * 2
