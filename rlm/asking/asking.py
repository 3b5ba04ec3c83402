"""Ask an index: open it, run the loop under its limits, leave a trace, return the answer."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache, partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from index_store.index import Index, open_any
from rlm import prompts
from rlm.answers.citations import Citation, Conclusion
from rlm.answers.demands import Demands, not_found
from rlm.answers.schema import typed
from rlm.asking.routes import Choice, Route, choose
from rlm.audit.log import Trace
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.gateway.gateway import Gateway
from rlm.gateway.lanes import Lanes
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.litellm_setup import warm_up
from rlm.gateway.models import check_model, price
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Usage
from rlm.limits import Limits, Models
from rlm.loop import navigator
from rlm.loop.cells import record_visit
from rlm.loop.context import Context
from rlm.loop.engine import converse
from rlm.loop.run import Run, Watch, unwatched, usage_json
from rlm.loop.single import RETRIEVED_TOKENS, answer_once, fitting, found_text, whole_text

Event = dict[str, Any]
RUNS = Path("rlm-runs")
#: Model calls under way in one process, whatever the number of runs.
PROCESS_CALLS = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `stop`: why the run ended ("answer" when the model finished); `trace`: the run's folder;
    `head`: the hash of its last line, which kept elsewhere shows later that the trace was not rewritten. `value`: the
    answer as the schema's type, where one was demanded and is met; `content` is then its JSON. `priced`: whether the
    prices of the models are known; where one is not, `usage.usd` is too low."""

    content: str
    citations: tuple[Citation, ...]
    stop: str
    usage: Usage
    trace: Path
    head: str
    value: Any = None
    priced: bool = True

    def as_json(self) -> dict[str, Any]:
        return {
            "answer": self.content if self.value is None else self.value,
            "citations": [c.as_json() for c in self.citations],
            "stop": self.stop,
            "usage": usage_json(self.usage),
            "trace": str(self.trace),
            "head": self.head,
        } | ({} if self.priced else {"priced": False})


@dataclass(frozen=True, slots=True)
class Manner:
    """How questions are asked: which way, of whom, under which limits of each, and what an answer must satisfy."""

    route: Route = "auto"
    models: Models = Models()
    limits: Limits = Limits()
    demands: Demands = Demands()
    runs: Path = RUNS
    watch: Watch = unwatched


def ask(
    index: str | Path | Index,
    question: str,
    *,
    route: Route = "auto",
    models: Models | None = None,
    limits: Limits | None = None,
    demands: Demands | None = None,
    runs: str | Path = RUNS,
    watch: Watch = unwatched,
) -> Answer:
    """Answer `question` from the index, or from a text file; blocks. `watch` is told every event as it is recorded.

    Raises RlmError or IndexStoreError: one sentence.
    """
    manner = Manner(route, models or Models(), limits or Limits(), demands or Demands(), Path(runs), watch)
    check_question(question)
    return run_blocking(ask_as(ready(index, manner.models), question, manner))


async def ask_async(
    index: str | Path | Index,
    question: str,
    *,
    route: Route = "auto",
    models: Models | None = None,
    limits: Limits | None = None,
    demands: Demands | None = None,
    runs: str | Path = RUNS,
    watch: Watch = unwatched,
) -> Answer:
    """As `ask`, inside an event loop; many may be under way in one process. Cancelled, it stops all it began and
    closes its trace."""
    manner = Manner(route, models or Models(), limits or Limits(), demands or Demands(), Path(runs), watch)
    opened = ready(index, manner.models)
    check_question(question)
    return await ask_as(opened, question, manner)


async def events(index: str | Path | Index, question: str, **manner: Any) -> AsyncGenerator[Event, None]:
    """The events of a run as they are recorded, each {"kind", "conversation", ...}; takes what `ask_async` takes.

    The last is {"kind": "result", "conversation": "0", "answer": Answer}. Leaving the iterator early stops the run.
    """
    queue: asyncio.Queue[Event] = asyncio.Queue()
    loop, also = asyncio.get_running_loop(), manner.pop("watch", unwatched)

    def watch(kind: str, conversation: str, fields: dict[str, Any]) -> None:
        also(kind, conversation, fields)
        event = {"kind": kind, "conversation": conversation, **fields}
        loop.call_soon_threadsafe(queue.put_nowait, event)

    asking = asyncio.ensure_future(ask_async(index, question, watch=watch, **manner))
    asking.add_done_callback(lambda _: queue.put_nowait({}))  # an end without an event: the task says how
    try:
        while event := await queue.get():
            yield event
        yield {"kind": "result", "conversation": "0", "answer": await asking}
    finally:
        asking.cancel()
        await asyncio.wait([asking])


async def ask_as(opened: Index, question: str, manner: Manner) -> Answer:
    """As `ask_async`, of an index that is `ready` and a question that was checked."""
    async with gateway_for(manner.limits) as gateway:
        return await answered(opened, question, gateway, manner)


def ready(index: str | Path | Index, models: Models) -> Index:
    """The index, open, with models that can be asked. Raises before anything is spent."""
    opened = opened_for(index, models)
    for model in (models.root, models.child):
        count_tokens(model, "")
    warm_up()  # before a run's clock starts: its first import takes seconds, a vocabulary half a second
    return opened


