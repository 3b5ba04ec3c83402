"""Shards built side by side, each as an index of its own with a checkpoint of its own, all from one purse.

What computes takes turns, as each of it uses all cores; what waits for a model's reply waits beside the others. So the
digests do not depend on how many are built at a time.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from index_store.duplicates import Twin
from index_store.files import refuse_links
from index_store.generations import Changes
from index_store.index import Index
from index_store.manifest import SHARDS
from index_store.name_table import NameTable, name_table, narrowed_to
from index_store.writer import Published, publish
from raptor.apart import named_by_kind
from raptor.corpus import Corpus, corpus_of, twins_in
from raptor.engines.local import cores
from raptor.errors import RaptorError
from raptor.grower import Grower
from raptor.growing import draft_of, grow, models_of
from raptor.settings import lasting
from raptor.types import Part
from raptor.workspace import Clock, Progress, looked_at, opened
from rlm.gateway.blocking import run_blocking

MOST_AT_ONCE = 8  # shards under way, whose levels are in memory
GROW = "grow shards"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """A shard to build. `previous`: the generation that it starts from; None for a new one. `parts`: its documents and
    their chunks, by the grower of the shard. `names`: which of its chunks bears which name, where that is known."""

    name: str
    previous: Index | None
    parts: Callable[[Grower], Sequence[Part]]
    names: NameTable | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A shard that was built, and which of its documents say nearly the same."""

    published: Published
    twins: tuple[Twin, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """What all parts of an index of shards share.

    `out`: where it is. `grower`: with its checkpoint, and the ledger that all are paid from. `embedder`: as its user
    named it. `usd`: most dollars of a run, None for no cap. `clock`: of all together. `at_once`: most shards that are
    under way at a time; None for as many as this machine is good for.
    """

    out: Path
    grower: Grower
    embedder: str
    usd: float | None
    clock: Clock
    at_once: int | None = None


@dataclass(slots=True)
class _Turns(Clock):
    """A clock of many builds at a time, whose stages wait for each other, but for those that wait for a model."""

    turn: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """As `Clock.stage`; the wait for the turn is no part of it."""
        if name == "summarise":
            with Clock.stage(self, name):
                yield
        else:
            with self.turn, Clock.stage(self, name):
                yield


class _Stopped(Exception):
    """The user stopped the build: it ends at its next step."""


@dataclass(slots=True)
class _Watch:
    """The progress of all shards as one: chunks that are embedded, of `total`, 0 where nobody knows."""

    shown: Progress
    total: int
    stopped: threading.Event = field(default_factory=threading.Event)
    done: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: list[Callable[[], object]] = field(default_factory=list)

    def stop(self) -> None:
        """Let no shard begin another step, nor wait for a reply."""
        with self.lock:
            self.stopped.set()
            for cancel in self.under_way:
                cancel()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """As `run_blocking`, until the user stops the build."""

        async def cancellable() -> T:
            task = asyncio.ensure_future(work)
            cancel = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)
            with self.lock:
                self.under_way.append(cancel)
                if self.stopped.is_set():
                    task.cancel()
            try:
                return await task
            except asyncio.CancelledError as e:
                raise _Stopped from e
            finally:
                with self.lock:
                    self.under_way.remove(cancel)

        return run_blocking(cancellable())

    def of(self, name: str) -> Progress:
        """The progress of one shard."""

        def progress(stage: str, done: int, total: int) -> None:
            if self.stopped.is_set():
                raise _Stopped
            if stage == "embed":
                with self.lock:
                    self.done[name] = done
                    self.shown(GROW, sum(self.done.values()), self.total)

        return progress


def folder_of(out: Path, name: str) -> Path:
    """The folder of a shard of the index at `out`. Raises RaptorError where a link stands in its place."""
    try:
        refuse_links(out, f"{SHARDS}/{name}")
    except OSError as e:
        raise RaptorError(f"{e.strerror or e}; put the folder itself in its place") from e
    return out / SHARDS / name


