"""Ask many questions under one budget, several at once; what is answered is in a file, and not asked again."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from index_store.arguments import check_fields, checked
from index_store.errors import IndexStoreError
from index_store.files import Lock, lock, replace_file
from index_store.index import Index
from index_store.search import chunks_in
from index_store.terminal import brief
from index_store.types import Json, Scope
from index_store.view import View
from rlm.answers.demands import Demands
from rlm.asking.asking import Answer, ask_through
from rlm.asking.options import Options
from rlm.asking.questions import Question
from rlm.asking.routes import to_begin
from rlm.asking.runs import gateway_for, new_run, ready, words_digest
from rlm.errors import RlmError
from rlm.gateway.errors import OverBudget
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.types import Usage
from rlm.limits import RUNS, Limits, Models, Route
from rlm.loop.recording import Unrecorded, Watch, unwatched
from rlm.loop.run import Run

N = TypeVar("N", int, float)
#: The stops of a question that is done; one that reached a limit or failed is asked again by the next run.
DONE = frozenset({"answer", "unmet"})
#: The stop of a model that writes no code: what it answered all the same, asking again would not better.
NO_CODE = "no code"
_OF_AN_ANSWER = tuple(Answer("", (), "", Usage(), Path(), "").as_json())
_LINE_START = b'{"_id": '  # of every line that `Answers.add` writes: a cut line has it too


@dataclass(frozen=True, slots=True)
class Job:
    """A question and how it is asked. `folder`: of its run; without one it is named by the time and the question."""

    question: Question
    options: Options
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A question with its answer, or with the error by which there is none.

    `asked`: False where the total could not pay its beginning, so that it was not asked; `cap`: the name of the
    cap that was too low for it. `usage`: what it used.
    """

    question: Question
    answer: Answer | None
    error: str | None
    asked: bool = True
    usage: Usage = Usage()  # noqa: RUF009  (frozen)
    cap: str = ""

    @property
    def done(self) -> bool:
        """Whether the question need not be asked again."""
        return self.answer is not None and _is_done(self.answer.stop, self.answer.content)

    @property
    def stop(self) -> str:
        """Why the question ended: as its answer says, else "failed" or "not asked"."""
        return self.answer.stop if self.answer else "failed" if self.asked else "not asked"

    def as_json(self) -> dict[str, Json]:
        """The outcome as it is in a file of answers, which has one a line: always the same fields, null where there is
        nothing to say."""
        scope = self.question.scope
        asked: dict[str, Json] = {
            "_id": self.question.id,
            "question": self.question.text,
            "scope": None if scope is None else scope.as_json(),
        }
        answer = self.answer.as_json() if self.answer else dict.fromkeys(_OF_AN_ANSWER)
        return asked | answer | {"stop": self.stop, "error": self.error}


def _is_done(stop: Json, content: Json) -> bool:
    """Whether a question that ended so need not be asked again."""
    return stop in DONE or (stop == NO_CODE and bool(content))


@checked(RlmError)
async def ask_many(
    index: str | Path | Index,
    questions: Sequence[Question],
    *,
    at_once: int = 4,
    each: Caps = Caps(),
    route: Route = "auto",
    models: Models = Models(),
    limits: Limits = Limits(),
    demands: Demands = Demands(),
    scope: Scope = Scope(),
    runs: str | Path = RUNS,
    watch: Watch = unwatched,
    operator: str = "",
    purpose: str = "",
    retain: str = "",
    memo: bool = True,
) -> AsyncGenerator[Outcome, None]:
    """Each outcome as it comes, `at_once` questions at a time, in an event loop; other options are those of `rlm.ask`.

        async for outcome in rlm.ask_many("my.index", rlm.read_questions("questions.jsonl"), at_once=8):
            print(outcome.question.id, outcome.answer.content if outcome.answer else outcome.error)

    The caps of `limits` on dollars, tokens and calls hold for all questions together; the other limits, and the caps
    `each` (an `rlm.Caps`), for each question by itself. Questions begin in their order. One begins when the total can
    keep for it what it may cost at most: its own caps, or without them its first call and the one set aside for its
    end; what is kept for one, no other takes. Beyond that, all share what is left. One that cannot begin, when
    nothing under way may leave more, is an outcome that was not asked. `rlm.Answers` is the file that the command
    line writes outcomes to, and goes on with. Raises as `rlm.ask`; a question that fails is an outcome with an error.
    """
    options = Options(route, models, limits, demands, scope, runs, watch, operator, purpose, retain, memo)
    opened = ready(index, models)
    for question in questions:
        check_scope(opened, question)
    async with gateway_for(limits) as pool:
        jobs = [Job(question, options) for question in questions]
        async with contextlib.aclosing(ask_from(pool, opened, jobs, at_once, each)) as outcomes:
            async for _, outcome in outcomes:
                yield outcome


