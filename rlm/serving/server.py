"""What all routes of one server share: its settings, indexes, jobs, state and figures."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from fastapi import Request

from index_store.index import Index
from index_store.types import Json, Scope
from rlm.asking.asking import Answer, ask_opened
from rlm.asking.options import Options
from rlm.asking.questions import check_text
from rlm.asking.runs import gateway_for, new_folder, ready
from rlm.audit.log import FILE_NAME
from rlm.errors import RlmError
from rlm.gateway import paying
from rlm.gateway.errors import OverBudget
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.offline import PREFIX
from rlm.gateway.purse import Purse
from rlm.gateway.types import Usage
from rlm.limits import Limits, Models, Route
from rlm.loop import embedding
from rlm.serving import uploads
from rlm.serving.engine import Engine
from rlm.serving.jobs import Job, Jobs, event_of
from rlm.serving.metrics import Metrics
from rlm.serving.past import why_ended
from rlm.serving.problems import Problem, problem_of
from rlm.serving.settings import Settings
from rlm.serving.shelf import Shelf
from rlm.serving.types import Grant, RunRow, State, StateGone

QUESTION_CHARS = 100_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as a client puts it. `shown`: what of it lists show, without the turns before it."""

    index: str
    question: str
    route: Route = "auto"
    models: Models = Models()
    limits: Limits = Limits()
    scope: Scope = Scope()
    shown: str = ""
    is_kept: bool = False


class Server:
    """One process that serves. It is made where its event loop runs."""

    def __init__(self, settings: Settings, state: State) -> None:
        self.settings, self.state = settings, state
        self.shelf = Shelf(settings.indexes, settings.made, settings.access, settings.embedder)
        self.jobs = Jobs(settings.max_running, settings.max_waiting, settings.abandon_s)
        self.metrics = Metrics(self.jobs)
        self.engine = Engine()
        self.secret = secrets.token_bytes(32)
        self._entering = set[asyncio.Future[None]]()

    async def close(self, within_s: float) -> None:
        """Let what runs come to its end, and give back what is held."""
        await self.jobs.close(within_s)
        await asyncio.gather(*self._entering)
        await asyncio.to_thread(self.engine.close)
        await asyncio.to_thread(self.state.close)

    async def ask(self, asked: Asked, grant: Grant) -> Job:
        """Begin to answer a question; raises Problem or RlmError where it cannot be put."""
        self.jobs.check_room()
        _check_question(asked.shown or asked.question)
        index, purse, folder, row = await asyncio.to_thread(self._prepared, asked, grant)
        job = Job("ask", grant.key, asked.index, folder.name, is_kept=asked.is_kept)
        loop = asyncio.get_running_loop()

        def watch(kind: str, conversation: str, fields: Mapping[str, Json]) -> None:
            loop.call_soon_threadsafe(job.add, event_of(kind, conversation, fields))

        options = Options(
            asked.route,
            asked.models,
            asked.limits,
            scope=asked.scope,
            runs=self.settings.runs,
            watch=watch,
            operator=grant.name,
        )

        async def work() -> Mapping[str, Json]:
            ended = replace(row, stop="failed")
            try:
                asking = ask_opened(index, asked.question, options, folder, purse)
                answer = await self.engine.run(asking)
                used = answer.usage
                ended = replace(row, stop=answer.stop, usd=used.usd, calls=used.calls, tokens=used.tokens)
                return answer_json(answer)
            except asyncio.CancelledError:
                ended = replace(row, stop="cancelled")
                raise
            except OverBudget:  # a client is told that it is about money
                raise
            except RlmError as e:
                raise RlmError(str(e).replace(str(folder), folder.name)) from e
            finally:
                self.metrics.ran(ended)
                await asyncio.shield(asyncio.to_thread(self._ended, folder, ended))

        def unbegun() -> None:
            entering = loop.run_in_executor(None, self._ended, folder, replace(row, stop="cancelled"))
            self._entering.add(entering)
            entering.add_done_callback(self._entering.discard)

        try:
            return self.jobs.begin(job, work, unbegun)
        except Problem:
            unbegun()
            raise

    async def build(
        self, job: Job, coming: Path, names: Sequence[str], access: str, grant: Grant
    ) -> Mapping[str, Json]:
        """Build or update an index from all its files, and `names` in the folder `coming`. Its key pays: what that may
        cost at most is reserved before. Of one that does not come to its end nobody can say what it cost, so it is
        counted as that."""
        source = self.settings.uploads / job.index
        await asyncio.to_thread(uploads.take_in, coming, source, access)
        summarizer = self.settings.summarizer
        is_paid = bool(summarizer) and not summarizer.startswith(PREFIX)
        purse = await asyncio.to_thread(self.state.purse, grant) if is_paid else None
        _check_money(purse)
        ledger = Ledger(Caps(usd=self.settings.limits.usd), purse=purse)
        most = ledger.left().usd
        (held,) = await paying.reserve_all(ledger, [Usage(usd=most or 0.0)])
        cost = held.worst
        try:
            report = await uploads.build(job, source, names, self.shelf.path(job.index), summarizer, most)
            cost = Usage(usd=float(str(report["usd"])))
            uploads.check_taken(report, names)
            return report
        finally:
            await paying.settle(ledger, held, cost if uploads.may_have_cost(job) else Usage())

    def searched(self, name: str, grant: Grant) -> Index:
        """An index, to be searched: where its embedder is called, the key pays within the caps of a question. Blocks.
        Raises Problem."""

        def gateway() -> Gateway:
            purse = self.state.purse(grant)
            _check_money(purse)
            return gateway_for(self.settings.limits, purse)

        return embedding.paying(self.shelf.open(name, grant), gateway)

    def _ended(self, folder: Path, ended: RunRow) -> None:
        """Take the folder of a run away that never began, and enter what has become of it. Where the database cannot be
        used its trace says so alone, and whoever asked gets the answer that was paid for. Blocks."""
        with suppress(OSError):  # there is none, or something stands in it
            if (trace := folder / FILE_NAME).exists() and trace.stat().st_size == 0:
                trace.unlink()
            folder.rmdir()
        try:
            self.state.record(ended)
        except StateGone as e:
            problem_of(e)  # which logs it

    def _prepared(self, asked: Asked, grant: Grant) -> tuple[Index, Purse | None, Path, RunRow]:
        """What a question needs before its turn comes. Blocks."""
        _check_models(asked.models, grant)
        index = ready(self.shelf.open(asked.index, grant), asked.models)
        purse = self.state.purse(grant)
        _check_money(purse)
        try:
            folder = new_folder(self.settings.runs, asked.shown or asked.question)
        except RlmError as e:
            raise Problem(503, str(e).replace(str(self.settings.runs), "the folder of runs")) from e
        began = datetime.now(UTC).isoformat(timespec="seconds")
        shown = asked.shown or asked.question
        row = RunRow(folder.name, grant.key, asked.index, shown[:1_000], began, access=index.access)
        self.state.record(row)
        return index, purse, folder, row

    def job(self, id: str, grant: Grant) -> Job:
        """One of the jobs that a key may see. Raises Problem."""
        job = self.jobs.find(id)
        if job is None or not (grant.is_admin or job.key == grant.key):
            raise Problem(
                404, f"there is no job {id[:80]!r}; of one that ended long ago the run remains", "not_found"
            )
        return job

    def run_row(self, run: str, grant: Grant) -> tuple[RunRow, Path]:
        """The row of one of the runs that a key may see, and where its folder is, or was. Blocks. Raises Problem."""
        row = self.state.run(grant, run)
        if row is None or Path(run).name != run:
            raise Problem(404, f"there is no run {run[:80]!r}", "not_found")
        return row, self.settings.runs / run

    def run_folder(self, run: str, grant: Grant) -> tuple[RunRow, Path]:
        """As `run_row`, of a run whose folder is there."""
        row, folder = self.run_row(run, grant)
        if not folder.is_dir():
            raise Problem(404, f"there is no run {run[:80]!r}", "not_found")
        return row, folder


