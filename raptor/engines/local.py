"""Batches computed on this machine: in the caller's thread where there is little work, else in processes or threads."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from raptor.engines.engine import Batch, Result, Shared, Stage, streamed
from raptor.errors import RaptorError

#: Python as it starts so does not import from the working directory, which may hold a stranger's files:
#: `multiprocessing` starts it with `-c`, which looks there first until it has been told the caller's own `sys.path`.
_NOTHING_FROM_HERE = ("PYTHONSAFEPATH", "1")


@dataclass(frozen=True, slots=True)
class Local:
    """The engine of a build that names no other."""

    is_here = True

    def map_batches(
        self, stage: Stage[Shared, Batch, Result], batches: Iterable[Batch]
    ) -> Generator[tuple[int, Result], None, None]:
        """As `Engine.map_batches`: with one worker in order, and each batch is drawn when its turn comes."""
        if stage.workers > 1:
            return _spread(stage, batches)
        return ((number, stage.run(stage.shared, batch)) for number, batch in enumerate(batches))

    async def once(
        self, stage: Stage[Shared, Batch, Result], batch: Batch, begun: Callable[[], object] = lambda: None
    ) -> Result:
        """As `Engine.once`."""
        begun()
        return stage.run(stage.shared, batch)

    def close(self) -> None:
        """There is nothing to give back."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _spread(
    stage: Stage[Shared, Batch, Result], batches: Iterable[Batch]
) -> Generator[tuple[int, Result], None, None]:
    def submit(batch: Batch) -> Future[Result]:
        return pool.submit(stage.run, stage.shared, batch)

    with _pool(stage) as pool:
        try:
            for number, future in streamed(batches, submit, _first_done, lambda: stage.workers):
                yield number, future.result()
        except BrokenProcessPool as e:
            raise RaptorError(
                f"a process of the stage {stage.name} ended early; free memory, and if a script of yours builds the "
                "index, do it under: if __name__ == '__main__'"
            ) from e
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _first_done(futures: list[Future[Result]]) -> Future[Result]:
    done = wait(futures, return_when=FIRST_COMPLETED).done
    return next(future for future in futures if future in done)


@contextmanager
def _pool(stage: Stage[Shared, Batch, Result]) -> Iterator[Executor]:
    if stage.threads:
        with ThreadPoolExecutor(stage.workers) as threads:
            yield threads
        return
    # Spawned, not forked: a fork of a process in which BLAS or torch have threads may hang.
    with (
        environment(*_NOTHING_FROM_HERE),
        ProcessPoolExecutor(stage.workers, mp_context=get_context("spawn")) as processes,
    ):
        yield processes


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """A variable of the environment, for what starts in the block. Blocks of several threads may overlap."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)  # another thread may have done so
        if before is not None:
            os.environ[name] = before
