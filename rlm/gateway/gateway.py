"""The gateway: every model call is reserved, paced, made, retried and settled here, and nowhere else."""

import asyncio
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Self

from rlm.gateway import provider
from rlm.gateway.cache import Cache, key_of
from rlm.gateway.errors import BrokenCache, CallFailed, GatewayError, UnknownModel, Unpriced
from rlm.gateway.failures import Failure, understand
from rlm.gateway.lanes import Lanes, Slots
from rlm.gateway.ledger import Ledger, Reservation
from rlm.gateway.offline.registry import PREFIX
from rlm.gateway.pacing import backoff_s
from rlm.gateway.provider import check_model, price
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Reply, Request, Usage

# The provider counts the prompt with its own tokenizer and chat template; a tenth more than our count, and a
# few tokens, have covered the difference. What it reports is entered as reported in any case.
_PROMPT_MARGIN = 1.1
_PROMPT_MARGIN_TOKENS = 16

_SAVED = ("text", "model", "finish_reason", "tool_call")

__all__ = ["Gateway", "check_model", "count_tokens", "price"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Gateway:
    """Makes model calls within a ledger's caps; safe to use from several threads and event loops.

    `concurrency` bounds its calls under way. `timeout_s` is the deadline of one call with its retries, from the
    moment it may start; `attempts` bounds the tries. `lanes` holds the rate limits, and the slots of the process;
    gateways that share it take turns, so that one root call does not keep another waiting.

    Money: an attempt that the provider refused costs nothing. One that ended without an answer (timeout,
    broken connection, unreadable reply, cancellation once sent) may have been billed, so all that was
    reserved for it is entered as spent: the cap holds even then. A retry makes a new reservation.

    Close it (`async with`, or `await gateway.close()`) on each event loop that used it, before the loop ends.
    """

    ledger: Ledger
    cache: Cache | None = None
    concurrency: int = 16
    timeout_s: float = 600.0
    attempts: int = 6
    allow_unpriced: bool = False
    lanes: Lanes = field(default_factory=Lanes)
    _slots: Slots = field(init=False, repr=False)
    _owner: object = field(default_factory=object, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"{self.attempts} attempts make no call; give at least 1")
        self._slots = Slots(self.concurrency)

    async def complete(self, request: Request, held: Reservation | None = None) -> Reply:
        """One call. Raises `UnknownModel`, `MissingKey`, `Unpriced`, `OverBudget`, `CallFailed`, `BrokenCache`.

        The first attempt uses the reservation `held`, where there is one; it is closed in any case.
        """
        try:
            return await self._complete(request, held)
        finally:
            if held is not None and self.ledger.holds(held):
                self.ledger.release(held)

    def worst(self, request: Request) -> Usage:
        """The most that one attempt can use: what is reserved for it. Raises `Unpriced`, `UnknownModel`."""
        prompt = count_tokens(request.model, request.messages)
        if not request.model.startswith(PREFIX):
            prompt = int(prompt * _PROMPT_MARGIN) + _PROMPT_MARGIN_TOKENS
        usd = price(request.model, prompt, request.max_tokens)
        if usd is None and self.ledger.left().usd is not None and not self.allow_unpriced:
            raise Unpriced(
                f"a dollar cap is set but the price of {request.model} is not known, so the cap cannot be kept; "
                f"use a priced model, cap tokens or calls instead, or allow it (rlm ask --allow-unpriced)"
            )
        return Usage(1, prompt, request.max_tokens, usd or 0.0)

    def under(self, ledger: Ledger) -> "Gateway":
        """This gateway for a child call that spends from `ledger`: it waits in its parent's turn and slots."""
        child = replace(self, ledger=ledger)
        child._slots, child._owner = self._slots, self._owner
        return child

    def root(self, ledger: Ledger) -> "Gateway":
        """A gateway for another root call: the same lanes, with slots and turns of its own."""
        return replace(self, ledger=ledger)

    async def _complete(self, request: Request, held: Reservation | None) -> Reply:
        started = time.monotonic()
        _check_request(request)
        key = self._cache_key(request)
        if key is not None and (saved := _saved_reply(self.cache, key)) is not None:
            return replace(saved, seconds=time.monotonic() - started)
        async with self._slots.one(None), self.lanes.slot(self._owner):
            answer, usage = await self._answered(request, held)
        seconds = time.monotonic() - started
        reply = Reply(
            answer.text, request.model, usage, answer.finish_reason, seconds, tool_call=answer.tool_call
        )
        if key is not None:
            _save_reply(self.cache, key, reply)
        return reply

    async def complete_many(self, requests: Sequence[Request]) -> list[Reply | GatewayError]:
        """All calls, `concurrency` at a time; one reply or error for each, in the order of `requests`."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._reply_or_error(request)) for request in requests]
        return [task.result() for task in tasks]

    async def close(self) -> None:
        """Close the connections held open on the running event loop, unless a gateway that was entered there uses
        them too; the gateway can be used again."""
        await provider.close_clients()

    async def __aenter__(self) -> Self:
        provider.open_clients()
        return self

    async def __aexit__(self, *_: object) -> None:
        await provider.leave_clients()

    async def _reply_or_error(self, request: Request) -> Reply | GatewayError:
        try:
            return await self.complete(request)
        except GatewayError as error:
            return error

    async def _answered(self, request: Request, held: Reservation | None) -> tuple[provider.Answer, Usage]:
        """The answer, and what all attempts together charged to the ledger."""
        check_model(request.model)
        provider.litellm()  # before the deadline starts: its first import takes seconds
        worst, charged = self.worst(request), Usage()
        try:
            await self.lanes.start(self._owner, request.model, worst.tokens)
            deadline = time.monotonic() + self.timeout_s
            for attempt in count(1):
                reservation = self._reserved(worst, held if attempt == 1 else None)
                outcome, usage = await self._attempt(request, reservation, deadline - time.monotonic())
                charged += usage
                if not isinstance(outcome, Failure):
                    return outcome, charged
                await asyncio.sleep(self._wait_or_give_up(request, worst, outcome, attempt, deadline))
        except GatewayError as error:
            error.usage = charged
            raise
        raise AssertionError("unreachable: attempts are counted without end")

    def _reserved(self, worst: Usage, held: Reservation | None) -> Reservation:
        return self.ledger.reserve(worst) if held is None else self.ledger.exchange(held, worst)

    async def _attempt(
        self, request: Request, reservation: Reservation, timeout_s: float
    ) -> tuple[provider.Answer | Failure, Usage]:
        """Call once, settle. If this is cancelled, the call counts as billed, like any cut short."""
        charge = Usage() if request.model.startswith(PREFIX) else reservation.worst
        try:
            outcome = await _asked(request, timeout_s)
            if not isinstance(outcome, Failure):
                charge = _actual(request, outcome)
            elif not outcome.may_be_billed:
                charge = Usage()
        finally:
            self.ledger.settle(reservation, charge)
        return outcome, charge

    def _wait_or_give_up(
        self, request: Request, worst: Usage, failure: Failure, attempt: int, deadline: float
    ) -> float:
        """The seconds until the next attempt. Raises `CallFailed` if there should be none."""
        failed = (
            f"the call to {request.model} failed after {attempt} attempt{'s' * (attempt > 1)}: {failure.why}"
        )
        if not failure.retry or attempt == self.attempts:
            raise CallFailed(failed)
        pacing = self.lanes.pacing
        if (
            failure.retry_after_s is not None
        ):  # for all who ask this model; past our deadline somebody asks again
            pacing.hold(request.model, min(failure.retry_after_s, self.timeout_s))
        wait_s = pacing.wait_s(request.model, worst.tokens) + backoff_s(attempt)
        if time.monotonic() + wait_s >= deadline:
            raise CallFailed(f"{failed}; no time is left for another within {self.timeout_s:g} s")
        return wait_s

    def _cache_key(self, request: Request) -> str | None:
        """Only sure repeats are cached: temperature 0, and not offline models, which change with the code."""
        if self.cache is None or request.temperature != 0 or request.model.startswith(PREFIX):
            return None
        return key_of([1, _address(request.model), request.model, request.messages, request.max_tokens])


async def _asked(request: Request, timeout_s: float) -> provider.Answer | Failure:
    try:
        async with asyncio.timeout(timeout_s):
            return await provider.ask(request)
    except Exception as error:  # litellm raises what its many providers raise; all of it is explained
        if request.model.startswith(PREFIX):
            raise CallFailed(f"{request.model} failed on this prompt: {error}") from error
        return understand(error)


def _check_request(request: Request) -> None:
    if request.max_tokens < 1:
        raise CallFailed(f"max_tokens is {request.max_tokens}; a reply needs at least 1")
    for number, message in enumerate(request.messages, 1):
        try:
            message["content"].encode("utf-8")
        except UnicodeEncodeError as error:
            raise CallFailed(
                f"message {number} holds half a surrogate pair at character {error.start}, "
                f"which cannot be sent; remove or replace it"
            ) from error


def _actual(request: Request, answer: provider.Answer) -> Usage:
    """What the provider reports, or our own count where it reports nothing."""
    prompt = answer.prompt_tokens or count_tokens(request.model, request.messages)
    completion = answer.completion_tokens or count_tokens(request.model, answer.text + answer.tool_call)
    reported = answer.raw if answer.prompt_tokens and answer.completion_tokens else None
    usd = price(request.model, prompt, completion, reported) or 0.0
    if not (math.isfinite(usd) and usd >= 0):  # by details of the usage that cannot be true
        usd = price(request.model, prompt, completion) or 0.0
    return Usage(1, prompt, completion, usd)


def _address(model: str) -> list[str | None]:
    """Where the model's provider is told to look: the same name elsewhere is another model."""
    try:
        name = provider.provider_of(model).upper()
    except UnknownModel:
        return []
    return [os.environ.get(f"{name}_{word}") for word in ("API_BASE", "BASE_URL")]


def _saved_reply(cache: Cache | None, key: str) -> Reply | None:
    value: dict[str, Any] | None = cache.get(key) if cache is not None else None
    if value is None:
        return None
    text, model, reason, tool_call = (str(value.get(name, "")) for name in _SAVED)
    return Reply(text, model, Usage(), reason, 0.0, cached=True, tool_call=tool_call)


def _save_reply(cache: Cache | None, key: str, reply: Reply) -> None:
    """A reply that is paid for is handed over even when it cannot be saved; the log says so."""
    value = {name: getattr(reply, name) for name in _SAVED}
    try:
        if cache is not None:
            cache.put(key, value)
    except BrokenCache as error:
        _log.warning("a reply was not saved: %s", error)
