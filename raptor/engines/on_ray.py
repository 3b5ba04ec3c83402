"""Batches computed on a Ray cluster: as plain tasks, or by actors where a worker keeps a model.

Ray schedules, retries what a lost node had, and moves results; nothing of it is imported before it is needed. Who can
reach its ports can run code on its nodes: see SECURITY.md.
"""

import asyncio
import hashlib
import logging
import os
import site
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any, Generic, cast

import numpy as np

from raptor.engines.engine import GIVEN, Batch, Result, Shared, Stage, WorkerLost, streamed
from raptor.engines.local import cores, environment
from raptor.errors import RaptorError

_log = logging.getLogger(__name__)
#: Times that a batch is given out again whose worker was lost; of a batch that no worker survives, that is enough.
RETRIES = 5
_ROOT = Path(__file__).resolve().parents[2]
_OURS = ("index_store", "raptor", "rlm")
#: Packages whose version bears on the bits of a result.
_COUNTED = (
    "faiss-cpu",
    "numba",
    "numpy",
    "scikit-learn",
    "scipy",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "umap-learn",
)
REACH_S = 5.0  # for a cluster to answer at all
_LOOK_S = 2.0  # between two looks at how many cores the cluster has
_NO_CORE_S = 300.0  # for a cluster without a core to get one
STOPS, _STOP_S = 5, 0.5  # times that tasks are told to end, and the wait between two
_CALL_CORES = 0.1  # of a task that waits for a model elsewhere
#: What a server of HTTP/2 answers with a frame of type 4: its settings. (RFC 9113, 3.4)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@dataclass(slots=True)
class OnRay:
    """A Ray cluster as engine. `address`: host:port of its head; "": that of RAY_ADDRESS, or else one that is begun on
    this machine, for the time of the build. It is connected to when first needed."""

    address: str = ""
    _ray: Any = field(default=None, init=False, repr=False)
    _is_ours: bool = field(default=False, init=False, repr=False)
    _task: Any = field(default=None, init=False, repr=False)  # `computed`, which the cluster knows by then
    _told: Any = field(default=None, init=False, repr=False)  # and `told_and_computed`
    _connecting: Lock = field(default_factory=Lock, init=False, repr=False)

    is_here = False

    def map_batches(
        self, stage: Stage[Shared, Batch, Result], batches: Iterable[Batch]
    ) -> Generator[tuple[int, Result], None, None]:
        """As `Engine.map_batches`."""
        ray = self._connected()
        crew: _Actors[Shared, Batch, Result] | _Tasks[Shared, Batch, Result]
        if stage.keeps_model:
            crew = _Actors(ray, stage, _Cores(ray, "GPU" if stage.on_gpu else "CPU"))
        else:
            crew = _Tasks(ray, stage, _Cores(ray), self._task)
        try:
            for number, job in streamed(batches, crew.begin, crew.first_done, crew.cores):
                yield number, crew.result(job)
        finally:
            crew.stop()

    async def once(
        self, stage: Stage[Shared, Batch, Result], batch: Batch, begun: Callable[[], object] = lambda: None
    ) -> Result:
        """As `Engine.once`: Ray does not try it again. The worker says first that it has it."""
        ray = self._connected()
        options = {
            "name": stage.name,
            "num_cpus": _CALL_CORES,
            "max_retries": 0,
            "scheduling_strategy": "SPREAD",
            "num_returns": "streaming",
        }
        told = self._told.options(**options).remote(versions(), stage.run, stage.shared, batch)
        try:
            await (await _first(told, _Cores(ray)))
            begun()
            result: Result = await (await anext(told))
        except asyncio.CancelledError:
            ray.cancel(told, force=True)
            raise
        except ray.exceptions.RayError as error:
            if _is_lost(ray, error):
                raise WorkerLost(_first_line(error)) from error
            raise _explained(ray, error, stage.name) from None
        return result

    def close(self) -> None:
        """Leave the cluster, and end one that was begun here."""
        if self._is_ours:
            self._ray.shutdown()
        self._ray, self._is_ours, self._task, self._told = None, False, None, None

    def _connected(self) -> Any:
        with self._connecting:
            if self._ray is None:
                self._ray, self._is_ours = _connect(self.address)
                self._task, self._told = self._ray.remote(computed), self._ray.remote(told_and_computed)
        return self._ray


