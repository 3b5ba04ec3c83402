"""What maps and reductions of a run were asked, and what came of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from index_store.terminal import count, one_line, percent
from rlm.audit.events import RecordedEvent

#: Verbs that put one question to each row. Their calls are packs of rows.
VERBS = ("llm_map", "llm_filter")
#: Verbs whose calls are packs: of rows, or of passages.
PACKS = (*VERBS, "llm_reduce")
#: Kinds of fields whose values are few enough to count.
COUNTED = ("label", "yes/no", "YYYY", "YYYY-MM")
#: What is told of a map where there is some of it.
OF_A_MAP = {"failed": "without an answer", "asked_again": "asked again", "stored": "from the store"}


_OF_A_PLAN = (
    ("calls", "{:,} calls"),
    ("text_tokens", "{:,} tokens of rows"),
    ("prompt_tokens", "{:,} prompt tokens"),
    ("reply_tokens", "about {:,} of replies"),
)


@dataclass(slots=True)
class MapEvents:
    """A map as its events tell it. `answers`: of its rows, in order; `returned`: None where it has no end."""

    called: RecordedEvent
    answers: list[Mapping[str, Any]] = field(default_factory=list)
    returned: RecordedEvent | None = None


def maps_of(events: Iterable[RecordedEvent]) -> list[MapEvents]:
    """The maps of a run, in the order of their calls."""
    maps: list[MapEvents] = []
    under_way: dict[str, MapEvents] = {}
    for event in events:
        kind, who = event["kind"], event["conversation"]
        if kind == "map_called":
            under_way[who] = MapEvents(event)
            maps.append(under_way[who])
        elif kind == "rows_answered" and who in under_way:
            under_way[who].answers += event["answers"]
        elif kind == "map_returned" and who in under_way:
            under_way.pop(who).returned = event
    return maps


def is_one_map(opened: RecordedEvent) -> bool:
    """Whether a run, by its first event, is a map and nothing else: its answer is what came of that."""
    return "map" in opened


def values_counted(one: MapEvents) -> dict[str, Counter[str | bool | None]]:
    """How many rows have each value of each field whose values are few enough to count, the most frequent first as
    `most_common` gives them; None where a row does not say."""
    counts: dict[str, Counter[str | bool | None]] = {}
    for name, spec in one.called["columns"].items():
        if isinstance(spec, list) or spec in COUNTED:
            given = (answer["values"].get(name) for answer in one.answers if "values" in answer)
            counts[name] = Counter(value for value in given if value is None or isinstance(value, str | bool))
    return counts


def without_packs(events: Iterable[RecordedEvent]) -> list[RecordedEvent]:
    """The events without what each pack of a map or a reduction was sent and replied, where it replied: there may be
    thousands, and what came of them stands in their rows or notes."""
    packs, kept = set[str](), list[RecordedEvent]()
    for event in events:
        if event["kind"] == "child_called" and event["verb"] in PACKS:
            packs.update(event["children"])
        is_pack = event["conversation"] in packs
        if not (is_pack and event["kind"] in ("model_asked", "model_answered")):
            kept.append(event)
    return kept


def map_plan_in_words(plan: Mapping[str, Any]) -> str:
    """What a map takes if nothing is asked again, as far as its plan says it."""
    said = ((plan.get(name), words) for name, words in _OF_A_PLAN)
    return ", ".join(words.format(value) for value, words in said if isinstance(value, int))


def map_in_words(event: RecordedEvent) -> str:
    """What came of a map: rows answered, without an answer, asked again, from the store; and how its readings agree."""
    told = [f"{event['rows'] - event['failed']:,} of {count(event['rows'], 'row')} answered"]
    told += [f"{event[name]:,} {words}" for name, words in OF_A_MAP.items() if event[name]]
    # By name, as a trace holds them.
    agreement = sorted(event["agreement"].items())
    told += [f"{one_line(name, 60)}: {agreement_in_words(one)}" for name, one in agreement]
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
