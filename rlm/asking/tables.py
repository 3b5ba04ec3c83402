"""`rlm.map_rows`: one question to every row of an index, without a root model; a run with a trace like any other."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast, overload

from index_store.arguments import check_fields, checked
from index_store.index import Index
from index_store.rows import SPLITS, Split
from index_store.terminal import brief, count
from index_store.types import Json, Scope
from index_store.view import View
from rlm.answers.citations import Conclusion
from rlm.answers.demands import Demands
from rlm.asking.options import Options
from rlm.asking.questions import check_text
from rlm.asking.routes import Choice
from rlm.asking.runs import (
    gateway_for,
    new_folder,
    new_run,
    opened_for,
    ready,
    record_closing,
    record_opening,
)
from rlm.audit.log import Trace
from rlm.audit.maps import COUNTED, map_in_words
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.gateway.errors import GatewayError
from rlm.gateway.gateway import Gateway
from rlm.gateway.models import check_model, price, provider_of
from rlm.gateway.purse import Purse
from rlm.gateway.types import Usage
from rlm.limits import MAP_LIMITS, RUNS, Limits, Models, Route
from rlm.loop.calls import Calls
from rlm.loop.mapped import Rows, Selected, Stored, TextsOf, figures, map_in, task_of
from rlm.loop.recording import Unrecorded, Watch, unwatched
from rlm.loop.run import Run
from rlm.loop.verbs import Verbs, Visit
from rlm.loop.visits import record_visit
from rlm.mapping import mapping
from rlm.mapping.certainty import count_values
from rlm.mapping.fields import parse_fields
from rlm.mapping.planning import sizes
from rlm.mapping.types import Agreement, Count, Mapped, Plan, Reader, Task, Value

#: The route of a run that is one map, as its trace names it; nobody chooses it for a question.
ROUTE = cast(Route, "table")
WHY = "every row is asked"


@dataclass(frozen=True, slots=True)
class Asked:
    """What every row is asked for, and which rows. `split`: as `index_store.rows.rows_of`; `under`: only below this
    node. `fields`: what each row is asked for, by name. `strong`: the model that reads where two readings differ;
    `sure`: the share of rows that is read twice. `pack_tokens`: of rows in one prompt; `calibrate`: whether the size of
    packs is tried out first, None: where there are many.

    Raises RlmError, in one sentence, for what no row can be asked.
    """

    question: str
    fields: Mapping[str, Json]
    split: Split = "record"
    under: str | None = None
    strong: str | None = None
    sure: float = 0.0
    pack_tokens: int | None = None
    calibrate: bool | None = None

    def __post_init__(self) -> None:
        check_fields(self, RlmError)
        check_text(self.question, "question")
        if self.split not in SPLITS:
            raise RlmError(f"split is {brief(self.split)}; give one of {', '.join(SPLITS)}")
        Task(
            self.question, parse_fields(self.fields), Reader(""), sure=self.sure, pack_tokens=self.pack_tokens
        )

    def as_json(self) -> dict[str, Json]:
        """As the first event of a trace has it: with the fields in pairs, as a trace sorts the names of an object, and
        a model is asked for them in their order."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return told | {"fields": [list(pair) for pair in self.fields.items()]}


