"""Which nodes share a parent, when some of them had one in the previous generation. Pure: numbers in, numbers out.

In a build from nothing none had. In an update, a parent whose children are all unchanged is kept with its
summary; one that lost or gained a child, or whose child changed, is written again; nodes without a parent are first
grouped among themselves, so that a new document costs its own clusters and their ancestors and little else.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_store.spool import Lazy, Spool
from raptor.clustering.cluster import cluster
from raptor.clustering.settings import ClusterSettings
from raptor.engines.engine import Engine

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OldParent:
    """A parent in the previous generation.

    `old`: its number there. `members`: which of the present nodes are its children, as rows. `whole`: none of its
    children is gone and none has changed, so its summary still holds.
    """

    old: int
    members: tuple[int, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that share a parent.

    `members`: rows of their level. `old`: the number of the previous generation's node whose place the parent takes,
    None for a new one. `kept`: whether that node's summary is kept too. `guests`: rows that stand under the parent too,
    though its summary is not about them. `repeats`: whether the parent says again what its one member says.
    """

    members: tuple[int, ...]
    old: int | None = None
    kept: bool = False
    guests: tuple[int, ...] = ()
    repeats: bool = False


def kept_groups(groups: Iterable[Group], folder: Path | None) -> Sequence[Group]:
    """The groups, kept in a file in `folder` where they are many, and read back when they are asked for."""
    spool = Spool(folder)
    for g in groups:
        old = -1 if g.old is None else g.old
        spool.append(array("q", (old, g.kept, g.repeats, len(g.members), *g.members, *g.guests)).tobytes())

    def group(place: int) -> Group:
        old, kept, repeats, size, *rows = spool.view(place).cast("q").tolist()
        return Group(
            tuple(rows[:size]), None if old < 0 else old, bool(kept), tuple(rows[size:]), bool(repeats)
        )

    return Lazy(len(spool), group)


def regroup(
    vectors: Vectors,
    tokens: Ints,
    parents: Sequence[OldParent],
    settings: ClusterSettings,
    engine: Engine | None = None,
    folder: Path | None = None,
) -> Sequence[Group]:
    """Groups that together hold every row of `vectors` (n, dim), whose nodes are `tokens` (n,) long, in order of their
    members.

    Without old parents this is `cluster`, computed by the `engine`, with a file of many vectors in
    `folder`. A parent with fewer than two children left is
    dissolved.
    """
    alive = [p for p in parents if len(p.members) > 1]
    if not alive:
        clusters = cluster(vectors, tokens, settings, engine=engine, folder=folder)
        return Lazy(len(clusters), lambda place: Group(tuple(clusters[place].tolist())))
    held = {m for p in alive for m in p.members}
    orphans = np.array([n for n in range(len(vectors)) if n not in held], dtype=np.int64)
    homes: dict[int, list[int]] = {i: [] for i in range(len(alive))}
    fresh: list[Group] = []
    if len(orphans) >= settings.target_size // 2:
        found = cluster(vectors[orphans], tokens[orphans], settings, engine=engine, folder=folder)
        fresh = [Group(tuple(orphans[g].tolist())) for g in found]
    else:
        _adopt(orphans, vectors, tokens, alive, homes, fresh, settings)
    continued = [
        Group(tuple(sorted({*p.members, *homes[i]})), p.old, p.whole and not homes[i])
        for i, p in enumerate(alive)
    ]
    return sorted(continued + fresh, key=lambda g: g.members)


def _adopt(
    orphans: Ints,
    vectors: Vectors,
    tokens: Ints,
    alive: Sequence[OldParent],
    homes: dict[int, list[int]],
    fresh: list[Group],
    settings: ClusterSettings,
) -> None:
    """Give each orphan to the nearest parent that can take it; those that none can take share a new one."""
    centres = np.stack([vectors[list(p.members)].mean(axis=0) for p in alive])
    left = []
    for orphan in orphans.tolist():
        order = np.argsort(-(centres @ vectors[orphan]), kind="stable")
        home = next(
            (int(i) for i in order if _fits(alive[int(i)], homes[int(i)], orphan, tokens, settings)), None
        )
        if home is None:
            left.append(orphan)
        else:
            homes[home].append(orphan)
    if left:
        fresh.append(Group(tuple(left)))


def _fits(
    parent: OldParent, joined: Sequence[int], orphan: int, tokens: Ints, settings: ClusterSettings
) -> bool:
    members = [*parent.members, *joined, orphan]
    return len(members) <= 4 * settings.target_size and int(tokens[members].sum()) <= settings.max_tokens
