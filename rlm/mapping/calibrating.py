"""How large packs should be: models err more in longer prompts, and how much more differs from one to another.

The first packs of a large map are full ones, and a sample of their rows is read again in packs of a quarter of the
size. Where both agree in all, full packs it is. Else the model reads short prompts better: the sample is read in packs
of an eighth, and where some reading still differs from that all rows of the first packs in the smallest packs; those on
which the readings differ are read once more in the smallest that were tried. Were all sizes equally good, this third
reading would side with the larger packs as often as with the smallest ones; the largest is taken that is not wrong more
often than these. Pure.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rlm.mapping.certainty import differ
from rlm.mapping.packing import Size, pack
from rlm.mapping.types import Answer, Field, Pack

#: The answers of one reading, by row.
Read: TypeAlias = Mapping[int, Answer]

#: Shares of a full pack: by which it is found out whether size matters, and those of which one is taken if it does. A
#: quarter is none of these but where others hold too few rows: an eighth costs little more, and is read better.
LOOK, SHARES = 1 / 4, (1 / 8, 1 / 16)
#: The rows that a pack must hold to be worth its words.
ROWS = 4
#: One row in so many is read again, within these bounds.
ONE_IN, LEAST, MOST = 100, 40, 400
#: Rows are short of which a full pack holds so many; of long ones so many are read again at least.
SHORT, FEW = 64, 16


def shares(rows_a_pack: float) -> list[float]:
    """The sizes of which one may be taken beside a full pack, the larger first: those whose packs hold some rows."""
    small = [share for share in SHARES if share * rows_a_pack >= ROWS]
    return small or [share for share in (LOOK,) if share * rows_a_pack >= ROWS]


def sampled(rows: int, rows_a_pack: float = math.inf) -> int:
    """Rows that are read again; of long ones, of which a full pack holds few, a third of it, as each is dear."""
    most = MOST if rows_a_pack >= SHORT else max(FEW, int(rows_a_pack / 3))
    return min(most, max(LEAST, rows // ONE_IN))


def trial(rows: Sequence[int], tokens: Mapping[int, int], size: Size, wanted: int) -> list[Pack]:
    """Packs of that size, of the first rows: as many as hold the rows that are to be sampled."""
    packs = list[Pack]()
    for one in pack(rows[: wanted + size.rows], tokens, size):
        if sum(len(before.rows) for before in packs) >= wanted:
            break
        packs.append(one)
    return packs


def spaced(rows: Sequence[int], number: int) -> list[int]:
    """So many of the rows, at equal distances: what stands late in a prompt is read as often as what stands early."""
    step = max(1.0, len(rows) / number)
    return [rows[int(at * step)] for at in range(min(number, len(rows)))]


def apart(fields: Sequence[Field], read: Sequence[Read], rows: Sequence[int]) -> list[int]:
    """The rows, in order, that some reading answers otherwise than the last one; the sample, `rows`, where the first
    reading, in full packs, answers less than half of it, as then it is of no use whatever it says."""
    if not _answers(read[0], rows):
        return list(rows)
    *larger, last = read
    return sorted(row for row in last if any(_differ(fields, one, last, row) for one in larger))


def largest(fields: Sequence[Field], read: Sequence[Read], third: Read, rows: Sequence[int]) -> int:
    """Which size is taken, by its place: the first, as the largest comes first, that answers half of the sample,
    `rows`, and is not wrong more often than the last. `third`: the rows on which they differ, read once more; one of
    two that differ is wrong where this gives the other's answer."""
    *larger, last = read

    def wrong(one: Read, other: Read) -> int:
        pairs = [row for row in third if row in other and _differ(fields, one, other, row)]
        return sum(not _differ(fields, third, other, row) for row in pairs)

    good = [
        at for at, one in enumerate(larger) if _answers(one, rows) and wrong(one, last) <= wrong(last, one)
    ]
    return good[0] if good else len(larger)


def _answers(one: Read, rows: Sequence[int]) -> bool:
    return 2 * sum(row in one for row in rows) >= len(rows)


def _differ(fields: Sequence[Field], one: Read, other: Read, row: int) -> bool:
    return row in one and differ(fields, one[row].values, other[row].values)
