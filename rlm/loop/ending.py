"""How a conversation that reached a limit ends: with the answer that its code had set, or with one last call."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

from index_store.types import Json
from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.gateway.blocks import Block
from rlm.gateway.tokens import count_tokens
from rlm.loop.cells import run_cell
from rlm.loop.checks import Refused
from rlm.loop.conversation import Conversation
from rlm.loop.opening import WHOLE_BYTES
from rlm.loop.single import Passages, answer_once, retrieved_text
from rlm.loop.verbs import Entry, Verbs
from rlm.loop.visits import record_visit

#: A cell that hands over whatever the code had set as its answer.
TAKE_DRAFT = 'answer = {**(answer if isinstance(answer, dict) else {"content": answer}), "ready": True}'


async def take_draft(talk: Conversation, stop: str) -> None:
    """Take what the code had set as its answer, ready or not, as the draft; nothing where the sandbox has ended."""
    talk.calls.stop()
    if talk.session.ended or not talk.drafting:
        return
    talk.run.journal.note(talk.id, f"stopped by {stop}: the answer is taken as the code had left it")
    talk.draft, talk.cited = (await run_cell(talk, TAKE_DRAFT)).answer or {}, None


#: A printed line shorter than this may stand in a text by chance; so many lines are looked at.
LINE_CHARS, LINES = 12, 1_000
KEPT_BACK = "the call kept back for it answers from what was read"
NO_EVIDENCE = (
    "nothing was read and a search found nothing: there is no evidence to answer from, and no call was made"
)


async def last_words(talk: Conversation, question: str, stop: str, error: str, tokens: int) -> Conclusion:
    """An answer from what the cells printed and the passages they saw, by the one call that was set aside for this.

    Where they saw none, the run makes one search by itself; where that finds nothing, no call is made. `stop`, `error`:
    why the conversation ended. `tokens`: of the evidence, about.
    """
    run = talk.run
    evidence = await asyncio.to_thread(_evidence, talk, question, tokens)
    if not evidence:
        await run.budget.release_last()
        run.journal.note(talk.id, f"stopped by {stop}: {NO_EVIDENCE}")
        return run.conclude(talk.id, "", (), stop, ". ".join(filter(None, (error, NO_EVIDENCE))))
    run.journal.note(talk.id, f"stopped by {stop}: {KEPT_BACK}")
    ended = await answer_once(run, question, Passages(tuple(evidence), {}), run.budget.take_last(), stop)
    return replace(ended, error=ended.error or error)


def _evidence(talk: Conversation, question: str, tokens: int) -> list[Block]:
    """The passages that the cells saw, or else one search finds, and what the cells printed, with about `tokens`
    together; [] where there is no passage at all."""
    run, outputs = talk.run, list(_outputs(talk))
    verbs = Verbs(
        run.index_for(talk.id),
        partial(record_visit, run, talk.id, lambda: talk.cell, by="run"),
        scope=run.view.scope,
    )
    printed = "\n".join(block.text for block in outputs)
    unprinted = [block for block in _passages(talk, verbs) if block.text.strip() not in printed]
    has_read = bool(talk.seen) or (run.index.is_plain and _hold_text(outputs, verbs))
    shown = list(_fitting(talk, outputs, tokens // 2 if unprinted or not has_read else tokens))
    left = tokens - sum(_size(talk, block) for block in shown)
    if has_read:
        return [*_fitting(talk, unprinted, left), *reversed(shown)]
    try:
        found = retrieved_text(run, verbs, question, left).blocks
    except Refused:
        found = ()
    return [*found, *reversed(shown)] if found else []


def _hold_text(outputs: list[Block], verbs: Verbs) -> bool:
    """Whether a line that was printed stands in the text, which code may hold whole and read without a verb."""
    if verbs.view.bytes > WHOLE_BYTES:
        return False
    whole = verbs.view.text(0, verbs.view.chars)
    lines = (line.strip() for block in outputs for line in block.text.split("\n"))
    return any(len(line) >= LINE_CHARS and line in whole for line in islice(lines, LINES))


def _outputs(talk: Conversation) -> Iterator[Block]:
    """What each cell printed, the newest first."""
    for number, past in reversed(list(enumerate(talk.calls.past, 1))):
        if past.output and past.status != "rejected":
            yield Block(f"output of cell {number}", past.output)


def _passages(talk: Conversation, verbs: Verbs) -> Iterator[Block]:
    """The passages that verbs have shown, each once, those shown last first."""
    return map(verbs.block, verbs.passages([_place(entry) for entry in reversed(talk.seen)]))


def _place(entry: Entry) -> Json:
    """Where a passage is: a chunk's id, or of a span its document and characters."""
    return entry["node"] or {name: entry[name] for name in ("doc", "start", "end")}


def _fitting(talk: Conversation, blocks: list[Block], tokens: int) -> Iterator[Block]:
    """As many of the first blocks as have `tokens` together at most; the first is cut to fit."""
    for number, block in enumerate(blocks):
        if number == 0 and _size(talk, block) > tokens:
            block = Block(block.name, block.text[: max(tokens, 1) * 2])
        tokens -= _size(talk, block)
        if tokens < 0 and number:
            return
        yield block


def _size(talk: Conversation, block: Block) -> int:
    return count_tokens(talk.run.models.root, block.text) + prompts.MARK_TOKENS
