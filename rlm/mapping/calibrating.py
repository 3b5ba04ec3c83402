"""How large packs should be: models err more in longer prompts, and how much more differs from one to another.

The first packs of a large map are full ones, and a sample of their rows is read again in other, small company. Where
both readings agree in all, full packs it is. Else packs of half the size are tried with the next rows, and so on; of
all that were tried the largest is taken whose agreement is the best. Pure.
"""

from collections.abc import Mapping, Sequence

from rlm.mapping.packing import Size, pack
from rlm.mapping.types import Pack

#: The sizes that are tried, as shares of a full pack; and that in which a sample is read again.
SHARES = (1.0, 1 / 2, 1 / 4, 1 / 8)
CHECK = 1 / 4
#: Of each size, one row in so many is read again, within these bounds.
ONE_IN, LEAST, MOST = 250, 20, 400


def shares(rows_a_pack: float) -> list[float]:
    """The sizes that can be tried: a full pack, and those whose packs hold a row and more."""
    return [share for share in SHARES if share == 1.0 or share * rows_a_pack >= 2]


def sampled(rows: int) -> int:
    """Rows of each size that are read again."""
    return min(MOST, max(LEAST, rows // ONE_IN))


def trial(rows: Sequence[int], tokens: Mapping[int, int], size: Size) -> list[Pack]:
    """Packs of that size, of the first rows: as many as hold the rows that are to be sampled."""
    wanted, packs = sampled(len(rows)), list[Pack]()
    for one in pack(rows[: wanted + size.rows], tokens, size):
        if sum(len(before.rows) for before in packs) >= wanted:
            break
        packs.append(one)
    return packs


def spaced(rows: Sequence[int], number: int) -> list[int]:
    """So many of the rows, at equal distances: what stands late in a prompt is read as often as what stands early."""
    step = max(1.0, len(rows) / number)
    return [rows[int(at * step)] for at in range(min(number, len(rows)))]


def is_enough(agreed: Sequence[tuple[int, int]]) -> bool:
    """Whether no smaller size need be tried: the last one agrees in all, or two smaller ones agreed no better than one
    before. `agreed`: for each size how many rows were read alike, of how many."""
    if agreed[-1][0] == agreed[-1][1]:
        return True
    best = max(range(len(agreed)), key=lambda at: (_share(*agreed[at]), -at))
    return len(agreed) - best > 2


def largest(agreed: Sequence[tuple[int, int]]) -> int:
    """Which size is taken, by its place: the first, as the largest comes first, that agrees best."""
    return max(range(len(agreed)), key=lambda at: (_share(*agreed[at]), -at))


def _share(alike: int, of: int) -> float:
    return alike / of if of else 0.0
