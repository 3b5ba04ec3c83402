"""Several processes pay from one key, and never more than it may spend."""

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from sqlalchemy import Connection

from rlm.gateway import paying
from rlm.gateway.errors import CallFailed, OverBudget, Unpriced
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.types import Usage
from rlm.serving.state.database import Database
from rlm.serving.state.leases import locked
from tests.helpers.gateway_calls import about, run
from tests.helpers.model_server import ModelServer, Step
from tests.helpers.paying import (
    BILLED,
    CALL,
    SAID,
    clients,
    ended,
    forked,
    gateway_of,
    key_of,
    purse_of,
)
from tests.rlm.serving.state.conftest import Opens

CENT = 10**10
PATIENCE_S = 120.0


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds; only a failing test waits long."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def sums(database: Database) -> tuple[float, float]:
    """Dollars that the first key has spent and reserved today."""
    key = database.list_keys()[0]
    return key.spent_usd, key.reserved_usd


@pytest.mark.slow
def test_two_processes_with_64_clients_spend_a_dollar_and_no_more(
    opens: Opens, url: str, server: ModelServer
) -> None:
    database = opens()
    grant = key_of(database, usd=1.0)
    worst = Gateway(Ledger()).worst(CALL).usd
    pids = [forked(partial(clients, url, grant, 32)) for _ in range(2)]
    assert [ended(pid) for pid in pids] == [0, 0]
    spent, reserved = sums(database)
    assert spent == about(server.calls * BILLED) and spent <= 1.0
    # The last call that was refused was so with no other under way.
    assert spent + worst > 1.0 and reserved == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_process_that_is_killed_leaves_no_reservation_and_nothing_uncounted(
    opens: Opens, url: str, server: ModelServer, seed: int
) -> None:
    database = opens()
    grant, chance = key_of(database, usd=1000.0), random.Random(seed)
    server._script = lambda body: Step(SAID.text, usage=SAID.usage, delay_s=chance.random() / 100)
    pid = forked(partial(clients, url, grant, 8))
    eventually(lambda: server.calls > 10)
    time.sleep(chance.random() / 5)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    later = opens(clock=lambda: time.time() + 61)
    spent, reserved = sums(later)
    assert reserved == 0
    assert spent >= server.calls * BILLED - 1e-9
    assert spent <= server.calls * BILLED + 8 * Gateway(Ledger()).worst(CALL).usd


def test_the_reservations_of_a_process_that_lives_are_renewed_and_those_of_a_dead_one_spent(
    opens: Opens,
) -> None:
    now = [1e9]
    database, other = opens(lease_s=0.3, clock=lambda: now[0]), opens(clock=lambda: now[0])
    grant = key_of(database)
    purse_of(database, grant).reserve({"a": 30 * CENT})
    for _ in range(5):
        now[0] += 0.25
        reached = now[0] + 0.29

        def renewed(reached: float = reached) -> bool:
            ends = other.store.read(lambda c: c.exec_driver_sql("select ends from leases").scalar())
            return ends is not None and ends > reached

        eventually(renewed)
        assert sums(other) == (0, about(0.3))
    database.close()
    now[0] += 0.29
    assert sums(other) == (0, about(0.3))
    now[0] += 0.02
    with pytest.raises(OverBudget, match=r"more than the \$0\.7 left today of the daily ceiling of \$1\.00"):
        purse_of(other, grant).reserve({"b": 71 * CENT})
    assert sums(other) == (about(0.3), 0)


def test_a_call_that_ends_after_its_lease_is_counted_at_its_cost(opens: Opens) -> None:
    now = [1e9]
    database = opens(clock=lambda: now[0])
    grant = key_of(database)
    purse = purse_of(database, grant)
    purse.reserve({"a": 50 * CENT, "b": 20 * CENT, "c": 10 * CENT})
    now[0] += 61
    assert sums(database) == (about(0.8), 0)
    purse.settle("a", 2 * CENT)
    purse.settle("a", 2 * CENT)  # told twice, entered once
    purse.release(["b"])
    assert sums(database) == (about(0.12), 0)
    purse.exchange("c", 80 * CENT)
    assert sums(database) == (about(0.02), about(0.8))


def test_reserving_settling_and_renewing_at_once_loses_nothing(opens: Opens) -> None:
    databases = [opens(lease_s=0.1), opens(lease_s=0.1)]
    grant = key_of(databases[0], usd=None)

    def work(number: int) -> None:
        purse = purse_of(databases[number % 2], grant)
        for turn in range(10):
            ids = [f"{number}-{turn}-{n}" for n in range(3)]
            purse.reserve(dict.fromkeys(ids, 5 * CENT))
            purse.exchange(ids[2], 7 * CENT)
            purse.settle(ids[0], CENT)
            purse.settle(ids[2], 2 * CENT)
            purse.release(ids[1:2])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert sums(databases[0]) == (about(6 * 10 * 0.03), 0)


