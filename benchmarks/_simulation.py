"""A build, and questions, played as events with measured service times: it shows the shape of growth, and promises
nothing. Pure: the same numbers and seed give the same events.

A build is a row of stages, each of batches. A batch takes a core of some node, or a slot of the model's provider, and
then the driver, which alone keeps what came of it: one batch after another. No more batches are under way than
`AHEAD` for each slot, those that wait for the driver among them. A node that is lost loses what it was doing; that is
done again, and another node stands in its place after a while.
"""

import heapq
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

AHEAD = 3  # batches under way for each slot
MOST_BATCHES = 2_000  # of a stage that are played one by one; of more, each stands for several


@dataclass(frozen=True, slots=True)
class Stage:
    """`batches` of `work_s` seconds each.

    `settle_s`: of the driver for each; `alone_s`: of the driver before any. `slots`: of calls to a model's provider,
    which take no core: how many at once; None for work that takes a core. `calls_per_s`: that the provider allows.
    """

    name: str
    batches: int
    work_s: float = 0.0
    settle_s: float = 0.0
    alone_s: float = 0.0
    slots: int | None = None
    calls_per_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes of so many cores. `lost_per_hour`: of one node; `back_s`: until another stands in its place."""

    nodes: int = 1
    cores: int = 1
    lost_per_hour: float = 0.0
    back_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What a stage, or a build, took: seconds of the clock; of the driver; of cores, repeated work included; how many
    batches were done again; most batches under way at once."""

    wall_s: float = 0.0
    driver_s: float = 0.0
    core_s: float = 0.0
    again: int = 0
    under_way: int = 0

    def and_then(self, other: "Ended") -> "Ended":
        """Both, one after the other."""
        return Ended(
            self.wall_s + other.wall_s,
            self.driver_s + other.driver_s,
            self.core_s + other.core_s,
            self.again + other.again,
            max(self.under_way, other.under_way),
        )


def played(stages: Sequence[Stage], cluster: Cluster, seed: int = 0) -> Iterator[Ended]:
    """What each stage takes: one begins when the one before it is settled."""
    random = np.random.default_rng(seed)
    for stage in stages:
        lumped = _lumped(stage, cluster)
        ended = _Play(lumped, cluster, random).run()
        each = stage.batches / max(lumped.batches, 1)
        yield replace(ended, again=round(ended.again * each), under_way=round(ended.under_way * each))


def together(ended: Sequence[Ended]) -> Ended:
    """All stages as one."""
    total = Ended()
    for one in ended:
        total = total.and_then(one)
    return total


def _lumped(stage: Stage, cluster: Cluster) -> Stage:
    """The same work in fewer batches, still many for each slot. Batches that are lost are then larger too."""
    slots = stage.slots or cluster.nodes * cluster.cores
    most = max(MOST_BATCHES, 8 * slots)
    if stage.batches <= most:
        return stage
    each = stage.batches / most
    return replace(
        stage,
        batches=most,
        work_s=stage.work_s * each,
        settle_s=stage.settle_s * each,
        calls_per_s=stage.calls_per_s / each,
    )


