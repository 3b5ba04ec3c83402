"""How nodes are grouped: the settings of the clustering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from index_store.arguments import check_fields
from raptor.errors import RaptorError

Method = Literal["fast", "paper"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """How nodes are grouped.

    `method`: "fast" as `raptor.clustering.fast` describes it, or "paper" as `raptor.clustering.paper` does: RAPTOR's
    own procedure, for comparison, which uses only `max_tokens`, `threshold`, `dims` and `seed`. `max_tokens`: most
    tokens of a cluster's members together. `threshold`: posterior probability above which a node joins a further
    cluster, up to `max_memberships` in all. `dims`: dimensions that UMAP reduces vectors to. `target_size`: members
    wanted in a cluster; the mean is within a factor of 1.6 of it, and no cluster has more than four times as many.
    `part_size`: most nodes clustered at once. `seed`: of all that is random. Raises RaptorError for a value that is
    out of range.
    """

    method: Method = "fast"
    max_tokens: int = 3000
    threshold: float = 0.1
    max_memberships: int = 3
    dims: int = 10
    target_size: int = 8
    part_size: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, RaptorError)
        if self.method not in METHODS:
            raise RaptorError(f"method is {self.method!r}; give 'fast' or 'paper'")
        least = {"max_tokens": 1, "max_memberships": 1, "dims": 1, "target_size": 2, "part_size": 8}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise RaptorError(f"{name} is {getattr(self, name)}; give at least {minimum}")
        if not 0 < self.threshold <= 1:
            raise RaptorError(f"threshold is {self.threshold}; give a posterior above 0 and at most 1")
