"""How sure a map is: what two readings of a row agree on, and the noise of counts.

Both tell of noise alone: of errors that every reading makes alike they say nothing.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from rlm.mapping.types import Agreement, Answer, Count, Field, Mapped, MappingError, Value, Values

#: Standard deviations on each side of a normal distribution that hold 95 % of it.
Z = 1.96
#: As many rows are read twice at least, where there are as many: of fewer no share can be told.
SAMPLE = 20


def wilson(hits: float, of: int) -> tuple[float, float]:
    """The 95 % interval of a share that was `hits` of `of` (Wilson 1927); of nothing, from 0 to 1."""
    if not of:
        return 0.0, 1.0
    share, z2 = hits / of, Z * Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def sample(keys: Mapping[int, str], share: float) -> list[int]:
    """That share of rows, at least `SAMPLE` of them, shuffled; `keys`: of each row. Equal keys give equal rows."""
    if not share:
        return []
    drawn = sorted(keys, key=lambda row: hashlib.sha256(f"again {keys[row]}".encode()).digest())
    return drawn[: max(SAMPLE, math.ceil(share * len(drawn)))]


def agreement(
    fields: Sequence[Field], first: Mapping[int, Answer], again: Mapping[int, Answer]
) -> dict[str, Agreement]:
    """For each field, how often two readings gave a row the same value; {} without a row that has both."""
    pairs = _pairs(first, again)
    return {field.name: _agreement(field, pairs) for field in fields} if pairs else {}


def _agreement(field: Field, pairs: Sequence[tuple[Values, Values]]) -> Agreement:
    return share_of(sum(same(one[field.name], other[field.name]) for one, other in pairs), len(pairs))


def share_of(alike: int, pairs: int) -> Agreement:
    """The agreement of so many pairs, of which so many are alike."""
    return Agreement(alike / pairs, *wilson(alike, pairs), pairs)


def agreement_json(agreement: Agreement) -> dict[str, float]:
    """An agreement as a trace has it."""
    return {name: round(value, 4) for name, value in asdict(agreement).items()}


def _pairs(first: Mapping[int, Answer], again: Mapping[int, Answer]) -> list[tuple[Values, Values]]:
    both = ((first[row], other) for row, other in again.items())
    return [(one.values, other.values) for one, other in both if not one.error and not other.error]


def differ(fields: Sequence[Field], one: Values, other: Values) -> bool:
    """Whether two readings give a row another value in some field. Free text is looked at only where there is nothing
    else, as no two readings word it alike."""
    judged = [field for field in fields if field.kind != "text"] or fields
    return any(not same(one[field.name], other[field.name]) for field in judged)


def same(one: Value, other: Value) -> bool:
    """Whether two values of a field are alike."""
    return _folded(one) == _folded(other)


def _folded(value: Value) -> Value:
    return " ".join(value.split()).casefold() if isinstance(value, str) else value


def count_values(mapped: Mapped, name: str) -> dict[Value, Count]:
    """How many rows have each value of a field, the most frequent first, equally frequent ones as they come.

    The interval is count +- 1.96 sqrt(n d / 2): of n rows each has the value in a reading with a chance p of its own,
    so a count varies by the sum of p (1 - p); and two readings of a row disagree on the value with a chance
    2 p (1 - p), whose mean over the rows is d. For d the upper end of its own interval is taken (Wilson's), so
    that few second readings give a wide one. Rows of one text have one answer: a text that stands w times counts w * w
    in n. What a strong model read is taken to vary as the readings did, which is too much rather than too little.

    It tells where counts of further readings would lie about, and nothing of errors that every reading makes alike.
    Raises MappingError for a name that is no field.
    """
    if name not in (names := [field.name for field in mapped.fields]):
        raise MappingError(f"no field {name!r}; there is {', '.join(names)}")
    answered = [row for row, answer in enumerate(mapped.answers) if not answer.error]
    counts = Counter(mapped.answers[row].values[name] for row in answered)
    firsts = {row: mapped.first[row] if row in mapped.first else mapped.answers[row] for row in mapped.again}
    pairs = _pairs(firsts, mapped.again)
    spread = _squares(mapped.asked[row] for row in answered)
    values = [(one[name], other[name]) for one, other in pairs]
    return {
        value: _count(value, number, len(answered), spread, values) for value, number in counts.most_common()
    }


def _squares(asked: Iterable[int]) -> int:
    """The sum of w * w over texts that stand w times."""
    return sum(times * times for times in Counter(asked).values())


def _count(value: Value, number: int, rows: int, spread: int, pairs: Sequence[tuple[Value, Value]]) -> Count:
    if not pairs:
        return Count(number)
    apart = sum((one == value) != (other == value) for one, other in pairs)
    half = Z * math.sqrt(spread * wilson(apart, len(pairs))[1] / 2)
    return Count(number, max(0.0, number - half), min(float(rows), number + half))
