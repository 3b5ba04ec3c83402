"""An answer as a person at a terminal reads it."""

from collections.abc import Iterator

from index_store.terminal import count, one_line, spelled
from rlm.answers.citations import Citation
from rlm.answers.demands import is_not_found
from rlm.asking.asking import Answer
from rlm.audit import read
from rlm.audit.claims import Claim, differences, in_words, marked, tally
from rlm.audit.pairs import pairs_of
from rlm.audit.timeline import READER_DOES, branch_line
from rlm.gateway.types import Usage

#: The exit code where a limit left no answer, the answer lacks what was demanded of it, or a trace has no end.
UNFINISHED = 3
QUOTE_CHARS = 240  # of a quote that are shown
BRANCHES = 12  # of the branches entered, how many are shown at most


def exit_code(answer: Answer) -> int:
    """The exit code of `rlm ask`: 0 for an answer that satisfies what was demanded, else UNFINISHED."""
    return 0 if answer.content and answer.stop != "unmet" else UNFINISHED


def as_text(answer: Answer, *, goes_on: bool = False) -> str:
    """Why it is not accepted, if so; the answer, its citations, the branches entered, its end, cost and trace.

    `goes_on`: of a trace that is not closed yet no head is told, as none but the last can be verified.
    """
    lines = list(_lines(answer))
    return "\n".join(lines if goes_on else [*lines, f"head:  {answer.head}"])


def _lines(answer: Answer) -> Iterator[str]:
    claims = [Claim(c.supported, c.claimed or c.quote) for c in answer.citations]
    if answer.stop == "unmet":
        yield from (f"NOT ACCEPTED: {one_line(answer.lacks, 1_000)}", "")
    yield marked(answer.content, claims) or f"(no answer: stopped by {answer.stop})"
    if answer.why:
        yield f"({answer.why})"
    if claims:
        yield ""
        yield from (_citation(number, c) for number, c in enumerate(answer.citations, 1))
        yield tally(claims, answer.content)
    elif answer.content and answer.stop != "unmet" and not is_not_found(answer.content) and not _maps(answer):
        yield from ("", "(no citations: nothing of this was looked up in the documents)")
    pairs = pairs_of(read(answer.trace)[0])
    if entered := [branch for branch in (pairs[-1].branches if pairs else ()) if branch.level]:
        yield from ("", "branches entered:", *(f"  {branch_line(branch)}" for branch in entered[:BRANCHES]))
    yield ""
    if answer.read_by:
        yield f"read by: {answer.read_by}; {READER_DOES}"
    yield from (f"warning: {warning}" for warning in answer.warnings)
    usage = answer.usage
    calls, tokens = count(usage.calls, "call"), count(usage.tokens, "token")
    calls += f" and {answer.stored:,} from the store" * bool(answer.stored)
    tokens += f" ({answer.cached_tokens:,} of them cached)" * bool(answer.cached_tokens)
    yield f"stop: {answer.stop}; {calls}, {tokens}, {dollars(answer)}"
    yield f"trace: {spelled(str(answer.trace))}"


def _maps(answer: Answer) -> bool:
    """Whether every row was asked, so that an answer without citations was looked up all the same."""
    return any(event["kind"] == "map_returned" for event in read(answer.trace)[0])


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
    nowhere = f"node {citation.node}" if citation.supported == "summary" else "not in the source"
    place = f"{one_line(citation.doc, 200)} {span}" if citation.doc else nowhere
    near = f"nearest, {citation.similarity:.2f} alike"
    support = near if citation.supported == "nearest" else in_words(citation.supported)
    others = f"\n    also in: {one_line(', '.join(citation.also_in), 400)}" if citation.also_in else ""
    head, found = f"[{number}] {place} ({support}):", one_line(citation.quote, QUOTE_CHARS)
    if citation.supported != "nearest" or citation.claimed is None:
        return f'{head} "{found}"{others}'
    lines = [
        head,
        f'the answer:   "{one_line(citation.claimed, QUOTE_CHARS)}"',
        f'the document: "{found}"',
    ]
    if differs := differences(citation.claimed, citation.quote):
        lines.append(f"differs: {one_line(differs, QUOTE_CHARS)}")
    return "\n    ".join(lines) + others
