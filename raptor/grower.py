"""What growing a tree stands on: embedding, planning and recorded summaries, each through the checkpoint."""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from index_store.embedder import CPU, FLOAT32, Embedder, encodable, settled
from index_store.index import Index
from index_store.spool import room
from index_store.terminal import count
from index_store.types import Json
from raptor.calling import made_by
from raptor.checkpoint import Checkpoint, Raw, result_key
from raptor.clustering.planning import Group, OldParent, kept_groups, regroup
from raptor.embedding import are_rows, by_length, embed
from raptor.engines.engine import Engine
from raptor.engines.local import Local
from raptor.errors import RaptorError
from raptor.settings import BuildSettings
from raptor.summarising import Summary
from raptor.types import Level, Vectors
from raptor.workspace import Progress
from rlm.gateway.blocking import run_blocking
from rlm.gateway.blocks import Block, block_name
from rlm.gateway.embeddings import embedding_request, embeds, fingerprint, vectors_in
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.gateway import Gateway
from rlm.gateway.lanes import Lanes
from rlm.gateway.ledger import Ledger
from rlm.gateway.types import Request

GO_ON = "nothing was published and what is paid for is kept: go on by the same command"
_GROUPS = 4_096  # groups that are recorded together
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Wait(Protocol):
    """As `run_blocking`."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T:
        """Run `work` to its end and give its result."""
        ...


@dataclass(frozen=True, slots=True)
class Grower:
    """The models and settings of a build, its checkpoint, and the generation it starts from, if there is one.

    `summarizer`: the name of a model, which is called with `options`. `max_errors`: failed summaries after which no
    further one is asked for. `engine`: where stages are computed. `embedder_options`: what is sent with the calls of an
    embedder that is called, `litellm/NAME`; `ledger`: what all calls are paid from; `wait_for`: runs what makes them.
    """

    embedder: Embedder
    summarizer: str
    settings: BuildSettings
    checkpoint: Checkpoint
    progress: Progress
    max_errors: int = 10
    previous: Index | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    engine: Engine = field(default_factory=Local)
    embedder_options: Mapping[str, Json] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    wait_for: Wait = run_blocking
    _lanes: Lanes = field(default_factory=Lanes)

    @property
    def folder(self) -> Path | None:
        """Where what grows with the corpus is kept meanwhile (see `index_store.spool`)."""
        return self.checkpoint.folder

    # -- embedding ---------------------------------------------------------------------------------------

    def embed(self, texts: Sequence[str], stage: str) -> Vectors:
        """Unit rows (n, dim). A batch that was embedded before is read back; batches are part of the result, because
        the same text in another batch may differ in its last bits."""
        if embeds(self.embedder.name):
            return self._called(texts, stage)
        model = settled(self.embedder, len(texts))
        made_by: list[Json | bytes] = [model.fingerprint]
        made_by += [what for what in (model.precision, model.device) if what not in (FLOAT32, CPU)]

        def key(batch: Sequence[str]) -> str:
            return result_key("embed", *made_by, list(batch))

        def recorded(batch: list[str]) -> Vectors | None:
            return self.checkpoint.get_array(key(batch), partial(are_rows, shape=(len(batch), model.dim)))

        def record(batch: list[str], rows: Vectors) -> None:
            self.checkpoint.put_array(key(batch), "embed", rows)

        self.progress(stage, 0, len(texts))
        _log.debug("%s: %s", stage, count(len(texts), "text"))
        return embed(model, texts, partial(self.progress, stage), self.engine, recorded, record, self.folder)

    def _called(self, texts: Sequence[str], stage: str) -> Vectors:
        """As `embed`, by an embedder that is called. Each text is kept by itself, as soon as its call has ended: it is
        not paid for again, whatever else has changed."""
        self.progress(stage, 0, len(texts))
        rows: Vectors = room((len(texts), self.embedder.dim), np.float32, self.folder)
        self.wait_for(self._fill(rows, texts, stage))
        return rows

    async def _fill(self, rows: Vectors, texts: Sequence[str], stage: str) -> None:
        """Put the vectors of texts into `rows`, by so many calls at a time. Where one fails for good those under way
        still end, and are kept; then RaptorError says what failed."""
        batches, failed, done = iter(by_length(self.embedder, texts)), list[RaptorError](), 0

        async def work() -> None:
            nonlocal done
            while not failed and (places := next(batches, None)) is not None:
                try:
                    rows[places] = await self._paid(gateway, [texts[i] for i in places.tolist()])
                except RaptorError as e:
                    failed.append(e)
                    return
                done += len(places)
                self.progress(stage, done, len(texts))

        async with self.gateway() as gateway:
            await asyncio.gather(*(work() for _ in range(self.settings.concurrency)))
        if failed:
            raise failed[0]

    async def _paid(self, gateway: Gateway, texts: Sequence[str]) -> Vectors:
        """The rows of texts: those that were paid for before, and those that now are."""
        model, texts = self.embedder, encodable(texts)
        keys = [result_key("embed", model.fingerprint, text) for text in texts]
        fits = partial(are_rows, shape=(1, model.dim))
        known = [self.checkpoint.get_array(key, fits) for key in keys]
        missing = [place for place, row in enumerate(known) if row is None]
        if missing:
            rows = await self._asked(gateway, [texts[place] for place in missing])
            if rows.shape[1] != model.dim:
                raise RaptorError(
                    f"{model.name} gave vectors of {rows.shape[1]} numbers, where the others have {model.dim}; "
                    "build the index anew, or with another embedder"
                )
            for place, row in zip(missing, rows, strict=True):
                known[place] = row[None]
                self.checkpoint.put_array(keys[place], "embed", row[None])
        return np.concatenate([row for row in known if row is not None])

    def sized(self) -> "Grower":
        """The grower once it is known how long the vectors of its embedder are: one that is called is asked, once."""
        model, options = self.embedder, dict(self.embedder_options)
        if model.dim or not embeds(model.name):
            return self
        inputs: list[Json | bytes] = [model.name, options]
        found = self.checkpoint.json(
            "embedder dimension",
            inputs,
            lambda: run_blocking(self._dimension()),
            lambda value: type(value) is int,
        )
        known = replace(model, dim=int(found), fingerprint=fingerprint(model.name, options, int(found)))
        return replace(self, embedder=known)

    async def _dimension(self) -> int:
        async with self.gateway() as gateway:
            rows = await self._asked(gateway, ["dimension"])
        return int(rows.shape[1])

    async def _asked(self, gateway: Gateway, texts: Sequence[str]) -> Vectors:
        """The vectors of one call. Raises RaptorError."""
        request = embedding_request(self.embedder.name, texts, self.embedder_options)
        try:
            reply = await gateway.complete(request)
            rows: Vectors = vectors_in(reply.text, len(texts))
            return rows
        except OverBudget as e:
            raise RaptorError(f"the build stopped at its cap: {e}; {GO_ON} with a higher cap") from e
        except (GatewayError, ValueError) as e:
            raise RaptorError(f"{e}; {GO_ON}") from e

    def gateway(self) -> Gateway:
        """What makes the calls of this build, which its ledger pays for."""
        make = made_by(self.engine)
        return Gateway(self.ledger, concurrency=self.settings.concurrency, lanes=self._lanes, make=make)

    # -- planning ----------------------------------------------------------------------------------------

    def plan(self, level: Level, height: int) -> Sequence[Group]:
        """The groups of nodes of `level` that share a parent at `height`."""
        settings, n = self.settings, len(level)
        parents = self._old_parents(level, height)
        fits = int(level.tokens.sum()) <= settings.cluster.max_tokens
        self.progress(f"cluster level {height}", 0, n)
        if n <= settings.root_children and fits and len(parents) <= 1:
            self.progress(f"cluster level {height}", n, n)
            return [self._root(level, parents)]
        inputs: list[Json | Raw] = [
            np.ascontiguousarray(level.vectors).data.cast("B"),
            np.ascontiguousarray(level.tokens).data.cast("B"),
            [[p.old, list(p.members), p.whole] for p in parents],
            asdict(settings.cluster),
        ]
        key = result_key("cluster", *inputs)
        groups = self._planned(key, n, {p.old for p in parents})
        if groups is None:
            groups = self._groups(level, parents)
            self._keep_plan(key, groups)
        self.progress(f"cluster level {height}", n, n)
        return groups

    def _planned(self, key: str, n: int, old_parents: Collection[int]) -> Sequence[Group] | None:
        """The recorded groups of all n nodes, if they are there, whole, and fewer than these."""
        head = self.checkpoint.get_array(key, lambda value: value.shape == (1,) and value.dtype == np.int64)
        if head is None:
            return None
        pieces = (
            self.checkpoint.get_array(result_key("cluster", key, number), _is_row)
            for number in range(int(head[0]))
        )
        try:
            groups = kept_groups((g for piece in pieces for g in _groups_in(piece)), self.folder)
        except ValueError:
            return None
        return groups if _are_groups(groups, n, old_parents, self.folder) else None

    def _keep_plan(self, key: str, groups: Sequence[Group]) -> None:
        """Record groups, some at a time, and then how many times that was."""
        starts = range(0, len(groups), _GROUPS)
        for number, start in enumerate(starts):
            row = [value for g in groups[start : start + _GROUPS] for value in _row_of(g)]
            self.checkpoint.put_array(
                result_key("cluster", key, number), "cluster", np.array(row, dtype=np.int64)
            )
        self.checkpoint.put_array(key, "cluster", np.array([len(starts)]))

    def _groups(self, level: Level, parents: Sequence[OldParent]) -> Sequence[Group]:
        groups = regroup(
            level.vectors, level.tokens, parents, self.settings.cluster, self.engine, self.folder
        )
        if len(groups) >= len(level):  # the old parents overlap so much that the level would not shrink
            groups = regroup(level.vectors, level.tokens, [], self.settings.cluster, self.engine, self.folder)
        return groups

    def _root(self, level: Level, parents: Sequence[OldParent]) -> Group:
        everyone = tuple(range(len(level)))
        if not parents:
            return Group(everyone)
        return Group(everyone, parents[0].old, parents[0].whole and parents[0].members == everyone)

    def repeated(self, level: Level, height: int) -> Group:
        """The one node of `level` again at `height`: for no call, as nothing else is to be said there."""
        before = [p for p in self._old_parents(level, height) if p.whole]
        old = next((p.old for p in before if self.previous and len(self.previous.members(p.old)) == 1), None)
        return Group((0,), old, repeats=True)

    def _old_parents(self, level: Level, height: int) -> list[OldParent]:
        """The previous generation's nodes at `height`, with those of their children that are still there."""
        index = self.previous
        if index is None or height >= len(index.levels):
            return []
        now = {old: i for i, old in enumerate(level.old) if old is not None}
        parents = []
        for number in index.level_range(height):
            before = index.members(number)
            members = tuple(sorted(now[c] for c in before if c in now))
            whole = len(members) == len(before) and all(level.same[m] for m in members)
            if members:
                parents.append(OldParent(number, members, whole))
        return parents

    # -- summaries ---------------------------------------------------------------------------------------

    def blocks(self, level: Level, group: Group) -> list[Block]:
        """The members of a group as data blocks. If together they pass the token cap, each is cut by the same share."""
        total = max(1, int(level.tokens[list(group.members)].sum()))
        share = min(1.0, self.settings.cluster.max_tokens / total)
        return [
            Block(block_name(level.names[m]), level.texts[m][: int(len(level.texts[m]) * share)], place)
            for m, place in ((m, level.places[m] if level.places else "") for m in group.members)
        ]

    def recorded(self, request: Request) -> Summary | None:
        """The summary that a model gave for this request before, if it did."""
        row = self.checkpoint.get_json(_summary_key(request), is_summary)
        return None if row is None else Summary(row["label"], row["text"])

    def record(self, request: Request, summary: Summary) -> None:
        """Keep a summary that was paid for."""
        row: Json = {"label": summary.label, "text": summary.text}
        self.checkpoint.put_json(_summary_key(request), "summary", row)


