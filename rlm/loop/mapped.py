"""A map in a conversation: each pack is a call of it like any other, under its budget and in its trace."""

import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Sized
from dataclasses import asdict, astuple, dataclass, field
from typing import Any, Protocol, TypeVar, overload

import index_store.rows
from index_store.terminal import brief
from index_store.types import Json, Span
from rlm.audit.kinds import MapCalled, MapReturned, RowsAnswered, RowsRecalled
from rlm.gateway.blocks import block_name
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.models import addresses, price, window
from rlm.gateway.offline import PREFIX
from rlm.gateway.types import Reply, Usage
from rlm.loop.checks import Refused
from rlm.loop.recording import PROGRESS
from rlm.loop.run import Run
from rlm.loop.verbs import Verbs
from rlm.mapping import mapping
from rlm.mapping.certainty import agreement_json, count_values
from rlm.mapping.fields import as_spec, parse_fields
from rlm.mapping.types import (
    Answer,
    Forgetful,
    Mapped,
    Plan,
    Progress,
    Prompt,
    Reader,
    Reading,
    Task,
    Value,
    Values,
    Wanted,
)
from rlm.mapping.wording import read_reply, row_record, text_digest
from rlm.prompts import refusals

#: Rows in one event of answers.
TOLD_ROWS = 1_000
#: Rows that a cell maps at once: a frame to its worker holds so many values and no more.
MAP_ROWS = 50_000
#: How a node, or chunks that follow one another, are named.
NODE = re.compile(r"L\d+-\d+(?:\.\.L\d+-\d+)?", re.ASCII)
#: The field by which a filter asks of each row whether its condition holds.
HOLDS = "holds"


class Caller(Protocol):
    """What a map or a reduction needs of the calls of its conversation; see `rlm.loop.calls.Calls`."""

    run: Run
    conversation: str
    told: list[str]

    def cell(self) -> int:
        """The number of the current cell."""

    async def ask_packs(
        self, verb: str, prompts: Sequence[Prompt], heard: "Heard | None" = None, /
    ) -> list[tuple[str, Reply | GatewayError]]:
        """The reply to each prompt, with the conversation that asked it; `heard` is called with each as it comes."""

    async def afford(self, worsts: Sequence[Usage], /) -> None:
        """Raise OverBudget where not all of so many calls fit."""


class Rows(Protocol):
    """The rows of a map: what each is named by, where it stands, None for a text of the code's own, and its text."""

    def __len__(self) -> int: ...

    def id(self, row: int, /) -> str:
        """What a row is named by."""

    def span(self, row: int, /) -> Span | None:
        """Where a row stands."""

    def text(self, row: int, /) -> str:
        """The text of a row."""


@dataclass(frozen=True, slots=True)
class Selected:
    """Rows of the index."""

    rows: index_store.rows.Rows

    def __len__(self) -> int:
        return len(self.rows)

    def id(self, row: int) -> str:
        """Of a chunk the id of its node, else the document and the characters."""
        return block_name(self.rows[row].id)

    def span(self, row: int) -> Span | None:
        """Where a row stands."""
        return self.rows[row].span

    def text(self, row: int) -> str:
        """The text of a row."""
        return self.rows.text(row)


@dataclass(frozen=True, slots=True)
class Spans:
    """Rows that a cell names one by one."""

    verbs: Verbs
    named: Sequence[tuple[str, Span]]

    def __len__(self) -> int:
        return len(self.named)

    def id(self, row: int) -> str:
        """What the cell calls it: a node, else the document and the characters."""
        return self.named[row][0]

    def span(self, row: int) -> Span | None:
        """Where a row stands."""
        return self.named[row][1]

    def text(self, row: int) -> str:
        """The text of a row."""
        return self.verbs.index.span_text(self.named[row][1])


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of a cell's own as rows, which stand in no document; their ids count them from 1."""

    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def id(self, row: int) -> str:
        """The number of a row, from 1."""
        return str(row + 1)

    def span(self, row: int) -> Span | None:
        """None."""
        return None

    def text(self, row: int) -> str:
        """The text of a row."""
        return self.texts[row]


