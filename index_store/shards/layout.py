"""What the manifest of an upper index says of its shards: enough to number all nodes, documents and bytes, and to read
the shards' roots, without opening one.

A sharded index is the same arrays as one index in segments: the chunks of shard 0, then those of shard 1, ...; each
level likewise; above the shards' roots the upper tree. It lies in one folder:

    my.index/CURRENT, generations/   the upper index: an ordinary one, whose documents are the shards' roots
    my.index/shards/NAME/            the shards: ordinary indexes

The upper index has one document for each shard, in order, of one chunk: its id is the shard's name, its text is that of
the shard's root, and so is its vector. A shard that is lower than another is read as if its root were repeated up to
the height of the highest.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from index_store.errors import BrokenIndex
from index_store.manifest import MOST_LEVELS, MOST_NODES, SHARDS, Manifest
from index_store.terminal import brief
from index_store.tree import LABEL_BYTES, Tree

MOST_SHARDS = 2_000  # so that one manifest tells of them, and Linux maps the files of all of them at a time
NAME = re.compile(r"[^\W_](?:[\w.-]{0,78}[\w-])?", re.ASCII)  # of a folder, on every system
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_INT64 = 2**63
# What is added up over shards and levels, and may come to so much: with that of the upper tree it has 64 bits.
_COUNTED, _COUNTED_BY_LEVEL = ("text_bytes", "chars", "line_bytes", "words"), ("edges", "summaries", "labels")
_MOST = 2**62


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard, in the order of the documents.

    `name`: of its folder; also the id of its root's document in the upper index. `digest`: of the generation that is
    read. `documents`: how many. `levels[i]`: nodes at level i, the last is 1. `edges[i]`: from level i + 1 down to
    level i. `text_bytes`, `chars`: of all texts. `line_bytes`: of documents.jsonl. `summaries[i]`, `labels[i]`: bytes
    of those of level i + 1. `words`: of all chunks together, as BM25 counts them. `names`: how many names its table
    has. `root_label`, `root_tokens`: of its root.
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
    names: int
    root_label: str
    root_tokens: int


def settings_of(shards: Sequence[Shard]) -> dict[str, Any]:
    """The setting of an upper index that names its shards, for `publish`, beside those of its build."""
    return {SHARDS: [{name: _plain(value) for name, value in asdict(shard).items()} for shard in shards]}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def shard_of(name: str, digest: str, tree: Tree) -> Shard:
    """What the upper manifest says of an opened shard. Raises BrokenIndex where `Draft.is_shard` did not write it."""
    arrays, levels = tree.store.arrays, tree.levels
    if "lexical/lengths.npy" not in arrays:
        raise BrokenIndex(f"{tree.path} is no part of an index of indexes; build it by raptor shard")
    first = list(accumulate(levels, initial=0))
    rows, offsets = arrays["nodes.npy"], arrays["children_offsets.npy"]
    lengths = arrays["lexical/lengths.npy"]

    def sizes(start: str, end: str) -> tuple[int, ...]:
        """Bytes of each level above the chunks."""
        return tuple(int(rows[past - 1][end]) - int(rows[at][start]) for at, past in pairwise(first[1:]))

    return Shard(
        name=name,
        digest=digest,
        documents=tree.store.documents,
        levels=tuple(levels),
        edges=tuple(int(offsets[past]) - int(offsets[at]) for at, past in pairwise(first[1:])),
        text_bytes=len(tree.store.text),
        chars=tree.chars,
        line_bytes=len(tree.store.lines),
        summaries=sizes("start", "end"),
        labels=sizes("label_start", "label_end"),
        words=int(np.sum(lengths[: levels[0]], dtype=np.int64)),
        names=len(arrays["names/offsets.npy"]) - 1 if "names/offsets.npy" in arrays else 0,
        root_label=tree.root.label,
        root_tokens=tree.root.tokens,
    )


def shards_in(manifest: Manifest, where: str) -> list[Shard]:
    """The shards that a manifest names; [] for that of an ordinary index. Raises BrokenIndex, which names the file
    `where`, where they are none that an upper index has."""
    if SHARDS not in manifest.settings:
        return []
    try:
        shards = [_shard(row) for row in manifest.settings[SHARDS]]
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise BrokenIndex(f"{where} names shards that are none ({e}); build the index again") from e
    if fault := _fault(shards, manifest):
        raise BrokenIndex(f"{where} {fault}; build the index again")
    return shards


def _fault(shards: Sequence[Shard], manifest: Manifest) -> str:
    """What the shards of no upper index have, each for itself being well formed; "" for nothing."""
    count = len(shards)
    if not 1 <= count <= MOST_SHARDS or {count} != {manifest.documents, manifest.levels[0]}:
        return f"names {count:,} shards, and has {manifest.documents:,} roots of some"
    if len({shard.name.lower() for shard in shards}) < count:
        return "names a shard twice"
    documents, levels = counted(shards, manifest.levels)
    if documents > MOST_NODES or sum(levels) > MOST_NODES or len(levels) > MOST_LEVELS:
        return f"gives {brief(sum(levels))} nodes and {brief(documents)} documents, which no index has"
    sums = {name: sum(getattr(shard, name) for shard in shards) for name in _COUNTED}
    sums |= {name: sum(sum(getattr(shard, name)) for shard in shards) for name in _COUNTED_BY_LEVEL}
    return next((f"gives more {name} than there can be" for name in sums if sums[name] >= _MOST), "")


def counted(shards: Sequence[Shard], upper: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """How many documents a sharded index has, and how many nodes at each level; `upper`: the levels of its upper
    tree."""
    height = max(len(shard.levels) for shard in shards)
    below = [sum(shard.levels[i] if i < len(shard.levels) else 1 for shard in shards) for i in range(height)]
    return sum(shard.documents for shard in shards), (*below, *upper[1:])


def _shard(row: Mapping[str, Any]) -> Shard:
    """A shard as a manifest writes it. Raises KeyError, TypeError, ValueError, AttributeError where it is none."""
    levels = _numbers(row["levels"], 1, most=MOST_NODES)
    if not 1 <= len(levels) <= MOST_LEVELS or levels[-1] != 1:
        raise ValueError(f"found the levels {brief(row['levels'])}")
    shard = Shard(
        name=_text(row["name"], NAME),
        digest=_text(row["digest"], _DIGEST),
        documents=_number(row["documents"], 1, MOST_NODES),
        levels=levels,
        edges=_numbers(row["edges"], 0, len(levels) - 1),
        text_bytes=_number(row["text_bytes"]),
        chars=_number(row["chars"]),
        line_bytes=_number(row["line_bytes"]),
        summaries=_numbers(row["summaries"], 0, len(levels) - 1),
        labels=_numbers(row["labels"], 0, len(levels) - 1),
        words=_number(row["words"]),
        names=_number(row["names"], 0, MOST_NODES),
        root_label=_text(row["root_label"]),
        root_tokens=_number(row["root_tokens"], 0, MOST_NODES),
    )
    if sorted(row) != sorted(asdict(shard)):
        raise ValueError(f"found the fields {brief(sorted(row))}")
    return shard


def _numbers(
    values: Any, least: int = 0, count: int | None = None, most: int = _INT64 - 1
) -> tuple[int, ...]:
    if not isinstance(values, list) or len(values) != (len(values) if count is None else count):
        raise ValueError(f"found {brief(values)} where numbers belong")
    return tuple(_number(value, least, most) for value in values)


def _number(value: Any, least: int = 0, most: int = _INT64 - 1) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"found {brief(value)} where a number from {least} to {most} belongs")
    return value


def _text(value: Any, form: re.Pattern[str] | None = None) -> str:
    if not isinstance(value, str) or (len(value.encode()) > LABEL_BYTES):
        raise ValueError(f"found {brief(value)} where a short text belongs")
    if form is not None and not form.fullmatch(value):
        raise ValueError(f"found {brief(value)} where a name or a digest belongs")
    return value
