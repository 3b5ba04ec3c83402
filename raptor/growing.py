"""Levels upon levels, up to one root: what a build and an update share.

Each level is planned (which nodes share a parent), its new summaries are made, and they become the next level. What is
slow or paid for goes through the checkpoint, so a run that died goes on and nothing is paid for twice.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from raptor.checkpoint import Checkpoint, key_of
from raptor.clustering.planning import Group, Standing, regroup
from raptor.embedding import embed
from raptor.errors import RaptorError
from raptor.settings import BuildSettings
from raptor.summarising import Summary, parse_summary, summary_request
from raptor.types import Level, Vectors
from rlm.gateway.blocking import run_blocking
from rlm.gateway.blocks import Block
from rlm.gateway.errors import GatewayError, OverBudget

if TYPE_CHECKING:
    from index_store.embedder import Embedder
    from index_store.index import Index
    from raptor.workspace import Clock
    from rlm.gateway.gateway import Gateway

Progress = Callable[[str, int, int], None]
KEPT = "nothing was published and what is paid for is kept: go on by the same command"


@dataclass(slots=True)
class Grower:
    """What growing needs and what it tells. `stage` times and names the work; `errors` counts failed summaries."""

    embedder: "Embedder"
    summarizer: str
    settings: BuildSettings
    checkpoint: Checkpoint
    progress: Progress
    max_errors: int = 10
    previous: "Index | None" = None
    errors: list[str] = field(default_factory=list)
    stopped: str = ""

    # -- embedding ---------------------------------------------------------------------------------------

    def embed(self, texts: Sequence[str], stage: str) -> Vectors:
        """Unit rows (n, dim). A batch that was embedded before is read back; batches are part of the result, because
        the same text in another batch may differ in its last bits."""

        def encode(batch: Sequence[str]) -> Vectors:
            inputs = [self.embedder.fingerprint, list(batch)]
            return self.checkpoint.array("embed", inputs, lambda: self.embedder.encode(batch))

        self.progress(stage, 0, len(texts))
        return embed(replace(self.embedder, encode=encode), texts, partial(self.progress, stage))

    # -- planning ----------------------------------------------------------------------------------------

    def plan(self, level: Level, height: int) -> list[Group]:
        """Which nodes of `level` share a parent at `height`."""
        settings, n = self.settings, len(level)
        standing = self._standing(level, height)
        fits = int(level.tokens.sum()) <= settings.cluster.max_tokens
        self.progress(f"cluster level {height}", 0, n)
        if n <= settings.root_children and fits and len(standing) <= 1:
            self.progress(f"cluster level {height}", n, n)
            return [self._root(level, standing)]
        inputs: list[Any] = [
            level.vectors.tobytes(),
            level.tokens.tolist(),
            [[s.old, s.members, s.whole] for s in standing],
            asdict(settings.cluster),
        ]
        found = self.checkpoint.json("cluster", inputs, lambda: self._groups(level, standing))
        self.progress(f"cluster level {height}", n, n)
        return [Group(tuple(members), old, kept) for members, old, kept in found]

    def _groups(self, level: Level, standing: Sequence[Standing]) -> list[Any]:
        groups = regroup(level.vectors, level.tokens, standing, self.settings.cluster)
        if len(groups) >= len(level):  # what stood overlaps so much that the level would not shrink
            groups = regroup(level.vectors, level.tokens, [], self.settings.cluster)
        return [[list(g.members), g.old, g.kept] for g in groups]

    def _root(self, level: Level, standing: Sequence[Standing]) -> Group:
        everyone = tuple(range(len(level)))
        if standing and self.previous is not None and standing[0].old == len(self.previous) - 1:
            kept = standing[0].whole and standing[0].members == everyone
            return Group(everyone, standing[0].old, kept)
        return Group(everyone)

    def _standing(self, level: Level, height: int) -> list[Standing]:
        """The previous generation's nodes at `height`, with those of their children that are still there."""
        index = self.previous
        if index is None or height >= len(index.levels):
            return []
        now = {old: i for i, old in enumerate(level.old) if old is not None}
        found = []
        for number in index.level_range(height):
            before = index.neighbours(number, "children")
            members = tuple(sorted(now[c] for c in before if c in now))
            whole = len(members) == len(before) and all(level.same[m] for m in members)
            if members:
                found.append(Standing(number, members, whole))
        return found

    # -- summarising -------------------------------------------------------------------------------------

    def blocks(self, level: Level, group: Group) -> list[Block]:
        """A cluster as data blocks; members that together pass the cap are each cut to their share of it."""
        total = max(1, int(level.tokens[list(group.members)].sum()))
        share = min(1.0, self.settings.cluster.max_tokens / total)
        return [
            Block(level.names[m], level.texts[m][: int(len(level.texts[m]) * share)]) for m in group.members
        ]

    async def summaries(
        self, gateway: "Gateway", level: Level, groups: Sequence[Group], stage: str
    ) -> list[Summary]:
        """A summary for each group, in order: kept from the previous generation, read back, or asked for.

        A call that failed for good does not stop the others, until there are more than `max_errors` or the cap is
        reached; calls under way then still end, and what they bring is recorded. Then RaptorError says what failed,
        because a tree with a hole is not a tree.
        """
        done = 0
        turn = asyncio.Semaphore(self.settings.concurrency)  # so that a stop reaches those still waiting

        async def one(group: Group) -> Summary | None:
            nonlocal done
            async with turn:
                summary = await self._one(gateway, level, group)
            done += 1
            self.progress(stage, done, len(groups))
            return summary

        self.progress(stage, 0, len(groups))
        found = await asyncio.gather(*(one(g) for g in groups))
        if self.stopped or self.errors:
            raise RaptorError(self.stopped or self._failed())
        return [s for s in found if s is not None]

    async def _one(self, gateway: "Gateway", level: Level, group: Group) -> Summary | None:
        if group.kept and group.old is not None and self.previous is not None:
            node = self.previous.at(group.old)
            return Summary(node.label, self.previous.text_at(group.old))
        request = summary_request(self.summarizer, self.blocks(level, group), self.settings.summary_tokens)
        key = key_of("summary", request.model, list(request.messages), request.max_tokens)
        if (found := self.checkpoint.get_json(key)) is not None:
            return Summary(found["label"], found["text"])
        try:
            summary = None if self.stopped else await self._ask(gateway, request)
        except OverBudget as e:
            self.stopped = f"the build stopped at its cap: {e}; {KEPT} with a higher cap"
            return None
        except (GatewayError, RaptorError) as e:
            self.errors.append(str(e))
            if len(self.errors) > self.max_errors:
                self.stopped = self._failed()
            return None
        if summary is not None:
            self.checkpoint.put_json(key, "summary", {"label": summary.label, "text": summary.text})
        return summary

    async def _ask(self, gateway: "Gateway", request: Any) -> Summary:
        for attempt in range(2):  # a reply without a summary is worth asking for once more
            reply = await gateway.complete(request)
            try:
                return parse_summary(reply.text)
            except ValueError as e:
                if attempt:
                    raise RaptorError(f"{self.summarizer} gave no usable summary twice: {e}") from e
        raise AssertionError("unreachable")

    def _failed(self) -> str:
        n = len(self.errors)
        return f"{n} summar{'y' if n == 1 else 'ies'} failed, first: {self.errors[0]}; {KEPT}"


