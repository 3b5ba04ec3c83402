"""Ask questions one after another over one REPL, whose variables stay, with one trace for all of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from index_store.index import Index
from index_store.types import Scope
from index_store.view import View
from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.answers.demands import Demands
from rlm.asking.asking import Answer, answer_of
from rlm.asking.options import Options
from rlm.asking.routes import Choice, first_call
from rlm.asking.runs import (
    check_text,
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
from rlm.limits import RUNS, Limits, Models
from rlm.loop.conversation import Conversation, close
from rlm.loop.engine import converse, pursue
from rlm.loop.opening import open_conversation, resume
from rlm.loop.recording import Watch, unwatched
from rlm.loop.run import Run


@dataclass(slots=True)
class _Recorded:
    """The run of a chat that has begun, its trace and its folder."""

    run: Run
    trace: Trace
    folder: Path
    talk: Conversation | None = None


@dataclass(slots=True)
class Chat:
    """A conversation that questions can be put to; its trace begins with the first.

    `last`: how the last question ended.
    """

    index: Index
    gateway: Gateway
    options: Options
    last: Conclusion = Conclusion("", (), "cancelled", "nothing was asked")
    _recorded: _Recorded | None = None

    async def ask(self, question: str, watch: Watch | None = None) -> Answer:
        """Answer one more question. `watch`: for this question, instead of that in the options.

        The caps on dollars, tokens and calls hold for the whole chat, those on time and turns for each question. Raises
        RlmError where the model could not be asked; more questions may follow.
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
        budget.release_last()
        budget.reserve_last(run.models.root, first_call(run, question, "rlm"))
        self.last = Conclusion("", (), "cancelled", "the question was given up")
        self.last = await pursue(await self._put(recorded, question), question)
        if self.last.stop == "failed":
            raise RlmError(self.last.error)
        return answer_of(run, question, self.last, recorded.folder, recorded.trace.head)

    @property
    def head(self) -> str:
        """The hash of the last line of the trace so far; '' before the first question."""
        return "" if self._recorded is None else self._recorded.trace.head

    async def end(self) -> None:
        """Close the sandbox and the trace."""
        if self._recorded is None:
            return
        if self._recorded.talk is not None:
            await close(self._recorded.talk)
        self._recorded.run.budget.release_last()
        record_closing(self._recorded.run, self.last)
        self._recorded.trace.close()

    def _begin(self, question: str) -> _Recorded:
        view = View(self.index, scope=self.options.scope)
        folder = new_folder(Path(self.options.runs), question)
        trace = Trace.open(folder)
        run = new_run(view, self.options, self.gateway, trace, asyncio.get_running_loop())
        record_opening(run, question, Choice("rlm", "a chat keeps its REPL"))
        return _Recorded(run, trace, folder)

    async def _put(self, recorded: _Recorded, question: str) -> Conversation:
        """The conversation with the question in it; a new one, without variables, where the sandbox has ended."""
        if recorded.talk is None or recorded.talk.session.ended:
            recorded.talk = open_conversation(recorded.run, question, None, "0", 0, converse)
        else:
            await resume(recorded.talk, prompts.NEXT.format(question=question))
        return recorded.talk


@asynccontextmanager
async def open_chat(
    index: str | Path | Index,
    *,
    models: Models = Models(),
    limits: Limits = Limits(),
    demands: Demands = Demands(),
    scope: Scope = Scope(),
    runs: str | Path = RUNS,
    watch: Watch = unwatched,
) -> AsyncIterator[Chat]:
    """Open a chat over an index folder, an open index or a text file; leaving it closes its sandbox and trace.

        async with rlm.open_chat("my.index", limits=rlm.Limits(usd=0.50)) as chat:
            print((await chat.ask("Who approves travel?")).content)
            print((await chat.ask("And up to which sum?")).content)

    The options are those of `rlm.ask` without a route: a chat always uses the loop, for its variables. Raises as
    `rlm.ask`.
    """
    options = Options("rlm", models, limits, demands, scope, runs, watch)
    opened = ready(index, models)
    async with gateway_for(limits) as gateway:
        chat = Chat(opened, gateway, options)
        try:
            yield chat
        finally:
            await chat.end()