# -- what is given out ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Cores:
    """How many cores the cluster has: it is asked now and then, as nodes come and go."""

    ray: Any
    kind: str = "CPU"
    _count: int = 0
    _asked_s: float = -_LOOK_S
    _seen_s: float = field(default_factory=time.monotonic)

    def __call__(self) -> int:
        """At least 1. Raises RaptorError where there has been none for a while."""
        now = time.monotonic()
        if now - self._asked_s >= _LOOK_S:
            self._count, self._asked_s = int(self.ray.cluster_resources().get(self.kind, 0)), now
            self._seen_s = now if self._count else self._seen_s
            if now - self._seen_s > _NO_CORE_S:
                raise RaptorError(
                    f"the cluster has had no {self.kind} for {_NO_CORE_S:.0f} s; add a node, and go on by the same "
                    "command"
                )
        return max(1, self._count)


async def _first(told: AsyncIterator[Any], cores: _Cores) -> Any:
    """The first that comes, however long that takes. Raises RaptorError as `cores` does."""
    first = asyncio.ensure_future(anext(told))
    try:
        while not (await asyncio.wait([first], timeout=_LOOK_S))[0]:
            cores()
        return first.result()
    finally:
        first.cancel()


@dataclass(slots=True)
class _Tasks(Generic[Shared, Batch, Result]):
    """Batches as tasks, on any node. Ray gives out anew what a lost node had."""

    ray: Any
    stage: Stage[Shared, Batch, Result]
    cores: _Cores
    task: Any
    _run: Any = field(init=False)
    _shared: Any = field(init=False)
    _under_way: set[Any] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._run = self.task.options(name=self.stage.name, num_cpus=1, max_retries=RETRIES)
        self._shared = self.ray.put(self.stage.shared)

    def begin(self, batch: Batch) -> Any:
        task = self._run.remote(versions(), self.stage.run, self._shared, batch)
        self._under_way.add(task)
        return task

    def first_done(self, tasks: list[Any]) -> Any:
        while not (done := self.ray.wait(tasks, num_returns=1, timeout=_LOOK_S)[0]):
            self.cores()
        return done[0]

    def result(self, task: Any) -> Result:
        self._under_way.remove(task)
        with _explaining(self.ray, self.stage.name):
            result: Result = _owned(self.ray.get(task))
            return result

    def stop(self) -> None:
        """End what runs, and begin nothing more. What Ray was just about to begin hears of it only when told again."""
        left = list(self._under_way)
        for _ in range(STOPS):
            for task in left:
                self.ray.cancel(task, force=True)
            left = self.ray.wait(left, num_returns=len(left), timeout=_STOP_S)[1] if left else []


@dataclass(slots=True, eq=False)
class _Job(Generic[Batch, Result]):
    """A batch for an actor, and what came of it. `tries`: actors that were lost with it."""

    batch: Batch
    ref: Any = None
    tries: int = 0
    result: Result | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Actors(Generic[Shared, Batch, Result]):
    """Batches for actors, of which there is one for each core; each loads what is shared, and keeps it.

    One gets its first batch when it is ready, so that no batch waits for an actor that never finds a place. What a lost
    one had is given to others.
    """

    ray: Any
    stage: Stage[Shared, Batch, Result]
    cores: _Cores
    _shared: Any = field(init=False)
    _kind: Any = field(init=False)
    _waiting: deque[_Job[Batch, Result]] = field(default_factory=deque, init=False)
    # Actors by the reference that says that they are ready; what each that is ready has; and how many were lost before
    # they were, one after another.
    _starting: dict[Any, Any] = field(default_factory=dict, init=False)
    _held: dict[Any, list[_Job[Batch, Result]]] = field(default_factory=dict, init=False)
    _lost: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._shared = self.ray.put(self.stage.shared)
        places = {"num_cpus": 1, "num_gpus": int(self.stage.on_gpu), "max_restarts": 0, "max_task_retries": 0}
        self._kind = self.ray.remote(Keeper).options(**places)

    def begin(self, batch: Batch) -> _Job[Batch, Result]:
        job = _Job[Batch, Result](batch)
        self._waiting.append(job)
        return job

    def first_done(self, jobs: list[_Job[Batch, Result]]) -> _Job[Batch, Result]:
        while True:
            self._start_missing(len(jobs))
            self._give_out()
            holders = {job.ref: (actor, job) for actor, held in self._held.items() for job in held}
            for ref in self.ray.wait([*holders, *self._starting], num_returns=1, timeout=_LOOK_S)[0]:
                if ref in self._starting:
                    self._begin_with(self._starting.pop(ref), ref)
                elif self._has_ended(*holders[ref]):
                    return holders[ref][1]

    def result(self, job: _Job[Batch, Result]) -> Result:
        if job.error is not None:
            raise job.error
        return cast("Result", job.result)

    def stop(self) -> None:
        for actor in (*self._starting.values(), *self._held):
            self.ray.kill(actor)

    def _start_missing(self, jobs: int) -> None:
        """One for each core, but none for which there would be no batch."""
        while len(self._starting) + len(self._held) < min(self.cores(), jobs):
            actor = self._kind.remote()
            self._starting[actor.begin.remote(versions(), self.stage.run, self._shared)] = actor

    def _give_out(self) -> None:
        for number in range(GIVEN):
            for actor, held in self._held.items():
                if self._waiting and len(held) == number:
                    job = self._waiting.popleft()
                    job.ref = actor.computed.remote(job.batch)
                    held.append(job)

    def _begin_with(self, actor: Any, ref: Any) -> None:
        try:
            self.ray.get(ref)
        except self.ray.exceptions.RayError as error:
            self._lost += 1
            if self._lost > RETRIES or not _is_lost(self.ray, error):
                raise _explained(self.ray, error, self.stage.name) from None
        else:
            self._lost = 0
            self._held[actor] = []

    def _has_ended(self, actor: Any, job: _Job[Batch, Result]) -> bool:
        """Whether there is a result, or an error; where the actor is lost, what it had is to be given out again."""
        try:
            job.result = _owned(self.ray.get(job.ref))
        except self.ray.exceptions.RayError as error:
            job.tries += 1
            if _is_lost(self.ray, error) and job.tries <= RETRIES:
                self._waiting.extendleft(reversed(self._held.pop(actor)))
                self.ray.kill(actor)
                return False
            job.error = _explained(self.ray, error, self.stage.name)
        self._held[actor].remove(job)
        return True