def is_summary(row: Any) -> bool:
    """Whether a value is a summary as `Grower.record` keeps it."""
    match row:
        case {"label": str(label), "text": str(text)}:
            words = label + text
            return bool(text.strip()) and words == words.encode("utf-8", "replace").decode()
    return False


def _row_of(group: Group) -> list[int]:
    return [-1 if group.old is None else group.old, group.kept, len(group.members), *group.members]


def _is_row(value: npt.NDArray[Any]) -> bool:
    return value.ndim == 1 and value.dtype == np.int64


def _groups_in(row: npt.NDArray[np.int64] | None) -> Iterator[Group]:
    """The groups of which `row` is what `_row_of` gives, one after another. Raises ValueError where it is not."""
    if row is None:
        raise ValueError("a piece is missing")
    values, at = row.tolist(), 0
    while at < len(values):
        old, kept, size = values[at : at + 3]
        members = values[at + 3 : at + 3 + size]
        if not 0 < size == len(members):
            raise ValueError(f"a group of {size} nodes has {len(members)}")
        yield Group(tuple(members), None if old < 0 else old, bool(kept))
        at += 3 + size


def _are_groups(groups: Sequence[Group], n: int, old_parents: Collection[int], folder: Path | None) -> bool:
    """Whether groups are of all nodes from 0 to n - 1, and fewer than these."""
    seen = room((n,), np.bool_, folder)
    for group in groups:
        members = group.members
        if min(members) < 0 or max(members) >= n or len({*members}) < len(members):
            return False
        if group.old is not None and group.old not in old_parents:
            return False
        seen[list(members)] = True
    return 0 < len(groups) < max(n, 2) and bool(seen.all())


def _summary_key(request: Request) -> str:
    messages: list[Json] = [{"role": m["role"], "content": m["content"]} for m in request.messages]
    options: list[Json] = [dict(request.options)] if request.options else []
    return result_key("summary", request.model, messages, request.max_tokens, *options)