async def ask_from(
    pool: Gateway, opened: Index, jobs: Sequence[Job], at_once: int, each: Caps
) -> AsyncGenerator[tuple[Job, Outcome], None]:
    """Each job with its outcome as it comes; all are paid from one pool, as `ask_many` says."""
    waiting = deque(jobs)
    running: set[asyncio.Task[tuple[Job, Outcome]]] = set()
    next_run: Run | None = None  # of the job that begins next, which may wait for many to end
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                own_options = _own_options(waiting[0], each)
                next_run = next_run or _unrecorded(opened, own_options, pool)
                ledger = _ledger(next_run, waiting[0].question.text, own_options, each)
                if isinstance(ledger, OverBudget) and running:
                    break  # what ends may leave enough
                job, next_run = waiting.popleft(), None
                if isinstance(ledger, OverBudget):
                    yield job, Outcome(job.question, None, f"not asked: {ledger}", False, cap=ledger.cap)
                    continue
                asking = _outcome(opened, job, pool.root(ledger), own_options)
                running.add(asyncio.ensure_future(asking))
            if not running:
                continue
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        await _cancelled(running)


def check_scope(index: Index, question: Question) -> None:
    """Raise RlmError, naming its line, where there is no text in a question's scope."""
    try:
        chunks_in(index, question.scope or Scope())
    except IndexStoreError as e:
        raise RlmError(f"{question.line}: {e}" if question.line else str(e)) from e