# -- in a worker ---------------------------------------------------------------------------------------------


def computed(
    here: Mapping[str, str], run: Callable[[Shared, Batch], Result], shared: Shared, batch: Batch
) -> Result:
    """The result of a batch, in a worker. `here`: the versions where the build runs."""
    check_versions(here)
    return run(shared, batch)


def told_and_computed(
    here: Mapping[str, str], run: Callable[[Shared, Batch], Result], shared: Shared, batch: Batch
) -> Iterator[Result | None]:
    """As `computed`, behind a word that the worker has begun."""
    yield None
    yield computed(here, run, shared, batch)


class Keeper:
    """An actor: it keeps what all batches share."""

    def begin(self, here: Mapping[str, str], run: Callable[[Any, Any], Any], shared: Any) -> None:
        """Load what is shared."""
        check_versions(here)
        self._run, self._shared = run, shared

    def computed(self, batch: Any) -> Any:
        """The result of a batch."""
        return self._run(self._shared, batch)


@lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """What bears on the bits of a result: the sha256 of our own code, the versions of what computes with numbers."""
    own = hashlib.sha256()
    for path in sorted(path for name in _OURS for path in (_ROOT / name).rglob("*.py")):
        own.update(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes())
    return {"raptor-rlm": own.hexdigest()[:12]} | {name: _version(name) for name in _COUNTED}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def check_versions(here: Mapping[str, str]) -> None:
    """Raise RaptorError where a worker has other versions than `here`, where the build runs: its bits may be others."""
    own = versions()
    if other := [name for name in here if own.get(name) != here[name]]:
        told = ", ".join(f"{name} {own.get(name)} there, {here[name]} here" for name in other)
        raise RaptorError(
            f"a worker on {socket.gethostname()} has other versions than the build ({told}); install the same on all "
            "nodes"
        )


# -- errors --------------------------------------------------------------------------------------------------


def _is_lost(ray: Any, error: Exception) -> bool:
    """Whether an error says that a worker, or what it had made, is gone."""
    names = ("WorkerCrashedError", "NodeDiedError", "RayActorError", "ObjectLostError", "OutOfMemoryError")
    return isinstance(error, tuple(getattr(ray.exceptions, name) for name in names))


def _explained(ray: Any, error: Exception, stage: str) -> Exception:
    """What a stage raised; or what went wrong on the cluster, as a sentence."""
    cause = getattr(error, "cause", None)
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(cause, Exception):
        return cause
    if _is_lost(ray, error):
        return RaptorError(
            f"the stage {stage} lost {RETRIES + 1} workers with the same batch ({_first_line(error)}); give the nodes "
            "more memory, and go on by the same command"
        )
    return RaptorError(f"the stage {stage} failed on the cluster ({_first_line(error)})")


