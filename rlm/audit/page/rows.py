"""A map on the page: what every row was asked, what came of it, and the rows as a table; and a reduction."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from index_store.terminal import count, one_line
from rlm.audit.costs import in_dollars
from rlm.audit.events import RecordedEvent
from rlm.audit.maps import (
    MapEvents,
    agreement_in_words,
    counts_in_words,
    map_in_words,
    map_plan_in_words,
    values_counted,
)
from rlm.audit.page.html import Html, facts, fold, join, pre, stowed, tag

#: Rows of one map that the page holds; all of them stand in the trace.
MOST_ROWS = 20_000
_ERROR_CHARS = 1_000
#: Notes of one reduction that the page shows.
MOST_NOTES = 500


def map_step(
    one: MapEvents,
    asked_at: Mapping[str, int],
    texts: Mapping[str, str],
    anchors: Mapping[str, str],
    anchor: str,
) -> Html:
    """A map where it was called. `asked_at`: the seq of the event that began each conversation; `texts`: of rows, by
    their ids; `anchors`: the HTML id of each node; `anchor`: of this step."""
    called, returned = one.called, one.returned
    asked = tag("code", tag("b", called["verb"]), f": {count(called['rows'], 'row')}, {called['model']}")
    told = [
        ("Asked for", _fields(called["columns"])),
        *([("Planned", words)] if (words := map_plan_in_words(called["plan"])) else []),
        *([("Judge", f"{called['strong']}, where two readings differ")] if called.get("strong") else []),
        *([("Read twice", f"{called['sure']:.0%} of rows")] if called.get("sure") else []),
        ("Came of it", _outcome(returned) if returned else "It has no end in this trace."),
        *([("Agreement", _agreement(returned["agreement"]))] if returned and returned["agreement"] else []),
        *([("Rows by value", _counts(one))] if returned and any(values_counted(one).values()) else []),
    ]
    rows = _rows(one, asked_at, texts, anchors) if one.answers else None
    return tag("div", tag("p", asked, cls="step"), pre(called["question"]), facts(told), rows, id=anchor)


def _fields(columns: Mapping[str, Any]) -> str:
    return "; ".join(f"{one_line(name, 60)}: {_spec(spec)}" for name, spec in columns.items())


def _spec(spec: Any) -> str:
    labels = ", ".join(map(str, spec)) if isinstance(spec, list) else str(spec)
    return one_line(labels, 300)


def _outcome(returned: RecordedEvent) -> str:
    used = returned["usage"]
    told = map_in_words({**returned, "agreement": {}})
    return f"{told}; {count(used['calls'], 'call')}, {in_dollars(used['usd'])}, {returned['seconds']:.1f} s"


def _agreement(agreement: Mapping[str, Any]) -> Html:
    said = (f"{one_line(name, 60)}: {agreement_in_words(one)}" for name, one in agreement.items())
    return tag("ul", *(tag("li", words) for words in said), cls="refs")


def _counts(one: MapEvents) -> Html:
    said = (f"{one_line(name, 60)}: {counts_in_words(had)}" for name, had in values_counted(one).items())
    return tag("ul", *(tag("li", words) for words in said), cls="refs")


# -- the rows ----------------------------------------------------------------------------------------------


def _rows(
    one: MapEvents, asked_at: Mapping[str, int], texts: Mapping[str, str], anchors: Mapping[str, str]
) -> Html:
    answers, columns = one.answers[:MOST_ROWS], list(one.called["columns"])
    names = ["No.", "Row", *columns, "Error", "Call"]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    body = tag(
        "tbody",
        *(
            tag("tr", *_cells(number, answer, columns, asked_at, texts, anchors))
            for number, answer in enumerate(answers, 1)
        ),
    )
    more = len(one.answers) - len(answers)
    left = tag("p", f"… {count(more, 'more row')} in the trace", cls="meta") if more else None
    table = tag("table", head, body, cls="rows", data_file=f"rows-e{one.called['seq']}.csv")
    return fold(count(len(one.answers), "row"), stowed(tag("div", table, cls="wide"), left), cls="rows aside")


def _cells(
    number: int,
    answer: Mapping[str, Any],
    columns: Sequence[str],
    asked_at: Mapping[str, int],
    texts: Mapping[str, str],
    anchors: Mapping[str, str],
) -> Iterator[Html]:
    values, call = answer.get("values", {}), answer["call"]
    yield tag("td", f"{number}")
    yield tag("td", _place(answer["row"], texts, anchors))
    for name in columns:
        yield tag("td", _value(values.get(name)))
    yield tag(
        "td", one_line(answer.get("error", ""), _ERROR_CHARS), cls="error" if "error" in answer else None
    )
    at = asked_at.get(call)
    stored = "the store" if "values" in answer else ""
    yield tag("td", tag("a", call, href=f"#e{at}") if at is not None else call or stored)


def _place(row: str, texts: Mapping[str, str], anchors: Mapping[str, str]) -> str:
    """Where a row stands; what it says, where that is known, is folded under it."""
    if row in texts:
        return fold(row, tag("blockquote", texts[row]))
    return tag("a", row, href=f"#{anchors[row]}") if row in anchors else row


def _value(value: Any) -> str:
    """A value in the words of `rlm map`; '' where the row does not say."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


# -- a reduction -------------------------------------------------------------------------------------------


def reduced_step(event: RecordedEvent, anchors: Mapping[str, str]) -> Iterator[Html]:
    """What came of a reduction: the answer, the notes that it was made of with what they rest on, what was cut, and
    what failed."""
    yield pre(event["answer"])
    if notes := event.get("noted"):
        yield tag("p", "Notes", cls="role")
        yield tag("ol", *(tag("li", *_note(one, anchors)) for one in notes[:MOST_NOTES]), cls="refs")
        if len(notes) > MOST_NOTES:
            yield tag("p", f"… {count(len(notes) - MOST_NOTES, 'more note')} in the trace", cls="meta")
    for name, words in (("cut", "Cut, as it holds no evidence"), ("failed", "Failed")):
        if event[name]:
            yield tag("p", words, cls="role")
            yield tag("ul", *(tag("li", _linked(one, anchors)) for one in event[name]), cls="refs")


def _note(one: Mapping[str, Any], anchors: Mapping[str, str]) -> Iterator[str]:
    yield one["note"]
    cited = (tag("li", tag("q", str(c.get("quote", ""))), " ", *_cited(c, anchors)) for c in one["citations"])
    yield tag("ul", *cited, cls="supports")


def _cited(citation: Mapping[str, Any], anchors: Mapping[str, str]) -> Iterator[str]:
    start, end = citation.get("start"), citation.get("end")
    if "node" in citation:
        yield _linked(str(citation["node"]), anchors)
    else:
        yield str(citation.get("doc", f"text {citation.get('text')} of the code"))
    if start is not None and end is not None:
        yield f" {start}–{end}"


def _linked(name: str, anchors: Mapping[str, str]) -> str:
    """Nodes that stand on the page lead there; several are parted by commas."""
    parts = name.split(", ")
    linked = (tag("a", one, href=f"#{anchors[one]}") if one in anchors else one for one in parts)
    first, *rest = linked
    return join([first, *(part for one in rest for part in (", ", one))])
