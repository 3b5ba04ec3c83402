"""Errors of a model call, worded for the person or the model that reads them."""

from rlm.gateway.types import Usage


class GatewayError(Exception):
    """A model call that did not happen or failed; `str()` is one sentence: what was found, what to do.

    `usage` is what attempts that failed charged to the ledger all the same.
    """

    usage: Usage = Usage()


class UnknownModel(GatewayError):
    """No provider answers to this model name."""


class MissingKey(GatewayError):
    """The model's provider needs a key or an address that the environment does not hold."""


class Unpriced(GatewayError):
    """A dollar cap is set and the model has no known price, so the cap could not be kept."""


class OverBudget(GatewayError):
    """The most this call can cost does not fit in what is left under a cap. The call was not made.

    `cap` is the cap's name ("usd", "tokens" or "calls"); `asked` and `left` are in its unit.
    """

    def __init__(self, message: str, cap: str, asked: float, left: float) -> None:
        super().__init__(message)
        self.cap = cap
        self.asked = asked
        self.left = left


class CallFailed(GatewayError):
    """The provider refused the call or could not be reached within the deadline."""


class BrokenCache(GatewayError):
    """The reply cache is not a file this package wrote, or it is damaged."""
