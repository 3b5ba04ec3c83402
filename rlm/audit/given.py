"""What of the documents a run was given to read, and what it had on offer in packs, from its events and the index."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from index_store.errors import IndexStoreError
from index_store.index import Index
from index_store.types import Scope, Span
from index_store.view import View
from rlm.audit.events import RecordedEvent
from rlm.audit.routing import given_to_models
from rlm.gateway.blocks import Block, block_name, unquote

#: Verbs whose result is the whole text of what they show.
_WHOLE = frozenset({"gather", "read", "slice", "text"})
_SPAN = re.compile(r"(?P<doc>.*) (?P<start>\d{1,12})-(?P<end>\d{1,12})", re.DOTALL)


def given(index: Index, events: Sequence[RecordedEvent]) -> Iterator[Span]:
    """The spans whose whole text was given to the code or to a model."""
    return (span for _, span in given_at(index, events))


def given_at(index: Index, events: Sequence[RecordedEvent]) -> Iterator[tuple[int, Span]]:
    """As `given`, each with the seq of the event that gave it; a row of a map by that of its answer. Raises NoSuchNode
    or BadQuery for a scope that the index has not."""
    view = View(index, scope=scope_of(events))
    by_block = _by_block(view)
    for event in events:
        if event["kind"] == "visited" and event["verb"] == "read_rows" and isinstance(event["result"], list):
            rows = (row for row in event["result"] if isinstance(row, dict))
            yield from ((event["seq"], span) for row in rows if (span := _span(row)))
        if event["kind"] == "visited" and event["verb"] in _WHOLE and not event.get("error"):
            asked = list(_asked_spans(event["arguments"]))
            shown = [span for ref in event["shown"] if (span := _span(ref))]
            yield from ((event["seq"], cut) for span in shown for cut in _within(span, asked))
    for seq, blocks in given_to_models(events).items():
        for block in blocks:
            yield from ((seq, span) for span in _named_spans(view, block.name, by_block))
    yield from ((seq, span) for seq, row, span in rows_told(index, events) if "values" in row or row["call"])
    for seq, blocks in _reduced(events).items():
        for block in blocks:
            yield from ((seq, span) for span in _places(view, block.name, by_block))


def _reduced(events: Sequence[RecordedEvent]) -> dict[int, list[Block]]:
    """The data blocks that `llm_reduce` put into each ask, by its seq, without those that the code wrote into its
    question."""
    own, packs, blocks = dict[str, list[Block]](), dict[str, str](), dict[int, list[Block]]()
    for event in events:
        if event["kind"] == "reduce_called":
            own[event["conversation"]] = unquote(event["question"])
        elif event["kind"] == "child_called" and event["verb"] == "llm_reduce":
            packs.update(dict.fromkeys(event["children"], event["conversation"]))
        elif event["kind"] == "model_asked" and event["conversation"] in packs:
            asked = [block for message in event["messages"] for block in unquote(message["content"])]
            not_read = own.get(packs[event["conversation"]], [])
            blocks[event["seq"]] = [block for block in asked if block not in not_read]
    return blocks


def rows_told(index: Index, events: Sequence[RecordedEvent]) -> Iterator[tuple[int, Mapping[str, Any], Span]]:
    """What maps tell of rows that stand in a document, answered or not: the seq of the event that has it, what it has
    of the row, and where that stands. Raises as `given_at`."""
    view = View(index, scope=scope_of(events))
    by_block = _by_block(view)
    told = (event for event in events if event["kind"] == "rows_answered")
    return (
        (event["seq"], one, span)
        for event in told
        for one in event["answers"]
        for span in _places(view, one["row"], by_block)[:1]
    )


def scope_of(events: Sequence[RecordedEvent]) -> Scope:
    """What the run was about; all of the index where its first event says nothing that is a scope."""
    said = events[0].get("scope") or {}
    with suppress(TypeError):
        return Scope(**said)
    return Scope()


def packed(events: Sequence[RecordedEvent]) -> Iterator[str]:
    """The ids that `packs` gave: chunks on offer that no list shows."""
    for event in events:
        if event["kind"] == "visited" and event["verb"] == "packs":
            packs = event["result"] if isinstance(event["result"], list) else []
            yield from (
                node for pack in packs if isinstance(pack, list) for node in pack if isinstance(node, str)
            )


def _asked_spans(arguments: Mapping[str, Any]) -> Iterator[Span]:
    """The spans that `read` was asked for by document and characters."""
    named = arguments.get("node")
    if isinstance(named, str) and (arguments.get("start") is not None or arguments.get("end") is not None):
        named = {"doc": named, "start": arguments.get("start"), "end": arguments.get("end")}
    for item in named if isinstance(named, list) else [named]:
        if isinstance(item, dict) and isinstance(item.get("doc"), str):
            start, end = item.get("start"), item.get("end")
            yield Span(
                item["doc"], start if isinstance(start, int) else 0, end if isinstance(end, int) else 10**12
            )


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
    return _places(view, name, by_block)


def _by_block(view: View) -> dict[str, str]:
    """The documents in view, each by its name as that of a block."""
    ids = (view.index.documents[number].id for number in view.documents)
    return {block_name(id): id for id in ids}


def _places(view: View, name: str, by_block: Mapping[str, str]) -> list[Span]:
    """Where a row or a passage stands: chunks, or characters of a document; [] for a summary and a text of the code."""
    with suppress(IndexStoreError):
        spans = (view.index.span_at(number) for number in view.index.piece_of(name))
        return [span for span in spans if span is not None]
    match = _SPAN.fullmatch(name)
    doc = by_block.get(match["doc"]) if match else None
    return [Span(doc, int(match["start"]), int(match["end"]))] if match and doc else []