@contextmanager
def _explaining(ray: Any, stage: str) -> Iterator[None]:
    try:
        yield
    except ray.exceptions.RayError as error:
        raise _explained(ray, error, stage) from None


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].removeprefix("System error: ")[:300]


def _owned(result: Any) -> Any:
    """A result that no longer holds a place in the cluster's memory, as arrays do that are only looked at."""
    if isinstance(result, list):
        return [_owned(one) for one in result]
    return result.copy() if isinstance(result, np.ndarray) else result


# -- the connection ------------------------------------------------------------------------------------------


def _connect(address: str) -> tuple[Any, bool]:
    """Ray, connected to a cluster, and whether that was done here and not by the program we run in."""
    try:
        import ray
    except ImportError as error:
        raise RaptorError('the engine ray needs a package: pip install "raptor-rlm[ray]"') from error
    where = address or os.environ.get("RAY_ADDRESS", "")
    if ray.is_initialized():
        there = ray.get_runtime_context().gcs_address
        if address and address != there:
            raise RaptorError(
                f"this program is connected to another Ray cluster, {there}; name that, or none"
            )
        return ray, False
    if where:
        _check_reachable(where)
    with _begun_cleanly(ray, alone=not where):
        try:
            if where:
                _ask_for_cluster(ray, where)
            ray.init(
                address=where or "local",
                num_cpus=None if where else cores(),
                include_dashboard=None if where else False,
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": _worker_environment()},
            )
        except (
            ConnectionError,
            OSError,
            RuntimeError,
            TimeoutError,
            ValueError,
            ray.exceptions.RayError,
        ) as error:
            fault = " ".join(str(error).split())[:500]
            raise RaptorError(f"cannot use the Ray cluster {where or 'of this machine'} ({fault})") from error
    _silence(ray)
    return ray, True


def _silence(ray: Any) -> None:
    """Ray tells of lost workers on standard output, where a command's report stands; here it is told to the log."""
    if hasattr(ray._private.worker, "print_to_stdstream"):
        ray._private.worker.print_to_stdstream = lambda told, **_: _log.info("ray: %s", told.get("lines"))


def _check_reachable(address: str) -> None:
    """Raise RaptorError unless a server of gRPC answers: Ray itself would try for minutes, and then end the process."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise RaptorError(
            f"the address {address!r} is none of a Ray cluster; give the host:port of its head, and run the build on a "
            "node of the cluster"
        )
    fault = ""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), REACH_S) as connection:
            connection.settimeout(REACH_S)
            if os.environ.get("RAY_USE_TLS", "0") != "1":
                connection.sendall(_PREFACE)
                fault = "" if connection.recv(4)[3:] == b"\x04" else "what listens there is no Ray"
    except OSError as error:
        fault = error.strerror or str(error)
    if fault:
        raise RaptorError(
            f"there is no Ray cluster at {address} ({fault}); start one with: ray start --head --port {port}"
        )


def _ask_for_cluster(ray: Any, address: str) -> None:
    """Raise RayError unless what listens there says within half a minute which cluster it is: another server of gRPC
    does not, nor one that hangs, and `ray.init` would go on to ask for minutes."""
    client = getattr(ray._raylet, "GcsClient", None)  # which is no public name
    if client is not None:
        client(address=address)


@contextmanager
def _begun_cleanly(ray: Any, *, alone: bool) -> Iterator[None]:
    """Ray tells nobody of its use, and workers do not import from the working folder, which may hold a stranger's
    files: Ray puts the folder in which it is begun before all that they import from. `alone`: it listens to this
    machine alone, as it does on systems where it has no clusters."""
    constants, logger = ray._private.ray_constants, logging.getLogger("ray")
    clusters, level = getattr(constants, "ENABLE_RAY_CLUSTER", None), logger.level
    constants.ENABLE_RAY_CLUSTER = clusters and not alone  # the environment was read when ray was imported
    logger.setLevel(logging.ERROR)
    try:
        with (
            environment("RAY_USAGE_STATS_ENABLED", "0"),
            environment("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0") if alone else nullcontext(),
            chdir(os.sep),
        ):
            yield
    finally:
        constants.ENABLE_RAY_CLUSTER = clusters
        logger.setLevel(level)


def _worker_environment() -> dict[str, str]:
    """Workers import us from where the build does, where that is a checkout and not among what is installed."""
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    found = {"PYTHONSAFEPATH": "1"}
    return found if str(_ROOT) in map(os.path.realpath, installed) else found | {"PYTHONPATH": str(_ROOT)}
