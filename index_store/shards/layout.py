"""What the manifest of an upper index says of its shards: enough to number all nodes, documents and bytes, and to read
the shards' roots, without opening one.

A sharded index is the same arrays as one index in segments: the chunks of shard 0, then those of shard 1, ...; each
level likewise; above the shards' roots the upper tree. It lies in one folder:

    my.index/CURRENT, generations/   the upper index: an ordinary one, whose documents are the shards' roots
    my.index/shards/NAME/            the shards: ordinary indexes

The upper index has one chunk for each shard, in order: its text is that of the shard's root, and so is its vector. A
shard that is lower than another is read as if its root were repeated up to the height of the highest.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from index_store.documents import Documents
from index_store.manifest import SHARDS
from index_store.outline import Outline
from index_store.store import Store
from index_store.tables import char_at

LABEL_BYTES = 4096  # of a root's label, as a tree tells it
LOOKED_CHARS = 800  # of a chunk, for the first words that label it


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard, in the order of the documents.

    `name`: of its folder; also the id of its root's document in the upper index. `digest`: of the generation that is
    read. `documents`: how many. `levels[i]`: nodes at level i, the last is 1. `edges[i]`: from level i + 1 down to
    level i. `text_bytes`, `chars`: of all texts. `line_bytes`: of documents.jsonl. `summaries[i]`, `labels[i]`: bytes
    of those of level i + 1. `words`: stems of all nodes together, as BM25 counts them; `root_words` those of the root.
    `names`: how many names its table has. `root_label`, `root_tokens`: of its root.
    """

    name: str
    digest: str
    documents: int
    levels: tuple[int, ...]
    edges: tuple[int, ...]
    text_bytes: int
    chars: int
    line_bytes: int
    summaries: tuple[int, ...]
    labels: tuple[int, ...]
    words: int
    root_words: int
    names: int
    root_label: str
    root_tokens: int


def settings_of(shards: Sequence[Shard]) -> dict[str, Any]:
    """The setting of an upper index that names its shards, for `publish`, beside those of its build."""
    return {SHARDS: [asdict(shard) for shard in shards]}


def shard_of(name: str, digest: str, store: Store) -> Shard:
    """What the upper manifest says of an opened shard, which was written with `Draft.is_shard`."""
    arrays, levels = store.arrays, store.levels
    first = list(accumulate(levels, initial=0))
    rows, offsets, lengths = (
        arrays["nodes.npy"],
        arrays["children_offsets.npy"],
        arrays["lexical/lengths.npy"],
    )
    root = rows[-1]

    def sizes(start: str, end: str) -> tuple[int, ...]:
        return tuple(
            int(rows[first[i + 1] - 1][end]) - int(rows[first[i]][start]) for i in range(1, len(levels))
        )

    return Shard(
        name=name,
        digest=digest,
        documents=store.documents,
        levels=tuple(levels),
        edges=tuple(int(offsets[first[i + 1]]) - int(offsets[first[i]]) for i in range(1, len(levels))),
        text_bytes=len(store.text),
        chars=char_at(store.text, arrays["text_marks.npy"], len(store.text)),
        line_bytes=len(store.lines),
        summaries=sizes("start", "end"),
        labels=sizes("label_start", "label_end"),
        words=int(np.asarray(lengths, dtype=np.int64).sum()),
        root_words=int(lengths[-1]),
        names=len(arrays["names/offsets.npy"]) - 1 if "names/offsets.npy" in arrays else 0,
        root_label=_root_label(store),
        root_tokens=int(root["tokens"]),
    )


def _root_label(store: Store) -> str:
    """The label of the root, as `Tree.at` tells it; a shard of one chunk has that for its root."""
    root = store.arrays["nodes.npy"][-1]
    if len(store.levels) > 1:
        raw = store.labels[int(root["label_start"]) : int(root["label_end"])][:LABEL_BYTES]
        return raw.tobytes().decode("utf-8", "ignore")
    a = store.arrays
    lines = store.folder / "documents.jsonl"
    document = Documents(store.lines, a["documents_lines.npy"], a["documents_order.npy"], lines)[0]
    text = store.text[: 4 * LOOKED_CHARS].tobytes().decode("utf-8", "ignore")
    return Outline(replace(document, title="") if document.title == document.id else document).label(text, 0)
