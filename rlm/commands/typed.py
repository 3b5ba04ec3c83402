"""The questions that a person types at a terminal, with a history and lines to edit, or that a pipe holds."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from index_store.files import opening
from index_store.terminal import say
from rlm.gateway.naming import own_file

Read = Callable[[], Awaitable[str | None]]
HISTORY = "chat_history"


async def typed() -> AsyncIterator[str]:
    """Each question, without white space around it; a line that ends in a backslash goes on in the next."""
    read = _from_terminal() if sys.stdin.isatty() else _from_pipe()
    begun: list[str] = []
    while (line := await read()) is not None:
        if line.endswith("\\"):
            begun.append(line[:-1])
            continue
        whole, begun = "\n".join([*begun, line]).strip(), []
        if whole:
            yield whole
    if rest := "\n".join(begun).strip():
        yield rest


def _from_pipe() -> Read:
    """Lines read in a thread of their own, so that a question can be stopped while the next one is waited for."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the input
            for line in iter(sys.stdin.readline, ""):
                loop.call_soon_threadsafe(lines.put_nowait, line.rstrip("\r\n"))
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="rlm-typed", daemon=True).start()
    return lines.get


def _from_terminal() -> Read:
    """Lines that are edited; Alt-Enter and what is pasted make several. Ctrl-C drops a line, Ctrl-D ends the input."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.output import create_output

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    session: PromptSession[str] = PromptSession(
        "? ",
        history=_history(),
        multiline=True,
        key_bindings=keys,
        prompt_continuation="  ",
        output=create_output(always_prefer_tty=True),
    )

    async def read() -> str | None:
        while True:
            try:
                return await session.prompt_async(handle_sigint=False)
            except EOFError:
                return None
            except KeyboardInterrupt:
                say("(Ctrl-D or /exit ends)", file=sys.stderr)

    return read


def _history() -> Any:
    """The questions of earlier chats, in a file that only this user can read; none where that cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = history_file()
    return InMemoryHistory() if path is None else FileHistory(str(path))


def history_file() -> Path | None:
    """The file of the history, made where there is none, with mode 0600; None where it cannot be written, as without a
    home."""
    try:
        path = own_file("state", HISTORY)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = os.open(path, opening("RDWR", "APPEND", "CREAT", "NOFOLLOW", "CLOEXEC"), 0o600)
        try:
            if hasattr(os, "fchmod"):  # on Windows what is in a user's folder is the user's
                os.fchmod(number, 0o600)
        finally:
            os.close(number)
    except OSError:
        return None
    return path
