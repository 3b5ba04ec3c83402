"""The loop: ask the model, run its code over the tree, show it what came out, until it answers or a limit ends it."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rlm import prompts
from rlm.answer import Citation, event_of, resolve
from rlm.calls import NAMES, Calls
from rlm.context import VERBS, Context, Refused
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.types import Message
from rlm.run import Run
from rlm.sandbox import CallRefused, CellResult, SandboxLimits, Session, open_session

Json = Any

CALLS = frozenset([f"context.{verb}" for verb in VERBS] + list(NAMES))
_FENCE = re.compile(r"```[ \t]*(?:python|py|repl)?[ \t]*\r?\n(.*?)(?:\n```|\Z)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How a conversation ended. `stop`: answer, turns, budget, timeout or failed; `error` says why it failed."""

    content: str
    citations: tuple[Citation, ...]
    stop: str
    error: str = ""


@dataclass(slots=True)
class Conversation:
    """One model with one REPL. `told` counts the messages already in the trace."""

    run: Run
    id: str
    context: Context
    session: Session
    messages: list[Message]
    cell: int = 0
    code: str | None = None  # of the current cell, until its scan is recorded
    told: int = 0
    draft: Json = None
    calls: Calls | None = None
    thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="cell")
    )


async def converse(
    run: Run, question: str, under: str | None = None, id: str = "0", depth: int = 0
) -> Conclusion:
    """Answer `question` over the whole index, or the branch below `under`. A limit reached is a result."""
    talk = open_conversation(run, question, under, id, depth)
    try:
        async with asyncio.timeout(max(run.left_s, 0.001)):
            stop, error = await _turns(talk), ""
    except TimeoutError:
        stop, error = "timeout", ""
    except OverBudget:
        stop, error = "budget", ""
    except GatewayError as e:
        stop, error = "failed", str(e)
    finally:
        _close(talk)
    return _conclude(talk, stop, error)


async def _turns(talk: Conversation) -> str:
    """The loop itself; returns why it ended."""
    limits = talk.run.limits
    for turn in range(1, limits.turns + 1):
        reply = await _ask(talk)
        code = code_of(reply)
        if code is None:
            _say(talk, prompts.NO_CODE)
            continue
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
    talk.messages.append({"role": "assistant", "content": reply.text})
    return reply.text


def code_of(reply: str) -> str | None:
    """The code of a reply: its fenced blocks in order, as one cell; None when there is none."""
    blocks = [m[1].strip("\n") for m in _FENCE.finditer(reply)]
    return "\n".join(blocks) if any(b.strip() for b in blocks) else None


async def run_cell(talk: Conversation, code: str) -> CellResult:
    """Run one cell in the conversation's sandbox and record how it was scanned and how it ended."""
    talk.cell, talk.code = talk.cell + 1, code
    loop = asyncio.get_running_loop()
    result = await loop.run_in_executor(talk.thread, talk.session.run, code)
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
    return result


def record_scan(talk: Conversation, rule: str | None = None, line: int | None = None, verdict: str = "ok") -> None:
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
    shown = ", ".join(f"{k} {v:g}" for k, v in left.items() if v is not None)
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
        length = len(result if isinstance(result, str) else json.dumps(result))
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
            result_chars=length,
            **extra,
        )

    async def descend(q: str, branch: str | None, child: str, level: int) -> tuple[str, list[Json]]:
        found = await converse(run, q, branch or under, child, level)
        return found.content or f"ERROR: {found.error or found.stop}", [c.as_json() for c in found.citations]

    context = Context(run.index, visit, under)
    calls = Calls(run, context, id, depth, descend, lambda: talk.cell)
    limits = SandboxLimits(cell_timeout_s=run.limits.cell_timeout_s, output_chars=run.limits.output_chars)
    answer = serving(context, calls)

    def serve(name: str, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Json:
        record_scan(talk)
        return answer(name, args, kwargs)

    session = open_session(serve, CALLS, limits, intro={"context_length": context.chars})
    text = prompts.opening(question, context.docs, context.nodes, context.chars, under)
    messages: list[Message] = [
        {"role": "system", "content": prompts.SYSTEM},
        {"role": "user", "content": text},
    ]
    talk = Conversation(run, id, context, session, messages, calls=calls)
    return talk


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


def _close(talk: Conversation) -> None:
    if talk.calls is not None:
        talk.calls.cancel()
    talk.session.kill()
    talk.thread.shutdown(wait=True)
    talk.session.close()


def _conclude(talk: Conversation, stop: str, error: str) -> Conclusion:
    """The answer with its citations looked up; recorded whatever ended the conversation."""
    draft = talk.draft if isinstance(talk.draft, dict) else {}
    content = str(draft.get("content") or "")
    citations = resolve(talk.run.index, content, draft.get("citations"))
    talk.run.record(
        "answered",
        talk.id,
        content=content,
        citations=[event_of(talk.run.index, c) for c in citations],
        stop=stop,
    )
    return Conclusion(content, tuple(citations), stop, error)
