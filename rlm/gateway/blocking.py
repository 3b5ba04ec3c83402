"""From blocking code into async code, also where an event loop already runs (a notebook)."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end and return its result; in a thread of its own when this thread has a loop.

    An interrupt (Ctrl-C, a notebook's stop) cancels the work, waits until it has ended, and is raised.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    cancel: list[Callable[[], object]] = []
    interrupted = threading.Event()

    async def cancellable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
        cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
        if interrupted.is_set():
            task.cancel()
        return await task

    with ThreadPoolExecutor(1, thread_name_prefix="rlm") as pool:
        running = pool.submit(asyncio.run, cancellable())
        try:
            return running.result()
        except KeyboardInterrupt:
            interrupted.set()
            with suppress(RuntimeError):  # its loop is closed: it has just ended by itself
                [each() for each in cancel]
            raise