def test_a_batch_is_reserved_whole_or_not_at_all_and_is_given_back(opens: Opens, server: ModelServer) -> None:
    database = opens()
    purse = purse_of(database, key_of(database, usd=1.0))
    ledger = Ledger(purse=purse)

    async def calls() -> None:
        held = await paying.reserve_all(ledger, [Usage(1, usd=0.25)] * 4)
        assert purse.left() == 0 and ledger.left().usd == 0
        with pytest.raises(OverBudget, match="these 2 calls may need up to"):
            await paying.reserve_all(Ledger(parent=ledger), [Usage(1, usd=0.25)] * 2)
        made = await paying.exchange(ledger, held[0], Usage(1, usd=0.1))
        with pytest.raises(OverBudget):
            await paying.exchange(ledger, made, Usage(1, usd=0.3))
        assert ledger.holds(made)
        await paying.settle(ledger, made, Usage(1, usd=0.05))
        await paying.release(ledger, held)

    asyncio.run(calls())
    assert sums(database) == (about(0.05), 0)
    assert (ledger.spent.usd, ledger.reserved.usd) == (0.05, 0)


def test_a_ledgers_own_cap_and_the_keys_hold_together(opens: Opens, server: ModelServer) -> None:
    database = opens()
    purse = purse_of(database, key_of(database, usd=1.0))
    (refused,) = run(Gateway(Ledger(Caps(usd=0.001), purse=purse)), CALL)
    assert isinstance(refused, OverBudget) and refused.cap == "usd" and refused.told == ""
    purse.reserve({"others": 100 * CENT})
    ledger = Ledger(purse=purse)
    (refused,) = run(Gateway(ledger), CALL)
    assert isinstance(refused, OverBudget) and refused.cap == "purse"
    assert "daily ceiling of $1.00 of the key key 0" in refused.told
    assert (server.calls, ledger.reserved) == (0, Usage())


def test_a_model_without_a_price_is_not_paid_from_a_ceiling(opens: Opens, server: ModelServer) -> None:
    database = opens()
    purse, free = (purse_of(database, key_of(database, usd)) for usd in (1.0, None))
    unpriced = CALL.__class__("openai/unknown", CALL.messages, 10)
    (refused,) = run(Gateway(Ledger(purse=purse)), unpriced)
    assert isinstance(refused, Unpriced)
    (reply,) = run(Gateway(Ledger(purse=free)), unpriced)
    assert server.calls == 1, reply


def test_a_key_that_is_revoked_pays_no_more_and_what_is_under_way_is_counted(
    opens: Opens, server: ModelServer
) -> None:
    database = opens()
    grant = key_of(database)
    purse = purse_of(database, grant)
    purse.reserve({"a": CENT})
    database.revoke_key(grant.key)
    (refused,) = run(gateway_of(purse), CALL)
    assert isinstance(refused, CallFailed) and "the key key 0 was revoked" in str(refused)
    purse.settle("a", CENT)
    assert (server.calls, sums(database)) == (0, (about(0.01), 0))


def test_a_day_of_utc_is_over_at_midnight_and_a_call_counts_on_the_day_it_began(opens: Opens) -> None:
    midnight = 1_700_006_400.0  # 2023-11-15
    now = [midnight - 1]
    database = opens(clock=lambda: now[0])
    grant = key_of(database)
    purse = purse_of(database, grant)
    purse.reserve({"a": 60 * CENT})
    now[0] = midnight
    purse.reserve({"b": 100 * CENT})
    purse.settle("a", 50 * CENT)
    assert (purse.left(), sums(database)) == (0, (0, about(1.0)))


def test_more_than_was_reserved_is_entered_and_stops_the_key(opens: Opens) -> None:
    database = opens()
    purse = purse_of(database, key_of(database))
    purse.reserve({"a": CENT})
    purse.settle("a", 10**19)
    assert purse.left() == 0
    with pytest.raises(OverBudget):
        purse.reserve({"b": 1})


# -- a database that does not answer -----------------------------------------------------------------------


def test_while_the_database_is_busy_the_event_loop_goes_on_and_a_call_that_is_given_up_holds_nothing(
    opens: Opens, server: ModelServer
) -> None:
    database, other = opens(), opens()
    grant = key_of(database)
    purse = purse_of(database, grant)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        def busy(c: Connection) -> None:
            locked(c, grant.key)
            held.set()
            assert let_go.wait(PATIENCE_S)

        other.store.write(busy)

    async def given_up() -> None:
        async with gateway_of(purse) as gateway:
            calls = [asyncio.ensure_future(gateway.complete(CALL)) for _ in range(2)]
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert not any(call.done() for call in calls) and server.calls == 0
            calls[0].cancel()
            await asyncio.sleep(0.01)
            calls[0].cancel()
            asyncio.get_running_loop().call_later(0.02, let_go.set)
            replies = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(replies[0], asyncio.CancelledError)
            assert getattr(replies[1], "text", "") == SAID.text

    holding = threading.Thread(target=hold)
    holding.start()
    assert held.wait(PATIENCE_S)
    asyncio.run(given_up())
    holding.join()
    assert (server.calls, sums(database)) == (1, (about(BILLED), 0))
