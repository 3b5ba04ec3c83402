"""How far a run came towards the gold, from its trace and the spans of the index alone.

A gold place is held by the chunks of the index that share a character with it. Of each place the trace says, each time
yes or no, and a question's figure is the share of its gold places for which it is yes:

    offered  one of its chunks stood in what a verb gave (in its list, its packs, or beside it as not taken), or was
             entered
    entered  one of its chunks was opened, named to a verb or a child, or read
    read     words of it were given, in a text that was given whole, to a model or to the code: by `gather`, `read`,
             `slice`, `text`, or as a data block in a prompt; not the first words of a hit or a peek, nor the line of a
             match
    cited    a citation of the answer that stands in the documents, word for word or respaced, shares a character with
             it

So read implies entered, and entered offered; cited stands by itself.

    citation recall     the share of the gold places that are cited (the figure `cited`); None without gold
    citation precision  the share of the answer's citations that stand and share a character with a gold place; None
                        where it cites nothing, or without gold
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from index_store.errors import IndexStoreError
from index_store.index import Index
from index_store.types import Scope, Span
from index_store.view import View
from rlm.audit.claims import STANDING
from rlm.audit.events import RecordedEvent
from rlm.audit.routing import given_to_models, places_of
from rlm.evaluating.cases import Gold, span_of
from rlm.gateway.blocks import block_name

#: Verbs whose result is the whole text of what they show.
_WHOLE = frozenset({"gather", "read", "slice", "text"})
_SPAN = re.compile(r"(?P<doc>.*) (?P<start>\d{1,12})-(?P<end>\d{1,12})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a run came towards one gold place."""

    gold: Gold
    offered: bool
    entered: bool
    read: bool
    cited: bool


def reach(index: Index, events: Sequence[RecordedEvent], gold: Sequence[Gold]) -> list[Reach]:
    """The Reach of each gold place, in order. `index`: the one that the run asked."""
    places, view = places_of(events), View(index)
    named = {*places, *_packed(events)}
    entered = {node for node, place in places.items() if place.entered}
    read = list(given(index, events))
    cited = citations_of(events)
    return [_reach(index, view, one, named, entered, read, cited) for one in gold]


def given(index: Index, events: Sequence[RecordedEvent]) -> Iterator[Span]:
    """The spans whose whole text was given to the code or to a model."""
    view = View(index, scope=Scope(**(events[0].get("scope") or {})))
    ids = [index.documents[number].id for number in view.documents]
    by_block = {block_name(id): id for id in ids}
    for event in events:
        if event["kind"] == "visited" and event["verb"] in _WHOLE and not event.get("error"):
            asked = list(_asked_spans(event["arguments"]))
            shown = [span for ref in event["shown"] if (span := _span(ref))]
            yield from (cut for span in shown for cut in _within(span, asked))
    for blocks in given_to_models(events).values():
        for block in blocks:
            yield from _named_spans(view, block.name, by_block)


def citations_of(events: Sequence[RecordedEvent]) -> list[Mapping[str, Any]]:
    """The citations of the run's answer, as the trace holds them; [] where it has none."""
    answered = (
        event for event in reversed(events) if event["kind"] == "answered" and event["conversation"] == "0"
    )
    return next((event["citations"] for event in answered), [])


def precision(events: Sequence[RecordedEvent], gold: Sequence[Gold]) -> float | None:
    """The citation precision of an answer, as above."""
    cited = citations_of(events)
    if not cited or not gold:
        return None
    return sum(any(_cites(one, place) for place in gold) for one in cited) / len(cited)


def _reach(
    index: Index,
    view: View,
    gold: Gold,
    named: set[str],
    entered: set[str],
    read: Sequence[Span],
    cited: Sequence[Mapping[str, Any]],
) -> Reach:
    chunks = {index.id_of(number) for number in view.chunks_of(span_of(index, gold))}
    is_read = any(gold.overlaps(span.doc, span.start, span.end) for span in read)
    is_entered = is_read or bool(chunks & entered)
    return Reach(
        gold,
        offered=is_entered or bool(chunks & named),
        entered=is_entered,
        read=is_read,
        cited=any(_cites(one, gold) for one in cited),
    )


def _cites(cited: Mapping[str, Any], gold: Gold) -> bool:
    return cited["supported"] in STANDING and gold.overlaps(cited["doc"], cited["start"], cited["end"])


def _packed(events: Sequence[RecordedEvent]) -> Iterator[str]:
    """The ids that `packs` gave: chunks on offer that no list shows."""
    for event in events:
        if event["kind"] == "visited" and event["verb"] == "packs":
            yield from (node for pack in event["result"] or () for node in pack)


def _asked_spans(arguments: Mapping[str, Any]) -> Iterator[Span]:
    """The spans that `read` was asked for by document and characters."""
    named = arguments.get("node")
    if isinstance(named, str) and (arguments.get("start") is not None or arguments.get("end") is not None):
        named = {"doc": named, "start": arguments.get("start"), "end": arguments.get("end")}
    for item in named if isinstance(named, list) else [named]:
        if isinstance(item, dict) and isinstance(item.get("doc"), str):
            start, end = item.get("start"), item.get("end")
            yield Span(item["doc"], 0 if start is None else start, 10**12 if end is None else end)


def _within(span: Span, asked: Sequence[Span]) -> list[Span]:
    """What of a chunk was given: all of it, or where its document was asked for by characters, those."""
    parts = [
        Span(span.doc, max(span.start, one.start), min(span.end, one.end))
        for one in asked
        if one.doc == span.doc and one.start < span.end and span.start < one.end
    ]
    return parts or [span]


def _span(ref: Mapping[str, Any]) -> Span | None:
    if ref.get("doc") is None or ref.get("start") is None or ref.get("end") is None:
        return None
    return Span(ref["doc"], ref["start"], ref["end"])


def _named_spans(view: View, name: str, by_block: Mapping[str, str]) -> list[Span]:
    """What a data block is of: chunks, what is in view of a document, or characters of one; [] for a summary."""
    if doc := by_block.get(name):
        return view.spans_of(doc)
    with suppress(IndexStoreError):
        spans = (view.index.span_at(number) for number in view.index.piece_of(name))
        return [span for span in spans if span is not None]
    match = _SPAN.fullmatch(name)
    doc = by_block.get(match["doc"]) if match else None
    return [Span(doc, int(match["start"]), int(match["end"]))] if match and doc else []
