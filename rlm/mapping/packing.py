"""Which rows are asked about together. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlm.mapping.types import Pack


@dataclass(frozen=True, slots=True)
class Size:
    """What a pack may hold: tokens of rows as they stand in the prompt, and rows that one reply has room for."""

    tokens: int
    rows: int

    def part(self, share: float) -> "Size":
        """That share of it, and at least one row."""
        return Size(max(1, math.floor(self.tokens * share)), max(1, math.floor(self.rows * share)))


def pack(rows: Iterable[int], tokens: Mapping[int, int], size: Size) -> list[Pack]:
    """The rows in packs, in their order, each as full as the next row allows; `tokens`: of each row. A row that is
    larger than a pack stands alone."""
    packs: list[Pack] = []
    held: list[int] = []
    used = 0
    for row in rows:
        if held and (used + tokens[row] > size.tokens or len(held) == size.rows):
            packs.append(Pack(tuple(held)))
            held, used = [], 0
        held.append(row)
        used += tokens[row]
    return [*packs, Pack(tuple(held))] if held else packs


def halves(rows: tuple[int, ...]) -> list[Pack]:
    """The rows in two packs, in their order; a single one in one."""
    middle = (len(rows) + 1) // 2
    return [Pack(half) for half in (rows[:middle], rows[middle:]) if half]


def full_packs(rows: int, tokens: int, size: Size) -> int:
    """The least number of packs that so many rows, of so many tokens together, need: if every one were full."""
    return max(math.ceil(tokens / size.tokens), math.ceil(rows / size.rows))