@dataclass(slots=True)
class _Play:
    """One stage as it goes on.

    `events`: (time, order, what, node, batch, try). `doing`: of each node, when each batch began that it works on.
    `tries`: how often each batch was begun: what a lost node would have ended is told by that.
    """

    stage: Stage
    cluster: Cluster
    random: np.random.Generator
    now: float = 0.0
    driver_free: float = 0.0
    next_call: float = 0.0
    under_way: int = 0
    ended: Ended = field(default_factory=Ended)
    events: list[tuple[float, int, str, int, int, int]] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)
    free: deque[int] = field(default_factory=deque)
    doing: list[dict[int, float]] = field(default_factory=list)
    tries: Counter[int] = field(default_factory=Counter)
    order: int = 0

    def run(self) -> Ended:
        stage = self.stage
        self.now = self.driver_free = stage.alone_s
        self.waiting.extend(range(stage.batches))
        nodes, slots = (1, stage.slots) if stage.slots else (self.cluster.nodes, self.cluster.cores)
        self.doing = [{} for _ in range(nodes)]
        self.free.extend(node for _ in range(slots) for node in range(nodes))
        for node in range(nodes):
            self._lose_later(node)
        left, core_s, again, most = stage.batches, 0.0, 0, 0
        while left:
            while self.waiting and self.free and self.under_way < AHEAD * nodes * slots:
                self._begin(self.free.popleft(), self.waiting.popleft())
            most = max(most, self.under_way)
            self.now, _, what, node, batch, attempt = heapq.heappop(self.events)
            if what == "done" and attempt == self.tries[batch]:
                core_s += self.now - self.doing[node].pop(batch)
                self.driver_free = max(self.driver_free, self.now) + stage.settle_s
                self._at(self.driver_free, "settled")
                self.free.append(node)
            elif what == "settled":
                left, self.under_way = left - 1, self.under_way - 1
            elif what == "lost":
                again += len(self.doing[node])
                core_s += sum(self.now - began for began in self.doing[node].values())
                self._lose(node)
            elif what == "back":
                self.free.extend([node] * slots)
                self._lose_later(node)
        driver_s = stage.alone_s + stage.batches * stage.settle_s
        return Ended(self.now, driver_s, 0.0 if stage.slots else core_s, again, most)

    def _begin(self, node: int, batch: int) -> None:
        begins = max(self.now, self.next_call)
        self.next_call = begins + 1 / self.stage.calls_per_s
        self.doing[node][batch] = begins
        self.tries[batch] += 1
        self.under_way += 1
        self._at(begins + self.stage.work_s, "done", node, batch)

    def _lose(self, node: int) -> None:
        """What it was doing waits again, before all else; nothing that it would have ended counts."""
        self.under_way -= len(self.doing[node])
        self.tries.update(self.doing[node].keys())
        self.waiting.extendleft(reversed(self.doing[node]))
        self.doing[node].clear()
        self.free = deque(other for other in self.free if other != node)
        self._at(self.now + self.cluster.back_s, "back", node)

    def _lose_later(self, node: int) -> None:
        if self.cluster.lost_per_hour and not self.stage.slots:
            after_s = float(self.random.exponential(3600 / self.cluster.lost_per_hour))
            self._at(self.now + after_s, "lost", node)

    def _at(self, time: float, what: str, node: int = -1, batch: int = -1) -> None:
        self.order += 1
        heapq.heappush(self.events, (time, self.order, what, node, batch, self.tries[batch]))


# -- questions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What questions took of shards in a store, each on the average: shards looked at, the share of them that the cache
    had, bytes pulled."""

    opened: float
    hits: float
    pulled: float


def asked(
    shards: int, in_cache: int, shard_bytes: float, everywhere: float, questions: int = 500, seed: int = 0
) -> Asked:
    """Questions to an index of `shards`, of which the cache holds `in_cache` that were used last.

    `everywhere`: the share of the questions that search all shards, each in the same order; the others are about one
    branch, the shard of which is as popular as Zipf's law says. `shard_bytes`: that are pulled to open one. The cache
    is warm: as many questions were asked before.
    """
    random = np.random.default_rng(seed)
    popular = 1 / np.arange(1, shards + 1)
    ones = random.choice(shards, size=2 * questions, p=popular / popular.sum()).tolist()
    held, opened, hits = OrderedDict[int, None](), 0, 0
    for number, (one, share) in enumerate(zip(ones, random.random(2 * questions).tolist(), strict=True)):
        for shard in range(shards) if share < everywhere else (one,):
            hit = shard in held
            held[shard] = None
            held.move_to_end(shard)
            if len(held) > in_cache:
                held.popitem(last=False)
            if number >= questions:
                opened, hits = opened + 1, hits + hit
    return Asked(opened / questions, hits / opened, (opened - hits) * shard_bytes / questions)
