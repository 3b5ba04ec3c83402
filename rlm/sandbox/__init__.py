"""Where model-written code runs: confined by the kernel, one process a session, every effect a call to the
parent."""

from rlm.sandbox.opening import BACKENDS, layers, open_session
from rlm.sandbox.types import CallRefused, CellResult, SandboxLimits, SandboxUnavailable, Session

__all__ = [
    "BACKENDS",
    "CallRefused",
    "CellResult",
    "SandboxLimits",
    "SandboxUnavailable",
    "Session",
    "layers",
    "open_session",
]
