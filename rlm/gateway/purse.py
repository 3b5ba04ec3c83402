"""Money that several processes spend from: what is asked before a call, besides the caps of its ledger.

Amounts are whole picodollars, as in the ledger, and a reservation bears the id that the ledger gave it. So one that was
asked for, and whose answer got lost on the way, can still be given back.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

#: The name of this cap in OverBudget, beside those of a ledger.
PURSE = "purse"


class Purse(Protocol):
    """A ceiling in dollars that holds over all processes which pay from it. All but `left` may wait: call them off the
    event loop.

    A reservation is made by `reserve`, and closed once, by `settle` or `release`; one whose process has died ends with
    its lease, and is then counted as spent, as the call may have been billed. `key`: whose money it is, as the trace of
    a run that is paid from it says.
    """

    key: str

    def reserve(self, amounts: Mapping[str, int]) -> None:
        """Set picodollars aside, by the ids of reservations: all, or none.

        Raises OverBudget, of the cap PURSE, where they do not fit, and another GatewayError where nobody can say so.
        """
        ...

    def exchange(self, reservation: str, pico: int) -> None:
        """Make a reservation one of so much, at once. Raises as `reserve`, and leaves it as it was."""
        ...

    def settle(self, reservation: str, pico: int) -> None:
        """Close a reservation, and enter what the call cost, even where that is more. It does not fail: what cannot be
        entered now is entered as soon as it can be, and until then stays reserved."""
        ...

    def release(self, reservations: Sequence[str]) -> None:
        """Close the reservations of calls that cost nothing, those that were never made among them. Fails as little."""
        ...

    def left(self) -> int | None:
        """Picodollars that could be reserved when it was last asked; None for no ceiling. It does not wait."""
        ...
