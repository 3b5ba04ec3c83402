"""The fields of a row: what a caller writes for them, and what a value must be."""

from collections.abc import Mapping

from index_store.types import Json
from rlm.mapping.types import Field


def parse_fields(given: Mapping[str, Json]) -> tuple[Field, ...]:
    """The fields that a mapping of name to spec stands for. Raises MappingError, in one sentence, for what is none."""
    raise NotImplementedError
