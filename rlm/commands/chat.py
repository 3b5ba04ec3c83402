"""`rlm chat`: questions from the terminal, or one a line from a pipe, until the input ends."""

import argparse
import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator

from index_store.index import Index, open_any
from index_store.terminal import one_line, say
from rlm.asking.chat import open_chat
from rlm.asking.options import Options
from rlm.asking.runs import ready
from rlm.commands.answers import as_text
from rlm.commands.live import live
from rlm.commands.options import options_of
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking


def chat(args: argparse.Namespace) -> int:
    """Ask each line that is typed as a question, until the input ends. Returns the exit code, 2 if one failed."""
    options = options_of(args)
    return run_blocking(
        _chat(ready(open_any(args.index, args.embedder), options.models), options, args.quiet)
    )


async def _chat(opened: Index, o: Options, quiet: bool) -> int:
    code = 0
    async with open_chat(
        opened, models=o.models, limits=o.limits, demands=o.demands, scope=o.scope, runs=o.runs
    ) as opened_chat:
        async for question in _typed():
            try:
                with live(sys.stderr, quiet=quiet) as watch:
                    answer = await opened_chat.ask(question, watch)
            except RlmError as e:
                say(f"rlm: {one_line(str(e), 2_000)}", file=sys.stderr)
                code = 2
                continue
            say(as_text(answer), flush=True)
    if opened_chat.head:  # the line that ends the trace comes after the last answer
        say(f"\nend of the chat\nhead:  {opened_chat.head}", flush=True)
    return code


async def _typed() -> AsyncIterator[str]:
    """Each line that is not empty, until "exit" or the end of the input, read in a thread of its own."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the input
            for line in iter(sys.stdin.readline, ""):
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, "exit")

    threading.Thread(target=read, name="rlm-typed", daemon=True).start()
    while True:
        if sys.stdin.isatty():
            say("? ", end="", file=sys.stderr, flush=True)
        line = (await lines.get()).strip()
        if line in ("exit", "quit"):
            return
        if line:
            yield line
