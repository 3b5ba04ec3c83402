"""Which nodes share a parent, when some of the tree stands already. Pure: numbers in, numbers out.

A build is the case where nothing stands. In an update, a parent whose children are all unchanged is kept with its
summary; one that lost or gained a child, or whose child changed, is written again; nodes without a parent are first
grouped among themselves, so that a new document costs its own clusters and their ancestors and little else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raptor.clustering.cluster import cluster
from raptor.clustering.settings import ClusterSettings

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Standing:
    """A parent of the old tree: its number there, and which of the present nodes are its children.

    `whole`: no child was lost and none has changed, so its summary still says what it said.
    """

    old: int
    members: tuple[int, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that share a parent. `old`: the parent it continues, if any; `kept`: with that one's summary."""

    members: tuple[int, ...]
    old: int | None = None
    kept: bool = False


def regroup(
    vectors: Vectors, tokens: Ints, standing: Sequence[Standing], settings: ClusterSettings
) -> list[Group]:
    """Groups that together hold every row of `vectors` (n, dim), `tokens` (n,) long; in order of their members.

    Without anything standing this is `cluster`. A standing parent with fewer than two children left is dissolved.
    """
    alive = [s for s in standing if len(s.members) > 1]
    held = {m for s in alive for m in s.members}
    orphans = np.array([n for n in range(len(vectors)) if n not in held], dtype=np.int64)
    if not alive:
        return [Group(tuple(g.tolist())) for g in cluster(vectors, tokens, settings)]
    homes: dict[int, list[int]] = {i: [] for i in range(len(alive))}
    fresh: list[Group] = []
    if len(orphans) >= settings.target_size // 2:
        fresh = [
            Group(tuple(orphans[g].tolist())) for g in cluster(vectors[orphans], tokens[orphans], settings)
        ]
    else:
        _adopt(orphans, vectors, tokens, alive, homes, fresh, settings)
    continued = [
        Group(tuple(sorted({*s.members, *homes[i]})), s.old, s.whole and not homes[i])
        for i, s in enumerate(alive)
    ]
    return sorted(continued + fresh, key=lambda g: g.members)


def _adopt(
    orphans: Ints,
    vectors: Vectors,
    tokens: Ints,
    alive: Sequence[Standing],
    homes: dict[int, list[int]],
    fresh: list[Group],
    settings: ClusterSettings,
) -> None:
    """Give each orphan to the nearest standing parent that has room; those that fit nowhere stand together."""
    centres = np.stack([vectors[list(s.members)].mean(axis=0) for s in alive])
    left = []
    for orphan in orphans.tolist():
        order = np.argsort(-(centres @ vectors[orphan]), kind="stable")
        home = next(
            (int(i) for i in order if _has_room(alive[int(i)], homes[int(i)], orphan, tokens, settings)), None
        )
        if home is None:
            left.append(orphan)
        else:
            homes[home].append(orphan)
    if left:
        fresh.append(Group(tuple(left)))


def _has_room(
    parent: Standing, joined: Sequence[int], orphan: int, tokens: Ints, settings: ClusterSettings
) -> bool:
    members = [*parent.members, *joined, orphan]
    return len(members) <= 4 * settings.target_size and int(tokens[members].sum()) <= settings.max_tokens
