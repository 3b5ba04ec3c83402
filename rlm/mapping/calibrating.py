"""How large packs should be: models err more in longer prompts, and how much more differs from one to another.

The first packs of a large map have several sizes. A sample of the rows of each is read again in the smallest packs; the
largest size that agrees with these as often as the smallest does, as far as noise can tell, is taken. Pure.
"""

import math
from collections.abc import Mapping, Sequence

from rlm.mapping.packing import Size, pack
from rlm.mapping.types import Pack

#: Maps of no more tokens than so many packs may hold are not calibrated: it would cost more than it gains.
FULL_PACKS = 30
#: The sizes that are tried, as shares of a full pack.
SHARES = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
#: Of each size, one row in so many is read again, within these bounds.
ONE_IN, LEAST, MOST = 100, 40, 400
#: Standard deviations by which an agreement must lie lower to be no noise: one case in twenty, on one side.
BELOW = 1.645


def shares(rows_a_pack: float) -> list[float]:
    """The sizes that can be tried: those whose packs hold a row and more."""
    return [share for share in SHARES if share * rows_a_pack >= 2]


def sampled(rows: int) -> int:
    """Rows of each size that are read again."""
    return min(MOST, max(LEAST, rows // ONE_IN))


def trials(
    rows: Sequence[int], tokens: Mapping[int, int], size: Size, tried: Sequence[float]
) -> list[list[Pack]]:
    """For each size its packs, of the first rows: as many as hold the rows that are to be sampled."""
    wanted, at = sampled(len(rows)), 0
    found: list[list[Pack]] = []
    for share in tried:
        packs: list[Pack] = []
        for one in pack(rows[at : at + wanted + size.rows], tokens, size.part(share)):
            if sum(len(before.rows) for before in packs) >= wanted:
                break
            packs.append(one)
        at += sum(len(one.rows) for one in packs)
        found.append(packs)
    return found


def spaced(rows: Sequence[int], number: int) -> list[int]:
    """So many of the rows, at equal distances: what stands late in a prompt is read as often as what stands early."""
    step = max(1.0, len(rows) / number)
    return [rows[int(at * step)] for at in range(min(number, len(rows)))]


def largest(agreed: Sequence[tuple[int, int]]) -> int:
    """Which size is taken, by its place: the first, as the largest comes first, that does not fall below the last by
    more than noise. `agreed`: for each size how many rows were read alike, of how many."""
    *_, smallest = agreed
    return next(at for at, one in enumerate(agreed) if not _falls(one, smallest))


def _falls(one: tuple[int, int], smallest: tuple[int, int]) -> bool:
    (share, spread), (best, noise) = _share(*one), _share(*smallest)
    return best - share > BELOW * math.sqrt(spread + noise)


def _share(alike: int, of: int) -> tuple[float, float]:
    """A share and the square of its standard error, with one row more of each sort, so that none is without noise
    (Agresti and Caffo 2000)."""
    share = (alike + 1) / (of + 2)
    return share, share * (1 - share) / (of + 2)
