"""The loop: ask the model, run its code over the tree, show what came out, until it answers or a limit ends it."""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from index_store.terminal import one_line
from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.answers.demands import unmet
from rlm.gateway.blocks import Block
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.ledger import Reservation
from rlm.gateway.models import window
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Message, Reply
from rlm.loop.calls import Calls
from rlm.loop.cells import CALLS, record_scan, record_visit, run_cell, serving
from rlm.loop.context import GIVEN_WHOLE, Context
from rlm.loop.conversation import Conversation, Json, _say
from rlm.loop.finals import final_in, final_variable_in
from rlm.loop.history import UNKNOWN_WINDOW, put_away
from rlm.loop.marking import own_words
from rlm.loop.replies import code_of, hint, is_open
from rlm.loop.run import Run
from rlm.loop.single import Passages, answer_once
from rlm.sandbox import CellResult, SandboxLimits, open_session

#: Run when a limit ended a conversation: hands over whatever the code had set as its answer by then.
TAKE_DRAFT = 'answer = {**(answer if isinstance(answer, dict) else {"content": answer}), "ready": True}'
#: Run before a next question, whose answer must hold nothing of the last.
NO_DRAFT = 'answer = {"content": "", "citations": [], "ready": False}'
_LINE_CHARS = 100


async def converse(
    run: Run, question: str, under: str | None = None, id: str = "0", depth: int = 0
) -> Conclusion:
    """Answer `question` over the whole index, or the branch below `under`. A limit reached is a result.

    A child waits until there is room for one more sandbox at its depth.
    """
    async with run.room(depth):
        talk = open_conversation(run, question, under, id, depth)
        try:
            return await pursue(talk, question)
        finally:
            await close(talk)


async def pursue(talk: Conversation, question: str) -> Conclusion:
    """From the messages as they stand to an answer.

    Only the root watches the wall clock: its children are its cell's calls, and end with it.
    """
    run, talk.draft, talk.cited = talk.run, {}, None
    stop, error = await _until_the_end(talk, None if talk.depth else max(run.left_s, 0.001))
    if stop in ("turns", "budget", "timeout"):
        await _take_draft(talk, stop)
    content = str(talk.draft.get("content") or "")
    if not content and stop in ("turns", "budget") and run.last is not None:
        held, run.last = run.last, None
        return await _last_words(talk, question, stop, held)
    if talk.cited is None:
        talk.cited = await run.cited(content, talk.draft.get("citations"))
    return run.conclude(talk.id, content, talk.cited, stop, error)


async def _until_the_end(talk: Conversation, timeout_s: float | None) -> tuple[str, str]:
    """(why it ended, what went wrong)."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _turns(talk), ""
    except TimeoutError:
        return "timeout", ""
    except OverBudget:
        return "budget", ""
    except GatewayError as e:
        return "failed", str(e)


async def _turns(talk: Conversation) -> str:
    """The loop itself; returns why it ended."""
    limits = talk.run.limits
    for left in reversed(range(limits.turns)):
        reply = await _ask(talk)
        code = code_of(reply.text, reply.tool_call) or _final_code(reply.text)
        if code is None or (reply.finish_reason == "length" and is_open(reply.text)):
            _say(talk, hint(reply.text, reply.finish_reason, limits.reply_tokens, reply.tool_call), "no code")
            continue
        talk.drafting = talk.drafting or "answer" in code
        result = await run_cell(talk, code)
        why = "" if result.answer is None else await _take(talk, result.answer)
        if result.answer is not None and not (why and left):
            return "unmet" if why else "answer"
        _say(talk, _report(talk, result, left, why), _in_short(code, result))
    return "turns"


def _final_code(reply: str) -> str | None:
    """A cell that ends as the prose of a reply says: FINAL(...) or FINAL_VAR(name) on a line of its own."""
    if (name := final_variable_in(reply)) is not None:
        return f"FINAL_VAR({name!r})"
    text = final_in(reply)
    return None if text is None else f"FINAL({text!r})"


async def _ask(talk: Conversation) -> Reply:
    _make_room(talk)
    (call,) = talk.run.call_ids(1)
    new, talk.told = len(talk.messages) - talk.told, len(talk.messages)
    reply = await talk.run.ask(
        talk.id, call, talk.run.models.root, talk.messages, new, talk.run.limits.reply_tokens
    )
    text = reply.text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be sent again
    talk.messages.append({"role": "assistant", "content": text or reply.tool_call or "(nothing)"})
    return replace(reply, text=text)


def _make_room(talk: Conversation) -> None:
    """Put the oldest turns away when the conversation nears the model's window."""
    model = talk.run.models.root
    room = talk.run.limits.window or window(model) or UNKNOWN_WINDOW
    shorter = put_away(talk.messages, talk.turns, room, lambda m: count_tokens(model, [m]))
    if shorter is not None:
        talk.run.record("note", talk.id, text=f"{len(talk.messages) - len(shorter)} messages were put away")
        talk.messages, talk.told = shorter, 1  # the second message is new: it says what went


