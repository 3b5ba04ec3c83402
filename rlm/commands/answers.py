"""An answer as a person at a terminal reads it."""

from collections.abc import Iterator

from index_store.terminal import count, one_line, spelled
from rlm.answers.citations import Citation
from rlm.answers.demands import is_not_found
from rlm.asking.asking import Answer
from rlm.audit import read
from rlm.audit.routing import branches
from rlm.audit.timeline import branch_line
from rlm.gateway.types import Usage

#: The exit code where a limit left no answer, or the answer lacks what was demanded of it.
UNFINISHED = 3
BRANCHES = 12  # of the branches entered, how many are shown at most


def exit_code(answer: Answer) -> int:
    """The exit code of `rlm ask`: 0 for an answer that satisfies what was demanded, else UNFINISHED."""
    return 0 if answer.content and answer.stop != "unmet" else UNFINISHED


def as_text(answer: Answer) -> str:
    """The answer, its citations, the branches entered, why it ended, what it cost, and where its trace is."""
    return "\n".join(_lines(answer))


def _lines(answer: Answer) -> Iterator[str]:
    yield answer.content or f"(no answer: stopped by {answer.stop})"
    if answer.why:
        yield f"({answer.why})"
    yield ""
    yield from (_citation(number, c) for number, c in enumerate(answer.citations, 1))
    if answer.stop == "unmet":
        yield "(not accepted: it lacks what was demanded of it)"
    elif answer.content and not answer.citations and not is_not_found(answer.content):
        yield "(no citations: nothing of this was looked up in the documents)"
    if entered := [branch for branch in branches(read(answer.trace)[0]) if branch.level]:
        yield from ("", "branches entered:", *(f"  {branch_line(branch)}" for branch in entered[:BRANCHES]))
    yield ""
    if answer.read_by:
        yield f"read by: {answer.read_by}; sentences of the documents, chosen by rules"
    yield from (f"warning: {warning}" for warning in answer.warnings)
    usage = answer.usage
    yield f"stop: {answer.stop}; {count(usage.calls, 'call')}, {usage.tokens:,} tokens, {dollars(answer)}"
    yield f"trace: {spelled(str(answer.trace))}"
    yield f"head:  {answer.head}"


def dollars(answer: Answer) -> str:
    """The cost of an answer as text, or that the price of a model is not known."""
    return f"${answer.usage.usd:.4f}" if answer.priced else "price unknown"


def amounts(usage: Usage, priced: bool) -> str:
    """What was used, as text."""
    usd = f"${usage.usd:.4f}" if priced else "price unknown"
    return f"{usd}, {usage.tokens:,} tokens, {count(usage.calls, 'call')}"


def _citation(number: int, citation: Citation) -> str:
    page = f", page {citation.page}" if citation.page else ""
    span = f"{citation.start}-{citation.end}{page}"
    place = f"{one_line(citation.doc, 200)} {span}" if citation.doc else "not in the source"
    near = f"nearest, {citation.similarity:.2f} alike"
    support = near if citation.supported == "nearest" else citation.supported
    return f'[{number}] {place} ({support}): "{one_line(citation.quote, 240)}"'
