"""Maps and reductions: the rows that were answered, by whom, and the calls that they took."""

import json
from typing import Any

from index_store.terminal import brief, count
from rlm.audit.consistency.story import Mapped, Reduction, Story
from rlm.audit.consistency.sums import digest, less, too_long, unlike_sum
from rlm.audit.events import RecordedEvent, is_taken
from rlm.audit.maps import map_in_words


def map_is_alone(story: Story, event: RecordedEvent) -> str:
    """A cell waits for a map before it goes on."""
    talk = story.talks[event["conversation"]]
    return "a map is called while another is under way" if talk.map and talk.map.cell == event["cell"] else ""


def map_is_under_way(story: Story, event: RecordedEvent) -> str:
    """Rows are answered, and a map returns, after it was called."""
    return (
        ""
        if story.talks[event["conversation"]].map
        else f"{event['kind']} tells of rows, and no map asked for any"
    )


def recalled_rows_are_its_own(story: Story, event: RecordedEvent) -> str:
    """The store has one answer each of rows that are asked about."""
    mapped, rows = story.talks[event["conversation"]].map, event["rows"]
    assert mapped is not None
    if len(rows) == len(event["values"]) == len(set(rows)) and all(row < mapped.rows for row in rows):
        return ""
    return "the store is said to have answers of rows that nobody asked about, or several of one"


def rows_are_answered_once(story: Story, event: RecordedEvent) -> str:
    """Answers are told in the order of rows, each once, each by the store or by a call of its map."""
    name, talk = event["conversation"], story.talks[event["conversation"]]
    mapped = talk.map
    assert mapped is not None
    if event["first"] != mapped.told:
        at = f"row {event['first']:,} where row {mapped.told:,} is next"
        return f"answers begin at {at}: some were removed, added or moved"
    if mapped.told + len(event["answers"]) > mapped.rows:
        return f"more answers are told than the {count(mapped.rows, 'row')} that were asked about"
    for number, one in enumerate(event["answers"], event["first"]):
        if ("values" in one) == ("error" in one):
            return f"row {number:,} has an answer and an error, or neither"
        if "values" in one and not one["call"] and not _had(mapped.recalled, event, number):
            return f"row {number:,} is said to have its answer from the store, which had no such answer"
        if one["call"] and not _is_called(one["call"], name, mapped.first_child, talk.children):
            return (
                f"row {number:,} is said to be answered by {brief(one['call'])}, which its map did not call"
            )
    return ""


def _had(recalled: set[bytes] | None, event: RecordedEvent, number: int) -> bool:
    """Whether the store had the answer of a row, as far as it was not taken out of the trace."""
    at = number - event["first"]
    taken = recalled is None or is_taken(event, f"answers/{at}")
    return taken or _values(event["answers"][at]["values"]) in (recalled or ())


def _is_called(call: str, parent: str, first: int, last: int) -> bool:
    """Whether a conversation is one of the children of `parent` that were called since there were `first`."""
    above, _, number = call.rpartition(".")
    return above == parent and number.isdecimal() and len(number) < 10 and first < int(number) <= last


def _values(values: dict[str, Any]) -> bytes:
    return digest(json.dumps(values, sort_keys=True))


def map_returns_what_it_told(story: Story, event: RecordedEvent) -> str:
    """A map returns when all its rows are told, and counts them, its calls and what they used as they were."""
    talk = story.talks[event["conversation"]]
    mapped = talk.map
    assert mapped is not None
    told = {
        "rows": mapped.told,
        "failed": mapped.failed,
        "stored": mapped.stored,
        "calls": talk.children - mapped.first_child,
    }
    if mapped.told != mapped.rows:
        return f"a map returns with {mapped.told:,} of {count(mapped.rows, 'row')} told"
    for name, number in told.items():
        if event[name] != number:
            return f"a map is said to have {event[name]:,} {name}, and the trace has {number:,}"
    if unlike := unlike_sum(story, event["usage"], less(talk.used, mapped.used), "the map", "its calls"):
        return unlike
    return too_long(event, mapped.began_s, "the map")


def reduction_is_alone(story: Story, event: RecordedEvent) -> str:
    """A cell waits for a reduction before it goes on."""
    own = story.talks[event["conversation"]].reduction
    return "a reduction is called while another is under way" if own and own.cell == event["cell"] else ""


def reduces_what_was_called(story: Story, event: RecordedEvent) -> str:
    """Prompts of a reduction are asked while it is under way, and no more of them than it was to take."""
    if event["verb"] != "llm_reduce":
        return ""
    talk = story.talks[event["conversation"]]
    if talk.reduction is None:
        return "prompts of a reduction are asked, and none is under way"
    made = talk.children + len(event["children"]) - talk.reduction.first_child
    if made > talk.reduction.calls:
        return f"a reduction makes {made:,} calls where it was to make {talk.reduction.calls:,} at most"
    return ""


def reduction_returns_what_it_did(story: Story, event: RecordedEvent) -> str:
    """A reduction returns after it was called, and counts its calls and what they used as they were."""
    talk = story.talks[event["conversation"]]
    own = talk.reduction
    if own is None:
        return "a reduction returns, and none is under way"
    if event["calls"] != (made := talk.children - own.first_child):
        return f"a reduction is said to have made {event['calls']:,} calls, and the trace has {made:,}"
    if unlike := unlike_sum(story, event["usage"], less(talk.used, own.used), "the reduction", "its calls"):
        return unlike
    return too_long(event, own.began_s, "the reduction")


def map_called(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    talk.map = Mapped(event["verb"], event["rows"], event["cell"], talk.children, event["time_s"], talk.used)


def rows_recalled(story: Story, event: RecordedEvent) -> None:
    if (mapped := story.talks[event["conversation"]].map) is not None:
        had = {_values(values) for values in event["values"]}
        mapped.recalled = (
            None if mapped.recalled is None or is_taken(event, "values") else mapped.recalled | had
        )


def rows_answered(story: Story, event: RecordedEvent) -> None:
    if (mapped := story.talks[event["conversation"]].map) is not None:
        mapped.told += len(event["answers"])
        mapped.failed += sum("error" in one for one in event["answers"])
        mapped.stored += sum("values" in one and not one["call"] for one in event["answers"])


def map_returned(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    talk.map, talk.mapped = None, map_in_words(event)


def reduce_called(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    calls, began_s = event["plan"]["calls"], event["time_s"]
    talk.reduction = Reduction(event["cell"], calls, talk.children, began_s, talk.used)


def reduce_returned(story: Story, event: RecordedEvent) -> None:
    story.talks[event["conversation"]].reduction = None
