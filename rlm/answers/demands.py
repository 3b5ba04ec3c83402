"""What an answer must satisfy before it is accepted, and the message to the model where it does not."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from index_store.arguments import check_fields
from index_store.terminal import count
from index_store.types import Json
from rlm.answers.citations import Citation
from rlm.answers.schema import schema_problem, typed
from rlm.audit.telling import DENIED, NUMBER
from rlm.errors import RlmError
from rlm.prompts import NOT_IN_DOCUMENTS, refusals

SHOWN = 5  # quotes that are not in the documents, named in one message
QUOTE_CHARS = 120  # of each of them

_NOT_IN_DOCUMENTS = re.compile(
    r"[\s\"'“‘*_>#]{0,20}not in these documents(?![\w'’-])(?![ \t]+\w)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Demands:
    """What an answer must satisfy; by default nothing.

    `citations`: it must have citations, and every quote must be in the documents, word for word or nearly, with
    the same numbers, and denied as often. `schema`: it must be a value that fits this JSON Schema (see
    `rlm.answers.schema`). Raises RlmError for a schema that cannot be used.
    """

    citations: bool = False
    schema: Mapping[str, Json] | None = None

    def __post_init__(self) -> None:
        check_fields(self, RlmError)
        if self.schema is not None and (problem := schema_problem(self.schema)):
            raise RlmError(f"the schema is none that an answer can be held to: {problem}")


def is_not_found(content: Json) -> bool:
    """Whether an answer says that the documents do not hold what was asked, alone or with a reason.

    Such an answer, "Not in these documents: they end in 2019.", needs no citation, and no schema is applied to it.
    """
    return isinstance(content, str) and _NOT_IN_DOCUMENTS.match(content) is not None


def unmet(demands: Demands, content: Json, citations: Sequence[Citation]) -> str | None:
    """What an answer lacks of what is demanded, a line each, as a message to the model; None if nothing."""
    return "\n".join([*_uncited(demands, content, citations), *_unfit(demands, content)]) or None


def _uncited(demands: Demands, content: Json, citations: Sequence[Citation]) -> Iterator[str]:
    if not demands.citations:
        return
    if unsupported := [c.claimed or c.quote for c in citations if not _stands(c)]:
        quotes = "; ".join(repr(quote[:QUOTE_CHARS]) for quote in unsupported[:SHOWN])
        counts = {"unsupported": len(unsupported), "quoted": count(len(citations), "quote")}
        stands = "does not stand" if len(unsupported) == 1 else "do not stand"
        yield refusals.UNSUPPORTED.format(**counts, stands=stands, quotes=quotes)
    elif not citations and not is_not_found(content):
        yield refusals.UNCITED.format(not_in_documents=NOT_IN_DOCUMENTS)


def _stands(citation: Citation) -> bool:
    """Whether the documents hold a quote; in other words only with its numbers, and denied as often."""
    in_document = citation.supported not in ("unsupported", "summary")
    if not in_document or citation.claimed is None:
        return in_document
    claimed, stands = citation.claimed, citation.quote
    numbers, there = (Counter(NUMBER.findall(text)) for text in (claimed, stands))
    return numbers <= there and len(DENIED.findall(claimed)) == len(DENIED.findall(stands))


def _unfit(demands: Demands, content: Json) -> Iterator[str]:
    if demands.schema is None or is_not_found(content):
        return
    _, errors = typed(content, demands.schema)
    if errors:
        yield refusals.UNFIT.format(errors="; ".join(errors))
