"""Money that several processes spend from: what a ledger asks before a call, besides its own caps."""

from typing import Protocol


class Purse(Protocol):
    """A ceiling in dollars that holds over all processes which pay from it. Its methods may wait: call them off the
    event loop.

    `reserve` before a call, then once `settle` (with what it cost) or `release`. A reservation whose process has died
    ends with its lease, and is then counted as spent, as the call may have been billed.
    """

    def reserve(self, usd: float) -> str:
        """Set dollars aside, and give the reservation's id. Raises OverBudget where they do not fit."""
        ...

    def settle(self, reservation: str, usd: float) -> None:
        """Close a reservation, and enter what the call cost, even where that is more."""
        ...

    def release(self, reservation: str) -> None:
        """Close the reservation of a call that cost nothing."""
        ...

    def left(self) -> float:
        """Dollars that may still be reserved."""
        ...
