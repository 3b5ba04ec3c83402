"""`rlm shell`: a person's own REPL over an index, with the verbs and the sandbox of a run, and no root model."""

import argparse
import asyncio
import codeop
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from index_store.index import Index, open_any
from index_store.terminal import count, one_line, print_json, say, spelled
from index_store.types import Json
from index_store.view import View
from rlm.answers.citations import Conclusion
from rlm.asking.options import Options
from rlm.asking.runs import gateway_for, new_run, opened_for
from rlm.audit.timeline import rejection
from rlm.commands.options import options_of
from rlm.errors import RlmError
from rlm.gateway.gateway import Gateway
from rlm.limits import Limits
from rlm.loop.calls import Calls
from rlm.loop.cells import CALLS, serving
from rlm.loop.engine import converse
from rlm.loop.opening import worker_intro
from rlm.loop.recording import Unrecorded
from rlm.loop.run import Run
from rlm.loop.verbs import Verbs
from rlm.sandbox import CellResult, SandboxLimits, Session, open_session

LINE_BYTES = 8 << 20  # of a line of JSON
ENDS = frozenset({"exit", "quit", "exit()", "quit()"})
#: For a whole session, in effect no limits: a person stays longer than a run does, and only single cells are limited.
CPU_S, SESSION_CHARS = 1_000_000, 10**12


@dataclass(slots=True)
class Shell:
    """An open shell. `about`: its index in a line. `written`: the code of every cell, a person's own words."""

    session: Session
    run: Run
    about: str
    written: list[str]


def shell(args: argparse.Namespace) -> int:
    """Run what a person types, or lines of JSON, until the input ends. Returns the exit code."""
    with open_shell(open_any(args.index, args.embedder), options_of(args)) as opened:
        (talk_json if args.json else talk)(opened, fresh=args.fresh)
    return 0


@contextmanager
def open_shell(index: str | Path | Index, options: Options) -> Iterator[Shell]:
    """Open a sandbox over an index, with a thread of its own for the model calls that cells make."""
    opened, limits = opened_for(index, options.models), options.limits
    opened.warm_up()  # before the clock of a cell starts, which would pay for it
    view = View(opened, scope=options.scope)
    verbs = Verbs(opened, lambda visit: None, scope=options.scope)
    with _running_loop() as loop:
        run = new_run(view, options, gateway_for(limits), Unrecorded(), loop)
        calls = Calls(run, verbs, "0", 0, _descend, lambda: 0)
        session = open_session(
            serving(verbs, calls, lambda: session.clock),
            CALLS,
            _sandbox(limits),
            worker_intro(verbs.view),
            limits.backend,
        )
        size = f"{count(len(verbs.view.documents), 'document')}, {count(verbs.view.size, 'node')}"
        try:
            yield Shell(session, run, f"{spelled(str(opened.path))}: {size}", calls.written)
        finally:
            calls.stop()
            session.close()
            asyncio.run_coroutine_threadsafe(_close(calls, run.budget.gateway), loop).result()


@contextmanager
def _running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="rlm-shell", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _sandbox(limits: Limits) -> SandboxLimits:
    return SandboxLimits(limits.cell_timeout_s, cpu_s=CPU_S, session_output_chars=SESSION_CHARS)


async def _descend(run: Run, question: str, under: str | None, id: str, depth: int) -> Conclusion:
    """A child conversation under the run's wall clock, which no root conversation watches here."""
    try:
        async with asyncio.timeout(max(run.budget.left_s, 0.001)):
            return await converse(run, question, under, id, depth)
    except TimeoutError:
        return Conclusion("", (), "timeout")


async def _close(calls: Calls, gateway: Gateway) -> None:
    await calls.settled()
    await gateway.close()


def run_own_cell(shell: Shell, code: str, fresh: bool = False) -> CellResult:
    """The result of one cell, run in an empty namespace when `fresh`. The run's wall clock starts anew with it."""
    if fresh:
        shell.session.reset()
    shell.run.budget.began = time.monotonic()
    shell.written.append(code)
    return shell.session.run(code)


