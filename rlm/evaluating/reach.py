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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from index_store.index import Index
from index_store.types import Span
from index_store.view import View
from rlm.audit.claims import STANDING
from rlm.audit.events import RecordedEvent
from rlm.audit.given import given, packed
from rlm.audit.routing import places_of
from rlm.evaluating.cases import Gold, span_of


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
    named = {*places, *packed(events)}
    entered = {node for node, place in places.items() if place.entered}
    read = list(given(index, events))
    cited = citations_of(events)
    return [_reach(index, view, one, named, entered, read, cited) for one in gold]


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
