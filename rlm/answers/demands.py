"""What an answer must satisfy before it is taken, and what the model is told where it does not."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlm.answers.citations import Citation
from rlm.answers.schema import schema_problem, typed
from rlm.errors import RlmError

Json = Any

#: With these words at its beginning, whatever follows, an answer says that the documents do not hold what was asked. It
#: needs no citation, and no schema is applied to it.
NOT_FOUND = "Not in these documents"
SHOWN = 5
QUOTE_CHARS = 120

_NOT_FOUND = re.compile(r"[\s\"'“‘*_>#]{0,20}not in these documents(?![\w'’-])(?![ \t]+\w)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Demands:
    """`citations`: what is said must be cited, and every citation must stand in the documents, word for word or nearly.
    `schema`: the answer must be a value that fits this JSON Schema (see `rlm.answers.schema`)."""

    citations: bool = False
    schema: Mapping[str, Json] | None = None

    def __post_init__(self) -> None:
        if self.schema is not None and (problem := schema_problem(self.schema)):
            raise RlmError(f"the schema is none that an answer can be held to: {problem}")


def is_not_found(content: Json) -> bool:
    """Whether an answer says "Not in these documents", alone or followed by a reason: "Not in these documents: they end
    in 2019." or "Not in these documents." """
    return isinstance(content, str) and _NOT_FOUND.match(content) is not None


def unmet(demands: Demands, content: Json, citations: Sequence[Citation]) -> str | None:
    """What an answer lacks, a line each, for the model; None where it lacks nothing."""
    return "\n".join([*_uncited(demands, content, citations), *_unfit(demands, content)]) or None


def _uncited(demands: Demands, content: Json, citations: Sequence[Citation]) -> Iterator[str]:
    if not demands.citations:
        return
    if unsupported := [c.quote for c in citations if c.supported == "unsupported"]:
        told = "; ".join(repr(quote[:QUOTE_CHARS]) for quote in unsupported[:SHOWN])
        yield (
            f"{len(unsupported)} of {len(citations)} quotes do not stand in the documents: {told}; "
            "copy the exact words, or leave them out."
        )
    elif not citations and not is_not_found(content):
        yield (
            "it cites nothing; quote the exact words of the documents that carry it, or, if they do not hold the "
            f'answer, begin it with "{NOT_FOUND}".'
        )


def _unfit(demands: Demands, content: Json) -> Iterator[str]:
    if demands.schema is None or is_not_found(content):
        return
    _, errors = typed(content, demands.schema)
    if errors:
        yield f"it does not fit the schema: {'; '.join(errors)}"