def talk_json(shell: Shell, fresh: bool) -> None:
    """Run the code of each line {"code": ...} from the input, and print its result as a line of JSON."""
    for line in _lines(sys.stdin.buffer):
        print_json(_reply(shell, line, fresh), flush=True)


def _lines(source: BinaryIO) -> Iterator[bytes]:
    """Each line; one that is longer than LINE_BYTES is cut to one byte more."""
    while line := source.readline(LINE_BYTES + 1):
        rest = line
        while not rest.endswith(b"\n") and len(rest) > LINE_BYTES:
            rest = source.readline(LINE_BYTES + 1)
        yield line


def _reply(shell: Shell, line: bytes, fresh: bool) -> dict[str, Json]:
    try:
        return result_json(run_own_cell(shell, _code_in(line), fresh))
    except RlmError as e:
        return {"status": "error", "stdout": "", "error": str(e), "seconds": 0.0}


def _code_in(line: bytes) -> str:
    if len(line) > LINE_BYTES:
        raise RlmError(f"the line is longer than {LINE_BYTES:,} bytes; send the code in parts")
    try:
        request = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as e:
        raise RlmError(f'expected a line {{"code": "..."}} in UTF-8, found {_start_of(line)} ({e})') from e
    if not (isinstance(request, dict) and isinstance(request.get("code"), str)):
        raise RlmError(f'expected a line {{"code": "..."}}, found {_start_of(line)}')
    return str(request["code"])


def _start_of(line: bytes) -> str:
    return one_line(line[:400].decode("utf-8", "replace"), 80) or "an empty line"


def result_json(result: CellResult) -> dict[str, Json]:
    """The result of a cell as `rlm shell --json` prints it."""
    return {
        "status": result.status,
        "stdout": result.stdout,
        "error": _error(result),
        "seconds": round(result.seconds, 4),
        **({"answer": result.answer} if result.answer is not None else {}),
    }


def _error(result: CellResult) -> str:
    """The error of a cell; of one that was rejected with what it used, as a person is told what no model is."""
    if result.status != "rejected":
        return result.error
    return f"{rejection({'rule': result.rule, 'line_in_code': result.line})}. {result.error}"


def talk(shell: Shell, fresh: bool) -> None:
    """Run what is typed at the prompt and print its output.

    An empty line ends a block, exit or Ctrl-D the session, and Ctrl-C a running cell, with all variables.
    """
    say(
        f"{shell.about}. `context` is the tree: try context.overview(). exit or Ctrl-D ends.", file=sys.stderr
    )
    while (code := _read_cell()) is not None and code.strip() not in ENDS:
        try:
            if code.strip():
                _print(run_own_cell(shell, code, fresh))
        except KeyboardInterrupt:
            shell.session.reset()
            say("\nstopped; the variables are gone", file=sys.stderr)


def _print(result: CellResult) -> None:
    say(result.stdout, end="" if result.stdout.endswith("\n") or not result.stdout else "\n")
    if result.error:
        say(f"{result.status}: {_error(result)}")
    if result.answer is not None:
        say(f"answer: {result.answer.get('content', '')}")
        citations = result.answer.get("citations")
        for cited in citations if isinstance(citations, list) else []:
            say(f"  cites {one_line(str(cited), 200)}")


def _read_cell() -> str | None:
    """The lines of one whole cell from the prompt; None at the end of the input."""
    lines: list[str] = []
    while True:
        try:
            lines.append(input("... " if lines else ">>> "))
        except EOFError:
            return "\n".join(lines) if lines else None
        except KeyboardInterrupt:
            say(file=sys.stderr)
            lines = []
            continue
        if _is_whole(lines):
            return "\n".join(lines)


def _is_whole(lines: list[str]) -> bool:
    """Whether the lines are a whole cell. Wrong code is one too: the sandbox says what is wrong with it."""
    try:
        whole = codeop.compile_command("\n".join(lines), symbol="exec") is not None
    except (SyntaxError, ValueError, OverflowError):
        return True
    return whole and (len(lines) == 1 or not lines[-1].strip())
