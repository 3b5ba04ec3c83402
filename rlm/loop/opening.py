"""Open a conversation: verbs over its view, a sandbox that can call nothing else, and the first messages."""

from functools import partial

from index_store.types import Json
from rlm import prompts
from rlm.gateway.types import Message
from rlm.loop.calls import Calls, Descend
from rlm.loop.cells import CALLS, record_scan, record_visit, run_cell, serving
from rlm.loop.conversation import Conversation
from rlm.loop.marking import own_words
from rlm.loop.run import Run
from rlm.loop.verbs import Verbs
from rlm.sandbox import SandboxLimits, open_session

#: A note in the trace.
GIVEN_WHOLE = "the text is given to the worker whole: what its code reads of it without a verb is no visit"
#: A cell that runs before a next question, so that nothing of the last answer is in the next.
NO_DRAFT = 'answer = {"content": "", "citations": [], "ready": False}'


def open_conversation(
    run: Run, question: str, under: str | None, id: str, depth: int, descend: Descend
) -> Conversation:
    """A new conversation about `question`, over the branch below `under` or the whole index.

    `descend` runs its children. Raises NoSuchNode where the index has no node `under`.
    """

    def cell_now() -> int:
        return talk.cell

    def serve(name: str, args: list[Json], kwargs: dict[str, Json]) -> Json:
        record_scan(talk)
        return answer(name, args, kwargs)

    verbs = Verbs(run.index, partial(record_visit, run, id, cell_now), under)
    calls = Calls(run, verbs, id, depth, descend, cell_now, [own_words(question)])
    answer, intro = serving(verbs, calls, lambda: session.clock), verbs.view.intro()
    if "context_text" in intro:
        run.journal.note(id, GIVEN_WHOLE)
        run.journal.flag(id, "context", verbs.view.passages())
    limits = SandboxLimits(cell_timeout_s=run.limits.cell_timeout_s, output_chars=run.limits.output_chars)
    session = open_session(serve, CALLS, limits, intro=intro, backend=run.limits.backend)
    talk = Conversation(run, id, depth, calls, session, _first_messages(run, verbs, question))
    return talk


def _first_messages(run: Run, verbs: Verbs, question: str) -> list[Message]:
    view, demands = verbs.view, run.demands
    demanded = prompts.demanded(demands.citations, demands.schema, prompts.TYPED_CELL)
    text = prompts.opening(question, len(view.documents), view.size, view.chars, view.under)
    return [
        {"role": "system", "content": prompts.system(run.models.root) + demanded},
        {"role": "user", "content": text},
    ]


async def resume(talk: Conversation, text: str) -> None:
    """Go on, after an answer or a limit, with the next question in `text`; all variables stay, except `answer`."""
    talk.calls.resume()
    talk.drafting = False
    talk.calls.written.append(text)  # a person's words, not a document's
    await run_cell(talk, NO_DRAFT)
    if talk.messages[-1]["role"] == "assistant":
        talk.end_turn(text, "answered")
        return
    last = talk.messages.pop()
    talk.recorded = min(talk.recorded, len(talk.messages))
    talk.messages.append({"role": "user", "content": f"{last['content']}\n\n{text}"})
