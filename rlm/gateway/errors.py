"""Errors of a model call, and the base of all errors of package `rlm`."""

from rlm.gateway.purse import PURSE
from rlm.gateway.redaction import redacted
from rlm.gateway.types import Usage


class RlmError(Exception):
    """Whatever package `rlm` raises of its own; `str()` is one sentence: what is wrong, and what to do.

    It stands here because the gateway imports no other part of `rlm`; `rlm.errors` is where others take it from.
    """


class GatewayError(RlmError):
    """A model call that was not made or failed. `usage` is what its failed attempts charged to the ledger.

    Its message holds no key, whatever a server had sent back: see `redacted`.
    """

    usage: Usage = Usage()

    def __init__(self, message: str = "") -> None:
        super().__init__(redacted(message))


class UnknownModel(GatewayError):
    """No provider serves a model of this name."""


class MissingKey(GatewayError):
    """The model's provider needs a key or an address that the environment does not hold."""


class Unpriced(GatewayError):
    """A dollar cap is set and the model has no known price, so the cap could not be kept."""


class BadCap(GatewayError, ValueError):
    """A cap that is no number of at least 0."""


class OverBudget(GatewayError):
    """The most this call can cost does not fit in what is left under a cap. The call was not made.

    `cap` is the cap's name ("usd", "tokens" or "calls"; "purse" for dollars of a purse); `asked` and `left` are in its
    unit.
    """

    def __init__(self, message: str, cap: str, asked: float, left: float) -> None:
        super().__init__(message)
        self.cap = cap
        self.asked = asked
        self.left = left

    @property
    def told(self) -> str:
        """What is told with an answer: why a purse refused, since the limits of the run do not say so; else ''."""
        return str(self) if self.cap == PURSE else ""


class CallFailed(GatewayError):
    """The request cannot be sent, the provider refused it, or no reply came within the attempts and the deadline."""
