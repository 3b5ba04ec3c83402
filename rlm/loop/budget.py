"""What a run may still spend, and until when: one pool for a root conversation and all its descendants."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from index_store.types import Json
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger, Reservation
from rlm.gateway.models import price
from rlm.gateway.types import Usage

#: (prompt, reply) tokens of the call that is kept back: the first that takes no more than a part of each cap.
LAST_CALLS = ((4_000, 1_000), (1_500, 400))
LAST_PART = 4


@dataclass(slots=True)
class Budget:
    """A pool of dollars, tokens and calls, and a clock.

    `gateway`: where the pool is spent. `last`: set aside for an answer when all else is spent. `began`: of the clock,
    by `time.monotonic`.
    """

    gateway: Gateway
    timeout_s: float
    last: Reservation | None = None
    began: float = field(default_factory=time.monotonic)
    _used: dict[str, Usage] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return self.gateway.ledger

    @property
    def left_s(self) -> float:
        """Seconds of wall clock that are left."""
        return self.began + self.timeout_s - time.monotonic()

    def left(self) -> dict[str, Json]:
        """What is left under each cap; None where there is none."""
        caps, seconds = self.ledger.left(), round(max(self.left_s, 0.0), 1)
        return {"usd": caps.usd, "tokens": caps.tokens, "calls": caps.calls, "seconds": seconds}

    # -- the call that is kept back ----------------------------------------------------------------------

    def keep_back(self, model: str) -> None:
        """Set one call aside, so that an answer can be given when all else is spent; none where caps are small."""
        left = self.ledger.left()
        for prompt, reply in LAST_CALLS:
            worst = Usage(1, prompt, reply, price(model, prompt, reply) or 0.0)
            amounts = (worst.calls, left.calls), (worst.tokens, left.tokens), (worst.usd, left.usd)
            if all(cap is None or amount <= cap / LAST_PART for amount, cap in amounts):
                self.last = self.ledger.reserve(worst)
                return

    def take_last(self) -> Reservation | None:
        """The call that was kept back, for whoever makes it now; None where there is none."""
        last, self.last = self.last, None
        return last

    def let_go(self) -> None:
        """Give back what was set aside and not used."""
        if (last := self.take_last()) is not None:
            self.ledger.release(last)

    # -- children ----------------------------------------------------------------------------------------

    def shares(self, children: int) -> list["Budget"]:
        """A budget for each of so many children: under caps of its own, an even part of what is left.

        The pool above stays the bound for all of them together; one part stays for the parent.
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
        """Note what a conversation used; the ledger was charged already."""
        self._used[conversation] = self._used.get(conversation, Usage()) + usage

    def used(self, conversations: Iterable[str]) -> Usage:
        """What these conversations and their descendants were charged so far."""
        wanted = frozenset(conversations)
        shares = (usage for name, usage in self._used.items() if not wanted.isdisjoint(lineage(name)))
        return sum(shares, Usage())


def lineage(conversation: str) -> Iterator[str]:
    """A conversation and those it descends from: "0.3.1", "0.3", "0"."""
    while conversation:
        yield conversation
        conversation = conversation.rpartition(".")[0]
