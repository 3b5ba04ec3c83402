"""From blocking code into async code, also where an event loop already runs (a notebook)."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
_START_S = 1.0


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end and return its result; in a thread of its own when this thread has a loop.

    An interrupt (Ctrl-C, a notebook's stop) cancels the work, waits until it has ended, and is raised.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    cancel: list[Callable[[], object]] = []
    interrupted, begun, ended = threading.Event(), threading.Event(), threading.Event()

    async def cancellable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
        cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
        begun.set()
        if interrupted.is_set():
            task.cancel()
        try:
            return await task
        finally:
            ended.set()

    with ThreadPoolExecutor(1, thread_name_prefix="rlm") as pool:
        try:
            return pool.submit(asyncio.run, cancellable()).result()
        except KeyboardInterrupt:
            interrupted.set()
            with suppress(RuntimeError):  # its loop is closed: it has just ended by itself
                [each() for each in cancel]
            if begun.wait(_START_S):  # the pool does not wait for a thread whose start was interrupted
                ended.wait()
            raise
