"""What a run had cost after each of its model calls."""

from collections.abc import Iterable
from dataclasses import dataclass

from rlm.audit.events import RecordedEvent


@dataclass(frozen=True, slots=True)
class Cost:
    """The sum over all model calls of a run, up to event `seq` at `time_s`."""

    seq: int = 0
    time_s: float = 0.0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


def costs(events: Iterable[RecordedEvent]) -> list[Cost]:
    """The Cost after each model call that has a usage, in order, calls of children and failed ones among them."""
    totals: list[Cost] = []
    for event in events:
        if event["kind"] in ("model_answered", "model_failed") and "usage" in event:
            totals.append(_after(totals[-1] if totals else Cost(), event))
    return totals


def _after(before: Cost, event: RecordedEvent) -> Cost:
    usage = event["usage"]
    return Cost(
        event["seq"],
        event["time_s"],
        before.calls + usage["calls"],
        before.prompt_tokens + usage["prompt_tokens"],
        before.completion_tokens + usage["completion_tokens"],
        before.usd + usage["usd"],
    )


def in_dollars(usd: float) -> str:
    """An amount a person can compare: `$1.25`, `$0.0042`, `$0`."""
    return "$0" if usd == 0 else f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"
