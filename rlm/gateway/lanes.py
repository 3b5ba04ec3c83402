"""What several gateways share: the provider's rate limits and the process's slots, given out in turn."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rlm.gateway.pacing import Pacing


@dataclass(slots=True)
class Slots:
    """At most `count` at a time, across threads and event loops; `None`: any number.

    A freed slot goes to the owner whose turn it is, one owner after another, however many wait for each.
    """

    count: int | None = None
    _free: int = field(default=0, init=False)
    _waiting: dict[object, deque["Future[None]"]] = field(default_factory=dict, init=False)  # next turn first
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"a concurrency of {self.count} lets nothing through; give at least 1")
        self._free = self.count or 0

    @asynccontextmanager
    async def one(self, owner: object) -> AsyncIterator[None]:
        """Hold a slot; `owner` is any hashable thing that its calls have in common."""
        if self.count is None:
            yield
            return
        await self._acquire(owner)
        try:
            yield
        finally:
            self._pass_on()

    async def _acquire(self, owner: object) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn: Future[None] = Future()
            self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await asyncio.wrap_future(turn)
        except asyncio.CancelledError:
            if not turn.cancel():  # the slot came at the same moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Give the slot to whoever is next and still wants it."""
        with self._lock:
            while self._waiting:
                owner = next(iter(self._waiting))
                queue = self._waiting.pop(owner)
                turn = queue.popleft()
                if queue:
                    self._waiting[owner] = queue  # behind all others
                if turn.set_running_or_notify_cancel():
                    turn.set_result(None)
                    return
            self._free += 1


@dataclass(slots=True)
class Lanes:
    """The limits of a process: calls under way, and requests and tokens a minute for each model; `None`: no limit.

    Gateways that share it take turns, so that one with hundreds of calls waiting delays another by a call or two.
    """

    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    pacing: Pacing = field(init=False, repr=False)
    _slots: Slots = field(init=False, repr=False)
    _gates: dict[str, Slots] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.pacing = Pacing(self.requests_per_minute, self.tokens_per_minute)
        self._slots = Slots(self.concurrency)

    @asynccontextmanager
    async def slot(self, owner: object) -> AsyncIterator[None]:
        """Hold one of the process's slots."""
        async with self._slots.one(owner):
            yield

    async def start(self, owner: object, model: str, tokens: int) -> None:
        """Wait until the rate limits let a request of so many tokens start.

        Of the calls to a model, one at a time has a booking and waits for it; the others wait for their owners' turn.
        """
        if self.requests_per_minute is None and self.tokens_per_minute is None:
            # nobody has to book: there is at most a hold, the same for all
            await asyncio.sleep(self.pacing.wait_s(model, tokens))
            return
        async with self._gates.setdefault(model, Slots(1)).one(owner):
            await asyncio.sleep(self.pacing.wait_s(model, tokens))
