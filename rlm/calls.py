"""The model calls that code in a cell may make: once, in batches, or to a child with a branch of its own."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from index_store.errors import IndexStoreError
from rlm import prompts
from rlm.context import Context, Refused
from rlm.gateway.blocks import Block
from rlm.gateway.errors import GatewayError
from rlm.gateway.types import Message, Usage
from rlm.run import Run, usage_json

Json = Any

NAMES = ("llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched", "budget")
BATCH = 500
#: Runs a child conversation: (question, branch, conversation id, depth) to (content, citations as JSON).
Descend = Callable[[str, str | None, str, int], Awaitable[tuple[str, list[Json]]]]


@dataclass(slots=True)
class Calls:
    """The model calls of one conversation. `serve` is called from the session's thread, the work runs on the loop."""

    run: Run
    context: Context
    conversation: str
    depth: int
    descend: Descend
    cell: Callable[[], int]
    children: int = 0
    _pending: set["Future[Json]"] = field(default_factory=set)

    def serve(self, name: str, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Json:
        """Answer one call from a cell; raises Refused with a text for the model."""
        handler = {
            "llm_query": self._llm_query,
            "llm_query_batched": self._llm_query_batched,
            "rlm_query": self._rlm_query,
            "rlm_query_batched": self._rlm_query_batched,
            "budget": self._budget,
        }[name]
        try:
            work = handler(*args, **kwargs)
        except TypeError as e:
            raise Refused(f"{name}: {str(e).replace('Calls._', '')}") from e
        try:
            return self._wait(work)
        except (IndexStoreError, GatewayError) as e:
            raise Refused(str(e)) from e

    def cancel(self) -> None:
        """Give up every call that a cell is waiting for."""
        for future in list(self._pending):
            future.cancel()

    def _wait(self, work: Any) -> Json:
        future = asyncio.run_coroutine_threadsafe(work, self.run.loop)
        self._pending.add(future)
        try:
            return future.result()
        except CancelledError as e:
            raise Refused("the run was stopped") from e
        finally:
            self._pending.discard(future)

    # -- one method a name -------------------------------------------------------------------------------

    async def _budget(self) -> Json:
        return self.run.left()

    async def _llm_query(
        self, prompt: str, model: str | None = None, nodes: Sequence[Json] | None = None
    ) -> str:
        (result,) = await self._ask_all("llm_query", [prompt], [nodes or []])
        if isinstance(result, GatewayError):
            raise Refused(str(result)) from result
        return result

    async def _llm_query_batched(
        self, prompts: Sequence[str], model: str | None = None, nodes: Sequence[Sequence[Json]] | None = None
    ) -> list[str]:
        listed = _texts("prompts", prompts)
        places = list(nodes) if nodes is not None else [[] for _ in listed]
        if len(places) != len(listed):
            raise Refused(
                f"{len(listed)} prompts and {len(places)} lists of nodes; give one list for each prompt"
            )
        results = await self._ask_all("llm_query_batched", listed, places)
        return [f"ERROR: {r}" if isinstance(r, GatewayError) else r for r in results]

    async def _rlm_query(self, question: str, under: str | None = None) -> Json:
        (result,) = await self._descend_all("rlm_query", [question], [under])
        return result

    async def _rlm_query_batched(
        self, questions: Sequence[str], under: str | Sequence[str | None] | None = None
    ) -> list[Json]:
        listed = _texts("questions", questions)
        branches = [under] * len(listed) if under is None or isinstance(under, str) else list(under)
        if len(branches) != len(listed):
            raise Refused(f"{len(listed)} questions and {len(branches)} branches; give one branch for each")
        return await self._descend_all("rlm_query_batched", listed, branches)

    # -- how they work -----------------------------------------------------------------------------------

    async def _ask_all(
        self, verb: str, asked: Sequence[str], places: Sequence[Sequence[Json]]
    ) -> list[str | GatewayError]:
        """Replies in order; a call that failed leaves its error in its place."""
        texts = _texts("prompts", asked)
        messages = [self._messages(t, p) for t, p in zip(texts, places, strict=True)]
        ids, began = self._child_ids(len(texts)), time.monotonic()
        cell = self._record_called(verb, list(texts), None, ids)
        replies = await asyncio.gather(
            *(self._ask(i, m) for i, m in zip(ids, messages, strict=True)), return_exceptions=False
        )
        results = [r if isinstance(r, GatewayError) else r[0] for r in replies]
        usage = sum((r[1] for r in replies if not isinstance(r, GatewayError)), Usage())
        self._record_returned(cell, verb, ids, [_outcome(r) for r in results], usage, began)
        return results

    def _child_ids(self, count: int) -> list[str]:
        first, self.children = self.children + 1, self.children + count
        return [f"{self.conversation}.{i}" for i in range(first, first + count)]

    async def _ask(self, child: str, messages: list[Message]) -> tuple[str, Usage] | GatewayError:
        (call,) = self.run.call_ids(1)
        model, most = self.run.models.child, self.run.limits.reply_tokens
        try:
            reply = await self.run.ask(child, call, model, messages, len(messages), most)
        except GatewayError as e:
            return e
        return reply.text, reply.usage

    def _messages(self, prompt: str, places: Sequence[Json]) -> list[Message]:
        if not isinstance(places, list | tuple):
            raise Refused(f"nodes is a list of node ids, found {type(places).__name__}")
        passages = [Block(*self.context.passage(place)) for place in places]
        return [
            {"role": "system", "content": prompts.SUB_CALL},
            {"role": "user", "content": prompts.sub_call(prompt, passages)},
        ]

    async def _descend_all(
        self, verb: str, questions: Sequence[str], branches: Sequence[str | None]
    ) -> list[Json]:
        texts = _texts("questions", questions)
        if self.depth >= self.run.limits.depth:
            raise Refused(
                f"children go {self.run.limits.depth} deep and you are at {self.depth}; use llm_query with nodes=[...]"
            )
        for branch in branches:
            if branch is not None:
                self.context.passage(branch)  # refuses a node that is not in this view
        ids = self._child_ids(len(texts))
        under = branches[0] if len(set(branches)) == 1 else None
        cell, began, before = self._record_called(verb, texts, under, ids), time.monotonic(), self._spent()
        found = await asyncio.gather(
            *(self.descend(q, b, i, self.depth + 1) for q, b, i in zip(texts, branches, ids, strict=True))
        )
        outcomes = [{"ok": bool(content), "text": content} for content, _ in found]
        after = self._spent()
        usage = Usage(
            after.calls - before.calls,
            after.prompt_tokens - before.prompt_tokens,
            after.completion_tokens - before.completion_tokens,
            max(after.usd - before.usd, 0.0),
        )
        self._record_returned(cell, verb, ids, outcomes, usage, began)
        return [{"answer": content, "citations": citations} for content, citations in found]

    def _spent(self) -> Usage:
        return self.run.gateway.ledger.spent

    def _record_called(self, verb: str, texts: list[str], under: str | None, ids: list[Any]) -> int:
        cell = self.cell()
        self.run.record(
            "child_called", self.conversation, cell=cell, verb=verb, prompts=texts, under=under, children=ids
        )
        return cell

    def _record_returned(
        self, cell: int, verb: str, ids: list[Any], outcomes: list[Json], usage: Usage, began: float
    ) -> None:
        seconds = round(time.monotonic() - began, 3)
        self.run.record(
            "child_returned",
            self.conversation,
            cell=cell,
            verb=verb,
            children=ids,
            results=outcomes,
            usage=usage_json(usage),
            seconds=seconds,
        )


def _outcome(result: str | GatewayError) -> Json:
    return {"ok": not isinstance(result, GatewayError), "text": str(result)}


def _texts(name: str, values: Json) -> list[str]:
    if isinstance(values, str) or not isinstance(values, list | tuple):
        raise Refused(f"{name} is a list of texts, found {type(values).__name__}")
    if wrong := [v for v in values if not isinstance(v, str)]:
        raise Refused(f"{name} holds {type(wrong[0]).__name__}, every item is a text")
    if len(values) > BATCH:
        raise Refused(f"{len(values)} {name} in one batch, at most {BATCH}; split it, or pack more into each")
    return list(values)
