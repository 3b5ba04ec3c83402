"""Questions and builds under way: so many at once, the others in order; each followed, cancelled, and forgotten."""

import asyncio
import itertools
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from index_store.types import Json
from rlm.serving.problems import Problem, problem_of

Kind = Literal["ask", "build"]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
Event = Mapping[str, Json]

#: Jobs that have ended and are still told of; their runs are told of as long as their folders are there.
KEPT = 256
#: Characters of a text in an event; of longer ones the beginning is told.
TEXT_CHARS = 8_000
KEEP_ALIVE_S = 10.0


@dataclass(slots=True, eq=False)
class Job:
    """A question or a build. `id`: known to its client alone. `key`: whose it is. `run`: the folder of its run.

    `events`: those of its run so far, by their number in the trace; none any more once it has ended, as they stand in
    the trace then. `passing`: what was last told that no trace holds, and `passed`: how often. `done`, `of`: steps of a
    build. `problem`: why it failed or was cancelled. `followers`: who listens now.
    """

    kind: Kind
    key: str
    index: str
    run: str | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: State = "waiting"
    result: Mapping[str, Json] | None = None
    problem: Problem | None = None
    done: int = 0
    of: int | None = None
    ahead: int = 0
    events: list[Event] = field(default_factory=list)
    passing: Event = field(default_factory=dict)
    passed: int = 0
    followers: int = 0
    is_kept: bool = False
    task: asyncio.Task[Mapping[str, Json]] | None = None
    _early: dict[int, Event] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _abandoning: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, in any way."""
        return self.state in ("done", "failed", "cancelled")

    def add(self, event: Event) -> None:
        """Add one event of the run; those that come before an earlier one wait for it."""
        number = event.get("seq")
        if not isinstance(number, int):
            self.passing, self.passed = event, self.passed + 1
        else:
            self._early[number] = event
            while (following := self._early.pop(len(self.events), None)) is not None:
                self.events.append(following)
        self.tell()

    def tell(self) -> None:
        """Wake who follows."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def as_json(self) -> dict[str, Json]:
        """The job as a client sees it."""
        told: dict[str, Json] = {
            "job": self.id,
            "kind": self.kind,
            "index": self.index,
            "state": self.state,
            "run": self.run,
            "ahead": self.ahead if self.state == "waiting" else None,
            "done": self.done,
            "of": self.of,
        }
        if self.result is not None:
            told["answer" if self.kind == "ask" else "report"] = self.result
        if self.problem is not None:
            told["error"] = self.problem.detail
        return told

    def ending(self) -> Event:
        """What those who follow are told last."""
        kind = {"done": "result", "failed": "failed", "cancelled": "cancelled"}[self.state]
        return {**self.as_json(), "kind": kind, "conversation": "0"}

    async def ended(self) -> None:
        """Wait until it has ended."""
        while not self.is_over:
            await self._changed.wait()

    async def follow(self, after: int = -1) -> AsyncIterator[tuple[int | None, Event | None]]:
        """(number, event) of each event behind number `after`, as it comes; no number where the trace does not hold it.
        None for an event where nothing came for KEEP_ALIVE_S. It ends when the job has."""
        events, place, passed = self.events, after + 1, self.passed
        if self.passing and not self.is_over:
            yield None, self.passing
        while True:
            changed = self._changed
            while place < len(events):
                yield place, events[place]
                place += 1
            if passed != self.passed:
                passed = self.passed
                if self.passing:  # none where it has begun since
                    yield None, self.passing
            if self.is_over:
                return
            if changed is not self._changed:
                continue
            try:
                await asyncio.wait_for(changed.wait(), KEEP_ALIVE_S)
            except TimeoutError:
                yield None, None


