"""The events of a run as classes, one for each kind: what code hands to `Trace.record`.

A class names the fields of its row in the table of rlm/audit/events.py, so that a type checker finds a field that
is misspelt, missing or of another type where it is recorded. The table checks again as the event is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal, TypedDict

from index_store.types import Json
from rlm.gateway.types import Attempt, Message, Served, Usage


class IndexFacts(TypedDict):
    """Which index a run asks."""

    name: str
    generation: int
    digest: str
    documents: int
    nodes: int


class PromptFacts(TypedDict):
    """Which words a model was told: the version of the prompts, and the hash of all of them."""

    version: str
    sha256: str


class ChildResult(TypedDict):
    """What one child gave back: its reply where `ok`, else why there is none."""

    ok: bool
    text: str


class OverCap(TypedDict):
    """Why a call was not made: the most that it may need under a cap, and what was left of that, both in its unit."""

    cap: str
    asked: float
    left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened in a run. A field that may be left out has the default None, and is then not written."""

    kind: ClassVar[str]

    def fields(self) -> dict[str, Json]:
        """The fields by name, as a line of a trace holds them."""
        values = ((one, getattr(self, one.name)) for one in fields(self))
        return {
            one.name: _as_json(value) for one, value in values if value is not None or one.default is MISSING
        }


