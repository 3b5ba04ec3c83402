"""The gateway: every model call is reserved, paced, made, retried and settled here, and nowhere else."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Self

from rlm.gateway import paying, provider
from rlm.gateway.clients import close_clients, leave_clients, open_clients
from rlm.gateway.embeddings import embeds
from rlm.gateway.errors import CallFailed, GatewayError, OverBudget, Unpriced
from rlm.gateway.failures import UNREADABLE, UNREADABLE_RETRIES, FailedAttempt, classify
from rlm.gateway.lanes import Lanes, Slots
from rlm.gateway.ledger import Ledger, Reservation
from rlm.gateway.litellm_setup import warm_up
from rlm.gateway.models import check_model, highest_price, most_prompt_tokens, price, takes_format
from rlm.gateway.offline.registry import PREFIX
from rlm.gateway.pacing import backoff_s
from rlm.gateway.provider import Completion
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Attempt, Reply, Request, Usage

_WORTH_WAITING = 0.8  # share of a call's time that it may wait for a pause of its provider's
MOST_USD = 10**5  # of one call, that a provider can mean
#: The statuses by which a provider refuses a format that litellm took it to know.
_FORMAT_REFUSED = ("400", "422")
UNPRICED = (
    "a dollar cap is set but the price of {model} is not known, so the cap cannot be kept; use a priced model, give it "
    "a short name in models.toml with its price (usd_per_million = [0, 0] where it costs nothing), cap tokens or calls "
    "instead, or allow it (rlm ask --allow-unpriced)"
)
#: Gets each attempt of a call as it ends.
Tell = Callable[[Attempt], None]
#: Makes one attempt, which takes so many seconds at most, and adds the bodies of its requests to a list: `attempted`.
Make = Callable[[Request, float, list[bytes]], Awaitable[Completion | FailedAttempt]]


async def attempted(request: Request, timeout_s: float, bodies: list[bytes]) -> Completion | FailedAttempt:
    """One attempt at a call, from this process. Raises CallFailed where an offline model fails."""
    try:
        async with asyncio.timeout(timeout_s):
            return await provider.complete(request, bodies)
    except Exception as error:  # litellm raises what its many providers raise; all of it is explained
        if request.model.startswith(PREFIX):
            raise CallFailed(f"{request.model} failed on this prompt: {error}") from error
        return classify(error, "list of vectors" if embeds(request.model) else "chat completion")


@dataclass(slots=True)
class Gateway:
    """Makes model calls within a ledger's caps; safe to use from several threads and event loops.

    `concurrency` bounds its calls under way. `timeout_s` is the deadline of one call with its retries, from the
    moment it may start; `attempts` bounds the tries, of which those whose reply cannot be read are fewer. A try at
    embedding one text takes `embedding_s` at most, and an eighth of that for each further text: no model thinks there,
    so what takes longer never comes. `lanes` holds the rate limits, and the slots of the process; gateways that share
    it take turns, so that the calls of one question do not keep another question waiting. `make` makes an attempt, from
    elsewhere if need be.

    Money: an attempt that the provider refused costs nothing. One that ended without an answer (timeout,
    broken connection, unreadable reply, cancellation once sent) may have been billed, so all that was
    reserved for it is entered as spent: the cap holds even then. A retry makes a new reservation.

    Close it (`async with`, or `await gateway.close()`) on each event loop that used it, before the loop ends.
    """

    ledger: Ledger
    concurrency: int = 16
    timeout_s: float = 600.0
    embedding_s: float = 30.0
    attempts: int = 6
    allow_unpriced: bool = False
    lanes: Lanes = field(default_factory=Lanes)
    make: Make = attempted
    _slots: Slots = field(init=False, repr=False)
    _owner: object = field(default_factory=object, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"{self.attempts} attempts make no call; give at least 1")
        self._slots = Slots(self.concurrency)

    async def complete(
        self, request: Request, held: Reservation | None = None, tell: Tell = lambda attempt: None
    ) -> Reply:
        """Make one call. Raises `UnknownModel`, `MissingKey`, `Unpriced`, `OverBudget` or `CallFailed`.

        `tell` gets each attempt as it ends, also where the call fails or is cancelled; what they settled is all that
        was charged. With `held`, a reservation made before, the first attempt takes that instead of a new one; when
        this returns or raises, it is closed, used or not.
        """
        try:
            return await self._complete(request, held, tell)
        finally:
            if held is not None and self.ledger.holds(held):
                await paying.release(self.ledger, [held])

    def worst(self, request: Request) -> Usage:
        """The most that one attempt can use: what is reserved for it. Raises `Unpriced`, `UnknownModel`."""
        prompt = count_tokens(request.model, request.messages)
        if request.response_format is not None:
            prompt += count_tokens(request.model, json.dumps(dict(request.response_format)))
        return self.worst_of(request.model, prompt, request.max_tokens)

    def worst_of(self, model: str, prompt_tokens: int, reply_tokens: int) -> Usage:
        """As `worst`, of a call whose prompt has so many tokens by our count. Raises `Unpriced`, `UnknownModel`."""
        prompt = most_prompt_tokens(model, prompt_tokens)
        usd = highest_price(model, prompt, reply_tokens)
        if usd is None and self.ledger.left().usd is not None and not self.allow_unpriced:
            raise Unpriced(UNPRICED.format(model=model))
        return Usage(1, prompt, reply_tokens, usd or 0.0)

    def under(self, ledger: Ledger) -> "Gateway":
        """This gateway for a child call, which spends from `ledger` and shares its parent's slots and turns."""
        child = replace(self, ledger=ledger)
        child._slots, child._owner = self._slots, self._owner
        return child

    def root(self, ledger: Ledger) -> "Gateway":
        """A gateway for another question, which spends from `ledger`: the same lanes, its own slots and turns."""
        return replace(self, ledger=ledger)

    async def close(self) -> None:
        """Close the connections of the running event loop, unless a gateway entered there (`async with`) needs them.

        The gateway can be used again.
        """
        await close_clients()

    async def __aenter__(self) -> Self:
        open_clients()
        return self

    async def __aexit__(self, *_: object) -> None:
        await leave_clients()

    async def _complete(self, request: Request, held: Reservation | None, tell: Tell) -> Reply:
        attempts, began = list[Attempt](), time.monotonic()
        _check_request(request)

        def told(attempt: Attempt) -> None:
            attempts.append(attempt)
            tell(attempt)

        try:
            async with self._slots.one(None), self.lanes.slot(self._owner):
                made, completion = await self._attempts(request, held, began, told)
        except GatewayError as error:
            error.usage = charged(attempts)
            raise
        return Reply(
            completion.text,
            request.model,
            charged(attempts),
            completion.finish_reason,
            seconds=time.monotonic() - began,
            tool_call=completion.tool_call,
            served=completion.served,
            structured=made.response_format is not None,
            estimated=not (completion.prompt_tokens if embeds(request.model) else completion.is_counted),
        )

    async def _attempts(
        self, request: Request, held: Reservation | None, began: float, tell: Tell
    ) -> tuple[Request, Completion]:
        """The request that was answered, with or without its format, and the completion."""
        check_model(request.model)
        warm_up(request.model)  # before the deadline starts
        if request.response_format is not None and not takes_format(request.model):
            request = replace(request, response_format=None)
        self._refuse_a_long_pause(request.model)
        await self.lanes.start(self._owner, request.model, self.worst(request).tokens)
        deadline, unreadable = time.monotonic() + self.timeout_s, 0
        for attempt in count(1):
            request, reservation = await self._reserve(request, held if attempt == 1 else None)
            waited_s = time.monotonic() - began
            left_s = min(deadline - time.monotonic(), self._longest_s(request))
            outcome = await self._attempt(request, reservation, left_s, waited_s, tell)
            began = time.monotonic()
            if isinstance(outcome, Completion):
                return request, outcome
            if request.response_format is not None and outcome.status in _FORMAT_REFUSED:
                request = replace(request, response_format=None)
                continue
            unreadable += outcome.status == UNREADABLE
            if unreadable > UNREADABLE_RETRIES:
                outcome = replace(outcome, retry=False)
            wait_s = self._wait_or_give_up(request, reservation.worst, outcome, attempt, deadline)
            await asyncio.sleep(wait_s)
        raise AssertionError("unreachable: attempts are counted without end")

    def _longest_s(self, request: Request) -> float:
        """The seconds that one attempt may take."""
        further = len(request.messages) - 1
        return self.embedding_s * (1 + further / 8) if embeds(request.model) else self.timeout_s

    def _refuse_a_long_pause(self, model: str) -> None:
        """Raise CallFailed where a provider's pause takes so much of a call's time that none is left for a reply."""
        held_s = self.lanes.pacing.held_s(model)
        if held_s > _WORTH_WAITING * self.timeout_s:
            raise CallFailed(
                f"the call to {model} was not made: its provider has asked for a pause, which goes on for "
                f"{held_s:.0f} s, and a call may take {self.timeout_s:g} s; ask again later"
            )

    async def _reserve(self, request: Request, held: Reservation | None) -> tuple[Request, Reservation]:
        """Set aside what an attempt may cost; where its format, which counts as prompt, does not fit, without that."""
        try:
            worst = self.worst(request)
            if held is not None:
                return request, await paying.exchange(self.ledger, held, worst)
            return request, (await paying.reserve_all(self.ledger, [worst]))[0]
        except OverBudget:
            if request.response_format is None:
                raise
            return await self._reserve(replace(request, response_format=None), held)

    async def _attempt(
        self, request: Request, reservation: Reservation, timeout_s: float, waited_s: float, tell: Tell
    ) -> Completion | FailedAttempt:
        """Call once, settle the reservation, tell of it. A call that is cancelled counts as billed."""
        offline = request.model.startswith(PREFIX)
        charge = Usage() if offline else reservation.worst
        status, why = "cancelled", "it was stopped before the reply"
        bodies, began = list[bytes](), time.monotonic()
        try:
            outcome = await self.make(request, timeout_s, bodies)
            if isinstance(outcome, Completion):
                charge, status, why = _actual(request, outcome), "ok" if offline else "200", ""
            else:
                charge = charge if outcome.may_be_billed else Usage()
                status, why = outcome.status, outcome.why
        except CallFailed as error:
            status, why = "failed", str(error)
            raise
        finally:
            seconds, sent = round(time.monotonic() - began, 3), provider.sent(bodies)
            try:
                await paying.settle(self.ledger, reservation, charge)
            finally:
                tell(Attempt(status, round(waited_s, 3), seconds, reservation.worst, charge, why, sent))
        return outcome

    def _wait_or_give_up(
        self, request: Request, worst: Usage, failure: FailedAttempt, attempt: int, deadline: float
    ) -> float:
        """The seconds until the next attempt. Raises `CallFailed` if there should be none."""
        message = (
            f"the call to {request.model} failed after {attempt} attempt{'s' * (attempt > 1)}: {failure.why}"
        )
        if not failure.retry or attempt >= self.attempts:
            raise CallFailed(message)
        pacing = self.lanes.pacing
        if failure.retry_after_s is not None:
            # for all calls to this model, but for no longer than a call may take: then another one may try
            pacing.hold(request.model, min(failure.retry_after_s, self.timeout_s))
        wait_s = pacing.wait_s(request.model, worst.tokens) + backoff_s(attempt)
        if time.monotonic() + wait_s >= deadline:
            raise CallFailed(f"{message}; no time is left for another within {self.timeout_s:g} s")
        return wait_s


def charged(attempts: Iterable[Attempt]) -> Usage:
    """What attempts together charged to the ledger."""
    return sum((attempt.settled for attempt in attempts), Usage())


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


def _actual(request: Request, completion: Completion) -> Usage:
    """What the provider reports, or our own count where it reports nothing."""
    prompt_tokens = completion.prompt_tokens or count_tokens(request.model, request.messages)
    if embeds(request.model):
        return Usage(1, prompt_tokens, 0, price(request.model, prompt_tokens, 0) or 0.0)
    completion_tokens = completion.completion_tokens or count_tokens(
        request.model, completion.text + completion.tool_call
    )
    raw = completion.raw if completion.is_counted else None
    usd = price(request.model, prompt_tokens, completion_tokens, raw) or 0.0
    if not 0 <= usd <= MOST_USD:  # by details of the usage that cannot be true
        usd = price(request.model, prompt_tokens, completion_tokens) or 0.0
    return Usage(1, prompt_tokens, completion_tokens, usd)