@dataclass(frozen=True, slots=True)
class TextsOf(Sequence[str]):
    """The texts of rows, each read when it is looked at: a list of all would be the corpus once more."""

    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> list[str]: ...
    def __getitem__(self, key: int | slice) -> str | list[str]:
        if isinstance(key, slice):
            return [self.rows.text(row) for row in range(*key.indices(len(self)))]
        if not -len(self) <= key < len(self):
            raise IndexError(key)
        return self.rows.text(key % len(self))


def rows_given(verbs: Verbs, rows: Json) -> Rows:
    """The rows that a cell gives: what `context.rows` gave it or a part of that, a list of such rows or of nodes, or a
    list of texts. Raises Refused."""
    if isinstance(rows, Mapping):
        return _few(Selected(verbs.selected(rows)))
    if not isinstance(rows, list | tuple):
        raise Refused(refusals.ROWS.format(value=brief(rows)))
    if rows and all(isinstance(row, str) for row in rows) and not _are_nodes(rows):
        return _few(Texts([str(row) for row in rows]))
    return Spans(verbs, [verbs.placed(row) for row in _few(rows)])


def _are_nodes(rows: Sequence[Any]) -> bool:
    return all(NODE.fullmatch(row) for row in rows)


T = TypeVar("T", bound=Sized)


def _few(rows: T) -> T:
    if len(rows) > MAP_ROWS:
        raise Refused(refusals.MAP_ROWS.format(rows=len(rows), most=MAP_ROWS))
    return rows


def task_of(
    run: Run,
    question: str,
    fields: Mapping[str, Json],
    model: str,
    strong: str | None = None,
    sure: float = 0.0,
    pack_tokens: int | None = None,
    calibrate: bool | None = None,
) -> Task:
    """The task of a map in a run. Raises MappingError for what cannot be asked."""
    reader, other = (None if one is None else Reader(one, _identity(run, one)) for one in (model, strong))
    assert reader is not None
    return Task(
        question,
        parse_fields(fields),
        reader,
        other,
        sure,
        pack_tokens,
        run.limits.reply_tokens,
        window(model),
        calibrate=calibrate,
    )


def _identity(run: Run, model: str) -> str:
    """What bears on the answers of a model beside its name: where it is called, and with which options."""
    where = {} if model.startswith(PREFIX) else addresses()
    return json.dumps([where, dict(run.models.sub_call_options(model))], sort_keys=True)


#: Is called with a prompt of a map and the reply to it, as that comes.
Heard = Callable[[Prompt, Reply], Awaitable[None]]


@dataclass(slots=True)
class Calling:
    """The prompts of one map or reduction, as calls of a conversation. `heard`: is called with each reply as it comes;
    `ids`: of the conversations that made them; `is_over`: a cap was met."""

    of: Caller
    verb: str
    heard: Heard | None = None
    ids: list[str] = field(default_factory=list)
    is_over: bool = False

    async def ask(self, prompts: Sequence[Prompt]) -> list[Reading]:
        """A reading of each prompt. Where a wave is more than is left pays for, as much of it as that pays for."""
        try:
            replies = await self.of.ask_packs(self.verb, prompts, self.heard)
        except OverBudget as e:
            if len(prompts) == 1:
                self.is_over = True
                return [Reading(error=str(e), stopped=True)]
            half = len(prompts) // 2
            first = await self.ask(prompts[:half])
            return first + await self.ask(prompts[half:])
        self.ids += [call for call, _ in replies]
        self.is_over |= any(isinstance(reply, OverBudget) for _, reply in replies)
        return [_reading(call, reply) for call, reply in replies]

    def tell(self, progress: Progress) -> None:
        """Tell whoever watches the run how far its map is, what it cost so far, and what is to come."""
        run, to_come = self.of.run, 0.0 if not progress.calls_to_come else _usd_to_come(progress)
        fields = asdict(progress) | {"usd": run.budget.used(self.ids).usd, "usd_to_come": to_come}
        run.journal.tell(self.of.conversation, PROGRESS, fields)


