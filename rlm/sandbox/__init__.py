"""Where model-written code runs: confined by the kernel, one process a session, every effect a call to the
parent."""

from .session import Session, layers, open_session
from .types import CallRefused, CellResult, SandboxLimits, SandboxUnavailable

__all__ = [
    "CallRefused",
    "CellResult",
    "SandboxLimits",
    "SandboxUnavailable",
    "Session",
    "layers",
    "open_session",
]
