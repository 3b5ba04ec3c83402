"""How many cases a test plays: some in every run, more where THOROUGH is set, as `make thorough` sets it."""

import os
from typing import TypeVar

T = TypeVar("T")


def cases(usual: T, thorough: T) -> T:
    """One of two numbers of random cases, kills or bits, or of what says which. The usual one must hold the same class
    of fault."""
    return thorough if os.environ.get("THOROUGH") else usual
