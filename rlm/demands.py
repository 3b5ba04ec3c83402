"""What an answer must satisfy before it is taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlm.answer import Citation

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Demands:
    """`citations`: an answer cites, and all it cites stands in the documents. `schema`: a JSON Schema it must fit."""

    citations: bool = False
    schema: Mapping[str, Any] | None = None


def unmet(demands: Demands, content: str, citations: Sequence[Citation]) -> str | None:
    """What an answer lacks, for the model that gave it; None when it is to be taken."""
    if not demands.citations:
        return None
    wrong = [c.quote for c in citations if c.supported == "unsupported"]
    if wrong:
        shown = "; ".join(repr(quote[:100]) for quote in wrong[:_SHOWN])
        return f"{len(wrong)} of {len(citations)} quotes do not stand in the documents: {shown}; copy the exact words."
    return None if citations else "it cites nothing; quote the exact words of the documents that carry it."
