"""An embedder that waits until the event loop of a search goes on, to see whether the search holds it up."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from index_store.index import Index
from tests.helpers.rlm_toy import ToyEmbedder

Result = TypeVar("Result")
_PATIENCE_S = 60.0  # of a search that does hold it up, which then fails


def while_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch, search: Callable[[], Awaitable[Result]]
) -> Result:
    """The result of a search whose embedder waits for something else in the same event loop."""
    begun, go_on = threading.Event(), threading.Event()

    class Waiting(ToyEmbedder):
        def encode(self, texts: list[str]) -> Any:
            begun.set()
            assert go_on.wait(_PATIENCE_S), "the event loop stood still meanwhile"
            return super().encode(texts)

    async def both() -> Result:
        task = asyncio.ensure_future(search())
        while not begun.is_set() and not task.done():
            await asyncio.sleep(0.005)
        go_on.set()
        return await task

    monkeypatch.setattr(Index, "_embedder", Waiting())
    return asyncio.run(both())
