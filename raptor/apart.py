"""Documents of different access kept apart: those that the same readers may read grow a tree of their own.

Only the tops of these trees are put together, so a reader who may not read the others still sees every summary of their
own, and neither its members nor its guests were chosen with regard to what is hidden. Where all documents have the same
labels there is one tree, as if there were none.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from index_store.name_table import name_table
from raptor.clustering.guests import Named, guests, named_above, named_chunks
from raptor.clustering.planning import Group
from raptor.clustering.settings import ClusterSettings
from raptor.corpus import Corpus
from raptor.grower import Grower
from raptor.types import MIXED, Level


def named_by_kind(corpus: Corpus) -> dict[int, Named]:
    """Which chunk bears which name, for each tree among its own chunks alone."""
    kinds, documents = corpus.leaves.kinds, corpus.chunks[:, 0]
    if not kinds:
        return {0: named_chunks(corpus.names, documents)}
    rows = {kind: np.flatnonzero(np.array(kinds) == kind).tolist() for kind in dict.fromkeys(kinds)}
    tables = {
        kind: name_table((corpus.leaves.texts[row], corpus.headings[row]) for row in own)
        for kind, own in rows.items()
    }
    return {kind: named_chunks(table, documents[rows[kind]]) for kind, table in tables.items()}


def planned(grower: Grower, level: Level, height: int, named: dict[int, Named]) -> list[Group]:
    """The groups of nodes of `level` that share a parent at `height`, those of one tree after those of another.

    `named`: of the nodes of each tree; then of the nodes that they get. The tops of trees wait for those that still
    grow: where there are many, put together already; else repeated, for no call.
    """
    settings = grower.settings
    if not level.kinds:
        return _grouped(grower, level, height, named, 0)
    rows = {kind: [row for row, own in enumerate(level.kinds) if own == kind] for kind in {*level.kinds}}
    growing = sorted(kind for kind, own in rows.items() if kind != MIXED and len(own) > 1)
    if not growing:
        return grower.plan(level, height)
    groups = list[Group]()
    for kind in growing:
        own = _grouped(grower, _part(level, rows[kind]), height, named, kind)
        groups += [_moved(group, rows[kind]) for group in own]
    waiting = [row for row, kind in enumerate(level.kinds) if kind not in growing]
    if height > 1 and len(waiting) <= settings.root_children:
        return groups + [_moved(grower.repeated(_part(level, [row]), height), [row]) for row in waiting]
    together = grower.plan(_part(level, waiting), height) if waiting else []
    return groups + [_moved(group, waiting) for group in together]


def _grouped(grower: Grower, level: Level, height: int, named: dict[int, Named], kind: int) -> list[Group]:
    """The groups of one tree, with their guests."""
    groups = with_guests(grower.plan(level, height), named[kind], grower.settings.cluster)
    named[kind] = named_above(named[kind], [group.members for group in groups])
    return groups


def with_guests(groups: Sequence[Group], named: Named, settings: ClusterSettings) -> list[Group]:
    """The groups with their guests; none in the paper's own method, and none where all are in one."""
    if settings.method == "paper" or len(groups) < 2:
        return list(groups)
    places = guests(named, [group.members for group in groups], settings)
    return [replace(group, guests=found) for group, found in zip(groups, places, strict=True)]


def _part(level: Level, rows: Sequence[int]) -> Level:
    """Some nodes of a level, as far as planning looks at them."""
    own = list(rows)
    return Level(
        [level.texts[row] for row in own],
        [level.names[row] for row in own],
        level.tokens[own],
        level.vectors[own],
        [level.old[row] for row in own],
        [level.same[row] for row in own],
    )


def _moved(group: Group, rows: Sequence[int]) -> Group:
    """A group of some of the rows of a level, by the rows of all."""
    members, stay = (tuple(rows[row] for row in own) for own in (group.members, group.guests))
    return replace(group, members=members, guests=stay)
