"""Open a conversation: verbs over its view, a sandbox that can call nothing else, and the first messages."""

from collections.abc import Sequence

from index_store.types import Json
from index_store.view import View
from rlm import prompts
from rlm.gateway.types import Message
from rlm.loop.calls import Calls, Descend
from rlm.loop.cells import CALLS, record_scan, run_cell, serving
from rlm.loop.conversation import Conversation
from rlm.loop.marking import own_words
from rlm.loop.run import Run
from rlm.loop.verbs import Verbs, Visit
from rlm.loop.visits import record_visit
from rlm.sandbox import SandboxLimits, Session, open_session
from rlm.sandbox.types import Serve

#: A note in the trace.
GIVEN_WHOLE = "the text is given to the worker whole: what its code reads of it without a verb is no visit"
#: A longer text is not sent to a worker whole. As JSON, where a byte becomes six at most, this much fits into one frame
#: and leaves the worker's code memory to work in.
WHOLE_BYTES = 10 << 20
#: A cell that runs before a next question, so that nothing of the last answer is in the next.
NO_DRAFT = 'answer = {"content": "", "citations": [], "ready": False}'


def open_conversation(
    run: Run, question: str, under: str | None, id: str, depth: int, descend: Descend
) -> Conversation:
    """A new conversation about `question`, over the branch below `under` or the whole index.

    `descend` runs its children. Raises NoSuchNode where the index has no node `under`.
    """
    limits = SandboxLimits(cell_timeout_s=run.limits.cell_timeout_s, output_chars=run.limits.output_chars)
    talk = begin(run, under, id, depth, descend, limits, [own_words(question)])
    talk.messages = _first_messages(run, talk.calls.verbs, question)
    return talk


def begin(
    run: Run,
    under: str | None,
    id: str,
    depth: int,
    descend: Descend,
    limits: SandboxLimits,
    written: Sequence[str] = (),
) -> Conversation:
    """A conversation in which nothing was said: verbs, calls and a sandbox under `limits`, all of it recorded.

    `written`: words that are the conversation's own.
    """

    def cell_now() -> int:
        return talk.cell

    def serve(name: str, args: list[Json], kwargs: dict[str, Json]) -> Json:
        record_scan(talk)
        return answer(name, args, kwargs)

    def opening(serve: Serve, limits: SandboxLimits) -> Session:
        return open_session(serve, CALLS, limits, intro=intro, backend=run.limits.backend)

    def record(visit: Visit) -> None:
        record_visit(run, id, cell_now, visit)
        talk.seen.extend(entry for entry in visit.shown if not entry["level"])
        talk.cuts += [visit.cut] if visit.cut else []

    verbs = Verbs(run.index_for(id), record, under, run.view.scope)
    calls = Calls(run, verbs, id, depth, descend, cell_now, [*written])
    answer, intro = serving(verbs, calls, lambda: session.clock), worker_intro(verbs.view)
    if "context_text" in intro:
        run.journal.note(id, GIVEN_WHOLE)
        run.journal.flag(id, "context", verbs.view.passages())
    session = run.sandbox(id, opening, serve, limits)
    talk = Conversation(run, id, depth, calls, session, [])
    return talk


def worker_intro(view: View) -> dict[str, Json]:
    """What a worker is sent at its start: {"context_text"} of a plain text that fits, else {"context_length"}."""
    if not view.index.is_plain or view.bytes > WHOLE_BYTES:
        return {"context_length": view.chars}
    return {"context_text": view.text(0, view.chars)}


def _first_messages(run: Run, verbs: Verbs, question: str) -> list[Message]:
    view, demands = verbs.view, run.demands
    demanded = prompts.demanded(demands.citations, demands.schema, prompts.TYPED_CELL)
    where = prompts.where(view.under, view.scope)
    text = prompts.opening(question, where, len(view.documents), view.size, view.chars) + run.told
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
