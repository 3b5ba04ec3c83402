"""What a run may still spend, and for how long: one pool for a root conversation and all its descendants."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from index_store.types import Json
from rlm.gateway import paying
from rlm.gateway.errors import CallFailed, OverBudget
from rlm.gateway.gateway import Gateway, Tell
from rlm.gateway.ledger import Caps, Ledger, Reservation
from rlm.gateway.models import highest_price
from rlm.gateway.types import Reply, Request, Usage
from rlm.mapping.types import Values, Wanted
from rlm.memo import Memo

#: Sizes of the call that is set aside for a last answer, as (prompt, reply) tokens. The first is taken that needs at
#: most one part in LAST_PART of what is left under each cap.
LAST_CALLS = ((4_000, 1_000), (1_500, 400))
LAST_PART = 4
#: Seconds that a search waits at most for what it is for to be embedded: a run that is stopped waits for that too.
EMBED_S = 60.0


@dataclass(slots=True)
class Budget:
    """A pool of dollars, tokens and calls, and a clock. A replay puts another in its place, as all that a run has from
    outside, beside its texts, comes by this.

    `gateway`: makes the model calls and charges them to its ledger. `timeout_s`: wall clock of the whole run. `last`:
    the reservation for one last answer when all else is spent; None where there is none. `began`: when the clock
    started, in seconds of `time.monotonic`. `memo`: has what was answered before; None for a run that asks everything.
    """

    gateway: Gateway
    timeout_s: float
    last: Reservation | None = None
    began: float = field(default_factory=time.monotonic)
    memo: Memo | None = None
    _used: dict[str, Usage] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        """The ledger that calls on this budget are charged to."""
        return self.gateway.ledger

    @property
    def left_s(self) -> float:
        """Seconds of wall clock that are left; below 0 once time is up."""
        return self.began + self.timeout_s - time.monotonic()

    def left(self) -> dict[str, Json]:
        """What is left of "usd", "tokens" and "calls", None for one without a cap, and of "seconds"."""
        caps, seconds = self.ledger.left(), round(max(self.left_s, 0.0), 1)
        return {"usd": caps.usd, "tokens": caps.tokens, "calls": caps.calls, "seconds": seconds}

    def told(self, conversation: str) -> dict[str, Json]:
        """What is left, as the code or the model of a conversation is told."""
        return self.left()

    def within(self) -> asyncio.Timeout:
        """A context that ends, with TimeoutError, when the time is up."""
        return asyncio.timeout(max(self.left_s, 0.001))

    def passed(self, conversation: str) -> str:
        """Which cap was passed by what was spent, as `Ledger.passed`, for a conversation that a reply came to."""
        return self.ledger.passed()

    # -- calls -------------------------------------------------------------------------------------------

    async def complete(
        self, conversation: str, request: Request, held: Reservation | None, tell: Tell
    ) -> Reply:
        """Make one call of a conversation, as `Gateway.complete`."""
        return await self.gateway.complete(request, held, tell)

    async def embed(self, conversation: str, request: Request, tell: Tell) -> Reply:
        """Make a call that embeds what a conversation searches for, on whichever event loop. Raises GatewayError."""
        try:
            async with asyncio.timeout(min(max(self.left_s, 0.001), EMBED_S)), self.gateway as gateway:
                return await gateway.complete(request, None, tell)
        except TimeoutError as e:
            raise CallFailed(f"the call to {request.model} did not end in time") from e

    async def recall(self, conversation: str, keys: Sequence[str]) -> list[Json]:
        """What the store has for each key, None for what is to be asked, for a conversation that is about to ask."""
        return await asyncio.to_thread(self.memo.recall, keys) if self.memo else [None] * len(keys)

    async def recall_rows(self, conversation: str, wanted: Sequence[Wanted]) -> list[Values | None]:
        """What the store has of the answers that a map wants; None for a row that is to be asked."""
        stored = await self.recall(conversation, [one.key for one in wanted])
        return [values if isinstance(values, dict) else None for values in stored]

    async def keep(self, conversation: str, values: Mapping[str, Json]) -> None:
        """Keep what a conversation was answered, by its keys."""
        if self.memo:
            await asyncio.to_thread(self.memo.keep, values)

    def trouble(self, conversation: str) -> str:
        """Why the store is not used any more, as `Memo.trouble`, for a conversation that has just used it."""
        return self.memo.trouble() if self.memo else ""

    def worsts(self, conversation: str, requests: Sequence[Request]) -> list[Usage]:
        """What each of several calls of a conversation may use at most, as `Gateway.worst`."""
        return [self.gateway.worst(request) for request in requests]

    def worsts_of(self, conversation: str, model: str, sizes: Sequence[tuple[int, int]]) -> list[Usage]:
        """As `worsts`, of calls whose prompts and replies have so many tokens at most."""
        return [self.gateway.worst_of(model, prompt, reply) for prompt, reply in sizes]

    async def reserve_all(self, conversation: str, worsts: Sequence[Usage]) -> list[Reservation]:
        """Set aside what each of several calls needs at most. Raises OverBudget where they do not fit."""
        return await paying.reserve_all(self.ledger, worsts)

    async def release(self, reservations: Sequence[Reservation]) -> None:
        """Give back what is still set aside of these, for calls that were not made."""
        await paying.release(self.ledger, reservations)

    def pays(self, request: Request) -> bool:
        """Whether what is left pays for a call."""
        left, worst = self.ledger.left(), self.gateway.worst(request)
        return (left.tokens is None or worst.tokens <= left.tokens) and (
            left.usd is None or worst.usd <= left.usd
        )

    # -- the call that is set aside ----------------------------------------------------------------------

    async def reserve_last(self, model: str, first: Callable[[], Usage]) -> None:
        """Set one call to `model` aside, for an answer when all else is spent; none where the caps are too small for
        that beside the `first`, or others have emptied the purse."""
        worst = last_call(model, self.ledger.left(), self.ledger.sure(), first())
        self.last = None
        if worst is not None:
            with suppress(OverBudget):
                (self.last,) = await self.reserve_all("0", [worst])

    def take_last(self) -> Reservation | None:
        """Hand over the reservation of the call that was set aside; None where there is none."""
        last, self.last = self.last, None
        return last

    async def release_last(self) -> None:
        """Give the call that was set aside, and not made, back to the pool."""
        if (last := self.take_last()) is not None:
            await self.release([last])

    # -- children ----------------------------------------------------------------------------------------

    def shares(self, children: int) -> list["Budget"]:
        """A budget for each of `children` children, capped at an even part of what is left; one part is the parent's.

        What a child spends is charged to this budget too, whose caps hold for all of them together.
        """
        left, parts = self.ledger.left(), children + 1
        caps = Caps(
            None if left.usd is None else left.usd / parts,
            None if left.tokens is None else left.tokens // parts,
            None if left.calls is None else max(left.calls // parts, 1),
        )
        ledgers = [Ledger(caps, parent=self.ledger) for _ in range(children)]
        return [replace(self, gateway=self.gateway.under(ledger), last=None) for ledger in ledgers]

    def charge(self, conversation: str, usage: Usage) -> None:
        """Count `usage` for a conversation; the gateway has charged it to the ledger already."""
        self._used[conversation] = self._used.get(conversation, Usage()) + usage

    def used(self, conversations: Iterable[str]) -> Usage:
        """The usage of these conversations and all their descendants so far."""
        wanted = frozenset(conversations)
        # Sorted, so that a sum of dollars does not hang on which of several children was the first to pay.
        shares = (usage for name, usage in sorted(self._used.items()) if not wanted.isdisjoint(lineage(name)))
        return sum(shares, Usage())


def last_call(model: str, left: Caps, sure: Caps, first: Usage) -> Usage | None:
    """What the call to `model` that is set aside for a last answer may use; None where the caps are too small for one.

    `left`: under each cap; `sure`: of that, what no other question can take; the `first` call has to fit in beside it.
    """
    for prompt, reply in LAST_CALLS:
        worst = Usage(1, prompt, reply, highest_price(model, prompt, reply) or 0.0)
        if _within(worst, left, LAST_PART) and _within(worst + first, sure):
            return worst
    return None


def _within(usage: Usage, caps: Caps, part: int = 1) -> bool:
    """Whether a usage is no more than one part in `part` of each cap."""
    amounts = (usage.calls, caps.calls), (usage.tokens, caps.tokens), (usage.usd, caps.usd)
    return all(cap is None or amount <= cap / part for amount, cap in amounts)


def lineage(conversation: str) -> Iterator[str]:
    """The ids of a conversation and of those it descends from, itself first: "0.3.1", "0.3", "0"."""
    while conversation:
        yield conversation
        conversation = conversation.rpartition(".")[0]
