"""How a conversation ends that met a limit: with the answer that its code had set, or with one last call."""

from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.gateway.blocks import Block
from rlm.gateway.ledger import Reservation
from rlm.gateway.tokens import count_tokens
from rlm.loop.cells import run_cell
from rlm.loop.conversation import Conversation
from rlm.loop.single import Passages, answer_once

#: Hands over whatever the code had set as its answer by then.
TAKE_DRAFT = 'answer = {**(answer if isinstance(answer, dict) else {"content": answer}), "ready": True}'


async def take_draft(talk: Conversation, stop: str) -> None:
    """The answer as far as the code had set it, ready or not, if its variables still stand."""
    talk.calls.stop()
    if talk.session.ended or not talk.drafting:
        return
    talk.run.journal.note(talk.id, f"stopped by {stop}: the answer is taken as the code had left it")
    talk.draft, talk.cited = (await run_cell(talk, TAKE_DRAFT)).answer or {}, None


async def last_words(talk: Conversation, question: str, stop: str, held: Reservation) -> Conclusion:
    """The call that was set aside for this: an answer from what the cells had printed, the newest first."""
    run, blocks = talk.run, list[Block]()
    run.journal.note(talk.id, f"stopped by {stop}: the call kept back for it answers from what was printed")
    model, left = run.models.root, held.worst.prompt_tokens // 2
    for number, past in reversed(list(enumerate(talk.calls.past, 1))):
        block = Block(f"output of cell {number}", past.output)
        left -= count_tokens(model, block.text) + prompts.MARK_TOKENS
        if left < 0:
            break
        blocks.append(block)
    return await answer_once(run, question, Passages(tuple(reversed(blocks)), {}), held, stop)
