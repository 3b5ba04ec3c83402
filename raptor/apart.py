"""Documents of different access kept apart: those that the same readers may read grow a tree of their own.

Only the tops of these trees are put together, so a reader who may not read the others still sees every summary of their
own, and neither its members nor its guests were chosen with regard to what is hidden. Where all documents have the same
labels there is one tree, as if there were none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_store.name_table import name_table
from index_store.spool import Lazy, borders, order_of, taken
from raptor.clustering.guests import Named, guests, named_above, named_chunks
from raptor.clustering.planning import Group, kept_groups
from raptor.clustering.settings import ClusterSettings
from raptor.corpus import Corpus
from raptor.grower import Grower
from raptor.types import MIXED, Level

Rows = npt.NDArray[np.int64]


def named_by_kind(corpus: Corpus, folder: Path | None = None) -> dict[int, Named]:
    """Which chunk bears which name, for each tree among its own chunks alone. What is large is mapped from files in
    `folder`."""
    kinds, documents = corpus.leaves.kinds, corpus.chunks[:, 0]
    if not len(kinds):
        return {0: named_chunks(corpus.names, documents, folder)}
    found = dict[int, Named]()
    for kind, own in _rows_of(kinds, folder).items():
        passages = ((corpus.leaves.texts[row], corpus.headings[row]) for row in own)
        found[kind] = named_chunks(name_table(passages, folder=folder), taken(documents, own, folder), folder)
    return found


def _rows_of(kinds: Rows, folder: Path | None) -> dict[int, Rows]:
    """The rows of each kind, ascending."""
    keys = kinds - MIXED
    ends = borders(keys, int(keys.max()) + 1, folder).tolist()
    order = order_of(keys, folder)
    return {key + MIXED: order[start:end] for key, (start, end) in enumerate(pairwise(ends)) if start < end}


def planned(grower: Grower, level: Level, height: int, named: dict[int, Named]) -> Sequence[Group]:
    """The groups of nodes of `level` that share a parent at `height`, those of one tree after those of another.

    `named`: of the nodes of each tree; then of the nodes that they get. The tops of trees wait for those that still
    grow: where there are many, put together already; else repeated, for no call.
    """
    if not len(level.kinds):
        return _grouped(grower, level, height, named, 0)
    rows = _rows_of(level.kinds, grower.folder)
    growing = sorted(kind for kind, own in rows.items() if kind != MIXED and len(own) > 1)
    if not growing:
        return grower.plan(level, height)

    def groups() -> Iterator[Group]:
        for kind in growing:
            own = _grouped(grower, _part(level, rows[kind], grower.folder), height, named, kind)
            yield from (_moved(group, rows[kind]) for group in own)
        still = [own for kind, own in rows.items() if kind == MIXED or len(own) < 2]
        waiting = np.sort(np.concatenate([np.empty(0, np.int64), *still]))
        if height > 1 and len(waiting) <= grower.settings.root_children:
            for row in waiting.reshape(-1, 1):
                yield _moved(grower.repeated(_part(level, row, grower.folder), height), row)
        elif len(waiting):
            together = grower.plan(_part(level, waiting, grower.folder), height)
            yield from (_moved(group, waiting) for group in together)

    return kept_groups(groups(), grower.folder)


def _grouped(
    grower: Grower, level: Level, height: int, named: dict[int, Named], kind: int
) -> Sequence[Group]:
    """The groups of one tree, with their guests."""
    groups = with_guests(grower.plan(level, height), named[kind], grower.settings.cluster, grower.folder)
    named[kind] = named_above(named[kind], _members(groups), grower.folder)
    return groups


def with_guests(
    groups: Sequence[Group], named: Named, settings: ClusterSettings, folder: Path | None = None
) -> Sequence[Group]:
    """The groups with their guests; none in the paper's own method, and none where all are in one."""
    if settings.method == "paper" or len(groups) < 2:
        return groups
    places = guests(named, _members(groups), settings, folder)
    return kept_groups(
        (replace(group, guests=found) for group, found in zip(groups, places, strict=True)), folder
    )


def _members(groups: Sequence[Group]) -> Sequence[tuple[int, ...]]:
    return Lazy(len(groups), lambda place: groups[place].members)


def _part(level: Level, rows: Rows, folder: Path | None) -> Level:
    """Some nodes of a level, as far as planning looks at them."""
    return Level(
        Lazy(len(rows), lambda place: level.texts[rows[place]]),
        Lazy(len(rows), lambda place: level.names[rows[place]]),
        taken(level.tokens, rows, folder),
        taken(level.vectors, rows, folder),
        Lazy(len(rows), lambda place: level.old[rows[place]]),
        Lazy(len(rows), lambda place: level.same[rows[place]]),
    )


def _moved(group: Group, rows: Rows) -> Group:
    """A group of some of the rows of a level, by the rows of all."""
    members, stay = (tuple(rows[list(own)].tolist()) for own in (group.members, group.guests))
    return replace(group, members=members, guests=stay)
