"""What a run had cost after each of its model calls, and what of it was had before."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from index_store.terminal import count
from rlm.audit.conversation import asks
from rlm.audit.events import RecordedEvent
from rlm.gateway.types import Message, Usage

#: The kinds of events that tell what a call was charged.
PAID = ("model_answered", "model_failed", "embedded")


@dataclass(frozen=True, slots=True)
class Cost:
    """What all model calls of a run had used together up to event `seq`, at `time_s`."""

    seq: int = 0
    time_s: float = 0.0
    usage: Usage = Usage()  # noqa: RUF009  (frozen)


def costs(events: Iterable[RecordedEvent]) -> list[Cost]:
    """The Cost after each model call that has a usage, in order, calls of children and failed ones among them."""
    paid = [e for e in events if e["kind"] in PAID and "usage" in e]
    totals = accumulate(Usage(**event["usage"]) for event in paid)
    return [Cost(event["seq"], event["time_s"], total) for event, total in zip(paid, totals, strict=True)]


@dataclass(frozen=True, slots=True)
class Reuse:
    """What of a run was had before.

    `stored`: replies from the store, which cost nothing. `cached_tokens`: tokens of prompts that providers had in their
    caches. `root`, `batches`: of the prompts that came after another, in the root and within each batch of sub-calls,
    the share that is the beginning of that other one, which a provider may have kept; in characters, which stand for
    tokens. None where no prompt came after another.
    """

    stored: int = 0
    cached_tokens: int = 0
    root: float | None = None
    batches: float | None = None

    def in_words(self) -> str:
        """`3 replies from the store, 1,200 tokens cached by the provider`; '' for neither."""
        told = {
            f"{count(self.stored, 'reply', 'replies')} from the store": self.stored,
            f"{count(self.cached_tokens, 'token')} cached by the provider": self.cached_tokens,
        }
        return ", ".join(words for words, number in told.items() if number)

    def shares_in_words(self) -> str:
        """`root 0.83, batches 0.41`: how much of each prompt the one before had begun with; '' for no such prompt."""
        told = {"root": self.root, "batches": self.batches}
        return ", ".join(f"{name} {share:.2f}" for name, share in told.items() if share is not None)


def reuse(events: Sequence[RecordedEvent]) -> Reuse:
    """What of a run was had before, by the record of it."""
    replies = [event for event in events if event["kind"] == "model_answered"]
    stored = {(event["conversation"], event["call"]) for event in replies if event["cached"]}
    tokens = sum(
        event["served"]["cached_tokens"] for event in replies if "served" in event and not event["cached"]
    )
    root, batches, batch_of = list[Sequence[Message]](), list[list[Sequence[Message]]](), dict[str, int]()
    sent = {event["seq"]: messages for event, messages in asks(events)}
    for event in events:
        name = event["conversation"]
        if event["kind"] == "child_called" and event["verb"].startswith("llm_"):
            batch_of |= dict.fromkeys(event["children"], len(batches))
            batches.append([])
        elif event["kind"] == "model_asked" and (name, event["call"]) not in stored:
            if name == "0":
                root.append(sent[event["seq"]])
            elif name in batch_of:
                batches[batch_of.pop(name)].append(sent[event["seq"]])
    return Reuse(len(stored), tokens, _share([root]), _share(batches))


def _share(runs: Iterable[Sequence[Sequence[Message]]]) -> float | None:
    """Of the prompts after the first of each run, the share that repeats the beginning of the one before."""
    pairs = [pair for prompts in runs for pair in pairwise(prompts)]
    size = sum(len(message["content"]) for _, prompt in pairs for message in prompt)
    return sum(_repeated(*pair) for pair in pairs) / size if size else None


def _repeated(before: Sequence[Message], after: Sequence[Message]) -> int:
    """With how many characters two prompts begin alike."""
    chars = 0
    for one, other in zip(before, after, strict=False):
        if one["role"] != other["role"]:
            break
        if one["content"] != other["content"]:
            return chars + _alike(one["content"], other["content"])
        chars += len(one["content"])
    return chars


def _alike(one: str, other: str) -> int:
    """With how many characters two texts begin alike."""
    sizes = range(min(len(one), len(other)) + 1)
    return bisect_left(sizes, True, key=lambda size: one[:size] != other[:size]) - 1 if sizes else 0


def in_dollars(usd: float) -> str:
    """An amount a person can compare: `$1.25`, `$0.0042`, `$0`."""
    return "$0" if usd == 0 else f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"
