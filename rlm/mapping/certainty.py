"""How sure a map is: what two readings of a row agree on, and the noise of counts."""

from rlm.mapping.types import Count, Mapped, Value


def count_values(mapped: Mapped, name: str) -> dict[Value, Count]:
    """How many rows have each value of a field, the most frequent first."""
    raise NotImplementedError