def folders_of_shards(out: Path) -> list[Path]:
    """The folders of all shards of the index at `out`, also of shards that no generation has. Raises RaptorError."""
    shards = out / SHARDS
    try:
        refuse_links(out, SHARDS)  # what is no shard is deleted there
        folders = sorted(shards.iterdir()) if shards.is_dir() else []
    except OSError as e:
        raise RaptorError(
            f"{e.strerror or e}; put the folder itself in its place, and make it readable"
        ) from e
    return [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]


def is_unfinished(folder: Path) -> bool:
    """Whether a build that has not ended has recorded something of a shard."""
    with looked_at(folder) as checkpoint:
        return any(checkpoint.count(kind) for kind in ("embed", "cluster", "summary"))


def build_shards(whole: Whole, jobs: Sequence[Job], total: int = 0) -> dict[str, Made]:
    """Build each shard as an index of its own, and give them by their names, in the order of the jobs.

    `total`: chunks of all that are embedded, for the progress; 0 where nobody knows. A shard that fails lets those
    under way end, and no further one begins; what is recorded stays.
    """
    settings = whole.grower.settings
    at_once = max(1, min(whole.at_once or max(2, cores()), MOST_AT_ONCE, settings.concurrency, len(jobs)))
    shared = replace(settings, concurrency=settings.concurrency // at_once)
    watch, turns = _Watch(whole.grower.progress, total), _Turns(whole.clock.seconds)

    def build(job: Job) -> Made:
        own = replace(
            whole.grower,
            previous=job.previous,
            settings=shared,
            progress=watch.of(job.name),
            wait_for=watch.wait_for,
        )
        return _built(folder_of(whole.out, job.name), job, own, whole.embedder, turns)

    made = _side_by_side(build, jobs, at_once, watch.stop)
    return {job.name: one for job, one in zip(jobs, made, strict=True)}


def _side_by_side(
    work: Callable[[Job], T], jobs: Sequence[Job], at_once: int, stop: Callable[[], None]
) -> list[T]:
    """What `work` gives of each job, in order, so many at a time. Raises what the first of those that failed did."""
    with ThreadPoolExecutor(at_once, thread_name_prefix="shard") as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:  # Ctrl-C: what is under way is to end too
            stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    failed = [fault for future in futures if not future.cancelled() and (fault := future.exception())]
    if failed:
        raise failed[0]
    return [future.result() for future in futures]


def _built(folder: Path, job: Job, grower: Grower, embedder: str, clock: Clock) -> Made:
    with opened(folder) as checkpoint:
        own = replace(grower, checkpoint=checkpoint)
        with clock.stage("chunk"):
            parts = job.parts(own)
        with clock.stage("embed"):
            corpus = corpus_of(parts, Changes(), own)
        levels = grow(own, corpus.leaves, named_by_kind(corpus, own.folder), own.gateway, clock)
        with clock.stage("load"):  # as of one index: what is found is about the sources
            twins = twins_in(corpus.documents, corpus.texts, own.folder)
        with clock.stage("write"):
            names = job.names or _names(corpus, job.previous, own.folder)
            draft = replace(draft_of(corpus, levels, twins, own.folder), is_shard=True, names=names)
            published = publish(folder, draft, models_of(own, embedder), lasting(own.settings))
        return Made(published, tuple(twins))


def _names(corpus: Corpus, previous: Index | None, folder: Path | None) -> NameTable:
    """The names of a shard, with those of one chunk alone, which chunks of other shards may bear.

    Whether a word is a name was found out by all texts when the corpus was divided. So what was one in the generation
    before is one still; and what was none, though an old chunk has it, is none.
    """
    passages = zip(corpus.leaves.texts, corpus.headings, strict=True)
    if previous is None:
        return name_table(passages, 1, folder)
    known, same = frozenset(_listed(previous)), np.array(corpus.leaves.same, dtype=bool)
    table = name_table(passages, 1, folder, known)
    return narrowed_to(table, lambda name, bearers: name in known or not same[bearers].any())


def _listed(index: Index) -> list[str]:
    names = index.names
    return [] if names is None else [names.in_words(number) for number in range(len(names))]