def _as_json(value: Any) -> Json:
    """The value as a line of a trace holds it; only a dataclass, or a list that begins with one, is another there."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    listed = isinstance(value, list | tuple) and value and is_dataclass(value[0])
    return [asdict(item) for item in value] if listed else value


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOpened(Event):
    """A run begins: what was asked, of which index, with which models, prompts, limits and code.

    `route` is the way the question takes, `route_why` the reason. `operator` asks, for `purpose`; the run is to be kept
    until the day `retain_until`. `versions`: of what the code stands on, by the name of the distribution. `window`:
    tokens that the root model takes, if that is known; `parent`: of a fork, the head of the run it began as and the
    turn from which it goes its own way; `map`: where the run is one map, which rows it asks about and for what.
    `backend_why`: why code runs in the backend that `limits` names, where that was chosen and not given. `key`: whose
    money it was, where a purse paid, by an id that is no secret. `access`: the labels of the reader to whom the index
    was narrowed, in order; left out where it was not.
    `format` and `started` are added by the trace.
    """

    kind = "run_opened"
    question: str
    index: IndexFacts
    models: Mapping[str, Json]
    prompts: PromptFacts
    limits: Mapping[str, Json]
    code_version: str
    route: str
    route_why: str | None = None
    demands: Mapping[str, Json] | None = None
    scope: Mapping[str, Json] | None = None
    operator: str | None = None
    purpose: str | None = None
    retain_until: str | None = None
    versions: Mapping[str, Json] | None = None
    window: int | None = None
    parent: Mapping[str, Json] | None = None
    map: Mapping[str, Json] | None = None
    backend_why: str | None = None
    key: str | None = None
    access: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionPut(Event):
    """A chat puts its next question; its first is that of RunOpened."""

    kind = "question_put"
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAsked(Event):
    """A model call begins. The model sees the first `conversation_messages - len(messages)` messages that this
    conversation held before, and then `messages`. `parameters`: what it is asked with besides, by litellm's names; what
    of that went out is told with each attempt."""

    kind = "model_asked"
    call: int
    model: str
    messages: Sequence[Message]
    conversation_messages: int
    max_tokens: int
    temperature: float | None = None
    parameters: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswered(Event):
    """A model call ends with a reply. Every call of a run, a child's too, has its own pair of events. `cached`: it was
    not asked for, as the store had its reply, or in a fork the record, and so it cost nothing; `attempts`: each
    request that was made for it, the last of which was answered; `served`: who replied, as the provider says;
    `tool_call`: the tools it called, though it was offered none; `structured`: the provider held it to the format."""

    kind = "model_answered"
    call: int
    model: str
    text: str
    usage: Usage
    finish_reason: str
    seconds: float
    cached: bool
    attempts: Sequence[Attempt] | None = None
    served: Served | None = None
    tool_call: str | None = None
    structured: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFailed(Event):
    """A model call ends without a reply; `usage` is what it cost all the same, `attempts` each request that was made,
    and `refused` the cap by which the next was not."""

    kind = "model_failed"
    call: int
    model: str
    error: str
    seconds: float
    usage: Usage | None = None
    attempts: Sequence[Attempt] | None = None
    refused: OverCap | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeScanned(Event):
    """A cell was scanned, by the worker and before it runs. Where it is rejected, `rule` says why and `line_in_code`
    where, from 1. The verdict is the worker's word; a cell that was rejected was served no visit and no call."""

    kind = "code_scanned"
    cell: int
    code: str
    verdict: Literal["ok", "rejected"]
    rule: str | None
    line_in_code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRun(Event):
    """A cell ended, as the worker says unless it was killed. `truncated`: more was printed than `stdout` holds.
    `state_lost`: its variables are gone."""

    kind = "code_run"
    cell: int
    status: Literal["ok", "error", "rejected", "killed"]
    stdout: str
    error: str
    seconds: float
    truncated: bool
    state_lost: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited(Event):
    """Code used a verb over the tree; or, as `by` says, the run itself, which searches where nothing was read by its
    end. `shown`: the nodes in its result; `not_taken`: their siblings, which were on
    offer and not shown; both as NODE in the table. `result` is exactly what the worker was given, `result_chars` its
    length; `error` says why the verb was refused."""

    kind = "visited"
    cell: int
    verb: str
    arguments: Mapping[str, Json]
    shown: Sequence[Mapping[str, Json]]
    not_taken: Sequence[Mapping[str, Json]]
    result_chars: int
    result: Json
    error: str | None = None
    seconds: float | None = None
    by: Literal["run"] | None = None
    cut: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded(Event):
    """What a search is for was embedded by a call, before the visit that needs it. `vectors`: of the `texts`, as
    float32 in base64, so that a replay searches by the same; '' where the call failed, and `error` says why. `usage`:
    what it was charged, `attempts`: each request that was made for it."""

    kind = "embedded"
    model: str
    texts: Sequence[str]
    vectors: str
    usage: Usage
    seconds: float
    attempts: Sequence[Attempt]
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCalled(Event):
    """Code asked a model (llm_query) or a child run (rlm_query). Each of `prompts` begins a conversation of its own,
    named in `children`; `under` has, for each, the branch that a child run is held to, or None."""

    kind = "child_called"
    cell: int
    verb: str
    prompts: Sequence[str]
    under: Sequence[str | None]
    children: Sequence[str]
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildReturned(Event):
    """The results of children went back into the code, in the order of `children`. `usage` is the sum of what the
    children's own events say."""

    kind = "child_returned"
    cell: int
    verb: str
    children: Sequence[str]
    results: Sequence[ChildResult]
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MapCalled(Event):
    """The same question is put to many rows. What follows is its own until MapReturned: RowsRecalled, a pair of
    ChildCalled and ChildReturned for each wave of packs, RowsAnswered. `rows`: how many; `rows_sha256`: of their ids
    and digests of their texts; `columns`: the fields that each is asked for, as they were written; `plan`: what it
    takes if nothing is asked again. `strong`: reads where two readings differ; `sure`: the share of rows that is read
    twice."""

    kind = "map_called"
    cell: int
    verb: str
    question: str
    columns: Mapping[str, Json]
    rows: int
    rows_sha256: str
    model: str
    plan: Mapping[str, Json]
    strong: str | None = None
    sure: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsRecalled(Event):
    """The store had answers of an earlier run: `values` of the rows with these numbers, from 0. `turn`: which reading
    it is, "first", "second" or "strong"; the rows of a second one are shuffled, all others ascend. Rows whose texts are
    equal have one answer, that of the first of them."""

    kind = "rows_recalled"
    turn: str
    rows: Sequence[int]
    values: Sequence[Mapping[str, Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsAnswered(Event):
    """The answers of rows in order, from the row with the number `first` on; each {"row", "values" or "error", "call"},
    `call` being the conversation that answered, "" for the store, and `number` which row of its pack it is there, from
    1. `text` stands where no call has it: a digest of the row's text. `again`: what a second reading gave, and `first`
    what the first did where a strong model then judged."""

    kind = "rows_answered"
    first: int
    answers: Sequence[Mapping[str, Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapReturned(Event):
    """A map has ended: every row has its answer, or is named as one that has none. `failed`: those; `asked_again`: rows
    that were put to a model once more, since a reply lacked them or was wrong; `stored`: answers from the store.
    `agreement`: of rows that were read twice, by field."""

    kind = "map_returned"
    rows: int
    failed: int
    asked_again: int
    stored: int
    calls: int
    agreement: Mapping[str, Json]
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceCalled(Event):
    """A question is put to all of a branch. What follows is its own until ReduceReturned: a pair of ChildCalled and
    ChildReturned for each wave of prompts. `packs`: prompts that read `passages`; the others read notes. `plan`:
    {"levels", "calls", "tokens", "usd"}, at most."""

    kind = "reduce_called"
    cell: int
    question: str
    model: str
    packs: int
    passages: int
    plan: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceReturned(Event):
    """A reduction has ended. `answer`: '' where it failed. `notes`: those that the answer was made of; `cited`: the
    exact words that it rests on. `cut`: what was read by prompts whose replies say that it holds no evidence; `failed`:
    by those without a reply that could be used, and why; `dropped`: notes that rested on nothing, or had no room;
    `noted`: the notes themselves, each {"note", "citations"}, with the citations as a cell is given them."""

    kind = "reduce_returned"
    answer: str
    notes: int
    cited: int
    cut: Sequence[str]
    failed: Sequence[str]
    dropped: int
    calls: int
    usage: Usage
    seconds: float
    noted: Sequence[Mapping[str, Json]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetNoted(Event):
    """The ledger now, and the reason why it is noted. A null in `left` is no cap."""

    kind = "budget"
    spent: Usage
    reserved: Usage
    left: Mapping[str, Json]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicious(Event):
    """Words shown to the code or to a model read like an instruction to a model, by `rule`; recorded once for each
    wording. `place` is the node or span they stand in, `start` and `end` their characters in the text shown."""

    kind = "suspicious"
    shown_as: str
    place: str
    start: int
    end: int
    words: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(Event):
    """The engine did something that no other event says."""

    kind = "note"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsChanged(Event):
    """A person chose other models for what follows, in a chat or by a fork. `window`: as of RunOpened."""

    kind = "models_changed"
    models: Mapping[str, Json]
    window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Event):
    """A conversation has its answer. Each citation says how it stands in the source, as CITATION in the table; `stop`
    says what ended the conversation, and `lacks`, where that is "unmet", what the answer lacks of what is demanded."""

    kind = "answered"
    content: str
    citations: Sequence[Mapping[str, Json]]
    stop: str
    lacks: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClosed(Event):
    """The last event of a whole trace. `usage` is what the run was charged, `seconds` its wall time; `ended`, by the
    clock on the wall, is added by the trace."""

    kind = "run_closed"
    stop: str
    usage: Usage
    seconds: float
    error: str | None = None