class Jobs:
    """All jobs of a process. `max_running`: questions at once; builds go one at a time. Lives on one event loop."""

    def __init__(self, max_running: int, max_waiting: int, abandon_s: float) -> None:
        self._turns = {"ask": asyncio.Semaphore(max_running), "build": asyncio.Semaphore(1)}
        self._max_waiting, self._abandon_s = max_waiting, abandon_s
        self._waiting: dict[Job, None] = {}
        self._running: set[Job] = set()
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self.is_draining = False

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many are under way."""
        return len(self._running)

    def all(self) -> list[Job]:
        """All that are known, those under way first."""
        return [*self._running, *self._waiting, *reversed(self._ended.values())]

    def of_run(self, run: str) -> Job | None:
        """The job of a run, if it is still known."""
        return next((job for job in self.all() if job.run == run), None)

    def find(self, id: str) -> Job | None:
        """The job with this id, if it is still known."""
        under_way = (job for job in itertools.chain(self._running, self._waiting) if job.id == id)
        return self._ended.get(id) or next(under_way, None)

    def check_room(self) -> None:
        """Raise Problem where no more can be taken."""
        if self.is_draining:
            raise Problem(
                503, "the server is shutting down; ask again in a while", "draining", {"Retry-After": "30"}
            )
        if self.waiting >= self._max_waiting:
            raise Problem(
                503, f"{self.waiting:,} wait already; ask again in a while", "busy", {"Retry-After": "10"}
            )

    def begin(
        self, job: Job, work: Callable[[], Awaitable[Mapping[str, Json]]], unbegun: Callable[[], object]
    ) -> Job:
        """Do `work` when its turn comes; what it gives is the job's result. `unbegun` is called where it ends before.

        Raises Problem where there is no room.
        """
        self.check_room()
        job.ahead = sum(other.kind == job.kind for other in self._waiting)
        self._waiting[job] = None
        job.task = asyncio.get_running_loop().create_task(self._do(job, work))
        # Not in the task: one that is cancelled before its first step has no steps at all.
        job.task.add_done_callback(lambda task: self._ends(job, task, unbegun))
        return job

    async def _do(self, job: Job, work: Callable[[], Awaitable[Mapping[str, Json]]]) -> Mapping[str, Json]:
        if self._turns[job.kind].locked():
            job.add({"kind": "waiting", "conversation": "0", "ahead": job.ahead})
        async with self._turns[job.kind]:
            self._begins(job)
            return await work()

    def _begins(self, job: Job) -> None:
        del self._waiting[job]
        self._running.add(job)
        job.state, job.passing = "running", {}
        self._move_up(job.kind)
        job.tell()

    def _move_up(self, kind: Kind) -> None:
        """Tell those that wait how many are before them now."""
        for ahead, other in enumerate(other for other in self._waiting if other.kind == kind):
            if other.ahead != ahead:
                other.ahead = ahead
                other.add({"kind": "waiting", "conversation": "0", "ahead": ahead})

    def _ends(self, job: Job, task: asyncio.Task[Mapping[str, Json]], unbegun: Callable[[], object]) -> None:
        if job in self._waiting:
            del self._waiting[job]
            self._move_up(job.kind)
            unbegun()
        self._running.discard(job)
        if task.cancelled():
            job.state, job.problem = "cancelled", Problem(503, self._why_cancelled(job), "cancelled")
        elif isinstance(error := task.exception(), Exception):
            job.state, job.problem = "failed", problem_of(error)
        else:
            job.state, job.result = "done", task.result()
        self._ended[job.id] = job
        while len(self._ended) > KEPT:
            self._ended.popitem(last=False)
        job.tell()
        if job.kind == "ask":
            job.events = []  # who follows holds the list, and reads it to its end

    def _why_cancelled(self, job: Job) -> str:
        before = " before its turn came" if job.state == "waiting" else ""
        return f"it was cancelled{before}{', as the server shut down' if self.is_draining else ''}"

    def cancel(self, job: Job) -> None:
        """Let a job end as soon as it can; one that has ended, or is about to, stays as it is: a second time would end
        it before what it has started has ended."""
        if job.task is not None and not job.is_over and not job.task.cancelling():
            job.task.cancel()

    def attend(self, job: Job, by: int) -> None:
        """Somebody follows a job (1), or does not any more (-1): a question that all have left is cancelled."""
        job.followers += by
        if job._abandoning is not None:
            job._abandoning.cancel()
            job._abandoning = None
        if by < 0 and job.followers == 0 and job.kind == "ask" and not (job.is_kept or job.is_over):
            job._abandoning = asyncio.get_running_loop().call_later(self._abandon_s, self.cancel, job)

    def drain(self, within_s: float) -> None:
        """Take nothing more, drop what waits, and cancel what still runs so many seconds from now."""
        if self.is_draining:
            return
        self.is_draining = True
        for job in [*self._waiting]:
            self.cancel(job)
        asyncio.get_running_loop().call_later(within_s, self._cancel_all)

    def _cancel_all(self) -> None:
        for job in [*self._running]:
            self.cancel(job)

    async def close(self, within_s: float) -> None:
        """Drain, and wait until all has ended."""
        self.drain(within_s)
        tasks = [job.task for job in (*self._running, *self._waiting) if job.task is not None]
        if tasks:
            await asyncio.wait(tasks)


def slim(value: Json) -> Json:
    """A value with long texts cut, as events are told."""
    if isinstance(value, str):
        return value if len(value) <= TEXT_CHARS else f"{value[:TEXT_CHARS]} … ({len(value):,} characters)"
    if isinstance(value, Mapping):
        return {name: slim(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [slim(each) for each in value]
    return value


def event_of(kind: str, conversation: str, fields: Mapping[str, Any]) -> Event:
    """An event as it is told to who follows a run."""
    return {"kind": kind, "conversation": conversation} | {
        name: slim(value) for name, value in fields.items()
    }