async def _take(talk: Conversation, answer: dict[str, Json]) -> str:
    """Keep a ready answer; what is demanded of it that it lacks, '' for nothing."""
    talk.draft = answer = answer if talk.run.demands.schema else _unwrapped(answer)
    content = str(answer.get("content") or "")
    talk.cited = await talk.run.cited(content, answer.get("citations"))
    return unmet(talk.run.demands, content, talk.cited) or ""


def _unwrapped(answer: dict[str, Json]) -> dict[str, Json]:
    """Models also hand over {"answer": ..., "citations": [...]} as the content: its parts, where it is that."""
    content = str(answer.get("content") or "")
    value: Json = None
    if content.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(content)
    if not (isinstance(value, dict) and isinstance(value.get("citations"), list)):
        return answer
    said = next((value[name] for name in ("answer", "content") if isinstance(value.get(name), str)), None)
    return answer if said is None else {"content": said, "citations": value["citations"], "ready": True}


async def _take_draft(talk: Conversation, stop: str) -> None:
    """After a limit: the answer as far as the code had set it, ready or not, if its variables still stand."""
    talk.calls.stop()
    if talk.session.ended or not talk.drafting:
        return
    talk.run.record("note", talk.id, text=f"stopped by {stop}: the answer is taken as the code had left it")
    talk.draft, talk.cited = (await run_cell(talk, TAKE_DRAFT)).answer or {}, None


async def _last_words(talk: Conversation, question: str, stop: str, held: Reservation) -> Conclusion:
    """The call that was set aside for this: an answer from what the cells had printed, the newest first."""
    run = talk.run
    run.record(
        "note", talk.id, text=f"stopped by {stop}: the call kept back for it answers from what was printed"
    )
    model, left, blocks = run.models.root, held.worst.prompt_tokens // 2, []
    for number, past in reversed(list(enumerate(talk.calls.past, 1))):
        block = Block(f"output of cell {number}", past["output"])
        left -= count_tokens(model, block.text) + prompts.MARK_TOKENS
        if left < 0:
            break
        blocks.append(block)
    return await answer_once(run, question, Passages(tuple(reversed(blocks)), {}), held, stop)


def _in_short(code: str, result: CellResult) -> str:
    return f"{result.status}: {one_line(code.strip(), _LINE_CHARS)} -> {len(result.stdout):,} characters"


def _report(talk: Conversation, result: CellResult, turns: int, why: str) -> str:
    left = talk.run.left() | {"turns": turns}
    shown = ", ".join(f"{name} {round(amount, 4):,}" for name, amount in left.items() if amount is not None)
    notes = [
        f"Left: {shown}.",
        prompts.told_why(prompts.UNMET, why) if why else "",
        prompts.LAST_TURN * (turns == 1),
    ]
    return prompts.output(
        talk.cell, result.status, result.stdout, result.error, " ".join(note for note in notes if note)
    )


def open_conversation(run: Run, question: str, under: str | None, id: str, depth: int) -> Conversation:
    """A context, a sandbox that can call nothing else, and the opening messages."""

    def cell_now() -> int:
        return talk.cell

    context = Context(run.index, partial(record_visit, run, id, cell_now), under)
    calls = Calls(run, context, id, depth, converse, cell_now, [own_words(question)])
    limits = SandboxLimits(cell_timeout_s=run.limits.cell_timeout_s, output_chars=run.limits.output_chars)
    answer = serving(context, calls)

    def serve(name: str, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Json:
        record_scan(talk)
        return answer(name, args, kwargs)

    intro = context.intro()
    if "context_text" in intro:
        run.record("note", id, text=GIVEN_WHOLE)
        run.flag(id, "context", context.chunks())
    session = open_session(serve, CALLS, limits, intro=intro, backend=run.limits.backend)
    model, demands = run.models.root, run.demands
    wanted = prompts.demanded(demands.citations, demands.schema, prompts.TYPED_CELL)
    text = prompts.opening(question, context.docs, context.nodes, context.chars, under)
    messages: list[Message] = [
        {"role": "system", "content": prompts.system(model) + wanted},
        {"role": "user", "content": text},
    ]
    talk: Conversation = Conversation(run, id, depth, calls, session, messages)
    return talk


async def resume(talk: Conversation, text: str) -> None:
    """Go on after an answer, or after a limit, with what is asked next; the variables stand, but for the answer."""
    talk.calls.resume()
    talk.drafting = False
    talk.calls.written.append(text)  # its words are the asker's own
    await run_cell(talk, NO_DRAFT)
    if talk.messages[-1]["role"] == "assistant":
        _say(talk, text, "answered")
        return
    last = talk.messages.pop()
    talk.told = min(talk.told, len(talk.messages))
    talk.messages.append({"role": "user", "content": f"{last['content']}\n\n{text}"})


async def close(talk: Conversation) -> None:
    """Give up what is under way, and the sandbox."""
    talk.calls.stop()
    talk.session.kill()
    talk.thread.shutdown()
    talk.session.close()
    await talk.calls.settled()
