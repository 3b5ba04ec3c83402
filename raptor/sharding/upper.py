"""The upper index: the tree over the roots of all shards, grown as any other, and what is known of all together."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from index_store import access
from index_store.generations import Changes
from index_store.index import Index
from index_store.manifest import SHARDS
from index_store.shards.layout import settings_of, shard_of, shards_in
from index_store.shards.shared import write_shared
from index_store.types import Document
from index_store.writer import Published, publish
from raptor.apart import named_by_kind
from raptor.corpus import corpus_of
from raptor.grower import Grower
from raptor.growing import draft_of, grow, models_of
from raptor.settings import SHARDING, Sharding, lasting
from raptor.sharding.shards import Whole
from raptor.types import Part


@dataclass(frozen=True, slots=True)
class Opened:
    """A shard, opened: `index` is the generation of it that is read."""

    name: str
    index: Index


def publish_upper(
    whole: Whole,
    grower: Grower,
    shards: Sequence[Opened],
    sharding: Sharding,
    alike: Sequence[int] | npt.NDArray[np.int64],
) -> Published:
    """Grow the tree over the shards' roots, and make it with them the live generation of the index.

    `alike`: of the documents of all shards, as `Draft.alike`. `grower.previous`: the upper index before, whose
    summaries stay where nothing below them changed.
    """
    clock = whole.clock
    previous = grower.previous
    rows = [] if previous is None else shards_in(previous.manifest, str(previous.folder))
    before = {row.name: row.digest for row in rows}
    parts = [_root_part(shard, previous, before) for shard in shards]
    with clock.stage("embed"):
        roots = [shard.index.vectors[len(shard.index) - 1] for shard in shards]  # to the bit
        corpus = corpus_of(parts, Changes(), grower, np.array(roots, dtype=np.float32))
    levels = grow(grower, corpus.leaves, named_by_kind(corpus, grower.folder), grower.gateway, clock)
    with clock.stage("write"):
        grower.progress("write", 0, 1)
        trees = [shard.index for shard in shards]
        write = partial(write_shared, shards=trees, alike=np.array(alike, dtype=np.int64))
        draft = replace(draft_of(corpus, levels), is_shard=True, of_shards=write)
        held = [shard_of(shard.name, shard.index.digest, shard.index) for shard in shards]
        settings = lasting(grower.settings) | {SHARDING: asdict(sharding)} | settings_of(held)
        published = publish(whole.out, draft, models_of(grower, whole.embedder), settings)
        grower.progress("write", 1, 1)
    return published


def _root_part(shard: Opened, previous: Index | None, before: Mapping[str, str]) -> Part:
    """A shard's root as a document of one chunk. `before`: the digest that each shard had in the upper index before."""
    if previous is not None and before.get(shard.name) == shard.index.digest:
        old = previous.document(shard.name)
        return Part(old, previous.document_text(old.id), [(0, old.chars)], _leaves(previous, old.id))
    index, root = shard.index, shard.index.root
    text = index.text_at(len(index) - 1)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    source, meta = f"{SHARDS}/{shard.name}", _readers(index)
    document = Document(shard.name, root.label, source, sha256, len(text), meta=meta)
    part = Part(document, text, [(0, len(text))])
    if previous is None or shard.name not in before:
        return part
    old = previous.document(shard.name)
    retitled = old.title != document.title
    is_same = old.sha256 == sha256
    return replace(part, old=_leaves(previous, old.id), retitled=retitled) if is_same else part


def _leaves(index: Index, doc: str) -> range:
    return index.document_leaves(index.document_number(doc))


def _readers(index: Index) -> dict[str, str]:
    """Who may read what is said of a whole shard: those of its documents where all have the same labels, else nobody
    who is restricted."""
    labels = {access.of_document(document.meta) for document in index.documents}
    own = labels.pop() if len(labels) == 1 else None
    if own is None:
        return {access.KEY: ""}
    return {access.KEY: ", ".join(sorted(own))} if own else {}
