"""Maps and reductions: the rows that were answered, by whom, and the calls that they took."""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from index_store.terminal import brief, count
from rlm.audit.consistency.story import ROW_BYTES, Mapped, Pack, Recalled, Reduction, Story
from rlm.audit.consistency.sums import digest, less, too_long, unlike_sum
from rlm.audit.events import RecordedEvent, is_taken
from rlm.audit.maps import map_in_words
from rlm.mapping.certainty import agreement_json, same, share_of
from rlm.mapping.fields import parse_fields
from rlm.mapping.types import MappingError, Turn
from rlm.mapping.wording import digests_in, read_reply, row_record

#: Rows of a map: more have no number in a trace that could be held against others.
MOST_ROWS = 2**31
TURNS = get_args(Turn)


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


def map_asks_for_fields(story: Story, event: RecordedEvent) -> str:
    """A map asks for fields that there are, of rows that can be counted."""
    if event["rows"] > MOST_ROWS:
        return f"a map asks about {event['rows']:,} rows, and none has more than {MOST_ROWS:,}"
    if is_taken(event, "columns"):
        return ""
    try:
        parse_fields(event["columns"])
    except MappingError as error:
        return f"a map asks for what is no field: {error}"
    return ""


def recalled_rows_are_its_own(story: Story, event: RecordedEvent) -> str:
    """The store has one answer each of rows that are asked about, told in their order but in a second reading."""
    mapped, rows, turn = story.talks[event["conversation"]].map, event["rows"], event["turn"]
    assert mapped is not None
    had = mapped.recalled.get(turn)
    ordered = list(rows) == sorted(set(rows)) and not (had and rows and had.rows and rows[0] <= had.rows[-1])
    if len(rows) != len(event["values"]) or not (ordered or turn == "second") or turn not in TURNS:
        return "the store is said to have several answers of a row, or rows in another order than they were asked"
    if all(row < mapped.rows for row in rows):
        return ""
    return "the store is said to have answers of rows that nobody asked about"


def rows_are_answered_once(story: Story, event: RecordedEvent) -> str:
    """Answers are told in the order of rows, each once."""
    mapped = story.talks[event["conversation"]].map
    assert mapped is not None
    if event["first"] != mapped.told:
        at = f"row {event['first']:,} where row {mapped.told:,} is next"
        return f"answers begin at {at}: some were removed, added or moved"
    if mapped.told + len(event["answers"]) > mapped.rows:
        return f"more answers are told than the {count(mapped.rows, 'row')} that were asked about"
    for number, one in enumerate(event["answers"], event["first"]):
        if ("values" in one) == ("error" in one):
            return f"row {number:,} has an answer and an error, or neither"
        if "error" in one and one["call"]:
            return f"row {number:,} is said to have no answer, and to have it from {brief(one['call'])}"
    return ""


def answers_are_what_was_replied(story: Story, event: RecordedEvent) -> str:
    """What a row is said to be answered by a call, the reply of that call says of the row with that number; and what is
    said to come from the store, the store had."""
    mapped = story.talks[event["conversation"]].map
    assert mapped is not None
    for at, one in enumerate(event["answers"]):
        row, own = event["first"] + at, ("strong",) if "first" in one else ("strong", "first")
        for name, turns in (("", own), ("first", ("first",)), ("again", ("second",))):
            read = one.get(name) if name else one
            if read is None or "values" not in read:
                continue
            taken = is_taken(event, f"answers/{at}/{name}/values" if name else f"answers/{at}/values")
            if problem := _reading_problem(mapped, read, row, turns, taken):
                return f"row {row:,} is said to be answered {problem}"
    return ""


def _reading_problem(
    mapped: Mapped, read: dict[str, Any], row: int, turns: Sequence[str], taken: bool
) -> str:
    call, number = read["call"], read.get("number", 0)
    values = b"" if taken else _values(read["values"])
    if not call:
        had = taken or mapped.is_recalled_taken or any(_had(mapped, turn, row, values) for turn in turns)
        return "" if had else "from the store, which had no such answer"
    if call not in mapped.packs:
        return f"by {brief(call)}, which gave its map no reply"
    pack = mapped.packs[call]
    if pack is None:
        return ""
    at = (number - 1) * ROW_BYTES
    if not 0 <= at < len(pack.values):
        return f"as number {number:,} of {brief(call)}, which was not asked about so many"
    if taken or pack.values[at : at + ROW_BYTES] == values:
        return ""
    return f"as number {number:,} of {brief(call)}, whose reply says something else of it"


def _had(mapped: Mapped, turn: str, row: int, values: bytes) -> bool:
    """Whether the store had these values of a row; of one whose text is that of an earlier row, of any row."""
    had = mapped.recalled.get(turn)
    if had is None or values not in had.known:
        return False
    at = bisect_left(had.rows, row) if turn != "second" else len(had.rows)
    return had.which[at] == had.known[values] if at < len(had.rows) and had.rows[at] == row else True


def _values(values: Mapping[str, Any]) -> bytes:
    return digest(json.dumps(values, sort_keys=True))[:ROW_BYTES]


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
    if event["asked_again"] and not mapped.missed:
        return "rows are said to have been asked again, and every reply answered all of its rows"
    if (most := _most_asked_again(mapped)) is not None and event["asked_again"] > most:
        return f"rows are said to have been asked again {event['asked_again']:,} times, and calls had room for {most:,}"
    if mapped.alike is not None and event["agreement"] != _agreement(mapped, mapped.alike):
        return "its readings are said to agree otherwise than they do"
    if mapped.hashed is not None and mapped.hashed.hexdigest() != mapped.rows_sha256:
        return "the rows that were answered are others than those that were asked about"
    if unlike := unlike_sum(story, event["usage"], less(talk.used, mapped.used), "the map", "its calls"):
        return unlike
    return too_long(event, mapped.began_s, "the map")


