"""What may share a cluster: caps on tokens and members, no cluster of one, no cluster inside another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from raptor.clustering.geometry import Floats, Ints, principal
from raptor.clustering.settings import ClusterSettings


@dataclass(frozen=True, slots=True)
class Capacity:
    """The caps on a cluster. `tokens`: (n,), of each node."""

    tokens: Ints
    settings: ClusterSettings

    def holds(self, members: Ints) -> bool:
        """True for up to two members, and for more that are within the cap and four times the target size."""
        few = len(members) <= 4 * self.settings.target_size
        return len(members) <= 2 or (few and int(self.tokens[members].sum()) <= self.settings.max_tokens)


def bisect(members: Ints, coords: Floats, capacity: Capacity) -> Iterator[Ints]:
    """`members` cut across their main axis, near half their tokens, until the capacity holds each piece."""
    waiting = [members]
    while waiting:
        piece = waiting.pop()
        if capacity.holds(piece):
            yield piece
            continue
        along = piece[np.argsort(principal(coords[piece], 1)[:, 0], kind="stable")]
        weight = capacity.tokens[along] + 1
        before = np.cumsum(weight) - weight / 2  # to the middle of each, so that equal members part equally
        edge = 2 if len(piece) > 3 else 1
        cut = int(np.clip(np.searchsorted(before, weight.sum() / 2), edge, len(piece) - edge))
        waiting += [along[:cut], along[cut:]]


def adopt_singles(groups: list[Ints], points: Floats, capacity: Capacity) -> list[Ints]:
    """Lone nodes moved into the most similar group that may take them; another lone node always may."""
    grown, centres = list(groups), np.array([points[group].mean(axis=0) for group in groups])
    for lone, group in enumerate(groups):
        if len(grown[lone]) != 1:
            continue  # grown by another lone node, or emptied
        for other in np.argsort(-(centres @ points[group[0]]), kind="stable"):
            wider = np.append(grown[other], group)
            if other != lone and len(wider) > 1 and capacity.holds(wider):
                grown[other], grown[lone] = wider, wider[:0]
                break
    return [group for group in grown if len(group)]


def add_soft(groups: list[Ints], posterior: Floats, points: Floats, capacity: Capacity) -> list[Ints]:
    """Further memberships by posterior, surest first, within the capacity: in the cluster of the nearest member."""
    settings, component = capacity.settings, posterior.argmax(axis=1)
    home = np.empty(len(points), dtype=int)
    for label, group in enumerate(groups):
        home[group] = label
    grown, joined = list(groups), np.ones(len(points), dtype=int)
    rows, columns = np.nonzero(posterior > settings.threshold)
    for at in np.argsort(-posterior[rows, columns], kind="stable"):
        node, kin = rows[at], np.flatnonzero(component == columns[at])
        if not len(kin) or columns[at] == component[node] or joined[node] == settings.max_memberships:
            continue
        label = home[kin[np.argmax(points[kin] @ points[node])]]
        wider = np.append(grown[label], node)
        if node not in grown[label] and capacity.holds(wider):
            grown[label], joined[node] = wider, joined[node] + 1
    return grown


def maximal(groups: list[Ints]) -> list[Ints]:
    """The groups, sorted, without those that lie inside another, whose members would be summarised twice."""
    sets = sorted(
        {frozenset(group.tolist()) for group in groups}, key=lambda group: (-len(group), sorted(group))
    )
    of: dict[int, list[frozenset[int]]] = {}
    for group in sets:
        if not any(group < larger for larger in of.get(min(group), [])):
            for node in group:
                of.setdefault(node, []).append(group)
    return [np.array(sorted(group)) for group in {group for held in of.values() for group in held}]
