"""Questions one after another over one REPL: what the code has found stays in its variables. One trace for all."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from index_store.index import Index
from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.asking.asking import (
    Answer,
    Manner,
    check_question,
    closing,
    gateway_for,
    new_folder,
    opening,
    ready,
    told,
)
from rlm.asking.routes import Choice
from rlm.audit.log import Trace
from rlm.errors import RlmError
from rlm.gateway.gateway import Gateway
from rlm.loop.conversation import Conversation
from rlm.loop.engine import close, open_conversation, pursue, resume
from rlm.loop.run import Run, Watch


@dataclass(slots=True)
class Chat:
    """An open conversation; the trace begins with the first question."""

    index: Index
    gateway: Gateway
    manner: Manner
    run: Run | None = None
    trace: Trace | None = None
    talk: Conversation | None = None
    last: Conclusion = Conclusion("", (), "cancelled", "nothing was asked")

    async def ask(self, question: str, watch: Watch | None = None) -> Answer:
        """Answer one more question. The caps on dollars, tokens and calls hold for all of the chat, the wall clock and
        the turns for each question. Raises RlmError where the model could not be asked; the chat may go on."""
        check_question(question)
        run = self.run or self._begun(question)
        run.watch, run.began = watch or self.manner.watch, time.monotonic()
        run.let_go()
        run.keep_back()
        self.last = Conclusion("", (), "cancelled", "the question was given up")
        self.last = await pursue(await self._asked(run, question), question)
        if self.last.stop == "failed":
            raise RlmError(self.last.error)
        return told(run, self.last, self.trace.head if self.trace else "")

    async def end(self) -> None:
        if self.talk is not None:
            await close(self.talk)
        if self.run is not None and self.trace is not None:
            self.run.let_go()
            closing(self.run, self.last)
            self.trace.close()

    def _begun(self, question: str) -> Run:
        manner, folder = self.manner, new_folder(self.manner.runs, question)
        self.trace = Trace.open(folder)
        loop = asyncio.get_running_loop()
        self.run = run = Run(
            self.index, self.gateway, manner.models, manner.limits, self.trace, folder, loop, manner.watch
        )
        run.record("run_opened", "0", **opening(run, question, Choice("rlm", "a chat keeps its REPL")))
        return run

    async def _asked(self, run: Run, question: str) -> Conversation:
        """The conversation with the question in it; a new one, which knows nothing, where the sandbox is gone."""
        if self.talk is None or self.talk.session.ended:
            self.talk = open_conversation(run, question, None, "0", 0)
        else:
            await resume(self.talk, prompts.NEXT.format(question=question))
        return self.talk


@asynccontextmanager
async def open_chat(index: str | Path | Index, manner: Manner = Manner()) -> AsyncIterator[Chat]:
    """A chat over an index or a text file; its trace is closed at the end, whatever ends it."""
    opened = ready(index, manner.models)
    async with gateway_for(manner.limits) as gateway:
        chat = Chat(opened, gateway, manner)
        try:
            yield chat
        finally:
            await chat.end()
