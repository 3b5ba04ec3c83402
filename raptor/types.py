"""The data that builds hand about: parts of a corpus, levels of a tree, what a build may cost, what it did."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from index_store.types import Document
from raptor.errors import RaptorError

if TYPE_CHECKING:
    from raptor.loading.types import Failure


MOST_USD = 10**9


#: What could not be loaded, and metadata about documents that there are none of.
Faults = tuple[Sequence["Failure"], Sequence["Failure"]]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    `levels[i]`: nodes at level i. `seconds`: wall time of each stage. Calls, tokens, dollars: the summarizer's, in this
    run; what an earlier run had paid for is not counted again. `unused_metadata`: what is
    said of documents that there are none of.
    """

    index: str
    generation: int
    digest: str
    new: bool
    documents: int
    changes: "Changes"
    failures: tuple["Failure", ...]
    unused_metadata: tuple["Failure", ...]
    chunks: int
    levels: tuple[int, ...]
    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float
    bytes: int
    seconds: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"tokens": self.prompt_tokens + self.completion_tokens}


@dataclass(frozen=True, slots=True)
class Spending:
    """`usd`: most that the summaries of one run may cost, and a build does not start that is expected to cost more;
    `max_errors`: failed ones after which it stops at once."""

    usd: float | None = None
    max_errors: int = 10

    def __post_init__(self) -> None:
        if self.usd is not None and not 0 <= self.usd <= MOST_USD:
            raise RaptorError(f"max-usd is {self.usd}; give a number of dollars from 0 to {MOST_USD:,}")
        if self.max_errors < 0:
            raise RaptorError(f"max-errors is {self.max_errors}; give 0 or more")


Spans = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Changes:
    """How the documents differ from the previous generation's."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A document with its chunks `(start, end)`, and the numbers that those have in the previous generation."""

    document: Document
    text: str
    spans: Sequence[tuple[int, int]]
    old: range | None = None


Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Level:
    """Nodes of one level, as columns. `old[i]`: the number of the node of the previous generation that node i
    continues, or None; `same[i]`: it says what that one said. `children`: rows of the level below, () for chunks."""

    texts: Sequence[str]
    names: Sequence[str]
    tokens: npt.NDArray[np.int64]
    vectors: Vectors
    old: Sequence[int | None]
    same: Sequence[bool]
    children: Sequence[tuple[int, ...]] = ()
    labels: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.texts)
