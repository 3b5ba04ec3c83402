"""A person's own REPL over an index: the same verbs, the same sandbox, no root model."""

import asyncio
import codeop
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index_store.reader import open_index
from rlm import navigator
from rlm.calls import Calls
from rlm.context import Context
from rlm.engine import CALLS, converse, serving
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.provider import check_model
from rlm.limits import Limits, Models
from rlm.run import Run
from rlm.sandbox import CellResult, SandboxLimits, Session, open_session

Json = Any
LINE_BYTES = 1 << 20


class _Untraced:
    """A person's shell leaves no trace; it is their own session, not a run to be audited."""

    def record(self, kind: str, conversation: str, /, **fields: Json) -> int:
        return 0


@dataclass(slots=True)
class Shell:
    session: Session
    about: str


@contextmanager
def open_shell(index: str | Path, models: Models, limits: Limits, cell_timeout_s: float) -> Iterator[Shell]:
    """A sandbox over an index, with a thread of its own for the model calls that cells make."""
    navigator.register()
    opened = open_index(index)
    for model in dict.fromkeys([models.root, models.child]):
        check_model(model)
    gateway = Gateway(Ledger(Caps(limits.usd, limits.tokens, limits.calls)), concurrency=limits.concurrency)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="rlm-shell", daemon=True)
    thread.start()
    run = Run(opened, gateway, models, limits, _Untraced(), Path(), loop)
    context = Context(opened, lambda *_: None)

    async def descend(question: str, branch: str | None, child: str, depth: int) -> tuple[str, list[Json]]:
        found = await converse(run, question, branch, child, depth)
        return found.content, [c.as_json() for c in found.citations]

    calls = Calls(run, context, "0", 0, descend, lambda: 0)
    sandbox = SandboxLimits(cell_timeout_s=cell_timeout_s)
    session = open_session(serving(context, calls), CALLS, sandbox, intro={"context_length": context.chars})
    try:
        yield Shell(session, f"{opened.path}: {context.docs:,} documents, {context.nodes:,} nodes")
    finally:
        calls.cancel()
        session.close()
        asyncio.run_coroutine_threadsafe(gateway.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def talk_json(shell: Shell, fresh: bool) -> None:
    """One {"code": ...} line in, one result line out, until the input ends."""
    for line in sys.stdin:
        print(json.dumps(_answer_line(shell, line, fresh)), flush=True)


def _answer_line(shell: Shell, line: str, fresh: bool) -> dict[str, Json]:
    try:
        asked = json.loads(line)
        code = asked["code"]
        if not isinstance(code, str):
            raise TypeError(f"code is {type(code).__name__}")
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        why = f'expected a line {{"code": "..."}}, found {line[:80]!r} ({e})'
        return {"status": "error", "stdout": "", "error": why, "seconds": 0.0}
    if fresh:
        shell.session.reset()
    return result_json(shell.session.run(code))


def result_json(result: CellResult) -> dict[str, Json]:
    return {
        "status": result.status,
        "stdout": result.stdout,
        "error": result.error,
        "seconds": round(result.seconds, 4),
    }


def talk(shell: Shell, fresh: bool) -> None:
    """Prompts at a terminal; a block ends with an empty line, the session with Ctrl-D."""
    print(f"{shell.about}. `context` is the tree: try context.overview(). Ctrl-D ends.", file=sys.stderr)
    while (code := _read_cell()) is not None:
        if not code.strip():
            continue
        if fresh:
            shell.session.reset()
        result = shell.session.run(code)
        print(result.stdout, end="" if result.stdout.endswith("\n") or not result.stdout else "\n")
        if result.error:
            print(f"{result.status}: {result.error}")


def _read_cell() -> str | None:
    """Lines until they make a whole cell; None at the end of input."""
    lines: list[str] = []
    while True:
        try:
            lines.append(input("... " if lines else ">>> "))
        except EOFError:
            return "\n".join(lines) if lines else None
        if _is_whole(lines):
            return "\n".join(lines)


def _is_whole(lines: list[str]) -> bool:
    """Whether the lines can run as they stand. Wrong code is whole too: the sandbox says what is wrong with it."""
    try:
        whole = codeop.compile_command("\n".join(lines), symbol="exec") is not None
    except (SyntaxError, ValueError, OverflowError):
        return True
    return whole and (len(lines) == 1 or not lines[-1].strip())
