"""Ask questions one after another over one REPL, whose variables stay, with one trace for all of them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from index_store.arguments import checked
from index_store.errors import IndexStoreError
from index_store.index import Index
from index_store.types import Scope
from index_store.view import View
from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.answers.demands import Demands
from rlm.asking.asking import Answer, answer_of, by_route
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
from rlm.audit.kinds import QuestionPut
from rlm.audit.log import Trace
from rlm.errors import RlmError
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.gateway.models import window
from rlm.gateway.purse import Purse
from rlm.gateway.types import Usage
from rlm.limits import LOOPS, RUNS, Limits, Models, Route
from rlm.loop.conversation import Conversation, close
from rlm.loop.engine import converse, pursue
from rlm.loop.opening import open_conversation, resume
from rlm.loop.recording import Watch, unwatched
from rlm.loop.run import Run

GIVEN_UP = "the question was given up"
KEEPS = "a chat keeps its REPL"
NOTHING_ASKED = Conclusion("", (), "cancelled", "nothing was asked")


@dataclass(slots=True)
class Recorded:
    """The run of a chat that has begun, and the way of its questions."""

    run: Run
    route: Route
    talk: Conversation | None = None


@dataclass(slots=True)
class _Kept(Recorded):
    """One that has a trace, in a folder."""

    trace: Trace = field(kw_only=True)
    folder: Path = field(kw_only=True)


@dataclass(slots=True)
class Chat:
    """A conversation that questions can be put to; its trace begins with the first.

    `gateway`: of all conversations, whose caps hold for them together. `last`: how the last question ended.
    """

    index: Index
    gateway: Gateway
    options: Options
    last: Conclusion = NOTHING_ASKED
    _recorded: _Kept | None = None
    _folder: Path | None = None
    _head: str = ""

    @property
    def spent(self) -> Usage:
        """What all questions of all conversations have used."""
        return self.gateway.ledger.spent

    async def ask(self, question: str, watch: Watch | None = None) -> Answer:
        """Answer one more question. `watch`: for this question, instead of that in the options.

        The caps on dollars, tokens and calls hold for the whole chat, those on time and turns for each question. Raises
        RlmError where the model could not be asked; more questions may follow, also after this was cancelled.
        """
        check_text(question, "question")
        await asyncio.to_thread(
            self.index.warm_up
        )  # before the clock of a cell starts, which would pay for it
        is_next = self._recorded is not None
        recorded = self._recorded = self._recorded or self._begin(question)
        run, budget = recorded.run, recorded.run.budget
        run.journal.watch, budget.began = watch or self.options.watch, time.monotonic()
        if is_next:
            run.journal.record("0", QuestionPut(question=question))
        await budget.release_last()
        self.last = Conclusion("", (), "cancelled", GIVEN_UP)
        try:
            self.last = await answered(recorded, question)
        except asyncio.CancelledError:
            run.journal.note("0", self.last.error)
            raise
        if self.last.stop == "failed":
            raise RlmError(self.last.error)
        return answer_of(run, question, self.last, recorded.folder, recorded.trace.head)

    @property
    def head(self) -> str:
        """The hash of the last line of the trace so far, or of the last that ended; '' before the first question."""
        return self._head if self._recorded is None else self._recorded.trace.head

    @checked(RlmError)
    def use(self, models: Models) -> None:
        """Ask other models from now on; the trace says so. Raises GatewayError where one is unknown or has no key."""
        ready(self.index, models)
        self.options = replace(self.options, models=models)
        if self._recorded is not None:
            self._recorded.run.change(models, self.options.limits.window or window(models.root))

    async def begin_anew(self) -> Path:
        """End the conversation, its variables and its trace; the next question begins another. Returns its folder."""
        await self.end()
        self._folder = new_folder(Path(self.options.runs), "chat")
        return self._folder

    async def end(self) -> None:
        """Close the sandbox and the trace."""
        recorded, self._recorded = self._recorded, None
        if self._folder is not None:
            with contextlib.suppress(OSError):  # a trace stands in it
                self._folder.rmdir()
        if recorded is None:
            return
        if recorded.talk is not None:
            await close(recorded.talk)
        await recorded.run.budget.release_last()
        record_closing(recorded.run, self.last)
        self._head = recorded.trace.head
        recorded.trace.close()
        self.last = NOTHING_ASKED

    def _begin(self, question: str) -> _Kept:
        """The run of a new conversation: its ledger is its own, under that of all."""
        view, options = View(self.index, scope=self.options.scope), self.options
        folder, self._folder = self._folder or new_folder(Path(options.runs), question), None
        trace = Trace.open(folder)
        own = self.gateway.root(Ledger(parent=self.gateway.ledger))
        run = new_run(view, options, own, trace, asyncio.get_running_loop())
        keeps = Choice("rlm", KEEPS)
        try:
            choice = keeps if options.route == "rlm" else choose(run, options.route, question)
        except (RlmError, IndexStoreError):
            trace.close()
            raise
        record_opening(run, question, choice, options)
        return _Kept(run, choice.route, trace=trace, folder=folder)


async def answered(recorded: Recorded, question: str) -> Conclusion:
    """Answer one more question of a chat that has begun."""
    run = recorded.run
    if recorded.route not in LOOPS:
        return await by_route(run, question, recorded.route)
    run.told = prompts.ASK_EVERY_ROW if recorded.route == "map" and recorded.talk is None else ""
    await run.budget.reserve_last(run.models.root, lambda: first_call(run, question, "rlm"))
    return await pursue(await _put(recorded, question), question)


async def _put(recorded: Recorded, question: str) -> Conversation:
    """The conversation with the question in it; a new one, without variables, where the sandbox has ended."""
    if recorded.talk is None or recorded.talk.session.ended:
        recorded.talk = open_conversation(recorded.run, question, None, "0", 0, converse)
    else:
        await resume(recorded.talk, prompts.NEXT.format(question=question))
    return recorded.talk


@checked(RlmError)
@asynccontextmanager
async def open_chat(
    index: str | Path | Index,
    *,
    route: Route = "rlm",
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
) -> AsyncIterator[Chat]:
    """Open a chat over an index folder, an open index or a text file; leaving it closes its sandbox and trace.

        async with rlm.open_chat("my.index", limits=rlm.Limits(usd=0.50)) as chat:
            print((await chat.ask("Who approves travel?")).content)
            print((await chat.ask("And up to which sum?")).content)

    The options are those of `rlm.ask`, but that the route is the loop where none is given, for its variables: by
    another, each question is asked by itself. What "auto" chooses for the first question is the way of all. Raises as
    `rlm.ask`.
    """
    options = Options(route, models, limits, demands, scope, runs, watch, operator, purpose, retain, memo)
    async with chat_over(index, options) as chat:
        yield chat


@asynccontextmanager
async def chat_over(
    index: str | Path | Index, options: Options, purse: Purse | None = None
) -> AsyncIterator[Chat]:
    """As `open_chat`, with options as one value. `purse`: what its calls are paid from, besides its own caps."""
    opened = ready(index, options.models)
    async with gateway_for(options.limits, purse) as gateway:
        chat = Chat(opened, gateway, options)
        try:
            yield chat
        finally:
            await chat.end()
