"""Run one cell of a conversation, serve the calls it makes, and record both."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from index_store.errors import BrokenIndex
from index_store.terminal import one_line
from index_store.types import Json
from rlm.audit.kinds import CodeRun, CodeScanned
from rlm.audit.log import UnwritableTrace
from rlm.loop.calls import NAMES, Calls, PastCell
from rlm.loop.checks import Refused
from rlm.loop.conversation import Conversation
from rlm.loop.verbs import VERBS, Verbs
from rlm.prompts import refusals
from rlm.sandbox import CallRefused, CellResult
from rlm.sandbox.types import Clock, Serve

#: Every name that code in a cell may call.
CALLS = frozenset([f"context.{verb}" for verb in VERBS] + list(NAMES))
#: How long a cell may go on once its conversation is stopped, so that its variables survive.
GRACE_S = 1.0
_log = logging.getLogger(__name__)


async def run_cell(talk: Conversation, code: str) -> CellResult:
    """Run one cell in the conversation's sandbox and record how it was scanned and how it ended.

    When cancelled, it stops the cell and still records how the cell ended.
    """
    begin_cell(talk, code)
    # A cell that ends by its own clock keeps its session.
    left_s = round(max(talk.run.budget.left_s, GRACE_S / 2), 1)
    timeout_s = min(talk.run.limits.cell_timeout_s, left_s)
    talk.session.limits = replace(talk.session.limits, cell_timeout_s=timeout_s)
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(talk.thread, talk.session.run, code)
    try:
        await asyncio.wait([running])
    finally:
        if not running.done():
            await _cut_short(talk, running)
        result = record_cell(talk, code, await running)
    return result


async def _cut_short(talk: Conversation, running: "asyncio.Future[CellResult]") -> None:
    """Serve the cell no more calls, and kill its session if it has not ended after GRACE_S."""
    talk.calls.stop()
    await talk.calls.settled()
    await asyncio.wait([running], timeout=GRACE_S)
    if not running.done():
        talk.session.kill()


def begin_cell(talk: Conversation, code: str) -> None:
    """Count one more cell, whose words are the conversation's own."""
    talk.cell, talk.code = talk.cell + 1, code
    talk.calls.written.append(code)


def record_cell(talk: Conversation, code: str, result: CellResult) -> CellResult:
    """Record how the current cell was scanned and how it ended."""
    record_scan(talk, result.rule, result.line, "rejected" if result.status == "rejected" else "ok")
    ended = CodeRun(
        cell=talk.cell,
        status=result.status,
        stdout=result.stdout,
        error=result.error,
        seconds=round(result.seconds, 4),
        truncated=result.truncated,
        state_lost=result.state_lost,
    )
    talk.run.journal.record(talk.id, ended)
    place = f"cell {talk.cell}"
    talk.run.journal.flag(talk.id, "output", [(place, result.stdout), (place, result.error)])
    output = "\n".join(part for part in (result.stdout, result.error) if part)
    talk.calls.past.append(PastCell(code, result.status, output))
    return result


def record_scan(
    talk: Conversation,
    rule: str | None = None,
    line: int | None = None,
    verdict: Literal["ok", "rejected"] = "ok",
) -> None:
    """Record the scan of the current cell, once: at its first call, as rejected code makes none, or at its end."""
    if talk.code is None:
        return
    code, talk.code = talk.code, None
    scanned = CodeScanned(
        cell=talk.cell,
        code=code,
        verdict=verdict,
        rule=rule,
        line_in_code=line if verdict == "rejected" else None,
    )
    talk.run.journal.record(talk.id, scanned)


def serving(verbs: Verbs, calls: Calls, clock: Callable[[], Clock]) -> Serve:
    """The function that answers a worker's calls: verbs of the tree and model calls. It raises CallRefused, and
    BrokenIndex, which ends the run: an answer from an index that cannot be read would be none.

    `clock`: gives that of the cell under way, which pays for what verbs take, and not for what models do.
    An exception that nobody foresaw is a refusal too, and no end of the run: it is recorded and logged. Only where it
    cannot be recorded does it come out of here.
    """

    def serve(name: str, args: list[Json], kwargs: dict[str, Json]) -> Json:
        if calls.run.journal.is_full:
            raise CallRefused(refusals.FULL)
        try:
            if name.startswith("context."):
                return verbs.serve(name.removeprefix("context."), args, kwargs, clock().left_s)
            with clock().paused():
                return calls.serve(name, args, kwargs)
        except Refused as e:
            raise CallRefused(str(e)) from e
        except (BrokenIndex, UnwritableTrace):
            raise
        except Exception as e:
            raise CallRefused(_fault(calls, name, e)) from e

    return serve


def _fault(calls: Calls, name: str, error: Exception) -> str:
    """Record and log an exception that nobody foresaw; returns the text for the model."""
    problem = one_line(f"{type(error).__name__}: {error}", 200)
    _log.error("%s failed while it was served (%s); this is a fault of raptor-rlm", name, problem)
    _log.debug("%s", name, exc_info=error)
    calls.run.journal.note(calls.conversation, f"{name} failed while it was served ({problem})")
    return refusals.FAULT.format(name=name, problem=problem)