def in_order(told: Mapping[str, Json]) -> dict[str, Json]:
    """What an `Asked` is made of, by what the first event of a trace has of it. Raises RlmError."""
    pairs = told.get("fields") if isinstance(told, Mapping) else None
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise RlmError(
            f"the trace opens with fields that are {brief(pairs)}, and no pairs of a name and a kind"
        )
    if not all(isinstance(name, str) for name, _ in pairs):
        raise RlmError("the trace opens with fields that have no names")
    return {**told, "fields": dict(pairs)}


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Table(Sequence[dict[str, Json]]):
    """The answers of all rows, in order: a sequence of {"row", "doc", "start", "end", its fields, "error"}, where the
    fields of a row without an answer are None, and so is the "error" of one with an answer.

    `stop`: "answer", or the limit that ended it; then rows without an answer say so. `why`: a sentence about it.
    `failed`, `stored`: rows without an answer, and with one from the store. `agreement`: of two readings, by field.
    `usage`, `trace`, `head`, `priced`: as of `Answer`. `kept`: whether the answers are in the store;
    `trouble`: why not, '' where it was not to be used.
    """

    asked: Rows
    mapped: Mapped
    stop: str
    why: str
    usage: Usage
    trace: Path
    head: str
    priced: bool
    kept: bool
    trouble: str

    def __len__(self) -> int:
        return len(self.asked)

    @property
    def columns(self) -> list[str]:
        """What each row has, in order."""
        return ["row", "doc", "start", "end", *(field.name for field in self.mapped.fields), "error"]

    @overload
    def __getitem__(self, key: int, /) -> dict[str, Json]: ...

    @overload
    def __getitem__(self, key: slice, /) -> list[dict[str, Json]]: ...

    def __getitem__(self, key: int | slice, /) -> dict[str, Json] | list[dict[str, Json]]:
        if isinstance(key, slice):
            return [self._row(number) for number in range(*key.indices(len(self)))]
        return self._row(range(len(self))[key])

    def __repr__(self) -> str:
        return f"<Table of {count(len(self), 'row')}, {self.failed:,} without an answer: {', '.join(self.columns)}>"

    def _row(self, number: int) -> dict[str, Json]:
        answer, span = self.mapped.answers[number], self.asked.span(number)
        assert span is not None  # only texts of a cell's own have none
        said: dict[str, Json] = {field.name: answer.values.get(field.name) for field in self.mapped.fields}
        place: dict[str, Json] = {
            "row": self.asked.id(number),
            "doc": span.doc,
            "start": span.start,
            "end": span.end,
        }
        return place | said | {"error": answer.error or None}

    def counts(self, field: str) -> dict[Value, Count]:
        """How many rows have each value of a field, with the interval of one more reading (see `count_values`)."""
        return count_values(self.mapped, field)

    @property
    def counted(self) -> list[str]:
        """The fields whose values are few enough to count."""
        return [field.name for field in self.mapped.fields if field.kind in COUNTED]

    @property
    def agreement(self) -> Mapping[str, Agreement]:
        """How often two readings of a row gave a field the same value, where some were read twice."""
        return self.mapped.agreement

    @property
    def failed(self) -> int:
        """Rows without an answer."""
        return sum(bool(one.error) for one in self.mapped.answers)

    @property
    def stored(self) -> int:
        """Rows whose answer was in the store."""
        return sum(one.stored for one in self.mapped.answers)

    def as_json(self) -> dict[str, Json]:
        """The table as the command line prints it, without its rows."""
        return {
            "rows": len(self),
            "answered": len(self) - self.failed,
            "failed": self.failed,
            "stored": self.stored,
            "asked_again": self.mapped.progress.asked_again,
            "counts": {
                name: [{"value": value, **asdict(one)} for value, one in self.counts(name).items()]
                for name in self.counted
            },
            "agreement": {name: asdict(one) for name, one in self.agreement.items()},
            "pack_tokens": self.mapped.pack_tokens,
            "stop": self.stop,
            "why": self.why or None,
            "trouble": self.trouble or None,
            "usage": asdict(self.usage),
            "priced": self.priced,
            "trace": str(self.trace),
            "head": self.head,
        }


@checked(RlmError)
def map_rows(
    index: str | Path | Index,
    question: str,
    fields: Mapping[str, Json],
    *,
    split: Split = "record",
    under: str | None = None,
    strong: str | None = None,
    sure: float = 0.0,
    pack_tokens: int | None = None,
    calibrate: bool | None = None,
    models: Models = Models(),
    limits: Limits = MAP_LIMITS,
    scope: Scope = Scope(),
    runs: str | Path = RUNS,
    watch: Watch = unwatched,
    operator: str = "",
    purpose: str = "",
    retain: str = "",
    memo: bool = True,
) -> Table:
    """Ask every row of an index the same question; blocks.

    `fields`: what each row is asked for: a list of labels, "YYYY-MM-DD", "YYYY-MM", "YYYY", "number", "integer",
    "yes/no" or "text". `split`: what a row is: "document", "section", "chunk", "line" or "record"; `under`: only those
    below this node. `strong`: a model that reads the rows on which two readings differ; `sure`: the share of rows that
    is read twice. `pack_tokens`: of rows in one prompt; `calibrate`: whether the size of prompts is tried out first,
    None: where there are many rows. `models`: the child model reads. `limits`: hard caps; what they left unanswered
    says so, and the same call goes on from there. The others are as for `ask`. `memo`: rows that were answered before
    are not asked again.

    Raises RlmError or IndexStoreError: one sentence.
    """
    asked = Asked(question, fields, split, under, strong, sure, pack_tokens, calibrate)
    options = Options("auto", models, limits, Demands(), scope, runs, watch, operator, purpose, retain, memo)
    return run_blocking(map_opened(ready(index, models), asked, options))