def _usd_to_come(progress: Progress) -> float | None:
    return price(progress.model, progress.prompt_tokens_to_come, progress.reply_tokens_to_come)


def _reading(call: str, reply: Reply | Exception) -> Reading:
    if isinstance(reply, OverBudget):
        return Reading(error=str(reply), stopped=True, call=call)
    if isinstance(reply, Exception):
        return Reading(error=str(reply), call=call)
    return Reading(reply.text, reply.finish_reason == "length", call=call)


@dataclass(frozen=True, slots=True)
class Stored:
    """The answers of earlier runs, as a conversation gets them from the store; what it gets is recorded."""

    run: Run
    conversation: str

    async def recall(self, wanted: Sequence[Wanted]) -> Sequence[Values | None]:
        """The values that are stored for each, in order; None where there are none."""
        stored = await self.run.budget.recall_rows(self.conversation, wanted)
        self.run.tell_trouble(self.conversation)
        for turn in dict.fromkeys(one.turn for one in wanted):
            had = [
                (one.row, values)
                for one, values in zip(wanted, stored, strict=True)
                if one.turn == turn and values is not None
            ]
            for at in range(0, len(had), TOLD_ROWS):
                rows, values = zip(*had[at : at + TOLD_ROWS], strict=True)
                self.run.journal.record(self.conversation, RowsRecalled(turn=turn, rows=rows, values=values))
        return stored

    async def keep(self, answers: Mapping[str, Values]) -> None:
        """Keep values by their keys."""
        await self.run.budget.keep(self.conversation, answers)
        self.run.tell_trouble(self.conversation)


@dataclass(frozen=True, slots=True)
class Ran:
    """A map that has ended. `stop`: "answer", "budget" where a cap was met, "failed" where no answer could be read."""

    mapped: Mapped
    stop: str


async def map_in(calls: Caller, verb: str, task: Task, rows: Rows) -> Ran:
    """Map a task over rows, recorded in the conversation that calls it."""
    run, name = calls.run, calls.conversation
    texts = TextsOf(rows)
    digests = [text_digest(text) for text in texts]
    called = MapCalled(
        cell=calls.cell(),
        verb=verb,
        question=task.question,
        columns=as_spec(task.fields),
        rows=len(rows),
        rows_sha256=_digest(rows, digests),
        model=task.reader.model,
        plan=planned(await mapping.plan(task, texts, Forgetful())),
        strong=None if task.strong is None else task.strong.model,
        sure=task.sure or None,
    )
    run.journal.record(name, called)
    began = time.monotonic()
    store = Stored(run, name)

    async def heard(prompt: Prompt, reply: Reply) -> None:
        """A map that is killed in the middle of a wave has paid for what came by then."""
        if prompt.keys:
            said = read_reply(reply.text, task.fields, len(prompt.rows))
            await store.keep({prompt.keys[n - 1]: one for n, one in said.items() if not isinstance(one, str)})

    calling = Calling(calls, verb, heard)
    mapped = await mapping.map_rows(task, texts, calling.ask, store, calling.tell)
    for first in range(0, len(rows), TOLD_ROWS):
        listed = range(first, min(first + TOLD_ROWS, len(rows)))
        told = [_told(rows.id(row), digests[row], row, mapped) for row in listed]
        run.journal.record(name, RowsAnswered(first=first, answers=told))
    returned = MapReturned(
        **figures(mapped),
        calls=len(calling.ids),
        usage=run.budget.used(calling.ids),
        seconds=round(time.monotonic() - began, 3),
    )
    run.journal.record(name, returned)
    return Ran(mapped, "budget" if calling.is_over else "failed" if mapped.stopped else "answer")


