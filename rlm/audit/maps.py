"""What maps and reductions of a run were asked, and what came of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from index_store.terminal import count, one_line, percent
from rlm.audit.events import RecordedEvent
from rlm.mapping.certainty import count_values
from rlm.mapping.types import Answer, Count, Field, Mapped, Progress, Value

#: Verbs that put one question to each row. Their calls are packs of rows.
VERBS = ("llm_map", "llm_filter")
#: Verbs whose calls are packs: of rows, or of passages.
PACKS = (*VERBS, "llm_reduce")
#: Kinds of fields whose values are few enough to count.
COUNTED = ("label", "yes/no", "YYYY", "YYYY-MM")
#: Values of a field that are told, the most frequent first.
VALUES = 12
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


def values_counted(one: MapEvents) -> dict[str, dict[Value, Count]]:
    """How many rows have each value of each field whose values are few enough to count, the most frequent first, None
    where a row does not say; with the interval of `count_values` where rows were read twice."""
    columns: Mapping[str, Any] = one.called["columns"]
    names = [name for name, spec in columns.items() if isinstance(spec, list) or spec in COUNTED]
    firsts, fields = dict[object, int](), tuple(Field(name, "text") for name in names)
    mapped = Mapped(
        fields,
        [_answer(told, names) for told in one.answers],
        Progress(len(one.answers)),
        # Rows of one text have one answer: of one call, or of the store.
        [firsts.setdefault(_source(told), row) for row, told in enumerate(one.answers)],
        {row: _answer(told["again"], names) for row, told in enumerate(one.answers) if "again" in told},
        {row: _answer(told["first"], names) for row, told in enumerate(one.answers) if "first" in told},
    )
    return {name: count_values(mapped, name) for name in names}


def _answer(told: Mapping[str, Any], names: Iterable[str]) -> Answer:
    """What a row is told to be answered; a value that no countable field has is none."""
    values = told.get("values")
    if not isinstance(values, dict):
        return Answer(error=str(told.get("error", "")) or "no answer")
    given = ((name, values.get(name)) for name in names)
    return Answer({name: value if isinstance(value, str | bool) else None for name, value in given})


def _source(told: Mapping[str, Any]) -> object:
    return (told["call"], told.get("number")) if told.get("call") else told.get("text")


def counts_in_words(counts: Mapping[Value, Count]) -> str:
    """How many rows have each value of a field, VALUES of them: `ham 257 (240 to 274), spam 43 (26 to 60)`."""
    said = [
        f"{_value_in_words(value)} {_count_in_words(one)}" for value, one in islice(counts.items(), VALUES)
    ]
    more = [f"{len(counts) - VALUES:,} more"] if len(counts) > VALUES else []
    return ", ".join([*said, *more])


def _value_in_words(value: Value) -> str:
    if value is None:
        return "not said"
    return one_line(value, 60) if isinstance(value, str) else str(value).lower()


def _count_in_words(one: Count) -> str:
    interval = "" if one.low is None or one.high is None else f" ({one.low:,.0f} to {one.high:,.0f})"
    return f"{one.count:,}{interval}"


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
