"""The loop: ask the model, run its code over the tree, show what came out, until it answers or a limit ends it."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from index_store.terminal import one_line
from rlm import prompts
from rlm.answers.citations import Citation, Conclusion
from rlm.answers.demands import unmet
from rlm.audit.suspicion import texts_shown
from rlm.gateway.blocks import Block
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.ledger import Reservation
from rlm.gateway.provider import window
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Message, Reply
from rlm.loop.calls import NAMES, Calls
from rlm.loop.context import GIVEN_WHOLE, VERBS, Context, Refused
from rlm.loop.finals import final_in, final_variable_in
from rlm.loop.history import UNKNOWN_WINDOW, put_away
from rlm.loop.marking import own_words
from rlm.loop.replies import code_of, hint, is_open
from rlm.loop.run import Run
from rlm.loop.single import Passages, answer_once
from rlm.sandbox import CallRefused, CellResult, SandboxLimits, Session, open_session

Json = Any

CALLS = frozenset([f"context.{verb}" for verb in VERBS] + list(NAMES))
#: How long a cell may go on once its conversation is stopped, so that its variables survive.
GRACE_S = 1.0
#: Run when a limit ended a conversation: hands over whatever the code had set as its answer by then.
TAKE_DRAFT = 'answer = {**(answer if isinstance(answer, dict) else {"content": answer}), "ready": True}'
ANSWER_NOW = "answer from what your variables hold"
#: Run before a next question, whose answer must hold nothing of the last.
NO_DRAFT = 'answer = {"content": "", "citations": [], "ready": False}'
_LINE_CHARS = 100


@dataclass(slots=True)
class Conversation:
    """One model with one REPL. `told` counts the messages already in the trace; `turns` says each in a line."""

    run: Run
    id: str
    depth: int
    calls: Calls
    session: Session
    messages: list[Message]
    cell: int = 0
    code: str | None = None  # of the current cell, until its scan is recorded
    told: int = 0
    turns: list[str] = field(default_factory=list)
    drafting: bool = False  # whether any code has named the answer
    draft: dict[str, Json] = field(default_factory=dict)
    cited: Sequence[Citation] | None = None  # of the draft, once they are looked up
    thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="cell")
    )


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


async def run_cell(talk: Conversation, code: str) -> CellResult:
    """Run one cell in the conversation's sandbox and record how it was scanned and how it ended.

    Cancelled, it stops the cell, and still records its end.
    """
    talk.cell, talk.code = talk.cell + 1, code
    talk.calls.written.append(code)
    left_s = round(
        max(talk.run.left_s, GRACE_S / 2), 1
    )  # a cell that ends by its own clock keeps its session
    timeout_s = min(talk.run.limits.cell_timeout_s, left_s)
    talk.session.limits = replace(talk.session.limits, cell_timeout_s=timeout_s)
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(talk.thread, talk.session.run, code)
    try:
        await asyncio.wait([running])
    finally:
        if not running.done():
            await _cut_short(talk, running)
        result = _recorded(talk, code, await running)
    return result


async def _cut_short(talk: Conversation, running: "asyncio.Future[CellResult]") -> None:
    """Nothing is served to the cell any more, and after a moment it is killed."""
    talk.calls.stop()
    await talk.calls.settled()
    await asyncio.wait([running], timeout=GRACE_S)
    if not running.done():
        talk.session.kill()


def _recorded(talk: Conversation, code: str, result: CellResult) -> CellResult:
    record_scan(talk, result.rule, result.line, "rejected" if result.status == "rejected" else "ok")
    talk.run.record(
        "code_run",
        talk.id,
        cell=talk.cell,
        status=result.status,
        stdout=result.stdout,
        error=result.error,
        seconds=round(result.seconds, 4),
        truncated=result.truncated,
        state_lost=result.state_lost,
    )
    place = f"cell {talk.cell}"
    talk.run.flag(talk.id, "output", [(place, result.stdout), (place, result.error)])
    output = "\n".join(part for part in (result.stdout, result.error) if part)
    talk.calls.past.append({"code": code, "status": result.status, "output": output})
    return result


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


def record_scan(
    talk: Conversation, rule: str | None = None, line: int | None = None, verdict: str = "ok"
) -> None:
    """Record the scan of the current cell, once: at its first call, which shows that it passed, or at its end."""
    if talk.code is None:
        return
    code, talk.code = talk.code, None
    talk.run.record(
        "code_scanned",
        talk.id,
        cell=talk.cell,
        code=code,
        verdict=verdict,
        rule=rule,
        line_in_code=line if verdict == "rejected" else None,
    )


def _say(talk: Conversation, text: str, line: str) -> None:
    """End a turn: what the model is told, and the turn in short."""
    talk.messages.append({"role": "user", "content": text})
    talk.turns.append(line)


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


def record_visit(
    run: Run,
    conversation: str,
    cell: Callable[[], int],
    verb: str,
    arguments: dict[str, Json],
    shown: list[Json],
    not_taken: list[Json],
    result: Json,
    error: str,
) -> None:
    """Record one use of a verb, before its result goes anywhere."""
    run.record(
        "visited",
        conversation,
        cell=cell(),
        verb=verb,
        arguments=arguments,
        shown=shown,
        not_taken=not_taken,
        result=result,
        result_chars=0 if error else len(result if isinstance(result, str) else json.dumps(result)),
        **({"error": error} if error else {}),
    )
    run.flag(conversation, f"context.{verb}", texts_shown(result, shown))


def serving(context: Context, calls: Calls) -> Any:
    """What answers the frames of a worker: verbs by the context, model calls by `calls`."""

    def serve(name: str, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Json:
        if calls.run.is_full:
            raise CallRefused(f"this run has read so much that its trace is full; {ANSWER_NOW}")
        try:
            if name.startswith("context."):
                return context.serve(name.removeprefix("context."), args, kwargs)
            return calls.serve(name, args, kwargs)
        except Refused as e:
            raise CallRefused(str(e)) from e

    return serve


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
