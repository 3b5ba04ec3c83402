"""Sums of what calls used, times and digests, which several rules compare."""

import hashlib
from collections.abc import Iterator
from typing import Any

from index_store.terminal import count
from rlm.audit.consistency.story import SLACK_S, Story
from rlm.audit.events import RecordedEvent
from rlm.gateway.types import Usage


def lineage(name: str) -> Iterator[str]:
    """A conversation and those above it."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def digest(text: str) -> bytes:
    """A sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def slack_usd(story: Story, usd: float) -> float:
    """What a sum of dollars may be off: the ledger rounds each call up to a picodollar, and floats round sums."""
    return 1e-9 + story.paid * 1e-11 + usd * 1e-9


def covers(story: Story, more: Usage, less: Usage) -> bool:
    """Whether one usage is no less than another."""
    counts = more.calls >= less.calls and more.prompt_tokens >= less.prompt_tokens
    counts = counts and more.completion_tokens >= less.completion_tokens
    return counts and more.usd >= less.usd - slack_usd(story, less.usd)


def unlike_sum(story: Story, said: dict[str, Any], summed: Usage, who: str, parts: str) -> str:
    """What is wrong with a usage that is said to be a sum."""
    usage = Usage(**said)
    if covers(story, usage, summed) and covers(story, summed, usage):
        return ""
    return f"{who} said to have used {in_words(usage)}, and {parts} together {in_words(summed)}"


def in_words(usage: Usage) -> str:
    """A usage as a sentence has it."""
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"
    return f"{count(usage.calls, 'call')}, {tokens}, ${usage.usd:g}"


def less(one: Usage, other: Usage) -> Usage:
    """What one usage has more than another before it."""
    return Usage(
        one.calls - other.calls,
        one.prompt_tokens - other.prompt_tokens,
        one.completion_tokens - other.completion_tokens,
        one.usd - other.usd,
    )


def too_long(event: RecordedEvent, began_s: float, who: str) -> str:
    """What is wrong with a duration that is longer than the time since it could begin."""
    took = event["time_s"] - began_s
    if event["seconds"] <= took + SLACK_S:
        return ""
    return f"{who} took {event['seconds']} s, and {took:.3f} s passed since it could begin"
