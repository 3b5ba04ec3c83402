"""Levels upon levels, up to one root: what a build and an update share.

Each level is planned (which nodes share a parent), its new summaries are asked for, and they become the next level.
What is slow or paid for goes through the checkpoint, so a run that died goes on and nothing is paid for twice.
"""

import json
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.duplicates import Twin, first_alike
from index_store.spool import Lazy, chained, room
from index_store.writer import Draft
from raptor.apart import planned
from raptor.clustering.guests import Named
from raptor.clustering.planning import Group
from raptor.corpus import Corpus
from raptor.embedding import count_tokens
from raptor.grower import Grower
from raptor.summaries import Summariser
from raptor.summarising import Summary
from raptor.types import MIXED, Level, Vectors
from raptor.workspace import Clock
from rlm.gateway.embeddings import embeds
from rlm.gateway.gateway import Gateway
from rlm.gateway.offline.registry import PREFIX


def grow(
    grower: Grower, leaves: Level, named: dict[int, Named], gateway: Callable[[], Gateway], clock: Clock
) -> list[Level]:
    """All levels from the chunks up to one root. `gateway` makes a new one for each level, as each has an event loop.

    `named`: which chunk bears which name, by the kind of the chunks. Raises RaptorError or GatewayError where a summary
    cannot be had.
    """
    levels = [leaves]
    while len(levels[-1]) > 1:
        height, below = len(levels), levels[-1]
        with clock.stage("cluster"):
            groups = planned(grower, below, height, named)
        with clock.stage("summarise"):
            stage = f"summarise level {height}"
            summaries = grower.wait_for(_summaries(grower, gateway(), below, groups, stage))
        with clock.stage("embed"):
            levels.append(_level(grower, below, groups, summaries, f"embed level {height}"))
    return levels


async def _summaries(
    grower: Grower, gateway: Gateway, below: Level, groups: Sequence[Group], stage: str
) -> Sequence[Summary]:
    async with gateway:
        return await Summariser(grower, gateway).summaries(below, groups, stage)


def _level(
    grower: Grower, below: Level, groups: Sequence[Group], summaries: Sequence[Summary], stage: str
) -> Level:
    """The summaries of `groups` as the level above; vectors and token counts of kept ones are read back, and of those
    that repeat another taken over."""
    fresh = np.fromiter((i for i, g in enumerate(groups) if not g.kept and not g.repeats), dtype=np.int64)
    texts = Lazy(len(groups), lambda i: summaries[i].text)
    labels = Lazy(len(groups), lambda i: summaries[i].label)
    vectors: Vectors = room((len(groups), grower.embedder.dim), np.float32, grower.folder)
    tokens = room((len(groups),), np.int64, grower.folder)
    words = Lazy(len(fresh), lambda i: f"{labels[fresh[i]]}\n{texts[fresh[i]]}")
    vectors[fresh] = grower.embed(words, stage)
    counted = Lazy(len(fresh), lambda i: texts[fresh[i]])
    tokens[fresh] = count_tokens(grower.embedder, counted, grower.folder)
    for i, group in enumerate(groups):
        if group.kept and group.old is not None and grower.previous is not None:
            vectors[i] = grower.previous.vectors[group.old]
            tokens[i] = grower.previous.at(group.old).tokens
        elif group.repeats:
            vectors[i], tokens[i] = below.vectors[group.members[0]], below.tokens[group.members[0]]
    return Level(
        texts=texts,
        names=Lazy(len(labels), lambda i: labels[i].replace("\n", " ")),
        tokens=tokens,
        vectors=vectors,
        old=Lazy(len(groups), lambda i: groups[i].old),
        same=Lazy(len(groups), lambda i: groups[i].kept),
        children=Lazy(len(groups), lambda i: tuple(sorted({*groups[i].members, *groups[i].guests}))),
        guests=Lazy(len(groups), lambda i: groups[i].guests),
        labels=labels,
        kinds=_kinds(below.kinds, groups) if len(below.kinds) else below.kinds,
    )


def _kinds(below: npt.NDArray[np.int64], groups: Sequence[Group]) -> npt.NDArray[np.int64]:
    own = ({*below[list(group.members)].tolist()} for group in groups)
    return np.fromiter((kinds.pop() if len(kinds) == 1 else MIXED for kinds in own), dtype=np.int64)


def numbers_below(
    levels: Sequence[Level], rows: Callable[[Level], Sequence[tuple[int, ...]]]
) -> Sequence[npt.NDArray[np.int64]]:
    """`rows` of each summary, of the level below, as node numbers of the whole tree, in which chunks come first."""
    firsts = accumulate(map(len, levels), initial=0)
    return chained([_shifted(rows(level), first) for level, first in zip(levels[1:], firsts, strict=False)])


def _shifted(rows: Sequence[tuple[int, ...]], first: int) -> Sequence[npt.NDArray[np.int64]]:
    return Lazy(len(rows), lambda i: np.array(rows[i], dtype=np.int64) + first)


def draft_of(
    corpus: Corpus, levels: Sequence[Level], twins: Sequence[Twin] = (), folder: Path | None = None
) -> Draft:
    """A corpus and the tree over it, as the writer takes them; many vectors are mapped from a file in `folder`."""
    above = levels[1:]
    return Draft(
        documents=Lazy(len(corpus.documents), lambda d: (corpus.documents[d], corpus.texts[d])),
        chunks=corpus.chunks,
        labels=chained([level.labels for level in above]),
        summaries=chained([level.texts for level in above]),
        levels=[len(level) for level in levels],
        children=numbers_below(levels, lambda level: level.children),
        guests=numbers_below(levels, lambda level: level.guests),
        tokens=_stacked([level.tokens for level in levels], folder),
        vectors=_stacked([level.vectors for level in levels], folder),
        alike=first_alike((document.id for document in corpus.documents), twins, len(corpus.documents)),
        names=corpus.names,
    )


def _stacked(parts: Sequence[npt.NDArray[Any]], folder: Path | None) -> npt.NDArray[Any]:
    """The rows of all parts."""
    rows = room((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype, folder)
    return np.concatenate(parts, out=rows)


def models_of(grower: Grower, embedder: str) -> dict[str, str]:
    """The models that made an index, as its manifest names them; `embedder`: as its user named it."""
    models = {
        "embedder": embedder,
        "embedder_fingerprint": grower.embedder.fingerprint,
        "summarizer": grower.summarizer,
    }
    if grower.embedder_options and embeds(embedder):
        models["embedder_options"] = json.dumps(dict(grower.embedder_options), sort_keys=True)
    if grower.options and not grower.summarizer.startswith(PREFIX):
        models["summarizer_options"] = json.dumps(dict(grower.options), sort_keys=True)
    return models