def opened_for(index: str | Path | Index, models: Models) -> Index:
    """The index, open, once it is sure that these models exist and have their keys."""
    navigator.register()
    opened = index if isinstance(index, Index) else open_any(index)
    for model in dict.fromkeys([models.root, models.child]):
        check_model(model)
    return opened


@cache
def _lanes(requests_per_minute: float | None, tokens_per_minute: float | None) -> Lanes:
    """What all runs of this process under the same rates share: the rates, and the slots, which they get in turn."""
    return Lanes(PROCESS_CALLS, requests_per_minute, tokens_per_minute)


def gateway_for(limits: Limits) -> Gateway:
    """A gateway with a pool of its own; its rates hold for the process."""
    return Gateway(
        Ledger(Caps(limits.usd, limits.tokens, limits.calls)),
        concurrency=limits.concurrency,
        timeout_s=limits.timeout_s,
        allow_unpriced=limits.allow_unpriced,
        lanes=_lanes(limits.requests_per_minute, limits.tokens_per_minute),
    )


async def answered(opened: Index, question: str, gateway: Gateway, manner: Manner) -> Answer:
    """One question as one run, in a folder of its own."""
    folder = new_folder(manner.runs, question)
    with Trace.open(folder) as trace:
        run = Run(
            opened,
            gateway,
            manner.models,
            manner.limits,
            trace,
            folder,
            asyncio.get_running_loop(),
            manner.watch,
            manner.demands,
        )
        return await _recorded(run, trace, question, choose(run, manner.route))


def check_question(question: str) -> None:
    if not isinstance(question, str):
        raise RlmError(f"the question is text, found {type(question).__name__}")
    if not question.strip():
        raise RlmError("the question is empty; ask with at least one word")
    if question != question.encode("utf-8", "replace").decode():
        raise RlmError(f"the question {question[:80]!a} is not Unicode text; give it in UTF-8")


async def _recorded(run: Run, trace: Trace, question: str, choice: Choice) -> Answer:
    """The run between its first event and its last, whatever happens between them."""
    run.record("run_opened", "0", **opening(run, question, choice))
    conclusion = Conclusion("", (), "cancelled", "the run was cancelled")
    try:
        conclusion = await _by(run, question, choice.route)
    except Exception as e:
        conclusion = Conclusion("", (), "failed", f"{type(e).__name__}: {e}")
        raise
    finally:
        run.let_go()
        closing(run, conclusion)
    if conclusion.stop == "failed":
        raise RlmError(f"{conclusion.error} (trace: {run.folder})")
    return told(run, conclusion, trace.head)


def told(run: Run, conclusion: Conclusion, head: str) -> Answer:
    """What the asker is handed."""
    c, schema = conclusion, run.demands.schema
    value = None if schema is None or not_found(c.content) else typed(c.content, schema)[0]
    priced = all(price(model, 1, 1) is not None for model in (run.models.root, run.models.child))
    return Answer(c.content, c.citations, c.stop, run.ledger.spent, run.folder, head, value, priced)


async def _by(run: Run, question: str, route: Route) -> Conclusion:
    """The answer, the way that was chosen."""
    if route == "rlm":
        run.keep_back()
        return await converse(run, question)
    if route == "direct":
        return await answer_once(run, question, whole_text(run))
    context = Context(run.index, partial(record_visit, run, "0", lambda: 0))
    passages = found_text(run, context, question, RETRIEVED_TOKENS)
    return await answer_once(run, question, fitting(run, question, passages))


def closing(run: Run, conclusion: Conclusion) -> None:
    """Record the last event of a trace."""
    run.record(
        "run_closed",
        "0",
        stop=conclusion.stop,
        usage=usage_json(run.ledger.spent),
        seconds=round(time.monotonic() - run.began, 3),
        **({"error": conclusion.error} if conclusion.error else {}),
    )


def opening(run: Run, question: str, choice: Choice) -> dict[str, Any]:
    """The fields of the first event of a trace."""
    return {
        "question": question,
        "index": {
            "name": run.index.path.name,
            "generation": run.index.generation,
            "digest": run.index.digest,
            "documents": len(run.index.documents),
            "nodes": len(run.index),
        },
        "models": asdict(run.models),
        "prompts": {"version": prompts.VERSION, "sha256": prompts.digest()},
        "limits": asdict(run.limits),
        "code_version": version("raptor-rlm"),
        "route": choice.route,
        "route_why": choice.why,
        "demands": asdict(run.demands),
    }


def new_folder(runs: Path, question: str) -> Path:
    """Make a folder whose name sorts by time and says what was asked; a number is added when it is taken."""
    words = re.sub(r"[^a-z0-9]+", "-", question.lower()).strip("-")[:40].strip("-") or "question"
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{words}"
    for number in count(1):
        folder = runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.is_dir():
                raise RlmError(f"cannot make a run folder in {runs}: a file is in the way") from None
        except OSError as e:
            raise RlmError(f"cannot make a run folder in {runs}: {e.strerror or e}") from e
    raise AssertionError("unreachable: numbers do not end")
