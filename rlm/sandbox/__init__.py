"""Where model-written code runs: confined by the kernel, one process a session, every effect a call to the
parent."""

from rlm.sandbox.opening import AUTO, BACKENDS, choices, chosen, layers, open_session
from rlm.sandbox.types import CallRefused, CellResult, SandboxLimits, SandboxUnavailable, Session

__all__ = [
    "AUTO",
    "BACKENDS",
    "CallRefused",
    "CellResult",
    "SandboxLimits",
    "SandboxUnavailable",
    "Session",
    "choices",
    "chosen",
    "layers",
    "open_session",
]