def grow(grower: Grower, leaves: Level, gateway: "Callable[[], Gateway]", clock: "Clock") -> list[Level]:
    """All levels from the chunks up to one root. `gateway` makes one for each event loop that is run."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        height, below = len(levels), levels[-1]
        with clock.stage("cluster"):
            groups = grower.plan(below, height)
        with clock.stage("summarise"):
            made = run_blocking(_made(grower, gateway(), below, groups, f"summarise level {height}"))
        with clock.stage("embed"):
            levels.append(_level(grower, groups, made, f"embed level {height}"))
    return levels


async def _made(
    grower: Grower, gateway: "Gateway", below: Level, groups: Sequence[Group], stage: str
) -> list[Summary]:
    async with gateway:
        return await grower.summaries(gateway, below, groups, stage)


def _level(grower: Grower, groups: Sequence[Group], made: Sequence[Summary], stage: str) -> Level:
    """The summaries of `groups` as the level above; vectors and token counts of kept ones are read back."""
    fresh = [i for i, g in enumerate(groups) if not g.kept]
    vectors = np.zeros((len(groups), grower.embedder.dim), dtype=np.float32)
    tokens = np.zeros(len(groups), dtype=np.int64)
    vectors[fresh] = grower.embed([f"{made[i].label}\n{made[i].text}" for i in fresh], stage)
    tokens[fresh] = grower.embedder.count_tokens([made[i].text for i in fresh])
    for i, group in enumerate(groups):
        if group.kept and group.old is not None and grower.previous is not None:
            vectors[i] = grower.previous.vectors[group.old]
            tokens[i] = grower.previous.at(group.old).tokens
    return Level(
        texts=[s.text for s in made],
        names=[s.label.replace("\n", " ") for s in made],
        tokens=tokens,
        vectors=vectors,
        old=[g.old for g in groups],
        same=[g.kept for g in groups],
        children=[g.members for g in groups],
        labels=[s.label for s in made],
    )


def numbers_below(levels: Sequence[Level]) -> list[npt.NDArray[np.int64]]:
    """Children of each summary as numbers over the whole tree, leaves first."""
    firsts = np.cumsum([0, *(len(x) for x in levels)])
    return [
        np.array(children, dtype=np.int64) + firsts[height - 1]
        for height, level in enumerate(levels)
        if height
        for children in level.children
    ]
