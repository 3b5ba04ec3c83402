"""A map in a conversation: each pack is a call of it like any other, under its budget and in its trace."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from index_store.types import Json, Span
from rlm.audit.kinds import MapCalled, MapReturned, RowsAnswered, RowsRecalled
from rlm.gateway.errors import OverBudget
from rlm.gateway.types import Reply
from rlm.loop.recording import Journal
from rlm.mapping import mapping
from rlm.mapping.types import (
    Agreement,
    Answer,
    Forgetful,
    Mapped,
    Memo,
    Plan,
    Progress,
    Prompt,
    Reading,
    Task,
    Values,
    Wanted,
)

if TYPE_CHECKING:
    from rlm.loop.calls import Calls

#: Rows in one event of answers.
TOLD_ROWS = 1_000


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


@dataclass(slots=True)
class Calling:
    """The prompts of one map or reduction, as calls of a conversation. `ids`: of the conversations that made them."""

    of: "Calls"
    verb: str
    ids: list[str] = field(default_factory=list)

    async def ask(self, prompts: Sequence[Prompt]) -> list[Reading]:
        """A reading of each prompt. Where a wave is more than is left pays for, as much of it as that pays for."""
        try:
            replies = await self.of.ask_packs(self.verb, prompts)
        except OverBudget as e:
            if len(prompts) == 1:
                return [Reading(error=str(e), stopped=True)]
            half = len(prompts) // 2
            first = await self.ask(prompts[:half])
            return first + await self.ask(prompts[half:])
        self.ids += [call for call, _ in replies]
        return [_reading(call, reply) for call, reply in replies]


def _reading(call: str, reply: Reply | Exception) -> Reading:
    if isinstance(reply, OverBudget):
        return Reading(error=str(reply), stopped=True, call=call)
    if isinstance(reply, Exception):
        return Reading(error=str(reply), call=call)
    return Reading(reply.text, reply.finish_reason == "length", call=call)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A memo that records what it has."""

    journal: Journal
    conversation: str
    memo: Memo

    def recall(self, wanted: Sequence[Wanted]) -> Sequence[Values | None]:
        """As of the memo."""
        stored = self.memo.recall(wanted)
        for turn in dict.fromkeys(one.turn for one in wanted):
            had = [
                (one.row, values)
                for one, values in zip(wanted, stored, strict=True)
                if one.turn == turn and values is not None
            ]
            for at in range(0, len(had), TOLD_ROWS):
                rows, values = zip(*had[at : at + TOLD_ROWS], strict=True)
                self.journal.record(self.conversation, RowsRecalled(turn=turn, rows=rows, values=values))
        return stored

    def keep(self, answers: Mapping[str, Values]) -> None:
        """As of the memo."""
        self.memo.keep(answers)


async def map_in(
    calls: "Calls", verb: str, task: Task, given: Mapping[str, Json], rows: Rows, memo: Memo
) -> Mapped:
    """Map a task over rows, recorded in the conversation that calls it. `given`: its fields, as they were written."""
    run, name, began = calls.run, calls.conversation, time.monotonic()
    texts = [rows.text(row) for row in range(len(rows))]
    called = MapCalled(
        cell=calls.cell(),
        verb=verb,
        question=task.question,
        columns=given,
        rows=len(rows),
        rows_sha256=_digest(rows, texts),
        model=task.reader.model,
        plan=planned(mapping.plan(task, texts, Forgetful())),
        strong=None if task.strong is None else task.strong.model,
        sure=task.sure or None,
    )
    run.journal.record(name, called)
    calling = Calling(calls, verb)
    mapped = await mapping.map_rows(task, texts, calling.ask, _Recorded(run.journal, name, memo), _untold)
    for first in range(0, len(rows), TOLD_ROWS):
        answers = mapped.answers[first : first + TOLD_ROWS]
        told = [_told(rows.id(row), one) for row, one in enumerate(answers, first)]
        run.journal.record(name, RowsAnswered(first=first, answers=told))
    returned = MapReturned(
        rows=len(rows),
        failed=sum(bool(one.error) for one in mapped.answers),
        asked_again=mapped.progress.asked_again,
        stored=sum(one.stored for one in mapped.answers),
        calls=len(calling.ids),
        agreement={field: agreement_json(one) for field, one in mapped.agreement.items()},
        usage=run.budget.used(calling.ids),
        seconds=round(time.monotonic() - began, 3),
    )
    run.journal.record(name, returned)
    return mapped


def _untold(progress: Progress) -> None:
    """The events of a map tell how far it is."""


def _digest(rows: Rows, texts: Sequence[str]) -> str:
    hashed = hashlib.sha256()
    for row, text in enumerate(texts):
        hashed.update(json.dumps([rows.id(row), text]).encode())
    return hashed.hexdigest()


def _told(row: str, answer: Answer) -> dict[str, Json]:
    told: dict[str, Json] = {"row": row, "call": answer.call}
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


def agreement_json(agreement: Agreement) -> dict[str, Json]:
    """An agreement as a trace has it."""
    return {name: round(value, 4) for name, value in asdict(agreement).items()}


def columns(rows: Rows, mapped: Mapped) -> dict[str, Any]:
    """The answers of a map in columns, as a worker is given them: a list of objects would be too many values."""
    spans = [rows.span(row) for row in range(len(rows))]
    named: dict[str, list[Json]] = {"row": [rows.id(row) for row in range(len(rows))]}
    if any(span is not None for span in spans):
        named |= {
            "doc": [None if span is None else span.doc for span in spans],
            "start": [None if span is None else span.start for span in spans],
            "end": [None if span is None else span.end for span in spans],
        }
    fields = {field.name: [one.values.get(field.name) for one in mapped.answers] for field in mapped.fields}
    return named | fields | {"error": [one.error or None for one in mapped.answers]}
