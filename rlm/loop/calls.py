"""The model calls that code in a cell may make: one, a batch, or a child conversation on a branch of its own."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeVar

from index_store.errors import BrokenIndex, IndexStoreError
from index_store.terminal import brief
from index_store.types import Json
from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.audit.kinds import ChildCalled, ChildResult, ChildReturned
from rlm.gateway.blocks import Block
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.ledger import Reservation
from rlm.gateway.types import Message, Reply, Request, Usage
from rlm.loop import checks
from rlm.loop.checks import Refused
from rlm.loop.mapped import HOLDS, Heard, Rows, filtered, map_in, result, rows_given, task_of
from rlm.loop.marking import marked, pieces
from rlm.loop.reduced import gather, reduce_in, reduction_of
from rlm.loop.run import Keep, Run
from rlm.loop.verbs import Passage, Verbs
from rlm.mapping.types import Mapped, MappingError, Prompt
from rlm.prompts import refusals

T = TypeVar("T")

NAMES = (
    "llm_query",
    "llm_query_batched",
    "llm_map",
    "llm_filter",
    "llm_reduce",
    "rlm_query",
    "rlm_query_batched",
    "budget",
    "history",
)
#: Why what is left is noted where `budget()` in a cell asks for it: a replay gives the code the same.
ASKED = "the code asked what is left"
BATCH = 500  # prompts or questions
PASSAGES = 10_000  # in one call, all prompts of a batch together
PASSAGE_CHARS = 1_000_000  # in one prompt
CALL_CHARS = 20_000_000  # in one call: some five million tokens, which the parent holds several times over
#: Runs a child conversation, given its share of the run, question, branch, conversation id and depth.
Descend = Callable[[Run, str, str | None, str, int], Awaitable[Conclusion]]


@dataclass(frozen=True, slots=True)
class PastCell:
    """A cell that ran, as `history(n)` gives it. `output`: what it printed, and its error if it raised one."""

    code: str
    status: str
    output: str


@dataclass(slots=True)
class Calls:
    """The model calls of one conversation. `serve` blocks the session's thread while the run's event loop makes them.

    `descend`: runs a child conversation. `cell`: gives the number of the current cell, for the trace. `written`: texts
    whose words are the conversation's own, which are its code so far and its question. `children`: how many calls and
    child conversations were given an id. `past`: the cells that have run. `told`: sentences on what calls of the cell
    under way take, which its model has not been told yet.
    """

    run: Run
    verbs: Verbs
    conversation: str
    depth: int
    descend: Descend
    cell: Callable[[], int]
    written: list[str] = field(default_factory=list)
    children: int = 0
    past: list[PastCell] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    _stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: set["Future[Json]"] = field(default_factory=set)
    _tasks: set["asyncio.Task[Any]"] = field(default_factory=set)

    def serve(self, name: str, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Json:
        """The result of one call from a cell. Raises Refused, with a text for the model, and BrokenIndex."""
        method: Callable[..., Coroutine[Any, Any, Json]] = getattr(self, f"_{name}")
        arguments = checks.bind(name, method, args, kwargs)
        try:
            return self._wait(method, arguments)
        except BrokenIndex:
            raise
        except (IndexStoreError, GatewayError) as e:
            raise Refused(str(e)) from e

    def stop(self) -> None:
        """Cancel the calls under way and refuse those to come, so that no cell waits for the event loop any more."""
        with self._lock:
            self._stopped = True
            futures = list(self._waiting)
        for future in futures:
            future.cancel()

    def resume(self) -> None:
        """Answer calls again after a `stop`."""
        with self._lock:
            self._stopped = False

    async def settled(self) -> None:
        """Wait, after a `stop`, until every cancelled call has recorded its end."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _wait(self, method: Callable[..., Coroutine[Any, Any, Json]], arguments: dict[str, Json]) -> Json:
        with self._lock:
            if self._stopped:
                raise Refused(refusals.STOPPING)
            future = asyncio.run_coroutine_threadsafe(self._tracked(method, arguments), self.run.loop)
            self._waiting.add(future)
        try:
            return future.result()
        except CancelledError as e:
            raise Refused(refusals.STOPPED) from e
        finally:
            future.cancel()  # where it is not done, because this thread was interrupted
            with self._lock:
                self._waiting.discard(future)

    async def _tracked(
        self, method: Callable[..., Coroutine[Any, Any, Json]], arguments: dict[str, Json]
    ) -> Json:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await method(**arguments)
        finally:
            self._tasks.discard(task)

    # -- one method a name -------------------------------------------------------------------------------

    async def _budget(self) -> Json:
        return self.run.record_budget(self.conversation, ASKED)

    async def _history(self, cell: int) -> Json:
        if not checks.is_whole(cell) or not 0 < cell <= len(self.past):
            raise Refused(refusals.NO_CELL.format(cells=len(self.past), value=brief(cell)))
        return asdict(self.past[cell - 1])

    async def _llm_query(
        self, prompt: str, model: str | None = None, nodes: Sequence[Json] | None = None
    ) -> str:
        (result,) = await self._ask_all(
            "llm_query", self._model(model), checks.texts("prompts", [prompt], BATCH), [nodes]
        )
        if isinstance(result, GatewayError):
            raise Refused(str(result)) from result
        return result

    async def _llm_query_batched(
        self, prompts: Sequence[str], model: str | None = None, nodes: Sequence[Json] | None = None
    ) -> list[Json]:
        listed = checks.texts("prompts", prompts, BATCH)
        places = [None] * len(listed) if nodes is None else checks.one_each("nodes", nodes, len(listed))
        results = await self._ask_all("llm_query_batched", self._model(model), listed, places)
        # An error is never text, so that no code takes it for an answer.
        return [{"error": str(r)} if isinstance(r, GatewayError) else r for r in results]

    async def _llm_map(
        self,
        question: str,
        rows: Json,
        fields: Json,
        model: str | None = None,
        sure: float = 0.0,
        strong: Json = None,
        pack_tokens: int | None = None,
    ) -> Json:
        if not isinstance(fields, Mapping):
            raise Refused(refusals.FIELDS.format(value=brief(fields)))
        return result(
            *await self._mapped("llm_map", question, rows, fields, model, sure, strong, pack_tokens)
        )

    async def _llm_filter(
        self,
        condition: str,
        rows: Json,
        model: str | None = None,
        sure: float = 0.0,
        strong: Json = None,
        pack_tokens: int | None = None,
    ) -> Json:
        return filtered(
            *await self._mapped(
                "llm_filter", condition, rows, {HOLDS: "yes/no"}, model, sure, strong, pack_tokens
            )
        )

    async def _llm_reduce(
        self,
        question: str,
        under: Json = None,
        nodes: Json = None,
        rows: Json = None,
        texts: Json = None,
        model: str | None = None,
    ) -> Json:
        (words,) = await asyncio.to_thread(self._marked, [checks.text("question", question)])
        task = reduction_of(self.run, words, self._model(model))
        gathered = await asyncio.to_thread(gather, self.verbs, task, under, nodes, rows, texts)
        return await reduce_in(self, task, gathered)

    async def _rlm_query(self, question: str, under: str | None = None) -> Json:
        (result,) = await self._descend_all(
            "rlm_query", checks.texts("questions", [question], BATCH), [under]
        )
        return result

    async def _rlm_query_batched(
        self, questions: Sequence[str], under: str | Sequence[str | None] | None = None
    ) -> list[Json]:
        listed = checks.texts("questions", questions, BATCH)
        same = under is None or isinstance(under, str)
        branches = [under] * len(listed) if same else checks.one_each("under", under, len(listed))
        return await self._descend_all("rlm_query_batched", listed, branches)

    # -- how they work -----------------------------------------------------------------------------------

    async def _ask_all(
        self, verb: str, model: str, texts: list[str], places: Sequence[Json]
    ) -> list[str | GatewayError]:
        """Replies in order, errors in the places of calls that failed. All fit the budget, or none is made."""
        # In threads: sizing, reading and marking a long batch take a while.
        sized = await asyncio.to_thread(self._passages, places)
        passages = await asyncio.to_thread(self._read, sized)
        shown = [(block.name, block.text) for blocks in passages for block in blocks]
        if shown:
            await asyncio.to_thread(self.run.journal.flag, self.conversation, verb, shown)
        prompts = await asyncio.to_thread(self._marked, texts)
        each = _asks_each(prompts, passages)
        messages = [_messages(text, blocks, each) for text, blocks in zip(prompts, passages, strict=True)]
        requests = [self._request(model, m) for m in messages]
        stored = await self.run.recall(self.conversation, requests)
        replies = await self._ask_each(verb, texts, requests, stored)
        return [one if isinstance(one, str | GatewayError) else one.text for _, one in replies]

    async def ask_packs(
        self, verb: str, prompts: Sequence[Prompt], heard: Heard | None = None
    ) -> list[tuple[str, Reply | GatewayError]]:
        """The reply to each prompt of a map or a reduction, with the conversation that asked it; `heard` is called with
        each as it comes. Raises OverBudget, and asks for none, where they do not all fit."""
        options = {one.model: self.run.models.sub_call_options(one.model) for one in prompts}
        requests = [
            Request(one.model, one.messages, one.max_tokens, options=options[one.model]) for one in prompts
        ]
        texts = [one.messages[-1]["content"] for one in prompts]
        keeping = [None if heard is None else partial(heard, one) for one in prompts]
        replies = await self._ask_each(verb, texts, requests, keeping=keeping)
        return [(child, one) for child, one in replies if not isinstance(one, str)]

    async def _ask_each(
        self,
        verb: str,
        texts: list[str],
        requests: Sequence[Request],
        stored: Sequence[str | None] | None = None,
        keeping: Sequence[Keep | None] | None = None,
    ) -> list[tuple[str, Reply | str | GatewayError]]:
        """Make all calls side by side, each in a conversation of its own, or none where they do not fit the budget.

        `stored`: the replies that the store has, which are not asked for; None where it is not used. `keeping`: called
        with each reply before that is recorded.
        """
        known = [None] * len(requests) if stored is None else stored
        left = [request for request, text in zip(requests, known, strict=True) if text is None]
        async with self._reserved(await asyncio.to_thread(self._worsts, left)) as reservations:
            ids, began = self._child_ids(len(texts)), time.monotonic()
            cell = self._record_called(verb, texts, [None] * len(texts), ids)
            held, asking = iter(reservations), list[Awaitable[Reply | GatewayError]]()
            for at, (child, request, text) in enumerate(zip(ids, requests, known, strict=True)):
                if text is None:
                    keep = None if keeping is None else keeping[at]
                    asking.append(self._ask(child, request, next(held), keep, is_kept=stored is not None))
                else:
                    self.run.record_recalled(child, request, text)
            made = iter(await _together(asking))
        replies = [next(made) if text is None else text for text in known]
        self._record_returned(cell, verb, ids, list(map(_outcome_of, replies)), began)
        return list(zip(ids, replies, strict=True))

    async def _mapped(
        self,
        verb: str,
        question: str,
        rows: Json,
        fields: Mapping[str, Json],
        model: str | None,
        sure: float,
        strong: Json,
        pack_tokens: int | None,
    ) -> tuple[Rows, Mapped]:
        """The rows that a cell gives, and an answer for each."""
        (words,) = await asyncio.to_thread(self._marked, [checks.text("question", question)])
        given = await asyncio.to_thread(rows_given, self.verbs, rows)
        named = self.run.models.root if strong is True else strong
        other = None if named in (None, False) else self._model(named)
        try:
            task = task_of(self.run, words, fields, self._model(model), other, sure, pack_tokens)
            return given, (await map_in(self, verb, task, given)).mapped
        except MappingError as e:
            raise Refused(str(e)) from e

    def _model(self, named: Json) -> str:
        """The model that answers a sub-call: one of the run's own, whatever a cell names. Raises Refused."""
        models = self.run.models
        if named is None:
            return models.child
        if named not in (models.root, models.child):
            listed = " or ".join(dict.fromkeys((models.child, models.root)))
            raise Refused(refusals.MODEL.format(models=listed, value=brief(named)))
        return str(named)

    def _marked(self, texts: Sequence[str]) -> list[str]:
        """The texts with everything that this conversation's model did not write marked as data."""
        own = pieces(self.written)
        return [marked(text, own) for text in texts]

    def _request(self, model: str, messages: Sequence[Message]) -> Request:
        options = self.run.models.sub_call_options(model)
        return Request(model, tuple(messages), self.run.limits.reply_tokens, options=options)

    def _worsts(self, requests: Sequence[Request]) -> list[Usage]:
        return self.run.budget.worsts(self.conversation, requests)

    @asynccontextmanager
    async def _reserved(self, worsts: Sequence[Usage]) -> AsyncIterator[list[Reservation]]:
        """Reserve what each call needs at most, while they are under way. Raises OverBudget where all do not fit."""
        budget = self.run.budget
        try:
            reservations = await budget.reserve_all(self.conversation, worsts)
        except OverBudget as e:
            self.run.record_budget(self.conversation, str(e))
            raise
        try:
            yield reservations
        finally:
            await budget.release(reservations)

    async def afford(self, worsts: Sequence[Usage]) -> None:
        """Raise OverBudget, which is recorded, where not all of so many calls fit; nothing stays reserved."""
        async with self._reserved(worsts):
            pass

    def _child_ids(self, count: int) -> list[str]:
        first, self.children = self.children + 1, self.children + count
        return [f"{self.conversation}.{i}" for i in range(first, first + count)]

    async def _ask(
        self, child: str, request: Request, reservation: Reservation, keep: Keep | None, *, is_kept: bool
    ) -> Reply | GatewayError:
        try:
            reply = await self.run.make(child, request, len(request.messages), reservation, keep)
        except GatewayError as e:
            return e
        if is_kept:
            await self.run.keep(child, request, reply)
        return reply

    def _passages(self, places: Sequence[Json]) -> list[list[Passage]]:
        """The passages of each prompt, checked to be small enough alone and together, and not yet read."""
        listed = [checks.nodes(nodes) for nodes in places]
        if (count := sum(map(len, listed))) > PASSAGES:
            raise Refused(refusals.PASSAGES.format(count=count, most=PASSAGES))
        passages = [self.verbs.passages(nodes) for nodes in listed]
        sizes = [sum(passage.chars for passage in of_prompt) for of_prompt in passages]
        if (chars := max(sizes, default=0)) > PASSAGE_CHARS:
            raise Refused(refusals.PASSAGE_CHARS.format(chars=chars, most=PASSAGE_CHARS))
        if (chars := sum(sizes)) > CALL_CHARS:
            raise Refused(refusals.CALL_CHARS.format(chars=chars, most=CALL_CHARS))
        return passages

    def _read(self, passages: list[list[Passage]]) -> list[list[Block]]:
        return [[self.verbs.block(passage) for passage in of_prompt] for of_prompt in passages]

    async def _descend_all(self, verb: str, texts: list[str], under: Sequence[Json]) -> list[Json]:
        if self.depth >= self.run.limits.depth:
            raise Refused(refusals.DEPTH.format(most=self.run.limits.depth, depth=self.depth))
        branches = [self.verbs.branch(branch) for branch in under]
        prompts = await asyncio.to_thread(self._marked, texts)
        first = [self._request(self.run.models.root, [{"role": "user", "content": text}]) for text in texts]
        await self.afford(self._worsts(first))  # every child could make a call; each reserves for itself
        ids, began = self._child_ids(len(texts)), time.monotonic()
        cell = self._record_called(verb, texts, branches, ids)
        children = zip(self.run.shares(len(texts)), prompts, branches, ids, strict=True)
        conclusions = await _together([self.descend(s, q, b, i, self.depth + 1) for s, q, b, i in children])
        errors = [None if c.content else c.error or f"stopped by {c.stop}" for c in conclusions]
        outcomes = [_outcome(e is None, e or c.content) for c, e in zip(conclusions, errors, strict=True)]
        self._record_returned(cell, verb, ids, outcomes, began)
        return [
            {"answer": c.content or None, "citations": [q.as_json() for q in c.citations], "error": e}
            for c, e in zip(conclusions, errors, strict=True)
        ]

    def _record_called(self, verb: str, texts: list[str], under: Sequence[str | None], ids: list[str]) -> int:
        cell = self.cell()
        called = ChildCalled(cell=cell, verb=verb, prompts=texts, under=under, children=ids)
        self.run.journal.record(self.conversation, called)
        return cell

    def _record_returned(
        self, cell: int, verb: str, ids: list[str], outcomes: Sequence[ChildResult], began: float
    ) -> None:
        returned = ChildReturned(
            cell=cell,
            verb=verb,
            children=ids,
            results=outcomes,
            usage=self.run.budget.used(ids),
            seconds=round(time.monotonic() - began, 3),
        )
        self.run.journal.record(self.conversation, returned)


def _messages(prompt: str, passages: list[Block], each: bool) -> list[Message]:
    return [
        {"role": "system", "content": prompts.SUB_CALL},
        {"role": "user", "content": prompts.sub_call(prompt, passages, each=each)},
    ]


def _asks_each(texts: Sequence[str], passages: Sequence[Sequence[Block]]) -> bool:
    """Whether a batch puts one question to several passages, so that the question is what its prompts share."""
    return len(set(texts)) == 1 and any(one != passages[0] for one in passages)


async def _together(calls: Sequence[Awaitable[T]]) -> list[T]:
    """All results in order. When one raises, or this is cancelled, the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        unfinished = [task for task in tasks if not task.done()]
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)


def _outcome_of(reply: Reply | str | GatewayError) -> ChildResult:
    return _outcome(
        not isinstance(reply, GatewayError), reply.text if isinstance(reply, Reply) else str(reply)
    )


def _outcome(ok: bool, text: str) -> ChildResult:
    return {"ok": ok, "text": text}
