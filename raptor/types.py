"""The data of a build: documents with their chunks, levels of the tree, and the report at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from index_store.duplicates import Twin as Twin
from index_store.generations import Changes as Changes, Differences as Differences
from index_store.narrowing import Seen
from index_store.types import Document
from index_store.writer import Published
from raptor.loading.types import Failure, Note
from rlm.gateway.types import Usage

#: The kind of a node over documents that different readers may read.
MIXED = -1

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that stays as it was, as what it came from cannot be read any more: `source` and `reason` of that
    `Failure`."""

    doc: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    `new`: whether a generation was published; it is not where the last one is the same. `failures`: the sources that
    could not be loaded. `unused_metadata`: the rows of metadata whose document does not exist. `notes`: what to know of
    sources that were loaded, as an encoding that was guessed. `near_duplicates`: documents that say nearly the same as
    another. `levels[i]`: nodes at level i. `calls`, tokens and `usd`: of the summarizer in this run; what an earlier
    run paid for is not counted again. `bytes`: size of the generation on disk. `seconds`: wall time by stage.
    `vanished`: ids of the documents that it still holds, though their file, or line in it, is no longer in its sources.
    `differences`: the ids that `changes` counts; None for a build, of which all are new. `kept`: documents that stay as
    they were, as they cannot be read any more; why stands in `failures` too.
    `left_out`: ids of documents that a sync passed by, as they were removed. `unseen`: ids of those that it did not
    look for, as no source is known that they are from. `excluded`: files that patterns leave out.
    `dry_run`: whether `changes` were only counted; the rest is then what the index holds now. `passed`: why more was
    spent than the cap allows, in a sentence; '' where it held. `access`: how much of the tree a reader of each label
    sees; () where all is open to all.
    """

    index: str
    generation: int
    digest: str
    new: bool
    documents: int
    changes: Changes
    failures: tuple[Failure, ...]
    unused_metadata: tuple[Failure, ...]
    notes: tuple[Note, ...]
    near_duplicates: tuple[Twin, ...]
    chunks: int
    levels: tuple[int, ...]
    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float
    bytes: int
    seconds: Mapping[str, float]
    vanished: tuple[str, ...] = ()
    dry_run: bool = False
    left_out: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    differences: Differences | None = None
    kept: tuple[Kept, ...] = ()
    passed: str = ""
    excluded: int = 0
    access: tuple[Seen, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON has them, with `tokens`, which is prompt and completion tokens together."""
        return asdict(self) | {"tokens": self.prompt_tokens + self.completion_tokens}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was built and published.

    `published`: the generation; of an index of shards the upper one, with the bytes of all. `levels[i]`: nodes at
    level i. `twins`: documents that say nearly the same as another. `usage`: of the summarizer. `passed`: why more was
    spent than the cap allows, '' where it held. `unused_metadata`, `notes`: what was found as it was built.
    """

    published: Published
    documents: Sequence[Document]
    levels: tuple[int, ...]
    twins: Sequence[Twin]
    usage: Usage
    passed: str
    unused_metadata: Sequence[Failure] = ()
    notes: Sequence[Note] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A document with its text and its chunks.

    `spans`: (start, end) in characters of each chunk. `old`: the numbers of these chunks in the previous generation,
    None for a document that is new or whose text has changed. `retitled`: whether the vectors of old chunks are to be
    made anew, as the title and headings are part of them.
    """

    document: Document
    text: str
    spans: Sequence[tuple[int, int]]
    old: range | None = None
    retitled: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """The n nodes of one level of the tree, as columns.

    `names`: how a prompt names each node; `places`: where each chunk stands, in
    words; () for summaries. `tokens`: (n,). `vectors`: (n, dim) unit rows. `old[i]`: the number of the
    node in the previous generation that node i takes the place of, or None. `same[i]`: whether its text is that
    node's text. `children[i]`: rows of the level below; () for chunks, as are `labels`. `guests[i]`: those of the
    children that the text of node i is not about. `kinds[i]`: a number for the labels of all documents below node i,
    MIXED where these differ; none where those of all documents are the same.
    """

    texts: Sequence[str]
    names: Sequence[str]
    tokens: npt.NDArray[np.int64]
    vectors: Vectors
    old: Sequence[int | None]
    same: Sequence[bool]
    children: Sequence[tuple[int, ...]] = ()
    guests: Sequence[tuple[int, ...]] = ()
    labels: Sequence[str] = ()
    places: Sequence[str] = ()
    kinds: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.texts)
