"""What a run had cost after each of its model calls."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from rlm.audit.events import RecordedEvent
from rlm.gateway.types import Usage


@dataclass(frozen=True, slots=True)
class Cost:
    """What all model calls of a run had used together up to event `seq`, at `time_s`."""

    seq: int = 0
    time_s: float = 0.0
    usage: Usage = Usage()  # noqa: RUF009  (frozen)


def costs(events: Iterable[RecordedEvent]) -> list[Cost]:
    """The Cost after each model call that has a usage, in order, calls of children and failed ones among them."""
    paid = [e for e in events if e["kind"] in ("model_answered", "model_failed") and "usage" in e]
    totals = accumulate(Usage(**event["usage"]) for event in paid)
    return [Cost(event["seq"], event["time_s"], total) for event, total in zip(paid, totals, strict=True)]


def in_dollars(usd: float) -> str:
    """An amount a person can compare: `$1.25`, `$0.0042`, `$0`."""
    return "$0" if usd == 0 else f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"
