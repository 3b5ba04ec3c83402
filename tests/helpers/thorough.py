"""How many cases a test plays: some in every run, more where THOROUGH is set, as `make thorough` sets it."""

import os


def cases(usual: int, thorough: int) -> int:
    """One of two numbers of random cases, kills or bits. The usual one must hold the same class of fault."""
    return thorough if os.environ.get("THOROUGH") else usual
