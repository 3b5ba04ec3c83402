"""What came of a map, in words."""

from typing import Any

from index_store.terminal import count, one_line, percent
from rlm.audit.events import RecordedEvent

#: Verbs that put one question to each row. Their calls are packs of rows.
VERBS = ("llm_map", "llm_filter")
#: What is told of a map where there is some of it.
OF_A_MAP = {"failed": "without an answer", "asked_again": "asked again", "stored": "from the store"}


def map_in_words(event: RecordedEvent) -> str:
    """What came of a map: rows answered, without an answer, asked again, from the store; and how its readings agree."""
    told = [f"{event['rows'] - event['failed']:,} of {count(event['rows'], 'row')} answered"]
    told += [f"{event[name]:,} {words}" for name, words in OF_A_MAP.items() if event[name]]
    told += [f"{one_line(name, 60)}: {agreement_in_words(one)}" for name, one in event["agreement"].items()]
    return ", ".join(told)


def agreement_in_words(agreement: Any) -> str:
    """How often two readings of a row gave the same, with the interval; '' for what says no such thing."""
    fits = isinstance(agreement, dict) and all(
        isinstance(agreement.get(name), int | float) for name in ("share", "low", "high", "rows")
    )
    if not fits:
        return ""
    share, low, high = (percent(agreement[name]) for name in ("share", "low", "high"))
    return f"two readings of {agreement['rows']:,} agree in {share} ({low} to {high})"
