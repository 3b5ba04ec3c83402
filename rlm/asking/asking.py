"""Ask an index a question: choose a route that fits the limits, record the run in a trace, return the answer."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from index_store.arguments import checked
from index_store.index import Index
from index_store.terminal import count
from index_store.types import Json, Scope
from index_store.view import View
from rlm import prompts
from rlm.answers.citations import Citation, Conclusion
from rlm.answers.demands import Demands, is_not_found
from rlm.answers.schema import typed
from rlm.asking.offline import doubts, read_by
from rlm.asking.options import Options
from rlm.asking.questions import check_text
from rlm.asking.routes import Choice, choose, first_call
from rlm.asking.runs import (
    gateway_for,
    new_folder,
    new_run,
    ready,
    record_closing,
    record_opening,
)
from rlm.audit.log import Trace
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.gateway.gateway import Gateway
from rlm.gateway.models import price
from rlm.gateway.purse import Purse
from rlm.gateway.types import Usage
from rlm.limits import LOOPS, RUNS, Limits, Models, Route
from rlm.loop.embedding import is_called
from rlm.loop.recording import Watch, unwatched
from rlm.loop.run import Run
from rlm.loop.single import RETRIEVED_TOKENS, answer_once, fitting, retrieved_text, upper_levels, whole_text
from rlm.loop.verbs import Verbs
from rlm.loop.visits import record_visit

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question, with its citations and what it cost.

    `content`: the text of the answer, '' where there is none. `stop`: why the run ended: "answer" (the model had
    finished), "unmet" (the answer lacks what was demanded), "no code" (the model writes none), or the limit "turns",
    "budget" or "timeout". `trace`: the folder of the run. `head`: the hash of the last line of its trace; a copy of it
    kept elsewhere shows later that the trace was not rewritten. `value`: the answer as the schema's type, where a
    schema was demanded and is met; `content` is then its JSON. `priced`: whether the prices of all models are known;
    where one is not, `usage.usd` is too low. `why`: a sentence about the stop, where there is more to say, such as that
    nothing was found to answer from. `lacks`: what an "unmet" answer lacks of what was demanded, as the model was told.
    `read_by`: who read the text, where that was no language model; `warnings` then says what the offline tools cannot
    do for this question. `stored`: replies that came from the store, beside the calls; `cached_tokens`: of the tokens
    used, those of prompts that providers had in their caches.
    """

    content: str
    citations: tuple[Citation, ...]
    stop: str
    usage: Usage
    trace: Path
    head: str
    value: Json = None
    priced: bool = True
    why: str = ""
    lacks: str = ""
    read_by: str = ""
    warnings: tuple[str, ...] = ()
    stored: int = 0
    cached_tokens: int = 0

    def as_json(self) -> dict[str, Json]:
        """The answer as the command line prints it: always the same fields, null where there is nothing to say."""
        return {
            "answer": self.content if self.value is None else self.value,
            "citations": [{"also_in": []} | citation.as_json() for citation in self.citations],
            "stop": self.stop,
            "why": self.why or None,
            "lacks": self.lacks or None,
            "read_by": self.read_by or None,
            "warnings": list(self.warnings),
            "usage": asdict(self.usage) | {"cached_tokens": self.cached_tokens, "stored": self.stored},
            "priced": self.priced,
            "trace": str(self.trace),
            "head": self.head,
        }


@checked(RlmError)
def ask(
    index: str | Path | Index,
    question: str,
    *,
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
) -> Answer:
    """Answer `question` from an index folder, an open index, or a text file; blocks.

    `route`: "direct" (the whole text in one call), "retrieve" (what a search finds in one call), "overview" (the upper
    levels of the tree in one call), "map" (the loop, which is told to ask every row), "rlm" (the loop), or "auto",
    which chooses. `models`: who answers, as litellm names them; by default rules that need no key. `limits`: hard caps
    on dollars, tokens, calls, turns and time. `demands`: what an answer must satisfy. `scope`: the part of the index
    that the question is about; nothing else is seen or cited. `runs`: the folder in which the run gets a folder for its
    trace. `watch`: called as `watch(kind, conversation, fields)` with every event as it is recorded, and with
    `map_progress` of how far a map is. `operator`, `purpose`, `retain`: who asks, for what, and the day until which the
    run is to be kept, such as "2030-12-31"; recorded where they are given. `memo`: sub-calls that were answered before
    are taken from the store beside the index, and new ones kept there.

    Raises RlmError or IndexStoreError: one sentence.
    """
    options = Options(route, models, limits, demands, scope, runs, watch, operator, purpose, retain, memo)
    check_text(question, "question")
    return run_blocking(ask_opened(ready(index, models), question, options))


@checked(RlmError)
async def ask_async(
    index: str | Path | Index,
    question: str,
    *,
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
) -> Answer:
    """As `ask`, inside an event loop; many questions may be under way in one process.

    When cancelled, it stops everything it has started and closes its trace.
    """
    options = Options(route, models, limits, demands, scope, runs, watch, operator, purpose, retain, memo)
    check_text(question, "question")
    return await ask_opened(ready(index, models), question, options)


