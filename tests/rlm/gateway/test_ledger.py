"""The ledger never promises more than it holds."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given, strategies as st

from rlm.gateway.errors import OverBudget
from rlm.gateway.ledger import Caps, Ledger, Reservation
from rlm.gateway.types import Usage
from tests.helpers.gateway_calls import about

usd = st.floats(0, 2, allow_nan=False)
worsts = st.builds(Usage, st.just(1), st.integers(0, 500), st.integers(0, 500), usd)
# A step reserves a worst case, or closes the oldest open reservation having used a share of it.
steps = st.lists(st.one_of(worsts, st.floats(0, 1)), max_size=40)


def within(ledger: Ledger) -> bool:
    total, caps = ledger.spent + ledger.reserved, ledger.caps
    return (
        (caps.usd is None or ledger.spent.usd <= caps.usd)
        and (caps.tokens is None or total.tokens <= caps.tokens)
        and (caps.calls is None or total.calls <= caps.calls)
    )


def part_of(worst: Usage, share: float) -> Usage:
    used = Usage(1, int(worst.prompt_tokens * share), int(worst.completion_tokens * share), worst.usd * share)
    return Usage() if share == 0 else used


@given(st.none() | usd, st.none() | st.integers(0, 3000), st.none() | st.integers(0, 12), steps)
@example(0.3, None, None, [Usage(1, 0, 0, 0.1)] * 3 + [1.0] * 3)
@example(0.0, 0, 0, [Usage(1), Usage()])
def test_under_any_order_of_calls_spent_never_passes_a_cap(
    usd: float | None, tokens: int | None, calls: int | None, steps: list[Usage | float]
) -> None:
    ledger = Ledger(Caps(usd, tokens, calls))
    open_: list[Reservation] = []
    for step in steps:
        if isinstance(step, float):
            if open_:
                reservation = open_.pop(0)
                ledger.settle(reservation, part_of(reservation.worst, step))
        else:
            try:
                open_.append(ledger.reserve(step))
            except OverBudget as error:
                assert error.asked > error.left
        assert within(ledger)
    for reservation in open_:
        ledger.release(reservation)
    assert ledger.reserved == Usage()
    assert within(ledger)


def test_threads_together_stay_within_the_caps() -> None:
    ledger = Ledger(Caps(usd=1.0, calls=500))
    made = threading.Semaphore(0)

    def call(_: int) -> bool:
        try:
            reservation = ledger.reserve(Usage(1, 10, 10, 0.01))
        except OverBudget:
            return False
        assert within(ledger)
        ledger.settle(reservation, Usage(1, 5, 5, 0.004))
        made.release()
        return True

    with ThreadPoolExecutor(8) as pool:
        done = sum(pool.map(call, range(2000)))
    assert ledger.spent == Usage(done, 5 * done, 5 * done, about(0.004 * done))
    assert ledger.reserved == Usage()
    assert 1.0 - 0.01 * 8 < ledger.spent.usd <= 1.0  # all may be refused while 7 others have calls under way


def test_exactly_the_cap_can_be_spent() -> None:
    ledger = Ledger(Caps(usd=0.3))
    for _ in range(3):
        ledger.settle(ledger.reserve(Usage(1, usd=0.1)), Usage(1, usd=0.1))
    assert ledger.left().usd == 0


def test_a_refusal_names_the_cap_what_was_asked_and_what_is_left() -> None:
    ledger = Ledger(Caps(usd=1.0, tokens=1000))
    ledger.settle(ledger.reserve(Usage(1, usd=0.75)), Usage(1, usd=0.75))
    ledger.reserve(Usage(1, usd=0.125))
    with pytest.raises(OverBudget) as refused:
        ledger.reserve(Usage(1, usd=0.5))
    assert str(refused.value) == (
        "this call may need up to $0.5, more than the $0.125 left of the cap of $1.00 ($0.75 spent, $0.125 "
        "reserved by calls under way); raise the usd cap, or make fewer or smaller calls"
    )
    assert (refused.value.cap, refused.value.asked, refused.value.left) == ("usd", 0.5, 0.125)
    with pytest.raises(OverBudget, match="1,001 tokens, more than the 1,000 tokens left"):
        ledger.reserve(Usage(1, 1000, 1))


def test_a_refused_reservation_holds_nothing() -> None:
    ledger = Ledger(Caps(calls=0))
    with pytest.raises(OverBudget, match="1 call, more than the 0 calls"):
        ledger.reserve(Usage(1, 10, 10, 1.0))
    assert ledger.reserved == Usage()


def test_more_than_was_reserved_is_entered_as_reported_and_leaves_nothing() -> None:
    ledger = Ledger(Caps(tokens=100))
    ledger.settle(ledger.reserve(Usage(1, 10, 10)), Usage(1, 60, 60))
    assert ledger.spent.tokens == 120
    assert ledger.left() == Caps(tokens=0)
    with pytest.raises(OverBudget):
        ledger.reserve(Usage(1, 1))


def test_without_caps_everything_is_counted_and_nothing_refused() -> None:
    ledger = Ledger()
    ledger.settle(ledger.reserve(Usage(1, 10**9, 10**9, 1e6)), Usage(1, 1, 2, 3.0))
    assert ledger.spent == Usage(1, 1, 2, 3.0)
    assert ledger.left() == Caps()


def test_a_reservation_is_closed_once() -> None:
    ledger = Ledger()
    reservation = ledger.reserve(Usage(1))
    ledger.release(reservation)
    with pytest.raises(ValueError, match="once"):
        ledger.settle(reservation, Usage(1))
    with pytest.raises(ValueError, match="once"):
        Ledger().release(ledger.reserve(Usage(1)))


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
def test_amounts_that_are_no_amounts_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="cap is"):
        Caps(usd=wrong)
    with pytest.raises(ValueError, match="finite"):
        Ledger().reserve(Usage(1, usd=wrong))


def test_a_question_takes_from_its_own_pool_and_from_the_one_above() -> None:
    total = Ledger(Caps(usd=1.0, calls=10))
    one, two = Ledger(Caps(usd=0.75), total), Ledger(Caps(calls=9), total)
    one.settle(one.reserve(Usage(1, 5, 5, 0.5)), Usage(1, 2, 2, 0.25))
    held = two.reserve(Usage(1, usd=0.5))
    assert (one.spent, one.reserved) == (Usage(1, 2, 2, 0.25), Usage())
    assert (total.spent, total.reserved) == (Usage(1, 2, 2, 0.25), Usage(1, usd=0.5))
    assert (one.left(), two.left(), total.left()) == (
        Caps(0.25, calls=8),
        Caps(0.25, calls=8),
        Caps(0.25, calls=8),
    )
    two.release(held)
    assert (one.left().usd, two.left().usd) == (0.5, 0.75)


def test_what_does_not_fit_above_is_taken_nowhere() -> None:
    total = Ledger(Caps(usd=0.25))
    one = Ledger(Caps(usd=1.0), total)
    with pytest.raises(OverBudget, match=r"more than the \$0.25 left of the shared cap of \$0.25") as refused:
        one.reserve(Usage(1, usd=0.5))
    assert refused.value.left == 0.25
    assert one.reserved == total.reserved == Usage()
    with pytest.raises(OverBudget, match=r"left of the cap of \$1.00"):
        one.reserve(Usage(1, usd=2))


def test_many_calls_are_reserved_together_or_not_at_all() -> None:
    ledger = Ledger(Caps(usd=1.0, calls=20))
    with pytest.raises(OverBudget) as refused:
        ledger.reserve_all([Usage(1, usd=0.25)] * 12)
    assert str(refused.value) == (
        "these 12 calls may need up to $3.00, more than the $1.00 left of the cap of $1.00 ($0.00 spent, $0.00 "
        "reserved by calls under way); the first 4 of them fit; raise the usd cap, or make fewer or smaller calls"
    )
    assert ledger.reserved == Usage()
    with pytest.raises(OverBudget, match="the first 4 of them fit"):  # the tightest cap is the one to name
        ledger.reserve_all([Usage(1, usd=0.25)] * 30)
    with pytest.raises(OverBudget, match="not one of them fits"):
        ledger.reserve_all([Usage(1, usd=2)] * 2)
    assert len(ledger.reserve_all([Usage(1, usd=0.25)] * 4)) == 4
    assert ledger.left().usd == 0
    assert ledger.reserve_all([]) == []


def test_a_reservation_is_exchanged_for_another_without_letting_go_of_it() -> None:
    total = Ledger(Caps(tokens=100))
    ledger = Ledger(parent=total)
    held = ledger.reserve(Usage(1, 40, 40))
    less = ledger.exchange(held, Usage(1, 10, 20))
    assert (ledger.holds(held), ledger.holds(less), total.reserved.tokens) == (False, True, 30)
    more = ledger.exchange(less, Usage(1, 50, 50))
    assert ledger.left() == Caps(tokens=0)
    with pytest.raises(OverBudget) as refused:
        ledger.exchange(more, Usage(1, 50, 51))
    assert (refused.value.asked, refused.value.left) == (101, 100)
    assert ledger.holds(more)
    ledger.settle(more, Usage(1, 1, 1))
    assert (total.spent.tokens, total.reserved) == (2, Usage())


def test_threads_of_many_questions_together_stay_within_the_total() -> None:
    total = Ledger(Caps(usd=1.0, calls=500))
    questions = [Ledger(Caps(usd=0.4), total) for _ in range(6)]

    def call(number: int) -> bool:
        ledger = questions[number % 6]
        try:
            reservation = ledger.exchange(ledger.reserve(Usage(1, usd=0.005)), Usage(1, usd=0.01))
        except OverBudget:
            return False
        assert within(total)
        assert within(ledger)
        ledger.settle(reservation, Usage(1, usd=0.004))
        return True

    with ThreadPoolExecutor(8) as pool:
        done = sum(pool.map(call, range(2000)))
    assert total.spent.calls == done == sum(ledger.spent.calls for ledger in questions)
    assert 1.0 - 0.01 * 8 < total.spent.usd <= 1.0


# -- what is kept for one among many ------------------------------------------------------------------------


def test_what_is_kept_for_one_no_other_takes_and_what_it_takes_counts_against_it() -> None:
    pool = Ledger(Caps(calls=10))
    first, second = (Ledger(Caps(), pool, Usage(calls=3)) for _ in range(2))
    assert (pool.left().calls, first.left().calls, first.sure().calls) == (4, 7, 3)
    with pytest.raises(OverBudget, match="left of the shared cap of 10 calls"):
        first.reserve(Usage(calls=8))
    first.settle(first.reserve(Usage(calls=2)), Usage(calls=2))
    assert (pool.left().calls, first.sure().calls) == (4, 1)  # they were kept before
    first.reserve(Usage(calls=5))
    assert (pool.left().calls, second.left().calls) == (0, 3)
    second.let_go()
    assert (pool.left().calls, first.left().calls) == (3, 3)


def test_what_cannot_be_kept_does_not_begin() -> None:
    pool = Ledger(Caps(tokens=100))
    Ledger(Caps(), pool, Usage(1, 30, 30))
    with pytest.raises(OverBudget):
        Ledger(Caps(), pool, Usage(1, 30, 11))
    assert pool.left().tokens == 40


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=40))
def test_whatever_others_take_what_is_kept_can_be_taken(steps: list[tuple[int, int]]) -> None:
    pool = Ledger(Caps(calls=20))
    ledgers = [Ledger(Caps(), pool, Usage(calls=floor)) for floor in (0, 2, 3, 5)]
    for who, calls in steps:
        with contextlib.suppress(OverBudget):
            ledgers[who].settle(ledgers[who].reserve(Usage(calls=calls)), Usage(calls=calls))
    for ledger in ledgers[1:]:
        assert ledger.sure().calls == max(ledger.floor.calls - ledger.spent.calls, 0)
    for ledger in ledgers[1:]:
        ledger.reserve(Usage(calls=ledger.sure().calls or 0))
    assert pool.spent.calls + pool.reserved.calls <= 20


@pytest.mark.parametrize("caps", [Caps(usd=1.0), Caps(tokens=100)])
def test_where_a_reply_passed_a_cap_the_ledger_says_by_how_much_and_lets_not_even_a_free_call_through(
    caps: Caps,
) -> None:
    ledger = Ledger(caps)
    child = Ledger(Caps(), parent=ledger)
    ledger.settle(ledger.reserve(Usage(1, 10, 10, 0.5)), Usage(1, 10, 80, 0.9))
    assert ledger.passed() == child.passed() == ""
    ledger.settle(ledger.reserve(Usage(1, 5, 5, 0.1)), Usage(1, 10, 50, 1.35))
    told = "of $1.00 was passed by $1.25, to $2.25" if caps.usd else "of 100 tokens was passed by 50 tokens"
    for one in (ledger, child):
        assert told in one.passed() and "no more calls are made" in one.passed()
        assert (one.left().usd, one.left().tokens) == ((0, None) if caps.usd else (None, 0))
        with pytest.raises(OverBudget, match="was not made: the cap of") as refused:
            one.reserve(Usage(1))
        assert told in str(refused.value)
