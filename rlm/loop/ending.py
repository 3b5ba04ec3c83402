"""How a conversation that reached a limit ends: with the answer that its code had set, or with one last call."""

from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.gateway.blocks import Block
from rlm.gateway.ledger import Reservation
from rlm.gateway.tokens import count_tokens
from rlm.loop.cells import run_cell
from rlm.loop.conversation import Conversation
from rlm.loop.single import Passages, answer_once

#: A cell that hands over whatever the code had set as its answer.
TAKE_DRAFT = 'answer = {**(answer if isinstance(answer, dict) else {"content": answer}), "ready": True}'


async def take_draft(talk: Conversation, stop: str) -> None:
    """Take what the code had set as its answer, ready or not, as the draft; nothing where the sandbox has ended."""
    talk.calls.stop()
    if talk.session.ended or not talk.drafting:
        return
    talk.run.journal.note(talk.id, f"stopped by {stop}: the answer is taken as the code had left it")
    talk.draft, talk.cited = (await run_cell(talk, TAKE_DRAFT)).answer or {}, None


async def last_words(talk: Conversation, question: str, stop: str, reservation: Reservation) -> Conclusion:
    """An answer from what the cells printed, by the one call that was set aside for this.

    As many outputs go into it as fit, the newest before older ones, in the order of the cells. `stop`: why the
    conversation ended.
    """
    run, blocks = talk.run, list[Block]()
    run.journal.note(talk.id, f"stopped by {stop}: the call kept back for it answers from what was printed")
    model, left = run.models.root, reservation.worst.prompt_tokens // 2
    for number, past in reversed(list(enumerate(talk.calls.past, 1))):
        block = Block(f"output of cell {number}", past.output)
        left -= count_tokens(model, block.text) + prompts.MARK_TOKENS
        if left < 0:
            break
        blocks.append(block)
    return await answer_once(run, question, Passages(tuple(reversed(blocks)), {}), reservation, stop)