@checked(RlmError)
async def map_rows_async(
    index: str | Path | Index,
    question: str,
    fields: Mapping[str, Json],
    *,
    split: Split = "record",
    under: str | None = None,
    strong: str | None = None,
    sure: float = 0.0,
    pack_tokens: int | None = None,
    calibrate: bool | None = None,
    models: Models = Models(),
    limits: Limits = MAP_LIMITS,
    scope: Scope = Scope(),
    runs: str | Path = RUNS,
    watch: Watch = unwatched,
    operator: str = "",
    purpose: str = "",
    retain: str = "",
    memo: bool = True,
) -> Table:
    """As `map_rows`, inside an event loop.

    When cancelled, it stops everything it has started and closes its trace; what was answered is in the store.
    """
    asked = Asked(question, fields, split, under, strong, sure, pack_tokens, calibrate)
    options = Options("auto", models, limits, Demands(), scope, runs, watch, operator, purpose, retain, memo)
    return await map_opened(ready(index, models), asked, options)


@checked(RlmError)
def plan_rows(
    index: str | Path | Index,
    question: str,
    fields: Mapping[str, Json],
    *,
    split: Split = "record",
    under: str | None = None,
    strong: str | None = None,
    sure: float = 0.0,
    pack_tokens: int | None = None,
    calibrate: bool | None = None,
    models: Models = Models(),
    limits: Limits = MAP_LIMITS,
    scope: Scope = Scope(),
    memo: bool = True,
) -> Plan:
    """What `map_rows` will take with the same arguments: calls, tokens and dollars; nothing is asked or recorded.

    Raises as `map_rows` does, but needs no key.
    """
    asked = Asked(question, fields, split, under, strong, sure, pack_tokens, calibrate)
    options = Options(models=models, limits=limits, scope=scope, memo=memo)
    return plan_opened(opened_to_plan(index, models), asked, options)


async def map_opened(
    index: Index,
    asked: Asked,
    options: Options,
    folder: Path | None = None,
    purse: Purse | None = None,
) -> Table:
    """As `map_rows`, for an index that `ready` has opened. `folder`: of the run, where it was made before.

    `purse`: what its calls are paid from, besides its own caps.
    """
    async with gateway_for(options.limits, purse) as gateway:
        view = View(index, scope=options.scope)
        _check(asked, check_model)
        # What cannot be asked leaves no run behind.
        ready = await asyncio.to_thread(made_ready, view, options.models, options.limits, asked)
        folder = folder or new_folder(Path(options.runs), asked.question)
        with Trace.open(folder) as trace:
            run = new_run(view, options, gateway, trace, asyncio.get_running_loop())
            tabled = await concluded_table(run, asked, ready, options)
            if tabled.conclusion.stop == "failed":
                raise RlmError(f"{tabled.conclusion.error} (trace: {folder})")
            return _table(run, tabled, folder, trace.head)


def opened_to_plan(index: str | Path | Index, models: Models) -> Index:
    """The index, opened, once the models exist: as none of them is called, none needs its key. Raises as `ready`."""
    return opened_for(index, models, provider_of)


def plan_opened(index: Index, asked: Asked, options: Options) -> Plan:
    """What the map of `map_opened` will take, before anything is asked; nothing is recorded."""

    async def planned() -> Plan:
        async with gateway_for(options.limits) as gateway:
            run = _unrecorded(index, options, gateway)
            _check(asked, provider_of)
            ready = made_ready(run.view, run.models, run.limits, asked)
            return await mapping.plan(mapping.prepare(ready.task, TextsOf(ready.rows)), Stored(run, "0"))

    return run_blocking(planned())


