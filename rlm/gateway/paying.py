"""Pay for calls: from a ledger and, where it has one, from its purse; from both, or from neither.

A purse waits for a database, so it is asked in a thread, and to the end, even where whoever asked is cancelled: what
was set aside for a call that is not made is given back.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from rlm.gateway.errors import OverBudget
from rlm.gateway.ledger import Ledger, Reservation, pico_of
from rlm.gateway.types import Usage

#: Threads of their own: those of the event loop may all be busy with what waits for a call.
_THREADS = ThreadPoolExecutor(4, thread_name_prefix="rlm-purse")


async def reserve_all(ledger: Ledger, worsts: Sequence[Usage]) -> list[Reservation]:
    """Set aside what each of several calls needs: all, or none. Raises OverBudget where they do not fit."""
    made = ledger.reserve_all(worsts)
    purse, amounts = ledger.purse, {one.id: one.pico for one in made if one.pico}
    if purse is None or not amounts:
        return made
    try:
        await _to_the_end(lambda: purse.reserve(amounts))
    except BaseException as error:
        for one in made:
            ledger.release(one)
        if not isinstance(error, OverBudget):  # of these nobody knows whether they were made
            await _to_the_end(lambda: purse.release([*amounts]))
        raise
    return made


async def exchange(ledger: Ledger, held: Reservation, worst: Usage) -> Reservation:
    """Turn a reservation into one for `worst`, at once. Raises OverBudget, keeping `held`, where that does not fit."""
    made, purse = ledger.exchange(held, worst), ledger.purse
    if purse is None or made.pico == held.pico:
        return made
    try:
        await _to_the_end(lambda: purse.exchange(made.id, made.pico))
    except BaseException:
        ledger.undo(made, held)
        if not held.pico:  # nor will anybody else give back what may have been taken
            await _to_the_end(lambda: purse.release([held.id]))
        raise
    return made


async def settle(ledger: Ledger, reservation: Reservation, actual: Usage) -> None:
    """Close a reservation and enter what the call used, even if that is more than was reserved."""
    ledger.settle(reservation, actual)
    purse, pico = ledger.purse, pico_of(actual.usd)
    if purse is not None and (reservation.pico or pico):
        await _to_the_end(lambda: purse.settle(reservation.id, pico))


async def release(ledger: Ledger, reservations: Sequence[Reservation]) -> None:
    """Close those of the reservations that are open: their calls used nothing."""
    still = [one for one in reservations if ledger.holds(one)]
    for one in still:
        ledger.release(one)
    purse, ids = ledger.purse, [one.id for one in still if one.pico]
    if purse is not None and ids:
        await _to_the_end(lambda: purse.release(ids))


async def _to_the_end(work: Callable[[], None]) -> None:
    """Do blocking work in a thread. Cancelled, this waits until it is done, and then raises CancelledError."""
    doing = asyncio.get_running_loop().run_in_executor(_THREADS, work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([doing])
        doing.exception()  # nobody waits for it any more
        raise
