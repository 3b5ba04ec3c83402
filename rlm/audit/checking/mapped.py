"""What came of maps, as figures: they are counted over rows, and stand in no document."""

from collections.abc import Iterator, Sequence
from itertools import islice

from rlm.audit.maps import MapEvents, values_counted

#: Words with which a sentence tells figures of any map.
_OF_ROWS = "row rows asked answered answer failed"
_MOST_VALUES = 1_000  # of one field that are told
_CHARS = 100_000


def tallied(maps: Sequence[MapEvents]) -> str:
    """What a sentence of an answer may take from maps: of each how many rows, those answered and those without an
    answer, and how many have each value of a field, or fulfil a condition; then the question, the fields and the
    values. '' for no map."""
    if not maps:
        return ""
    figures = sorted({number for one in maps for number in _figures(one)})
    told = [*map(str, figures), _OF_ROWS, *(words for one in maps for words in _words(one))]
    return "\n".join(told)[:_CHARS]


def _figures(one: MapEvents) -> Iterator[int]:
    failed = sum("values" not in answer for answer in one.answers)
    yield from (one.called["rows"], len(one.answers) - failed, failed)
    for counts in values_counted(one).values():
        yield from (counted.count for counted in islice(counts.values(), _MOST_VALUES))


def _words(one: MapEvents) -> Iterator[str]:
    yield one.called["question"]
    for name, counts in values_counted(one).items():
        yield name
        yield from (value for value in islice(counts, _MOST_VALUES) if isinstance(value, str))