def _check_question(question: str) -> None:
    """Raise Problem, or RlmError, for what cannot be asked, by whichever API it came."""
    if len(question) > QUESTION_CHARS:
        raise Problem(
            413,
            f"the question has {len(question):,} characters; ask with at most {QUESTION_CHARS:,}",
            "too_long",
        )
    check_text(question, "question")


def _check_money(purse: Purse | None) -> None:
    left = None if purse is None else purse.left()
    if left is not None and left <= 0:
        raise Problem(
            402,
            "the key has spent its dollars of today; it may spend again tomorrow (UTC)",
            "insufficient_quota",
        )


def _check_models(models: Models, grant: Grant) -> None:
    """Raise Problem where a key may not have these models asked. One that may have an offline model asked may have its
    reader too, which alone reads passages."""
    if grant.models is None:
        return
    allowed = grant.models | {Models.named(name).root for name in grant.models}
    allowed |= {Models(name).child for name in allowed if name.startswith("offline/")}
    for model in (models.root, models.child):
        if model not in allowed:
            may = ", ".join(sorted(grant.models))
            raise Problem(
                403, f"the key may not use the model {model[:80]!r}; it may use {may}", "model_not_allowed"
            )


def answer_json(answer: Answer) -> dict[str, Json]:
    """An answer as clients get it: as `rlm ask --json` prints it, with the name of its run for the path on this
    machine, the node of each citation, and a sentence where a limit ended it."""
    citations: list[Json] = [
        {**one.as_json(), "node": one.node, "claimed": one.claimed, "also_in": list(one.also_in)}
        for one in answer.citations
    ]
    told = {name: value for name, value in answer.as_json().items() if name != "trace"}
    why = why_ended(answer.stop, answer.why, has_answer=bool(answer.content))
    return told | {"run": answer.trace.name, "citations": citations, "why": why}


def server_of(request: Request) -> Server:
    """The server that a request came to."""
    server: Server = request.app.state.server
    return server


def grant_of(request: Request) -> Grant:
    """What the key of a request allows."""
    grant: Grant = request.state.grant
    return grant
