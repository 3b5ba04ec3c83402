"""How sure a map is: intervals that hold what they say, by simulation, and samples that repeat."""

import math
import random
from collections import Counter

import pytest

from rlm.mapping.certainty import SAMPLE, agreement, count_values, differ, sample, wilson
from rlm.mapping.fields import parse_fields
from rlm.mapping.types import Answer, Count, Mapped, MappingError, Progress, Value

FIELDS = parse_fields({"label": ["spam", "ham"], "why": "text"})
ONE = FIELDS[:1]


def answer(label: str, why: str = "") -> Answer:
    return Answer({"label": label, "why": why})


def test_the_interval_of_a_share_is_wilson_s() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-3)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-3)


def test_a_sample_repeats_is_shuffled_and_not_too_small() -> None:
    keys = {row: f"{row:064}" for row in range(1_000)}
    drawn = sample(keys, 0.1)
    assert drawn == sample(dict(reversed(keys.items())), 0.1)
    assert len(set(drawn)) == 100 and drawn != sorted(drawn)
    assert sample(keys, 0.05) == drawn[:50]
    assert len(sample(keys, 0.001)) == SAMPLE
    assert sorted(sample({1: "a", 2: "b"}, 0.01)) == [1, 2]
    assert sample(keys, 0) == sample({}, 1) == []


def test_agreement_is_by_field_over_rows_that_were_read_twice() -> None:
    first = {
        0: answer("spam", "It  asks for MONEY"),
        1: answer("ham"),
        2: answer("ham"),
        3: Answer(error="no"),
    }
    again = {
        0: answer("spam", "it asks for money"),
        1: answer("spam"),
        2: Answer(error="no"),
        3: answer("ham"),
    }
    found = agreement(FIELDS, first, again)
    assert (found["label"].share, found["label"].rows, found["why"].share) == (0.5, 2, 1.0)
    assert (found["label"].low, found["label"].high) == wilson(1, 2)
    assert agreement(FIELDS, first, {}) == {}


def test_free_text_makes_two_readings_differ_only_where_there_is_nothing_else() -> None:
    one, other = answer("ham", "a").values, answer("ham", "b").values
    assert not differ(FIELDS, one, other)
    assert differ(FIELDS[1:], one, other)
    assert differ(FIELDS, one, answer("spam", "a").values)


def mapped(first: list[str], again: dict[int, str], asked: list[int] | None = None) -> Mapped:
    answers = [Answer({"label": label}) for label in first]
    twice = {row: Answer({"label": label}) for row, label in again.items()}
    return Mapped(ONE, answers, Progress(len(first)), asked or range(len(first)), twice)


def test_counts_come_most_frequent_first_and_without_second_readings_without_an_interval() -> None:
    found = count_values(mapped(["ham", "spam", "ham"], {}), "label")
    assert list(found.items()) == [("ham", Count(2)), ("spam", Count(1))]
    with pytest.raises(MappingError, match="no field 'mood'; there is label"):
        count_values(mapped([], {}), "mood")


def test_an_interval_is_that_of_the_share_of_pairs_that_disagree_on_the_value() -> None:
    labels = ["spam"] * 100 + ["ham"] * 300
    again = {row: "ham" if row < 20 else label for row, label in enumerate(labels)}
    found = count_values(mapped(labels, again), "label")["spam"]
    half = 1.96 * math.sqrt(400 * wilson(20, 400)[1] / 2)
    assert (found.low, found.high) == pytest.approx((100 - half, 100 + half))


def test_an_interval_is_no_narrower_for_rows_that_share_a_text() -> None:
    again = dict.fromkeys(range(100), "spam")
    apart = count_values(mapped(["spam"] * 100 + ["ham"] * 300, again), "label")["spam"]
    alike = count_values(mapped(["spam"] * 100 + ["ham"] * 300, again, [*range(100), *[100] * 300]), "label")[
        "spam"
    ]
    assert apart.low is not None and alike.low is not None
    assert apart.low > alike.low


def test_what_a_strong_model_read_is_told_apart_from_the_readings_that_differed() -> None:
    found = mapped(["spam"] * 40, dict.fromkeys(range(40), "spam"))
    strong = Mapped(
        ONE, found.answers, found.progress, found.asked, found.again, {0: Answer({"label": "ham"})}
    )
    narrow, wide = (count_values(one, "label")["spam"] for one in (found, strong))
    assert narrow.low is not None and wide.low is not None
    assert wide.low < narrow.low


def covered(chance: random.Random, rows: int, pairs: int, sure: float, unsure: float) -> bool:
    """Whether the interval of one map holds the count that readings have on average: of each row a label is read with
    a chance of its own, one of 1 - sure, sure and unsure."""
    chances = [chance.choice([1 - sure, 1 - sure, sure, unsure]) for _ in range(rows)]

    def read(row: int) -> Value:
        return "spam" if chance.random() < chances[row] else "ham"

    answers = [Answer({"label": read(row)}) for row in range(rows)]
    again = {row: Answer({"label": read(row)}) for row in chance.sample(range(rows), pairs)}
    count = count_values(Mapped(ONE, answers, Progress(rows), range(rows), again), "label")["spam"]
    assert count.low is not None and count.high is not None
    return count.low <= sum(chances) <= count.high


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "pairs"), [(300, 300), (600, 120), (300, 20)])
@pytest.mark.parametrize(("sure", "unsure"), [(0.95, 0.5), (0.99, 0.8), (0.7, 0.5)])
def test_an_interval_holds_95_of_100_counts_or_some_more(
    rows: int, pairs: int, sure: float, unsure: float
) -> None:
    chance = random.Random(f"{rows} {pairs} {sure}")
    held = Counter(covered(chance, rows, pairs, sure, unsure) for _ in range(300))[True] / 300
    few = (
        pairs < 100 or sure > 0.9
    )  # of readings that disagree, so that the upper end of their share lies far above
    assert 0.93 <= held <= (1.0 if few else 0.98), held
