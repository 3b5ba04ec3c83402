"""A reduction in a conversation: what it reads, as packs along the tree, and its calls, under its budget and in its
trace."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from index_store.index import Index
from index_store.terminal import count
from index_store.types import Json, Span
from rlm import prompts
from rlm.audit.costs import in_dollars
from rlm.audit.kinds import ReduceCalled, ReduceReturned
from rlm.gateway.blocks import Block
from rlm.gateway.errors import OverBudget
from rlm.gateway.models import window
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Usage
from rlm.loop import checks
from rlm.loop.checks import Refused
from rlm.loop.mapped import NODE, Caller, Calling, Rows, Texts, rows_given
from rlm.loop.run import Run
from rlm.loop.verbs import Passage, Verbs
from rlm.mapping import reducing
from rlm.mapping.notes import Note, Source
from rlm.mapping.reducing import LEAST_ROOM, PACK_TOKENS, Leaf, Plan, Reduced, Reduction, Weight, pack, shared
from rlm.prompts import MARK_TOKENS, refusals

#: Characters that one reduction reads: some five million tokens, which the parent holds several times over.
READ_CHARS = 20_000_000
#: The share of a model's window that passages or notes may fill, where it is small.
OF_WINDOW = 0.4
_CHARS_A_TOKEN = 3  # few, so that a part of a long text does not pass the room of a prompt

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Text:
    """Characters start: of the text that a cell gave as its `number`th, from 1."""

    number: int
    start: int
    text: str
    name: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a block stands: `named` as a citation names it, such as {"doc": id}; `start`: its first character there,
    None where a citation has no offsets."""

    named: Mapping[str, Json]
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a reduction reads. `places`: of each block of each leaf."""

    leaves: tuple[Leaf, ...]
    places: tuple[tuple[Place, ...], ...]


def reduction_of(run: Run, question: str, model: str) -> Reduction:
    """The reduction that a cell asks for, in prompts that suit the model. Raises Refused."""
    if not question.strip():
        raise Refused(refusals.QUESTION)
    seen = window(model)
    room = PACK_TOKENS if seen is None else min(PACK_TOKENS, max(int(seen * OF_WINDOW), LEAST_ROOM))
    return Reduction(question, model, room, run.limits.reply_tokens)


# -- what is read ------------------------------------------------------------------------------------------


def gather(verbs: Verbs, task: Reduction, under: Json, nodes: Json, rows: Json, texts: Json) -> Gathered:
    """What a cell names, all that it sees if it names nothing, in packs along the tree. Raises Refused."""
    given = {"under": under, "nodes": nodes, "rows": rows, "texts": texts}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise Refused(refusals.REDUCE_ONE.format(named=" and ".join(named)))
    if texts is not None:
        return _of_texts(verbs, task, checks.texts("texts", texts, READ_CHARS))
    if rows is not None:
        selected = rows_given(verbs, rows)
        if isinstance(selected, Texts):
            return _of_texts(verbs, task, selected.texts)
        places = _of_rows(verbs, task, selected)
    elif nodes is not None:
        places = _named(verbs, task, nodes)
    else:
        places = [range(chunk, chunk + 1) for chunk in _own_chunks(verbs, under)]
    return _along_the_tree(verbs, task, places)


def _own_chunks(verbs: Verbs, under: Json) -> list[int]:
    """The chunks in view whose way up by their homes leads through a branch, or through one of several."""
    view, index = verbs.view, verbs.index
    tops = [index.number_of(str(verbs.branch(one))) for one in checks.branches(under)] or [view.root]
    chunks = np.asarray(view.chunks, dtype=np.int64)
    above = np.column_stack([chunks, _homes_above(index, chunks)])
    own: list[int] = chunks[np.isin(above, tops).any(axis=1)].tolist()
    # Where a branch has guests alone, these are what it is asked about.
    return own or sorted(
        {n for top in tops for n in index.below(top).tolist() if n < index.levels[0] and n in view}
    )


def _homes_above(index: Index, numbers: Numbers) -> Numbers:
    """The nodes over some by their homes, topmost first, (n, levels - 1); -1 before the root."""
    rows = [numbers]
    for _ in index.levels[1:]:
        rows.append(np.where(rows[-1] < 0, -1, index.homes[rows[-1]]))
    return np.stack(rows[:0:-1], axis=1) if rows[1:] else np.empty((len(numbers), 0), dtype=np.int64)


def _named(verbs: Verbs, task: Reduction, named: Json) -> list[range | Span]:
    """The nodes, one by one, and the spans that a cell names. A span that no prompt has room for is divided as its
    chunks are."""
    places: list[range | Span] = []
    for passage in verbs.passages(checks.nodes(named)):
        if isinstance(passage.place, Span):
            places += _parts_of(verbs, passage, task)
        else:
            places += [range(number, number + 1) for number in passage.place]
    return places


def _of_rows(verbs: Verbs, task: Reduction, rows: Rows) -> list[range | Span]:
    places: list[range | Span] = []
    for row in range(len(rows)):
        span, name = rows.span(row), rows.id(row)
        if NODE.fullmatch(name):
            places += [range(number, number + 1) for number in verbs.index.piece_of(name)]
        elif span is not None:
            places += _parts_of(verbs, Passage(span, span.end - span.start), task)
    return places


def _parts_of(verbs: Verbs, passage: Passage, task: Reduction) -> Iterator[Span]:
    span = passage.place
    assert isinstance(span, Span)
    if passage.chars <= _CHARS_A_TOKEN * task.room:
        yield span
        return
    for chunk in verbs.view.chunks_of(span):
        own = verbs.index.span_at(chunk)
        assert own is not None
        yield Span(span.doc, max(span.start, own.start), min(span.end, own.end))


def _along_the_tree(verbs: Verbs, task: Reduction, named: Sequence[range | Span]) -> Gathered:
    index = verbs.index
    _check_size(sum(_chars(index, place) for place in named))
    firsts = [_first(verbs, place) for place in named]
    above = [
        tuple(n for n in row if n >= 0)
        for row in _homes_above(index, np.array(firsts, dtype=np.int64)).tolist()
    ]
    order = sorted(range(len(named)), key=lambda at: (above[at], firsts[at], _start(named[at])))
    places, paths = [named[at] for at in order], [above[at] for at in order]
    weights = _weights(verbs, task, places, paths)
    leaves, read = [], []
    for together in pack(weights, task.room):
        pieces = _pieces(index, [places[at] for at in together])
        blocks = tuple(verbs.block(Passage(piece, 0)) for piece in pieces)
        leaves.append(Leaf(blocks, shared([paths[at] for at in together])))
        read.append(tuple(_place(index, piece) for piece in pieces))
    return _gathered(leaves, read)


def _weights(
    verbs: Verbs, task: Reduction, places: Sequence[range | Span], paths: Sequence[tuple[int, ...]]
) -> list[Weight]:
    """The tokens of each place, with the line that marks it where it does not go on from the one before."""
    weights, last = [], None
    for place, path in zip(places, paths, strict=True):
        if isinstance(place, range):
            tokens = int(verbs.index.rows["tokens"][place[0]])
        else:
            tokens = count_tokens(task.model, verbs.index.span_text(place))
        mark = 0 if last is not None and _go_on(verbs.index, last, place) else MARK_TOKENS
        weights.append(Weight(tokens + mark, path))
        last = place
    return weights


def _go_on(index: Index, one: range | Span, other: range | Span) -> bool:
    if isinstance(one, range) and isinstance(other, range):
        return one.stop == other.start and index.is_piece(range(one.start, other.stop))
    return (
        isinstance(one, Span) and isinstance(other, Span) and (one.doc, one.end) == (other.doc, other.start)
    )


def _pieces(index: Index, places: Sequence[range | Span]) -> list[range | Span]:
    """The places of a pack in the order of the documents, those that touch as one."""
    nodes = sorted(place[0] for place in places if isinstance(place, range))
    spans = [place for place in places if isinstance(place, Span)]
    joined: list[Span] = []
    for span in spans:
        if joined and _go_on(index, joined[-1], span):
            joined[-1] = replace(joined[-1], end=span.end)
        else:
            joined.append(span)
    return [*index.pieces(nodes), *dict.fromkeys(joined)]


def _place(index: Index, piece: range | Span) -> Place:
    span = piece if isinstance(piece, Span) else index.span_at(piece[0])
    if span is None:
        assert isinstance(piece, range)
        return Place({"node": index.id_of(piece[0])})
    return Place({"doc": span.doc}, span.start)


def _first(verbs: Verbs, place: range | Span) -> int:
    """The number of the node, or of the chunk in which a span begins."""
    return place[0] if isinstance(place, range) else verbs.view.chunks_of(place)[0]


def _start(place: range | Span) -> int:
    return place.start


def _chars(index: Index, place: range | Span) -> int:
    return place.end - place.start if isinstance(place, Span) else index.chars_at(place[0])


def _of_texts(verbs: Verbs, task: Reduction, texts: Sequence[str]) -> Gathered:
    _check_size(sum(map(len, texts)))
    parts = [part for number, text in enumerate(texts, 1) for part in _text_parts(number, text, task.room)]
    weights = [Weight(count_tokens(task.model, part.text) + MARK_TOKENS) for part in parts]
    together = [[parts[at] for at in places] for places in pack(weights, task.room)]
    leaves = [Leaf(tuple(Block(part.name, part.text) for part in several)) for several in together]
    places = [tuple(Place({"text": part.number}, part.start) for part in several) for several in together]
    return _gathered(leaves, places)


def _text_parts(number: int, text: str, room: int) -> Iterator[_Text]:
    """A text in parts that a prompt has room for, divided at blanks where there are some; none of a blank one."""
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be sent
    at, most = 0, _CHARS_A_TOKEN * room
    while at < len(text):
        end = at + most
        if end < len(text):
            blank = max(text.rfind(mark, at + most // 2, end) for mark in "\n ")
            end = end if blank < 0 else blank + 1
        whole = at == 0 and end >= len(text)
        if not text[at:end].isspace():
            yield _Text(number, at, text[at:end], f"text {number}" if whole else f"text {number} from {at}")
        at = end


def _check_size(chars: int) -> None:
    if chars > READ_CHARS:
        raise Refused(refusals.REDUCE_CHARS.format(chars=chars, most=READ_CHARS))


def _gathered(leaves: Sequence[Leaf], places: Sequence[tuple[Place, ...]]) -> Gathered:
    if not leaves:
        raise Refused(refusals.REDUCE_NOTHING)
    return Gathered(tuple(leaves), tuple(places))


# -- how it goes -------------------------------------------------------------------------------------------


async def reduce_in(calls: Caller, task: Reduction, gathered: Gathered) -> Json:
    """Reduce what was gathered, recorded in the conversation that asks for it; what a cell gets of it. Raises Refused,
    before anything is asked, where not all that it may take is left, and GatewayError."""
    run, name, leaves = calls.run, calls.conversation, gathered.leaves
    plan = await asyncio.to_thread(reducing.plan, task, leaves)
    sizes = [(size.prompt_tokens, size.reply_tokens) for size in plan.calls]
    worsts = run.budget.worsts_of(name, task.model, sizes)
    try:
        await calls.afford(worsts)
    except OverBudget as e:
        size = {"packs": count(len(leaves), "pack"), "levels": count(len(plan.levels), "level")}
        raise Refused(refusals.REDUCE_DEAR.format(**size, problem=e)) from e
    shown = [(block.name, block.text) for leaf in leaves for block in leaf.blocks]
    await asyncio.to_thread(run.journal.flag, name, "llm_reduce", shown)
    worst = sum(worsts, Usage())
    called = ReduceCalled(
        cell=calls.cell(),
        question=task.question,
        model=task.model,
        packs=len(leaves),
        passages=len(shown),
        plan={
            "levels": len(plan.levels),
            "calls": worst.calls,
            "tokens": worst.tokens,
            "usd": worst.usd,
        },
    )
    run.journal.record(name, called)
    began = time.monotonic()
    calls.told.append(_planned(plan, leaves, worst))
    calling = Calling(calls, "llm_reduce")
    reduced = await reducing.reduce(task, leaves, calling.ask)
    returned = ReduceReturned(
        answer=reduced.answer,
        notes=len(reduced.notes),
        cited=len(reduced.sources),
        cut=reduced.cut,
        failed=reduced.failed,
        dropped=reduced.dropped,
        calls=len(calling.ids),
        usage=run.budget.used(calling.ids),
        seconds=round(time.monotonic() - began, 3),
        noted=[_note(gathered, note) for note in reduced.notes],
    )
    run.journal.record(name, returned)
    calls.told += _outcome(reduced)
    return _result(gathered, reduced)


def _planned(plan: Plan, leaves: Sequence[Leaf], worst: Usage) -> str:
    return prompts.REDUCE_PLAN.format(
        packs=count(len(leaves), "pack"),
        levels=count(len(plan.levels), "level"),
        calls=count(worst.calls, "call"),
        tokens=count(worst.tokens, "token"),
        dollars=in_dollars(worst.usd),
    )


def _outcome(reduced: Reduced) -> list[str]:
    """A sentence on what is missing from an answer, in counts alone: the rest may be a document's words."""
    cut, failed = len(reduced.cut), len(reduced.failed)
    counted = (
        (failed, prompts.REDUCE_FAILED),
        (cut, prompts.REDUCE_CUT),
        (reduced.dropped, prompts.REDUCE_DROPPED),
        (reduced.uncited, prompts.REDUCE_UNCITED),
    )
    told = ", ".join(words.format(count=number) for number, words in counted if number)
    return [prompts.REDUCE_TOLD.format(told=told)] if told else []


def _result(gathered: Gathered, reduced: Reduced) -> Json:
    return {
        "answer": reduced.answer,
        "citations": [_citation(gathered, source) for source in reduced.sources],
        "notes": [_note(gathered, note) for note in reduced.notes],
        "failed": list(reduced.failed),
    }


def _note(gathered: Gathered, note: Note) -> dict[str, Json]:
    return {"note": note.text, "citations": [_citation(gathered, source) for source in note.sources]}


def _citation(gathered: Gathered, source: Source) -> dict[str, Json]:
    """A source as an answer cites it: by its document, a summary by its node, a text of the cell's by its number."""
    place = gathered.places[source.pack][source.block]
    if place.start is None:
        return {**place.named, "quote": source.quote}
    at = {"start": place.start + source.start, "end": place.start + source.end}
    return {**place.named, **at, "quote": source.quote}
