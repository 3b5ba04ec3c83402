"""The loop: ask the model, run its code over the tree, show what came out, until it answers or a limit ends it."""

import asyncio
import contextlib
import json
from dataclasses import replace

from index_store.terminal import count, one_line
from index_store.types import Json
from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.answers.demands import unmet
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Reply
from rlm.loop.cells import run_cell
from rlm.loop.conversation import Conversation, close
from rlm.loop.ending import last_words, take_draft
from rlm.loop.history import UNKNOWN_WINDOW, put_away
from rlm.loop.opening import open_conversation
from rlm.loop.replies import code_of, hint, is_open
from rlm.loop.run import Run
from rlm.sandbox import CellResult

_LINE_CHARS = 100
#: Replies without code, one after another, after which a model is taken not to write any.
NO_CODE_REPLIES = 3
#: What the trace and a person are told of each.
NO_CODE = "the reply holds no code that could run"
NEVER_CODE = (
    "{model} gave {replies} replies in a row that hold no code that could run; ask a model that writes code, or use "
    "--route retrieve, which needs none"
)


async def converse(
    run: Run, question: str, under: str | None = None, id: str = "0", depth: int = 0
) -> Conclusion:
    """Answer `question` over the whole index, or over the branch below `under`; reaching a limit is a result too.

    `id`, `depth`: of this conversation; the root has "0" and 0. It first waits for one of the sandboxes of its depth.
    """
    async with run.slot(depth):
        talk = open_conversation(run, question, under, id, depth, converse)
        try:
            return await pursue(talk, question)
        finally:
            await close(talk)


async def pursue(talk: Conversation, question: str) -> Conclusion:
    """Go on from the conversation's messages until it has an answer or reaches a limit.

    Only the root watches the wall clock: its children are calls of its cell, and end with it.
    """
    run, talk.draft, talk.cited = talk.run, {}, None
    stop, error = await _run_to_the_end(talk)
    if stop in ("turns", "budget", "timeout", "no code"):
        await take_draft(talk, stop)
    content, kept_back = str(talk.draft.get("content") or ""), stop in ("turns", "budget", "no code")
    if not content and kept_back and run.budget.last is not None:
        return await last_words(talk, question, stop, error, run.budget.last.worst.prompt_tokens // 2)
    if talk.cited is None:
        talk.cited = await run.cited(content, talk.draft.get("citations"))
    return run.conclude(talk.id, content, talk.cited, stop, error)


async def _run_to_the_end(talk: Conversation) -> tuple[str, str]:
    """(why the conversation ended, a sentence where a model could not be asked or writes no code)."""
    try:
        async with asyncio.timeout(None) if talk.depth else talk.run.budget.within():
            stop = await _turns(talk)
            model = talk.run.models.root
            return stop, NEVER_CODE.format(model=model, replies=NO_CODE_REPLIES) * (stop == "no code")
    except TimeoutError:
        return "timeout", ""
    except OverBudget as e:
        return "budget", e.told
    except GatewayError as e:
        return "failed", str(e)


async def _turns(talk: Conversation) -> str:
    """The loop itself; returns why it ended: "answer", "unmet", "no code" or "turns"."""
    limits, without = talk.run.limits, 0
    for left in reversed(range(limits.turns)):
        reply = await _ask(talk)
        code = code_of(reply.text, reply.tool_call)
        if code is None or (reply.finish_reason == "length" and is_open(reply.text)):
            why = hint(reply.text, reply.finish_reason, limits.reply_tokens, reply.tool_call)
            talk.end_turn(why, "no code")
            talk.run.journal.note(talk.id, NO_CODE)
            without += 1
            if without == NO_CODE_REPLIES:
                return "no code"
            continue
        without = 0
        talk.drafting = talk.drafting or "answer" in code
        result = await run_cell(talk, code)
        lacks = "" if result.answer is None else await _take(talk, result.answer)
        if result.answer is not None and not (lacks and left):
            return "unmet" if lacks else "answer"
        talk.end_turn(_cell_report(talk, result, left, lacks), _in_short(code, result))
    return "turns"


async def _ask(talk: Conversation) -> Reply:
    _put_away(talk)
    new, talk.recorded = len(talk.messages) - talk.recorded, len(talk.messages)
    run = talk.run
    models, most = run.models, run.limits.reply_tokens
    reply = await run.ask(talk.id, models.root, talk.messages, new, most, options=models.options)
    text = reply.text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be sent again
    talk.messages.append({"role": "assistant", "content": text or reply.tool_call or "(nothing)"})
    return replace(reply, text=text)


def _put_away(talk: Conversation) -> None:
    """Take the oldest turns out of the messages when they near the model's window."""
    model = talk.run.models.root
    tokens = talk.run.window or UNKNOWN_WINDOW
    shorter = put_away(talk.messages, talk.turns, tokens, lambda message: count_tokens(model, [message]))
    if shorter is not None:
        gone = len(talk.messages) - len(shorter)
        talk.run.journal.note(talk.id, f"{count(gone, 'message was', 'messages were')} put away")
        talk.messages, talk.recorded = shorter, 1  # the second message is new: it says what went


async def _take(talk: Conversation, answer: dict[str, Json]) -> str:
    """Take a ready answer as the draft. Returns what it lacks of what is demanded, '' for nothing."""
    run = talk.run
    talk.draft = answer = answer if run.demands.schema else _unwrapped(answer)
    content = str(answer.get("content") or "")
    talk.cited = await run.cited(content, answer.get("citations"))
    return unmet(run.demands, content, talk.cited) or ""


def _unwrapped(answer: dict[str, Json]) -> dict[str, Json]:
    """The answer, taken apart where its content is JSON with answer and citations in it, as some models set it."""
    content = str(answer.get("content") or "")
    value: Json = None
    if content.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(content)
    if not (isinstance(value, dict) and isinstance(value.get("citations"), list)):
        return answer
    words = next((value[name] for name in ("answer", "content") if isinstance(value.get(name), str)), None)
    return answer if words is None else {"content": words, "citations": value["citations"], "ready": True}


def _in_short(code: str, result: CellResult) -> str:
    return (
        f"{result.status}: {one_line(code.strip(), _LINE_CHARS)} -> {count(len(result.stdout), 'character')}"
    )


def _cell_report(talk: Conversation, result: CellResult, turns: int, lacks: str) -> str:
    """What the model sees of a cell: what it printed, what was cut, what the answer lacks, what is left."""
    left = prompts.left(talk.run.budget.told(talk.id) | {"turns": turns}, lacks)
    below = "\n".join([*talk.tell_cuts(), left])
    return prompts.output(talk.cell, result.status, result.stdout, result.error, below)