async def _cancelled(tasks: set["asyncio.Task[tuple[Job, Outcome]]"]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def _outcome(opened: Index, job: Job, own: Gateway, options: Options) -> tuple[Job, Outcome]:
    question = job.question
    try:
        answer = await ask_through(own, opened, question.text, options, job.folder)
    except (RlmError, IndexStoreError) as e:
        return job, Outcome(question, None, str(e), usage=own.ledger.spent)
    finally:
        own.ledger.let_go()
    return job, Outcome(question, answer, None, usage=own.ledger.spent)


def _own_options(job: Job, each: Caps) -> Options:
    """The options of one question: each cap is the lower of its own and that of all; its calls always have one."""
    question, options = job.question, job.options
    total, calls = options.limits, each.calls if each.calls is not None else Limits().calls
    usd, tokens = _lower(each.usd, total.usd), _lower(each.tokens, total.tokens)
    limits = replace(total, usd=usd, tokens=tokens, calls=_lower(calls, total.calls))
    return replace(options, limits=limits, scope=question.scope or options.scope)


def _lower(one: N | None, other: N | None) -> N | None:
    return min((cap for cap in (one, other) if cap is not None), default=None)


def _unrecorded(opened: Index, options: Options, pool: Gateway) -> Run:
    """A run of a question that has not begun, by which it is told what it may cost."""
    return new_run(View(opened, scope=options.scope), options, pool, Unrecorded(), asyncio.get_running_loop())


def _ledger(run: Run, question: str, options: Options, each: Caps) -> "Ledger | OverBudget":
    """The ledger of a question that begins, for which the pool keeps what it may cost; why not, where it cannot."""
    limits, total = options.limits, run.budget.ledger
    floor = Usage() if total.caps == Caps() else _floor(run, question, options, each)
    try:
        return Ledger(Caps(limits.usd, limits.tokens, limits.calls), total, floor)
    except OverBudget as e:
        return e


def _floor(run: Run, question: str, options: Options, each: Caps) -> Usage:
    """The most that a question may cost: its own caps, and where it has none, what it takes as it begins, which hangs
    on what is left by then."""
    first, caps = Usage(), options.limits
    with contextlib.suppress(RlmError):  # of a way that it cannot take: it says so when it is asked
        first = to_begin(run, question, options.route)
    return Usage(
        first.calls if each.calls is None else caps.calls or 0,
        first.prompt_tokens if each.tokens is None else caps.tokens or 0,
        first.completion_tokens if each.tokens is None else 0,
        first.usd if each.usd is None else caps.usd or 0.0,
    )


# -- files -------------------------------------------------------------------------------------------------


def asked_with(index: Index, options: Options) -> dict[str, Json]:
    """What an answer depends on besides its question, as each line of a file of answers names it; limits are not in it,
    so that a run with higher ones goes on with the same file."""
    return {
        "index": index.digest,
        "models": options.models.as_json(),
        "route": options.route,
        "demands": asdict(options.demands),
        "scope": options.scope.as_json(),
        "prompts": words_digest(),
    }


#: How an answer that differs in one of these is told of.
_OTHER = {
    "index": "from another index, or another state of it",
    "models": "by other models, or by these with other options",
    "route": "by another route",
    "demands": "under other demands",
    "scope": "in another scope",
    "prompts": "by another version of this program",
}


@dataclass(frozen=True, slots=True)
class Answers:
    """A file of outcomes, one JSON object a line, which the next run continues.

    `by`: what this run answers with (`asked_with`); it stands in each line. None holds lines against nothing.
    """

    path: Path
    by: Mapping[str, Json] | None = None

    def __post_init__(self) -> None:
        check_fields(self, RlmError)

    def lock(self) -> Lock:
        """Lock the file against other runs. Raises RlmError where one has locked it, or it cannot be written."""
        if self.path.is_dir():
            raise RlmError(f"the answers {self.path} are a folder; name a file")
        busy = RlmError(f"another run is writing {self.path}; wait for it, or name another file")
        try:
            return lock(self.path.with_name(f".{self.path.name}.lock"), busy, remove=True)
        except OSError as e:
            raise RlmError(f"cannot write the answers {self.path}: {e.strerror or e}") from e

    def begin(self, questions: Sequence[Question]) -> list[Question]:
        """The questions that are still to be asked, of which the file then has no lines.

        Lines of other questions stay; a last line that was cut is taken out. Raises RlmError where a line is no
        outcome, or an answer to one of these questions by other means than this run's, or the file cannot be read or
        written.
        """
        rows = self._rows()
        asked = {_key_of(question) for question in questions}
        for row, _ in rows:
            if _is_done(row["stop"], row.get("answer")) and _key(row) in asked:
                self._check_means(row)
        staying = [
            (row, line)
            for row, line in rows
            if _is_done(row["stop"], row.get("answer")) or _key(row) not in asked
        ]
        done = {_key(row) for row, _ in staying}
        try:
            replace_file(self.path, b"".join(line for _, line in staying))
        except OSError as e:
            raise RlmError(f"cannot write the answers {self.path}: {e.strerror or e}") from e
        return [question for question in questions if _key_of(question) not in done]

    def add(self, outcome: Outcome) -> None:
        """Append an outcome to the file. Raises RlmError where it cannot be written."""
        by = {} if self.by is None else {"by": self.by}
        try:
            with self.path.open("a", encoding="utf-8") as out:
                out.write(json.dumps(outcome.as_json() | by) + "\n")
        except OSError as e:
            raise RlmError(f"cannot write the answers {self.path}: {e.strerror or e}") from e

    def _check_means(self, row: Mapping[str, Json]) -> None:
        """Raise RlmError, which names the difference, where an answer was got by other means than this run's."""
        by = row.get("by")
        theirs = by if isinstance(by, Mapping) else {}
        other = [name for name, value in (self.by or {}).items() if theirs.get(name) != value]
        if other:
            what = ", ".join(_OTHER[name] for name in other) if theirs else "and not by what"
            raise RlmError(
                f"{self.path} says that {brief(row['_id'])} was answered {what}; name another file for the answers of "
                "this run"
            )

    def _rows(self) -> list[tuple[dict[str, Json], bytes]]:
        try:
            *lines, last = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as e:
            raise RlmError(f"cannot read the answers {self.path}: {e.strerror or e}") from e
        rows = [(self._row(line, number), line + b"\n") for number, line in enumerate(lines, 1)]
        if last and not (rows and last.startswith(_LINE_START)):
            rows.append((self._row(last, len(lines) + 1), last + b"\n"))
        return rows

    def _row(self, line: bytes, number: int) -> dict[str, Json]:
        row: Json = None
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
        if not (
            isinstance(row, dict) and {"_id", "question"} <= row.keys() and isinstance(row.get("stop"), str)
        ):
            raise RlmError(
                f"{self.path}, line {number}, is no answer: {line[:80]!r}; take it out, or name another file"
            )
        return row


def _key_of(question: Question) -> tuple[str, str, str]:
    scope = {} if question.scope is None else question.scope.as_json()
    return str(question.id), question.text, json.dumps(scope, sort_keys=True)


def _key(row: Mapping[str, Json]) -> tuple[str, str, str]:
    return str(row["_id"]), str(row["question"]), json.dumps(row.get("scope") or {}, sort_keys=True)
