"""The model calls that code in a cell may make: once, in batches, or to a child with a branch of its own."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from index_store.errors import IndexStoreError
from rlm import prompts
from rlm.answers.citations import Conclusion
from rlm.gateway.blocks import Block
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.ledger import Reservation
from rlm.gateway.types import Message, Request, Usage
from rlm.loop.context import Context, Refused, bind
from rlm.loop.marking import marked, pieces
from rlm.loop.run import Run, usage_json

Json = Any
T = TypeVar("T")

NAMES = ("llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched", "budget", "history")
BATCH = 500
PASSAGES = 10_000  # in one call, a batch together
PASSAGE_CHARS = 1_000_000  # in one prompt
#: Runs a child conversation: (its share of the run, question, branch, conversation id, depth).
Descend = Callable[[Run, str, str | None, str, int], Awaitable[Conclusion]]


@dataclass(slots=True)
class Calls:
    """The model calls of one conversation: `serve` is for the session's thread, the work runs on the loop."""

    run: Run
    context: Context
    conversation: str
    depth: int
    descend: Descend
    cell: Callable[[], int]
    written: list[str] = field(default_factory=list)  # by this conversation's model, and what it was asked
    children: int = 0
    past: list[dict[str, Json]] = field(default_factory=list)  # the cells so far: code, status and output
    _stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: set["Future[Json]"] = field(default_factory=set)
    _tasks: set["asyncio.Task[Any]"] = field(default_factory=set)

    def serve(self, name: str, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Json:
        """Answer one call from a cell; raises Refused with a text for the model."""
        method: Callable[..., Coroutine[Any, Any, Json]] = getattr(self, f"_{name}")
        arguments = bind(name, method, args, kwargs)
        try:
            return self._wait(method, arguments)
        except (IndexStoreError, GatewayError) as e:
            raise Refused(str(e)) from e

    def stop(self) -> None:
        """Give up the calls under way and refuse those to come, so that no cell waits for the loop any more."""
        with self._lock:
            self._stopped = True
            given_up = list(self._waiting)
        for future in given_up:
            future.cancel()

    def resume(self) -> None:
        """After `stop`: answer calls again."""
        with self._lock:
            self._stopped = False

    async def settled(self) -> None:
        """After `stop`: until all that was given up has recorded its end."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _wait(self, method: Callable[..., Coroutine[Any, Any, Json]], arguments: dict[str, Json]) -> Json:
        with self._lock:
            if self._stopped:
                raise Refused("the run is being stopped; no more calls are answered")
            future = asyncio.run_coroutine_threadsafe(self._tracked(method, arguments), self.run.loop)
            self._waiting.add(future)
        try:
            return future.result()
        except CancelledError as e:
            raise Refused("the run was stopped") from e
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
        return self.run.left()

    async def _history(self, cell: int) -> Json:
        if type(cell) is not int or not 0 < cell <= len(self.past):
            raise Refused(f"there are cells 1 to {len(self.past)}, found {str(cell)[:40]!r}")
        return self.past[cell - 1]

    async def _llm_query(
        self, prompt: str, model: str | None = None, nodes: Sequence[Json] | None = None
    ) -> str:
        (result,) = await self._ask_all("llm_query", _texts("prompts", [prompt]), [nodes])
        if isinstance(result, GatewayError):
            raise Refused(str(result)) from result
        return result

    async def _llm_query_batched(
        self, prompts: Sequence[str], model: str | None = None, nodes: Sequence[Json] | None = None
    ) -> list[Json]:
        listed = _texts("prompts", prompts)
        places = [None] * len(listed) if nodes is None else _one_each("nodes", nodes, len(listed))
        results = await self._ask_all("llm_query_batched", listed, places)
        # An error is never text, so that no code takes it for an answer.
        return [{"error": str(r)} if isinstance(r, GatewayError) else r for r in results]

    async def _rlm_query(self, question: str, under: str | None = None) -> Json:
        (result,) = await self._descend_all("rlm_query", _texts("questions", [question]), [under])
        return result

    async def _rlm_query_batched(
        self, questions: Sequence[str], under: str | Sequence[str | None] | None = None
    ) -> list[Json]:
        listed = _texts("questions", questions)
        same = under is None or isinstance(under, str)
        branches = [under] * len(listed) if same else _one_each("under", under, len(listed))
        return await self._descend_all("rlm_query_batched", listed, branches)

    # -- how they work -----------------------------------------------------------------------------------

    async def _ask_all(self, verb: str, texts: list[str], places: Sequence[Json]) -> list[str | GatewayError]:
        """Replies in order; a call that failed leaves its error in its place. All fit the budget, or none is made."""
        listed = [_places(nodes) for nodes in places]
        if (count := sum(map(len, listed))) > PASSAGES:
            raise Refused(f"{count:,} passages in one call, at most {PASSAGES:,}; choose fewer, or split it")
        passages = [self._passages(nodes) for nodes in listed]
        given = [(block.name, block.text) for blocks in passages for block in blocks]
        if given:  # in a thread: reading a long batch takes a while
            await asyncio.to_thread(self.run.flag, self.conversation, verb, given)
        told = await asyncio.to_thread(self._marked, texts)
        messages = [_messages(text, blocks) for text, blocks in zip(told, passages, strict=True)]
        requests = [self._request(self.run.models.child, m) for m in messages]
        with self._set_aside(await asyncio.to_thread(self._worsts, requests)) as held:
            ids, began = self._child_ids(len(texts)), time.monotonic()
            cell = self._record_called(verb, texts, None, ids)
            results = await _together(
                [self._ask(i, m, h) for i, m, h in zip(ids, messages, held, strict=True)]
            )
        self._record_returned(cell, verb, ids, [_outcome(r) for r in results], began)
        return results

    def _marked(self, texts: Sequence[str]) -> list[str]:
        """The texts, with what their code put in that its model did not write as data."""
        own = pieces(self.written)
        return [marked(text, own) for text in texts]

    def _request(self, model: str, messages: Sequence[Message]) -> Request:
        return Request(model, tuple(messages), self.run.limits.reply_tokens)

    def _worsts(self, requests: Sequence[Request]) -> list[Usage]:
        return [self.run.gateway.worst(request) for request in requests]

    @contextmanager
    def _set_aside(self, worsts: Sequence[Usage]) -> Iterator[list[Reservation]]:
        """What calls need at most, as long as they are under way. What does not fit together is refused together."""
        ledger = self.run.ledger
        try:
            held = ledger.reserve_all(worsts)
        except OverBudget as e:
            self.run.record_budget(self.conversation, str(e))
            raise
        try:
            yield held
        finally:
            for reservation in filter(ledger.holds, held):
                ledger.release(reservation)

    def _child_ids(self, count: int) -> list[str]:
        first, self.children = self.children + 1, self.children + count
        return [f"{self.conversation}.{i}" for i in range(first, first + count)]

    async def _ask(self, child: str, messages: list[Message], held: Reservation) -> str | GatewayError:
        (call,) = self.run.call_ids(1)
        model, most = self.run.models.child, self.run.limits.reply_tokens
        try:
            return (await self.run.ask(child, call, model, messages, len(messages), most, held)).text
        except GatewayError as e:
            return e

    def _passages(self, places: Sequence[Json]) -> list[Block]:
        passages = [Block(*self.context.passage(place)) for place in places]
        if (chars := sum(len(block.text) for block in passages)) > PASSAGE_CHARS:
            raise Refused(
                f"{chars:,} characters of passages in one prompt, at most {PASSAGE_CHARS:,}; split it"
            )
        return passages

    async def _descend_all(self, verb: str, texts: list[str], under: Sequence[Json]) -> list[Json]:
        if self.depth >= self.run.limits.depth:
            deepest = f"children go {self.run.limits.depth} deep and you are at {self.depth}"
            raise Refused(f"{deepest}; use llm_query with nodes=[...]")
        branches = [self.context.branch(branch) for branch in under]
        told = await asyncio.to_thread(self._marked, texts)
        first = [self._request(self.run.models.root, [{"role": "user", "content": text}]) for text in texts]
        with self._set_aside(self._worsts(first)):
            pass  # every child could make a call; each reserves for itself
        ids, began = self._child_ids(len(texts)), time.monotonic()
        shared = branches[0] if len(set(branches)) == 1 else None
        cell = self._record_called(verb, texts, shared, ids)
        children = zip(self.run.shares(len(texts)), told, branches, ids, strict=True)
        found = await _together([self.descend(s, q, b, i, self.depth + 1) for s, q, b, i in children])
        errors = [None if f.content else f.error or f"stopped by {f.stop}" for f in found]
        said = [{"ok": e is None, "text": e or f.content} for f, e in zip(found, errors, strict=True)]
        self._record_returned(cell, verb, ids, said, began)
        return [
            {"answer": f.content or None, "citations": [c.as_json() for c in f.citations], "error": e}
            for f, e in zip(found, errors, strict=True)
        ]

    def _record_called(self, verb: str, texts: list[str], under: str | None, ids: list[str]) -> int:
        cell = self.cell()
        self.run.record(
            "child_called", self.conversation, cell=cell, verb=verb, prompts=texts, under=under, children=ids
        )
        return cell

    def _record_returned(
        self, cell: int, verb: str, ids: list[str], outcomes: list[Json], began: float
    ) -> None:
        self.run.record(
            "child_returned",
            self.conversation,
            cell=cell,
            verb=verb,
            children=ids,
            results=outcomes,
            usage=usage_json(self.run.used(ids)),
            seconds=round(time.monotonic() - began, 3),
        )


def _messages(prompt: str, passages: list[Block]) -> list[Message]:
    return [
        {"role": "system", "content": prompts.SUB_CALL},
        {"role": "user", "content": prompts.sub_call(prompt, passages)},
    ]


async def _together(works: Sequence[Awaitable[T]]) -> list[T]:
    """All results in order. When one raises, or this is cancelled, the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        unfinished = [task for task in tasks if not task.done()]
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)


def _outcome(result: str | GatewayError) -> Json:
    return {"ok": not isinstance(result, GatewayError), "text": str(result)}


def _texts(name: str, values: Json) -> list[str]:
    if not isinstance(values, list | tuple):
        raise Refused(f"{name} is a list of texts, found {type(values).__name__}")
    if wrong := [v for v in values if not isinstance(v, str)]:
        raise Refused(f"{name} holds {type(wrong[0]).__name__}, every item is a text")
    if len(values) > BATCH:
        raise Refused(f"{len(values)} {name} in one batch, at most {BATCH}; split it, or pack more into each")
    return list(values)


def _one_each(name: str, values: Json, count: int) -> list[Json]:
    if not isinstance(values, list | tuple):
        raise Refused(
            f"{name} is a list with one item for each of the {count}, found {type(values).__name__}"
        )
    if len(values) != count:
        raise Refused(f"{name} has {len(values)} items for {count}; give one for each")
    return list(values)


def _places(nodes: Json) -> list[Json]:
    if nodes is not None and not isinstance(nodes, list | tuple):
        raise Refused(f'nodes is a list such as ["L0-00012"], found {type(nodes).__name__}')
    return list(nodes or [])
