"""`rlm shell`: a person's REPL over an index, with the verbs, the sandbox and the trace of a run, and no root model."""

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
from rlm.asking.routes import Choice
from rlm.asking.runs import gateway_for, new_folder, new_run, opened_for, record_closing, record_opening
from rlm.audit.log import Trace
from rlm.audit.timeline import rejection
from rlm.commands.options import options_of
from rlm.errors import RlmError
from rlm.gateway.gateway import Gateway
from rlm.limits import Limits
from rlm.loop.calls import Calls
from rlm.loop.cells import begin_cell, record_cell
from rlm.loop.conversation import Conversation
from rlm.loop.engine import converse
from rlm.loop.opening import begin
from rlm.loop.run import Run
from rlm.sandbox import CellResult, SandboxLimits, Session

LINE_BYTES = 8 << 20  # of a line of JSON
ENDS = frozenset({"exit", "quit", "exit()", "quit()"})
#: For a whole session, in effect no limits: a person stays longer than a run does, and only single cells are limited.
CPU_S, SESSION_CHARS = 1_000_000, 10**12
#: What its trace has for a question.
QUESTION = "what a person typed at rlm shell"


@dataclass(frozen=True, slots=True)
class Shell:
    """An open shell. `talk`: a conversation whose code a person writes; `about`: its index in a line; `folder`: of its
    trace."""

    talk: Conversation
    about: str
    folder: Path

    @property
    def session(self) -> Session:
        """The sandbox that cells run in."""
        return self.talk.session

    @property
    def run(self) -> Run:
        """What its cells and their calls spend and record."""
        return self.talk.run


def shell(args: argparse.Namespace) -> int:
    """Run what a person types, or lines of JSON, until the input ends, and say where the trace is. Returns the code."""
    with open_shell(
        open_any(args.index, args.embedder, args.access, lazy=args.lazy), options_of(args, args.given)
    ) as opened:
        try:
            (talk_json if args.json else talk)(opened, fresh=args.fresh)
        finally:
            say(f"trace: {spelled(str(opened.folder))}", file=sys.stderr)
    return 0


@contextmanager
def open_shell(index: str | Path | Index, options: Options) -> Iterator[Shell]:
    """Open a sandbox over an index, with a thread of its own for the model calls that cells make, and a trace."""
    opened = opened_for(index, options.models)
    opened.warm_up()  # before the clock of a cell starts, which would pay for it
    view, folder = View(opened, scope=options.scope), new_folder(Path(options.runs), "shell")
    size = f"{count(len(view.documents), 'document')}, {count(view.size, 'node')}"
    with Trace.open(folder) as trace, _running_loop() as loop:
        run = new_run(view, options, gateway_for(options.limits), trace, loop)
        record_opening(run, QUESTION, Choice("rlm", "a person writes the cells"), options)
        began, talk = time.monotonic(), begin(run, None, "0", 0, _descend, _sandbox(options.limits))
        try:
            yield Shell(talk, f"{spelled(str(opened.named))}: {size}", folder)
        finally:
            talk.calls.stop()
            talk.session.close()
            asyncio.run_coroutine_threadsafe(_close(talk.calls, run.budget.gateway), loop).result()
            run.budget.began = began  # each cell has set it anew
            record_closing(run, Conclusion("", (), "closed"))


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
    talk, result = shell.talk, CellResult("killed", "", "stopped before it ended")
    if fresh:
        talk.session.reset()
    talk.run.budget.began = time.monotonic()
    begin_cell(talk, code)
    try:
        result = talk.session.run(code)
    finally:
        record_cell(talk, code, result)
    return result


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
        result = result_json(run_own_cell(shell, _code_in(line), fresh))
        cuts = shell.talk.tell_cuts()
        return result | {"cut": cuts} if cuts else result
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
        "answer": result.answer,
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
                say("".join(f"({cut})\n" for cut in shell.talk.tell_cuts()), end="")
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
