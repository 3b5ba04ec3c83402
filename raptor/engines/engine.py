"""What a build asks of an engine: that a stage be done to many batches, anywhere, in any order.

An engine knows nothing of checkpoints and money. Its caller looks up what is recorded, maps what is missing, and
records each result as it arrives. Results are the same bits on every engine: the caller makes the batches, a result
depends on its batch and on what all share, and each is computed on one thread.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

Shared = TypeVar("Shared")
Batch = TypeVar("Batch")
Result = TypeVar("Result")
Handle = TypeVar("Handle")

#: The engines that there are, by the names that a user gives them.
LOCAL, RAY = ENGINES = ("local", "ray")
#: Batches that are given out, for each worker: one that is computed, and one that waits for it.
GIVEN = 2
#: How far batches may be drawn ahead of the oldest that is not done, in what is given out: who puts results in order
#: holds no more of them than that.
AHEAD = 4


@dataclass(frozen=True, slots=True)
class Stage(Generic[Shared, Batch, Result]):
    """What is done to each batch: `run(shared, batch)`.

    `run`: a pure function of a module's top level, so that a worker elsewhere finds it by its name; it may be done to a
    batch again. `shared`: what all batches need, small. `keeps_model`: whether a worker takes long to get ready, and so
    stays between batches: what it loads it keeps in its module, by what is in `shared`. `workers`: how many of this
    machine share the work where it is done here; 1: it is done in the caller's own thread, as befits little work. They
    are processes or, with `threads`, threads. An engine with other machines has as many workers as these have cores, or
    GPUs for a stage that keeps a model `on_gpu`.
    """

    name: str
    run: Callable[[Shared, Batch], Result]
    shared: Shared
    keeps_model: bool = False
    workers: int = 1
    threads: bool = False
    on_gpu: bool = False


class Engine(Protocol):
    """Where batches are computed. `is_here`: whether in this process and its children alone."""

    @property
    def is_here(self) -> bool: ...

    def map_batches(
        self, stage: Stage[Shared, Batch, Result], batches: Iterable[Batch]
    ) -> Iterator[tuple[int, Result]]:
        """The number of each batch, from 0, and its result, in any order.

        Batches are drawn as they are needed: some for each worker are under way, and none is drawn that stands more
        than `AHEAD` times as many places behind the oldest that is not done. No batch may wait for a result of this
        iteration, or, where the stage keeps a model, of another one. What is under way when the iteration is given up
        is cancelled. Raises what `run` raises, and RaptorError where a worker is lost for good.
        """
        ...

    async def once(
        self, stage: Stage[Shared, Batch, Result], batch: Batch, begun: Callable[[], object] = lambda: None
    ) -> Result:
        """The result of one batch, which is never computed again by the engine: it may be paid for.

        `begun`: called when a worker has it; until then it may wait for one for long. Raises `WorkerLost` where nobody
        knows how far it came; and RaptorError.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds; it can be used again."""
        ...


class WorkerLost(Exception):
    """The worker of a batch is gone, and whether it had done its work is not known."""


def streamed(
    batches: Iterable[Batch],
    submit: Callable[[Batch], Handle],
    first_done: Callable[[list[Handle]], Handle],
    workers: Callable[[], int],
) -> Iterator[tuple[int, Handle]]:
    """The number of each batch and its handle, once it is done. `workers`: how many there are now."""
    under_way: dict[Handle, int] = {}  # the oldest first
    waiting, drawn = enumerate(batches), 0
    while True:
        given = GIVEN * workers()
        oldest = next(iter(under_way.values()), drawn)
        room = min(given - len(under_way), oldest + AHEAD * given - drawn)
        for number, batch in islice(waiting, max(0, room)):
            under_way[submit(batch)], drawn = number, number + 1
        if not under_way:
            return
        handle = first_done(list(under_way))
        yield under_way.pop(handle), handle


def in_order(results: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """Results in the order of their batches."""
    early: dict[int, Result] = {}
    turn = 0
    for number, result in results:
        early[number] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1
