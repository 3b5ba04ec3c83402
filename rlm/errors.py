"""The one base of what package `rlm` raises: errors of a run, of its sandbox, of its traces and of model calls."""

from rlm.gateway.errors import RlmError

__all__ = ["RlmError"]