def _unrecorded(index: Index, options: Options, gateway: Gateway) -> Run:
    def heard(kind: str, conversation: str, fields: dict[str, Json]) -> None:
        if kind == "note":  # such as that the store cannot be used
            options.watch(kind, conversation, fields)

    view = View(index, scope=options.scope)
    return new_run(view, replace(options, watch=heard), gateway, Unrecorded(), asyncio.get_running_loop())


def _check(asked: Asked, check: Callable[[str], object]) -> None:
    """Raise RlmError where the strong model, as `check` finds, cannot be asked."""
    if asked.strong is not None:
        check(asked.strong)


@dataclass(frozen=True, slots=True)
class Ready:
    """What a map is made of. `visits`: how its rows were found, which the trace tells once it is open."""

    rows: Selected
    task: Task
    visits: Sequence[Visit]


def made_ready(view: View, models: Models, limits: Limits, asked: Asked) -> Ready:
    """The rows, by a visit of `context.rows`, and what they are asked. Raises RlmError where nothing can be asked."""
    visits, under = list[Visit](), {} if asked.under is None else {"under": asked.under}
    verbs = Verbs(view.index, visits.append, scope=view.scope)
    rows = Selected(verbs.selected(verbs.serve("rows", [asked.split], under)))
    if not len(rows):
        raise RlmError(f"there is no row by {asked.split}; take another split, or more documents than these")
    task = task_of(
        models,
        limits,
        asked.question,
        asked.fields,
        models.child,
        asked.strong,
        asked.sure,
        asked.pack_tokens,
        asked.calibrate,
    )
    for reader in filter(None, (task.reader, task.strong)):
        sizes(task, reader)
    return Ready(rows, task, visits)


@dataclass(frozen=True, slots=True)
class Tabled:
    """How a map over the rows of a run ended. `rows`, `mapped`: None where it failed."""

    conclusion: Conclusion
    rows: Rows | None = None
    mapped: Mapped | None = None


def _table(run: Run, tabled: Tabled, folder: Path, head: str) -> Table:
    c, trouble = tabled.conclusion, run.journal.trouble
    kept = run.budget.memo is not None and not trouble
    assert tabled.rows is not None and tabled.mapped is not None
    priced, spent = price(run.models.child, 1, 1) is not None, run.budget.ledger.spent
    return Table(tabled.rows, tabled.mapped, c.stop, c.error, spent, folder, head, priced, kept, trouble)


def goes_on(*, kept: bool) -> str:
    """What the same command does after a stop. `kept`: whether what was answered is in the store."""
    if kept:
        return "what was answered is in the store, and the same command goes on from there"
    return "nothing that was answered is in the store, and the same command begins anew"


async def concluded_table(
    run: Run,
    asked: Asked,
    ready: Ready,
    options: Options = Options(),
    parent: Mapping[str, Json] | None = None,
) -> Tabled:
    """Map between the first and the last event of the trace, which are recorded whatever happens."""
    record_opening(run, asked.question, Choice(ROUTE, WHY), options, parent, asked.as_json())
    tabled = Tabled(Conclusion("", (), "cancelled", "the run was cancelled"))
    try:
        tabled = await _tabled(run, ready)
    except Exception as e:
        tabled = Tabled(Conclusion("", (), "failed", f"{type(e).__name__}: {e}"))
        raise
    finally:
        record_closing(run, tabled.conclusion)
    return tabled


async def _tabled(run: Run, ready: Ready) -> Tabled:
    for visit in ready.visits:
        record_visit(run, "0", lambda: 0, visit)
    try:
        ran = await map_in(_calls(run), "llm_map", ready.task, ready.rows)
    except GatewayError as e:
        return Tabled(run.conclude("0", "", (), "failed", str(e)))
    return Tabled(
        run.conclude("0", map_in_words(figures(ran.mapped)), (), ran.stop, ran.mapped.stopped),
        ready.rows,
        ran.mapped,
    )


def _calls(run: Run) -> Calls:
    """The calls of a conversation without cells."""
    verbs = Verbs(run.index_for("0"), partial(record_visit, run, "0", lambda: 0), scope=run.view.scope)
    return Calls(run, verbs, "0", 0, _no_child, lambda: 0, within=run.budget.within)


async def _no_child(*_: Any) -> Conclusion:
    raise AssertionError("a map has no child runs")
