"""Run one cell of a conversation, serve what it asks for, and record both."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlm.audit.suspicion import texts_shown
from rlm.loop.calls import NAMES, Calls
from rlm.loop.context import VERBS, Context, Refused
from rlm.loop.conversation import Conversation, Json
from rlm.loop.run import Run
from rlm.sandbox import CallRefused, CellResult

CALLS = frozenset([f"context.{verb}" for verb in VERBS] + list(NAMES))


#: How long a cell may go on once its conversation is stopped, so that its variables survive.
GRACE_S = 1.0


ANSWER_NOW = "answer from what your variables hold"


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
