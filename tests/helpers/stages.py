"""Functions that tests map over batches: where they are computed, a worker finds them by their name."""

import os
import time
from pathlib import Path

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
    """Leaves a file for each batch that is begun, and takes a while."""
    (Path(shared) / str(batch)).touch()
    time.sleep(0.02)
    return batch


def waited(shared: str, batch: int) -> int:
    """Batch 0 waits until a file is there."""
    while not batch and not Path(shared).exists():
        time.sleep(0.01)
    return batch