def _most_asked_again(mapped: Mapped) -> int | None:
    """How often rows stood in a prompt once more, a text that several rows have counted for each; None where a prompt
    was taken out, or a cap refused one, which then is not told. A second reading and a trial of pack sizes are among
    them, as the trace does not tell them apart."""
    texts = [None if pack is None else pack.texts for pack in mapped.packs.values()]
    if None in texts or mapped.hashed is None or mapped.is_capped:
        return None
    whole = b"".join(filter(None, texts))
    asked = Counter(whole[at : at + ROW_BYTES] for at in range(0, len(whole), ROW_BYTES))
    return sum((times - 1) * mapped.times[text.hex()] for text, times in asked.items())


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
    if len(noted := event.get("noted", [None] * event["notes"])) != event["notes"]:
        return f"a reduction is said to have {count(event['notes'], 'note')}, and it tells {len(noted):,}"
    if unlike := unlike_sum(story, event["usage"], less(talk.used, own.used), "the reduction", "its calls"):
        return unlike
    return too_long(event, own.began_s, "the reduction")


def _agreement(mapped: Mapped, alike: Mapping[str, int]) -> dict[str, Any]:
    if not mapped.pairs:
        return {}
    fields = mapped.fields or ()
    return {one.name: agreement_json(share_of(alike.get(one.name, 0), mapped.pairs)) for one in fields}


def map_called(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    fields = None if is_taken(event, "columns") else parse_fields(event["columns"])
    talk.map = Mapped(
        event["rows"], event["rows_sha256"], fields, event["cell"], talk.children, event["time_s"], talk.used
    )


def _map_of(story: Story, conversation: str) -> Mapped | None:
    """The map that a conversation is called by, None where none is under way."""
    caller = story.talks.get(conversation.rpartition(".")[0])
    return None if caller is None else caller.map


def pack_asked(story: Story, event: RecordedEvent) -> None:
    if _map_of(story, event["conversation"]) is not None and event["messages"]:
        digests = digests_in(event["messages"][-1]["content"])
        talk = story.talks[event["conversation"]]
        talk.pack = None if is_taken(event, "messages") else b"".join(digests)


def pack_answered(story: Story, event: RecordedEvent) -> None:
    name = event["conversation"]
    mapped, texts = _map_of(story, name), story.talks[name].pack
    if mapped is None:
        return
    if texts is None or mapped.fields is None or is_taken(event, "text"):
        mapped.packs[name], mapped.missed = None, mapped.missed + 1
        return
    rows = len(texts) // ROW_BYTES
    said = read_reply(event["text"], mapped.fields, rows)
    read = [said.get(number, "") for number in range(1, rows + 1)]
    values = [bytes(ROW_BYTES) if isinstance(one, str) else _values(one) for one in read]
    mapped.packs[name] = Pack(texts, b"".join(values))
    mapped.missed += sum(isinstance(one, str) for one in read)


def pack_failed(story: Story, event: RecordedEvent) -> None:
    if (mapped := _map_of(story, event["conversation"])) is not None:
        mapped.missed += 1


def budget_noted(story: Story, event: RecordedEvent) -> None:
    talk = story.talks.get(event["conversation"])
    if talk is not None and talk.map is not None:
        talk.map.is_capped = True


def rows_recalled(story: Story, event: RecordedEvent) -> None:
    mapped = story.talks[event["conversation"]].map
    assert mapped is not None
    mapped.is_recalled_taken |= is_taken(event, "values")
    had = mapped.recalled.setdefault(event["turn"], Recalled())
    for row, values in zip(event["rows"], map(_values, event["values"]), strict=True):
        had.rows.append(row)
        had.which.append(had.known.setdefault(values, len(had.known)))


def rows_answered(story: Story, event: RecordedEvent) -> None:
    mapped = story.talks[event["conversation"]].map
    assert mapped is not None
    mapped.told += len(event["answers"])
    mapped.failed += sum("error" in one for one in event["answers"])
    mapped.stored += sum("values" in one and not one["call"] for one in event["answers"])
    if is_taken(event, "answers"):
        mapped.hashed = mapped.alike = None
    for one in event["answers"]:
        _hash(mapped, one)
        _compare(mapped, one)


def _hash(mapped: Mapped, one: dict[str, Any]) -> None:
    """The row and its text, as its pack has it."""
    text = one.get("text", "")
    if one["call"]:
        pack, at = mapped.packs[one["call"]], (one.get("number", 0) - 1) * ROW_BYTES
        text = None if pack is None else pack.texts[at : at + ROW_BYTES].hex()
    if text is None:
        mapped.hashed = None
    else:
        mapped.times[text] += 1
    if mapped.hashed is not None:
        mapped.hashed.update(row_record(one["row"], text))


def _compare(mapped: Mapped, one: dict[str, Any]) -> None:
    """The two readings of a row that has two."""
    if "again" not in one or mapped.alike is None or mapped.fields is None:
        return
    first, again = (one.get("first") or one).get("values", {}), one["again"]["values"]
    mapped.pairs += 1
    for field in mapped.fields:
        alike = same(first.get(field.name), again.get(field.name))
        mapped.alike[field.name] = mapped.alike.get(field.name, 0) + alike


def map_returned(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    talk.map, talk.mapped = None, map_in_words(event)


def reduce_called(story: Story, event: RecordedEvent) -> None:
    talk = story.talks[event["conversation"]]
    calls, began_s = event["plan"]["calls"], event["time_s"]
    talk.reduction = Reduction(event["cell"], calls, talk.children, began_s, talk.used)


def reduce_returned(story: Story, event: RecordedEvent) -> None:
    story.talks[event["conversation"]].reduction = None