def figures(mapped: Mapped) -> dict[str, Any]:
    """How many rows a map answered, and how its readings agree, as a trace has it."""
    return {
        "rows": len(mapped.answers),
        "failed": sum(bool(one.error) for one in mapped.answers),
        "asked_again": mapped.progress.asked_again,
        "stored": sum(one.stored for one in mapped.answers),
        "agreement": {field: agreement_json(one) for field, one in mapped.agreement.items()},
    }


def _digest(rows: Rows, digests: Sequence[bytes]) -> str:
    hashed = hashlib.sha256()
    for row, digest in enumerate(digests):
        hashed.update(row_record(rows.id(row), digest.hex()))
    return hashed.hexdigest()


def _told(name: str, digest: bytes, row: int, mapped: Mapped) -> dict[str, Json]:
    answer = mapped.answers[row]
    told: dict[str, Json] = {"row": name} | _read(answer)
    if not answer.call:
        told["text"] = digest.hex()
    if row in mapped.first:
        told["first"] = _read(mapped.first[row])
    if row in mapped.again and not mapped.again[row].error:
        told["again"] = _read(mapped.again[row])
    return told


def _read(answer: Answer) -> dict[str, Json]:
    told: dict[str, Json] = {"call": answer.call} | ({"number": answer.number} if answer.call else {})
    return told | ({"error": answer.error} if answer.error else {"values": dict(answer.values)})


def planned(plan: Plan) -> dict[str, Json]:
    """A plan as a trace and a dry run have it."""
    return {
        "rows": plan.rows,
        "calls": plan.calls,
        "text_tokens": sum(stage.text_tokens for stage in plan.stages),
        "prompt_tokens": sum(stage.prompt_tokens for stage in plan.stages),
        "reply_tokens": sum(stage.reply_tokens for stage in plan.stages),
    }


def columns(rows: Rows, mapped: Mapped, which: Sequence[int] | None = None) -> dict[str, Json]:
    """The answers of a map in columns, as a worker is given them: a list of objects would be too many values. `which`:
    of these rows alone."""
    listed = range(len(rows)) if which is None else which
    named: dict[str, list[Json]] = {"row": [rows.id(row) for row in listed]}
    spans = [rows.span(row) for row in listed]
    if any(span is not None for span in spans):
        named |= {
            "doc": [None if span is None else span.doc for span in spans],
            "start": [None if span is None else span.start for span in spans],
            "end": [None if span is None else span.end for span in spans],
        }
    answers = [mapped.answers[row] for row in listed]
    fields = {field.name: [one.values.get(field.name) for one in answers] for field in mapped.fields}
    return named | fields | {"error": [one.error or None for one in answers]}


def result(rows: Rows, mapped: Mapped) -> dict[str, Json]:
    """What a worker is given of a map: its columns, how its readings agree, and the interval of each count."""
    counted = [field.name for field in mapped.fields if field.kind != "text" and mapped.agreement]
    return {
        "columns": columns(rows, mapped),
        "agreement": {field: agreement_json(one) for field, one in mapped.agreement.items()},
        "intervals": {
            name: {_written(value): list(astuple(one)) for value, one in count_values(mapped, name).items()}
            for name in counted
        },
    }


def _written(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def filtered(rows: Rows, mapped: Mapped) -> dict[str, Json]:
    """What a worker is given of a filter: the rows for which it holds, and those without an answer."""
    answers = list(enumerate(mapped.answers))
    holds = columns(rows, mapped, [row for row, one in answers if one.values.get(HOLDS) is True])
    return {
        "columns": {name: column for name, column in holds.items() if name not in (HOLDS, "error")},
        "failed": columns(rows, mapped, [row for row, one in answers if one.error]),
        "agreement": {field: agreement_json(one) for field, one in mapped.agreement.items()},
        "intervals": {},
    }
