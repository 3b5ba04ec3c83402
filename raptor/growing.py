"""Levels upon levels, up to one root: what a build and an update share.

Each level is planned (which nodes share a parent), its new summaries are asked for, and they become the next level.
What is slow or paid for goes through the checkpoint, so a run that died goes on and nothing is paid for twice.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from index_store.duplicates import Twin, first_alike
from index_store.spool import Lazy, chained, room, strings
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
) -> list[Summary]:
    async with gateway:
        return await Summariser(grower, gateway).summaries(below, groups, stage)


def _level(
    grower: Grower, below: Level, groups: Sequence[Group], summaries: Sequence[Summary], stage: str
) -> Level:
    """The summaries of `groups` as the level above; vectors and token counts of kept ones are read back, and of those
    that repeat another taken over."""
    fresh = [i for i, g in enumerate(groups) if not g.kept and not g.repeats]
    texts = strings((s.text for s in summaries), grower.folder)
    labels = strings((s.label for s in summaries), grower.folder)
    vectors: Vectors = room((len(groups), grower.embedder.dim), np.float32, grower.folder)
    tokens = np.zeros(len(groups), dtype=np.int64)
    words = Lazy(len(fresh), lambda i: f"{labels[fresh[i]]}\n{texts[fresh[i]]}")
    vectors[fresh] = grower.embed(words, stage)
    tokens[fresh] = count_tokens(grower.embedder, Lazy(len(fresh), lambda i: texts[fresh[i]]))
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
        old=[g.old for g in groups],
        same=[g.kept for g in groups],
        children=[tuple(sorted({*g.members, *g.guests})) for g in groups],
        guests=[g.guests for g in groups],
        labels=labels,
        kinds=[_kind(below.kinds, group) for group in groups] if below.kinds else (),
    )


def _kind(kinds: Sequence[int], group: Group) -> int:
    own = {kinds[member] for member in group.members}
    return own.pop() if len(own) == 1 else MIXED


def numbers_below(
    levels: Sequence[Level], rows: Callable[[Level], Sequence[tuple[int, ...]]]
) -> list[npt.NDArray[np.int64]]:
    """`rows` of each summary, of the level below, as node numbers of the whole tree, in which chunks come first."""
    firsts = np.cumsum([0, *(len(x) for x in levels)])
    return [
        np.array(below, dtype=np.int64) + firsts[height - 1]
        for height, level in enumerate(levels)
        if height
        for below in rows(level)
    ]


def draft_of(
    corpus: Corpus, levels: Sequence[Level], twins: Sequence[Twin] = (), folder: Path | None = None
) -> Draft:
    """A corpus and the tree over it, as the writer takes them; many vectors are mapped from a file in `folder`."""
    above = levels[1:]
    return Draft(
        documents=corpus.documents,
        chunks=corpus.chunks,
        labels=chained([level.labels for level in above]),
        summaries=chained([level.texts for level in above]),
        levels=[len(level) for level in levels],
        children=numbers_below(levels, lambda level: level.children),
        guests=numbers_below(levels, lambda level: level.guests),
        tokens=np.concatenate([level.tokens for level in levels]),
        vectors=_stacked([level.vectors for level in levels], folder),
        alike=first_alike([document.id for document, _ in corpus.documents], twins) if twins else (),
        names=corpus.names,
    )


def _stacked(parts: Sequence[Vectors], folder: Path | None) -> Vectors:
    """The rows of all parts."""
    rows: Vectors = room((sum(map(len, parts)), parts[0].shape[1]), np.float32, folder)
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
