"""The loop: ask the model, run its code over the tree, show what came out, until it answers or a limit ends it."""

import asyncio
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from rlm import prompts
from rlm.answer import Conclusion, event_of, resolve
from rlm.calls import NAMES, Calls, Descend
from rlm.context import GIVEN_WHOLE, VERBS, Context, Refused
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.types import Message
from rlm.run import Run
from rlm.sandbox import CallRefused, CellResult, SandboxLimits, Session, open_session
from rlm.suspicion import texts_shown

Json = Any

CALLS = frozenset([f"context.{verb}" for verb in VERBS] + list(NAMES))
#: How long a cell may go on once its conversation is stopped, so that its variables survive.
GRACE_S = 1.0
#: Run when a limit ended a conversation: hands over whatever the code had set as its answer by then.
TAKE_DRAFT = 'answer = {**(answer if isinstance(answer, dict) else {"content": answer}), "ready": True}'
_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([^`]*?)[ \t]*")
_CODE = frozenset({"python", "python3", "py", "ipython", "repl"})


@dataclass(slots=True)
class Conversation:
    """One model with one REPL. `told` counts the messages already in the trace."""

    run: Run
    id: str
    calls: Calls
    session: Session
    messages: list[Message]
    cell: int = 0
    code: str | None = None  # of the current cell, until its scan is recorded
    told: int = 0
    drafting: bool = False  # whether any code has named the answer
    draft: dict[str, Json] = field(default_factory=dict)
    thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="cell")
    )


async def converse(
    run: Run, question: str, under: str | None = None, id: str = "0", depth: int = 0
) -> Conclusion:
    """Answer `question` over the whole index, or the branch below `under`. A limit reached is a result.

    Only the root watches the wall clock: its children are its cell's calls, and end with it.
    """
    talk = open_conversation(run, question, under, id, depth)
    try:
        stop, error = await _until_the_end(talk, None if depth else max(run.left_s, 0.001))
        if stop in ("turns", "budget", "timeout"):
            await _take_draft(talk, stop)
    finally:
        await _close(talk)
    return _conclude(talk, stop, error)


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
    for turn in range(1, limits.turns + 1):
        reply = await _ask(talk)
        code = code_of(reply)
        if code is None:
            _say(talk, prompts.NO_CODE)
            continue
        talk.drafting = talk.drafting or "answer" in code
        result = await run_cell(talk, code)
        if result.answer is not None:
            talk.draft = result.answer
            return "answer"
        _say(talk, _report(talk, result, last=turn == limits.turns - 1))
    return "turns"


async def _ask(talk: Conversation) -> str:
    (call,) = talk.run.call_ids(1)
    new = len(talk.messages) - talk.told
    talk.told = len(talk.messages)
    reply = await talk.run.ask(
        talk.id, call, talk.run.models.root, talk.messages, new, talk.run.limits.reply_tokens
    )
    text = reply.text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be sent again
    talk.messages.append({"role": "assistant", "content": text})
    return text


def code_of(reply: str) -> str | None:
    """The code of a reply: its fenced blocks in order, as one cell; None when there is none.

    Blocks named python, py or repl count; where there are none, blocks without a name. A fence is closed as in
    CommonMark 0.31, section 4.5: by a line with nothing but as many marks; one left open ends with the reply.
    """
    blocks = [(name, code) for name, code in _blocks(reply) if code.strip()]
    named = [code for name, code in blocks if name in _CODE]
    return "\n".join(named or [code for name, code in blocks if not name]) or None


def _blocks(reply: str) -> list[tuple[str, str]]:
    """(name, code) of each fenced block."""
    blocks: list[tuple[str, list[str]]] = []
    fence = ""
    for line in reply.split("\n"):
        marks = _FENCE.fullmatch(line.rstrip("\r"))
        if not fence and marks:
            fence = marks[2]
            blocks.append((marks[3].lower().partition(" ")[0], []))
        elif fence and marks and not marks[3] and marks[2].startswith(fence):
            fence = ""
        elif fence:
            blocks[-1][1].append(line.rstrip("\r"))
    if fence and blocks[-1][1]:
        blocks[-1][1][-1] = (
            blocks[-1][1][-1].rstrip().removesuffix(fence)
        )  # closed on the line of its last code
    return [(name, textwrap.dedent("\n".join(lines)).strip("\n")) for name, lines in blocks]


async def run_cell(talk: Conversation, code: str) -> CellResult:
    """Run one cell in the conversation's sandbox and record how it was scanned and how it ended.

    Cancelled, it stops the cell, and still records its end.
    """
    talk.cell, talk.code = talk.cell + 1, code
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
        result = _recorded(talk, await running)
    return result


async def _cut_short(talk: Conversation, running: "asyncio.Future[CellResult]") -> None:
    """Nothing is served to the cell any more, and after a moment it is killed."""
    talk.calls.stop()
    await talk.calls.settled()
    await asyncio.wait([running], timeout=GRACE_S)
    if not running.done():
        talk.session.kill()


def _recorded(talk: Conversation, result: CellResult) -> CellResult:
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
    talk.run.flag(
        talk.id, "output", [(f"cell {talk.cell}", result.stdout), (f"cell {talk.cell}", result.error)]
    )
    return result


async def _take_draft(talk: Conversation, stop: str) -> None:
    """After a limit: the answer as far as the code had set it, ready or not, if its variables still stand."""
    talk.calls.stop()
    if talk.session.ended or not talk.drafting:
        return
    talk.run.record("note", talk.id, text=f"stopped by {stop}: the answer is taken as the code had left it")
    talk.draft = (await run_cell(talk, TAKE_DRAFT)).answer or {}


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


def _say(talk: Conversation, text: str) -> None:
    talk.messages.append({"role": "user", "content": text})


def _report(talk: Conversation, result: CellResult, last: bool) -> str:
    left = talk.run.left()
    shown = ", ".join(f"{name} {round(amount, 4):,}" for name, amount in left.items() if amount is not None)
    note = f"Left: {shown}." + (f" {prompts.LAST_TURN}" if last else "")
    return prompts.output(talk.cell, result.status, result.stdout, result.error, note)


def open_conversation(run: Run, question: str, under: str | None, id: str, depth: int) -> Conversation:
    """A context, a sandbox that can call nothing else, and the opening messages."""

    def visit(
        verb: str,
        arguments: dict[str, Json],
        shown: list[Json],
        not_taken: list[Json],
        result: Json,
        error: str,
    ) -> None:
        extra = {"error": error} if error else {}
        run.record(
            "visited",
            id,
            cell=talk.cell,
            verb=verb,
            arguments=arguments,
            shown=shown,
            not_taken=not_taken,
            result=result,
            result_chars=0 if error else len(result if isinstance(result, str) else json.dumps(result)),
            **extra,
        )
        run.flag(id, f"context.{verb}", texts_shown(result, shown))

    context = Context(run.index, visit, under)
    calls = Calls(run, context, id, depth, descending(run), lambda: talk.cell)
    limits = SandboxLimits(cell_timeout_s=run.limits.cell_timeout_s, output_chars=run.limits.output_chars)
    answer = serving(context, calls)

    def serve(name: str, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Json:
        record_scan(talk)
        return answer(name, args, kwargs)

    intro = context.intro()
    if "context_text" in intro:
        run.record("note", id, text=GIVEN_WHOLE)
    session = open_session(serve, CALLS, limits, intro=intro)
    text = prompts.opening(question, context.docs, context.nodes, context.chars, under)
    messages: list[Message] = [
        {"role": "system", "content": prompts.SYSTEM},
        {"role": "user", "content": text},
    ]
    talk = Conversation(run, id, calls, session, messages)
    return talk


def descending(run: Run) -> Descend:
    """How a conversation of this run has children."""
    return lambda question, under, id, depth: converse(run, question, under, id, depth)


def serving(context: Context, calls: Calls) -> Any:
    """What answers the frames of a worker: verbs by the context, model calls by `calls`."""

    def serve(name: str, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Json:
        try:
            if name.startswith("context."):
                return context.serve(name.removeprefix("context."), args, kwargs)
            return calls.serve(name, args, kwargs)
        except Refused as e:
            raise CallRefused(str(e)) from e

    return serve


async def _close(talk: Conversation) -> None:
    talk.calls.stop()
    talk.session.kill()
    talk.thread.shutdown()
    talk.session.close()
    await talk.calls.settled()


def _conclude(talk: Conversation, stop: str, error: str) -> Conclusion:
    """The answer with its citations looked up; recorded whatever ended the conversation."""
    content = str(talk.draft.get("content") or "")
    citations = resolve(talk.run.index, content, talk.draft.get("citations"))
    talk.run.record(
        "answered",
        talk.id,
        content=content,
        citations=[event_of(talk.run.index, c) for c in citations],
        stop=stop,
    )
    return Conclusion(content, tuple(citations), stop, error)
