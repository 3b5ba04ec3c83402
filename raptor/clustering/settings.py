"""How nodes are grouped, as a build is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raptor.errors import RaptorError


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """How nodes are grouped.

    `max_tokens`: cap on the tokens of a cluster's members together. `threshold`: posterior above which a node
    joins a further cluster, up to `max_memberships` in all. `dims`: what UMAP reduces to. `target_size`: members
    wanted in a cluster, on average within a factor of `SPAN`; none has more than four times as many.
    `part_size`: most nodes clustered at once. `method`: as described above, or "paper" as in
    `raptor.clustering.paper`, for comparison, which heeds only `max_tokens`, `threshold`, `dims` and `seed`.
    """

    method: Literal["fast", "paper"] = "fast"
    max_tokens: int = 3000
    threshold: float = 0.1
    max_memberships: int = 3
    dims: int = 10
    target_size: int = 8
    part_size: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("fast", "paper"):
            raise RaptorError(f"method is {self.method!r}; give 'fast' or 'paper'")
        least = {"max_tokens": 1, "max_memberships": 1, "dims": 1, "target_size": 2, "part_size": 8}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise RaptorError(f"{name} is {getattr(self, name)}; give at least {minimum}")
        if not 0 < self.threshold <= 1:
            raise RaptorError(f"threshold is {self.threshold}; give a posterior above 0 and at most 1")
