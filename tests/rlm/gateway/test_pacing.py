"""Rate limits hold in every minute, and waits between attempts spread out."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from hypothesis import example, given, strategies as st

from rlm.gateway.failures import classify
from rlm.gateway.pacing import Pacing, backoff_s


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


arrivals = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 120)), max_size=60)


@given(st.integers(1, 6), st.integers(50, 300), arrivals)
@example(1, 50, [(0.0, 50)] * 5)
@example(6, 50, [(0.0, 120), (0.0, 10)])
def test_no_minute_sees_more_than_the_limits(
    requests: int, tokens: int, arrivals: list[tuple[float, int]]
) -> None:
    clock = Clock()
    pacing = Pacing(requests, tokens, clock)
    starts: list[tuple[float, int]] = []
    for gap, amount in arrivals:
        clock.now += gap
        starts.append((clock.now + pacing.wait_s("m", amount), amount))
    for start, amount in starts:
        minute = [booked for at, booked in starts if start <= at < start + 60 - 1e-6]
        assert len(minute) <= requests
        assert sum(minute) <= tokens or minute == [amount]  # one too large for any minute goes alone


def test_within_the_limits_nothing_waits() -> None:
    pacing = Pacing(3, 300, Clock())
    assert [pacing.wait_s("m", 100) for _ in range(3)] == [0, 0, 0]
    assert pacing.wait_s("m", 100) == 60


def test_models_are_paced_apart_and_without_limits_not_at_all() -> None:
    pacing = Pacing(1, None, Clock())
    assert [pacing.wait_s(model, 1) for model in ("a", "b", "a")] == [0, 0, 60]
    assert Pacing(clock=Clock()).wait_s("a", 10**9) == 0


def test_a_hold_keeps_every_request_to_that_model_waiting() -> None:
    pacing = Pacing(clock=Clock())
    pacing.hold("a", 7)
    pacing.hold("a", 2)
    assert (pacing.wait_s("a", 1), pacing.wait_s("b", 1)) == (7, 0)


def test_a_limit_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        Pacing(requests_per_minute=0)


def test_waits_grow_with_jitter_up_to_a_bound() -> None:
    random.seed(7)
    waits = {n: [backoff_s(n) for _ in range(200)] for n in (1, 3, 20)}
    assert all(max(waits[n]) <= bound for n, bound in ((1, 1.0), (3, 4.0), (20, 30.0)))
    assert all(min(waits[n]) > 0 for n in waits)
    assert len(set(waits[3])) == 200
    assert max(waits[1]) < max(waits[3]) < max(waits[20])


class HTTPStatusError(Exception):
    """Stands for httpx's."""

    def __init__(self, retry_after: str) -> None:
        self.status_code = 429
        self.response = SimpleNamespace(headers={"Retry-After": retry_after})
        super().__init__("slow down")


@pytest.mark.parametrize(
    ("header", "expected"),
    [("3", 3.0), ("0.5", 0.5), ("-1", None), ("soon", None), ("", None), ("nan", None), ("inf", None)],
)
def test_retry_after_is_read_in_seconds_and_nonsense_is_ignored(header: str, expected: float | None) -> None:
    assert classify(HTTPStatusError(header)).retry_after_s == expected


def test_retry_after_is_read_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert classify(HTTPStatusError(later)).retry_after_s == pytest.approx(100, abs=2)