@checked(RlmError)
async def events(
    index: str | Path | Index,
    question: str,
    *,
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
) -> AsyncGenerator[dict[str, object], None]:
    """The events of a run as they are recorded, each {"kind", "conversation", ...}; options and errors as for `ask`.

        async for event in rlm.events("my.index", "Who approves travel?"):
            print(event["kind"])

    How far a map is comes between them as {"kind": "map_progress", ...}, which the trace does not hold. The last is
    {"kind": "result", "conversation": "0", "answer": Answer}. Leaving the iterator early stops the run.
    """
    queue: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def put(kind: str, conversation: str, fields: dict[str, Json]) -> None:
        watch(kind, conversation, fields)
        event: dict[str, object] = {"kind": kind, "conversation": conversation, **fields}
        loop.call_soon_threadsafe(queue.put_nowait, event)

    options = Options(route, models, limits, demands, scope, runs, put, operator, purpose, retain, memo)
    check_text(question, "question")
    asking = asyncio.ensure_future(ask_opened(ready(index, models), question, options))
    asking.add_done_callback(
        lambda _: queue.put_nowait({})
    )  # no more events; the task has the answer or the error
    try:
        while event := await queue.get():
            yield event
        yield {"kind": "result", "conversation": "0", "answer": await asking}
    finally:
        asking.cancel()
        await asyncio.wait([asking])


async def ask_opened(
    index: Index,
    question: str,
    options: Options,
    folder: Path | None = None,
    purse: Purse | None = None,
) -> Answer:
    """As `ask_async`, for an index that `ready` has opened and a question that `check_text` has passed.

    `folder`: of the run, where it was made before. `purse`: what its calls are paid from, besides its own caps.
    """
    async with gateway_for(options.limits, purse) as gateway:
        return await ask_through(gateway, index, question, options, folder)


async def ask_through(
    gateway: Gateway, index: Index, question: str, options: Options, folder: Path | None = None
) -> Answer:
    """Ask one question as one run, with a folder of its own; what it spends is charged to the gateway's ledger."""
    view = View(index, scope=options.scope)
    folder = folder or new_folder(Path(options.runs), question)
    with Trace.open(folder) as trace:
        run = new_run(view, options, gateway, trace, asyncio.get_running_loop())
        choice = choose(run, options.route, question)
        _log.info("%s: %s by %s (%s)", folder, run.models.root, choice.route, choice.why)
        conclusion = await concluded(run, question, choice, options)
        calls = count(run.budget.ledger.spent.calls, "call")
        _log.info("%s: ended by %s after %s", folder, conclusion.stop, calls)
        if conclusion.stop == "failed":
            raise RlmError(f"{conclusion.error} (trace: {folder})")
        return answer_of(run, question, conclusion, folder, trace.head)


async def concluded(
    run: Run,
    question: str,
    choice: Choice,
    options: Options = Options(),
    parent: Mapping[str, Json] | None = None,
) -> Conclusion:
    """Run the question between the first and the last event of its trace, which are recorded whatever happens."""
    record_opening(run, question, choice, options, parent)
    conclusion = Conclusion("", (), "cancelled", "the run was cancelled")
    try:
        conclusion = await by_route(run, question, choice.route)
    except Exception as e:
        conclusion = Conclusion("", (), "failed", f"{type(e).__name__}: {e}")
        raise
    finally:
        await run.budget.release_last()
        record_closing(run, conclusion)
    return conclusion


async def by_route(run: Run, question: str, route: Route) -> Conclusion:
    """The conclusion by the route that was chosen."""
    if route != "direct":  # before the clock of a cell starts, which would pay for it
        await asyncio.to_thread(run.index.warm_up)
    if route in LOOPS:
        from rlm.loop.engine import (
            converse,  # a third of what a question imports, and its first event needs none of it
        )

        run.told = prompts.ASK_EVERY_ROW if route == "map" else ""
        await run.budget.reserve_last(run.models.root, lambda: first_call(run, question, route))
        return await converse(run, question)
    if route == "direct":
        return await answer_once(run, question, whole_text(run))
    verbs = Verbs(run.index_for("0"), partial(record_visit, run, "0", lambda: 0), scope=run.view.scope)
    gather = upper_levels if route == "overview" else retrieved_text
    passages = await _to_its_end(run, partial(gather, run, verbs, question, RETRIEVED_TOKENS))
    return await answer_once(run, question, fitting(run, question, passages))


async def _to_its_end(run: Run, work: Callable[[], T]) -> T:
    """What a search comes to. One that waits for a call is done in a thread, and ends before the run does."""
    if not is_called(run.index):
        return work()
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    finally:
        if not doing.done():
            await asyncio.wait([doing])


def answer_of(run: Run, question: str, conclusion: Conclusion, folder: Path, head: str) -> Answer:
    """The answer of a run that has ended, with what it spent. `head`: the hash of its trace's last line."""
    c, schema = conclusion, run.demands.schema
    value = None if schema is None or is_not_found(c.content) else typed(c.content, schema)[0]
    priced = all(price(model, 1, 1) is not None for model in (run.models.root, run.models.child))
    spent = run.budget.ledger.spent
    by = read_by(run.models)
    warnings = doubts(question) if by and not run.told else ()
    journal = run.journal
    return Answer(
        c.content,
        c.citations,
        c.stop,
        spent,
        folder,
        head,
        value,
        priced,
        c.error,
        c.lacks,
        by,
        warnings,
        journal.stored,
        journal.cached_tokens,
    )
