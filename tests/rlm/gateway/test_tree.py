"""Random trees of calls under shared budgets: whatever happens, no cap is passed, and nothing is lost or left held.

The gateway, the ledgers, the slots and the batches are real; only the provider is a coroutine, so that hundreds of
cases take seconds. It looks at every ledger of its tree as each call begins and as it ends.
"""

import asyncio
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from rlm.asking.options import Options
from rlm.asking.runs import new_run
from rlm.gateway import gateway as gateway_module, provider
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.gateway import Gateway
from rlm.gateway.lanes import Lanes
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.provider import Completion
from rlm.gateway.types import Message, Reply, Request, Usage
from rlm.limits import Limits, Models
from rlm.loop.calls import Calls
from rlm.loop.recording import Unrecorded
from tests.helpers.gateway_calls import complete_all
from tests.helpers.thorough import cases

SEEDS = {*range(cases(60, 600)), 537}  # of them 537 alone has as many calls at a time as may be
AT_ONCE = 32
MODEL = "fake/model"


class Broken(Exception):
    """Stands for a connection that broke: the provider may have billed the call."""


class RateLimitError(Exception):
    """Stands for a refusal that costs nothing."""

    status_code = 429


@dataclass
class World:
    """One case: a chance, a price, a total, and what the fake provider saw."""

    chance: random.Random
    price: float
    total: Ledger
    ledgers: list[Ledger] = field(default_factory=list)
    billed: list[Usage] = field(default_factory=list)
    at_once: int = 0
    most: int = 0

    def check(self) -> None:
        for ledger in [self.total, *self.ledgers]:
            with ledger._lock:
                usage = ledger.spent + ledger.reserved
            caps = ledger.caps
            assert caps.usd is None or usage.usd <= caps.usd * (1 + 1e-9), (usage, caps)
            assert caps.tokens is None or usage.tokens <= caps.tokens, (usage, caps)
            assert caps.calls is None or usage.calls <= caps.calls, (usage, caps)

    async def complete(self, request: Request) -> Completion:
        """A call: some wait, some fail as providers do, some are cut short; what it bills is within what it may."""
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            self.check()
            for _ in range(self.chance.choice([1, 1, 3, 20])):
                await asyncio.sleep(0)
            self.check()
            fate = self.chance.random()
            if fate < 0.08:
                raise RateLimitError("slow down")
            if fate < 0.16:
                raise ConnectionResetError("gone")
            text = request.messages[-1]["content"]
            prompt, completion = len(text), self.chance.randint(1, request.max_tokens)
            return Completion(f"reply to {text}", "stop", prompt, completion, raw=None)
        finally:
            self.at_once -= 1


now: ContextVar[World] = ContextVar("now")


def cap(chance: random.Random, most: float) -> Any:
    """A cap or none; small ones bite, large ones let all through."""
    return chance.choice([None, most * chance.random(), most * chance.random() * 4])


def caps(chance: random.Random) -> Caps:
    if chance.random() < 0.15:
        return Caps()
    tokens, calls = cap(chance, 6_000), cap(chance, 80)
    return Caps(cap(chance, 3.0), tokens and int(tokens), calls and int(calls))


def asked(chance: random.Random, name: str) -> Request:
    return Request(
        MODEL, (Message(role="user", content=name + "x" * chance.randint(0, 60)),), chance.randint(1, 60)
    )


async def branch(world: World, gateway: Gateway, depth: int, name: str) -> None:
    """A batch of calls, some under reservations held for them, and children with pools below this one."""
    chance = world.chance
    size = chance.choice([100, *range(8)] if chance.random() < 0.1 else range(8))
    requests = [asked(chance, f"{name}.{i}:") for i in range(size)]
    works: list[Any] = [complete_all(gateway, requests)]
    if chance.random() < 0.5:
        works.append(held_back(world, gateway, asked(chance, f"{name}!")))
    for i in range(chance.randint(0, 2) if depth else 0):
        below = Ledger(caps(chance), parent=gateway.ledger)
        world.ledgers.append(below)
        works.append(branch(world, gateway.under(below), depth - 1, f"{name}.{i}"))
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        if chance.random() < 0.2:
            for _ in range(chance.randint(0, 30)):
                await asyncio.sleep(0)
            chance.choice(tasks).cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for result in done:
        if isinstance(result, Exception) and not isinstance(result, GatewayError):
            raise result
    if isinstance(done[0], list):
        whole_and_in_order(requests, done[0])


async def held_back(world: World, gateway: Gateway, request: Request) -> None:
    """Set something aside for a call, perhaps too much or too little, and use it later or not at all."""
    try:
        held = gateway.ledger.reserve(Usage(1, world.chance.randint(0, 200), world.chance.randint(0, 60)))
    except OverBudget:
        return
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        gateway.ledger.release(held)
        raise
    await gateway.complete(request, held)


def whole_and_in_order(requests: list[Request], replies: list[Reply | GatewayError]) -> None:
    assert len(replies) == len(requests)
    for request, reply in zip(requests, replies, strict=True):
        assert isinstance(reply, GatewayError) or reply.text == f"reply to {request.messages[-1]['content']}"


def settled(world: World) -> None:
    world.check()
    for ledger in [world.total, *world.ledgers]:
        assert ledger.reserved == Usage()
        assert not ledger._open
    assert world.most <= AT_ONCE


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider, its prices and its tokenizer belong to the case that is being played."""
    monkeypatch.setattr(provider, "complete", lambda request, bodies: now.get().complete(request))
    monkeypatch.setattr(gateway_module, "check_model", lambda model: None)
    monkeypatch.setattr(gateway_module, "warm_up", lambda *models: None)
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.0)
    for name in ("price", "highest_price"):
        monkeypatch.setattr(
            gateway_module,
            name,
            lambda model, prompt, reply, raw=None: now.get().price * (prompt + 3 * reply),
        )
    monkeypatch.setattr(
        gateway_module,
        "count_tokens",
        lambda model, text: len(text if isinstance(text, str) else text[-1]["content"]),
    )


@pytest.fixture
def busy() -> Iterator[None]:
    """Threads take turns a thousand times as often as usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 1000)
    yield
    sys.setswitchinterval(usual)


def case(seed: int) -> World:
    chance = random.Random(seed)
    total = Ledger(caps(chance))
    world = World(chance, chance.choice([0.0, 1e-6, 1e-4, 0.0123]), total)
    now.set(world)

    async def tree() -> None:
        lanes = Lanes(concurrency=AT_ONCE)
        roots = []
        for i in range(chance.randint(1, 3)):
            ledger = Ledger(caps(chance), parent=total)
            world.ledgers.append(ledger)
            gateway = Gateway(ledger, concurrency=chance.choice([1, 3, AT_ONCE]), attempts=3, lanes=lanes)
            roots.append(branch(world, gateway, 2, str(i)))
        await asyncio.gather(*roots)

    asyncio.run(tree())
    return world


@pytest.mark.slow
def test_no_tree_of_calls_passes_a_cap_or_leaves_anything_held() -> None:
    made = most = 0
    for seed in SEEDS:
        world = case(seed)
        settled(world)
        made, most = made + world.total.spent.calls, max(most, world.most)
    assert (made > 5 * len(SEEDS), most) == (True, AT_ONCE)


def test_trees_in_several_threads_share_one_total(busy: None) -> None:
    for seed in range(10):
        chance = random.Random(seed)
        total = Ledger(Caps(usd=2.0, tokens=20_000, calls=60))
        lanes = Lanes(concurrency=AT_ONCE)

        def root(number: int, total: Ledger = total, lanes: Lanes = lanes, seed: int = seed) -> World:
            chance = random.Random(seed * 100 + number)
            world = World(chance, 1e-4, total)
            now.set(world)
            ledger = Ledger(caps(chance), parent=total)
            world.ledgers.append(ledger)
            asyncio.run(
                branch(world, Gateway(ledger, concurrency=8, attempts=3, lanes=lanes), 2, str(number))
            )
            return world

        with ThreadPoolExecutor(6) as pool:
            for world in pool.map(root, range(chance.randint(6, 12))):
                settled(replace(world, total=Ledger()))
        assert total.reserved == Usage()
        assert lanes._slots._free == AT_ONCE


@pytest.mark.slow
def test_the_batches_of_cells_keep_their_length_and_order_or_are_refused_whole() -> None:
    """`llm_query_batched` itself, in trees of two levels: the pool, a conversation's part of it, and its batches."""
    kept = refused = 0
    for seed in range(cases(60, 300)):
        chance = random.Random(seed)
        total = Ledger(caps(chance))
        world = World(chance, 1e-4, total)
        now.set(world)

        async def cells(
            world: World = world, chance: random.Random = chance, total: Ledger = total
        ) -> list[Any]:
            limits = Limits(reply_tokens=60, concurrency=AT_ONCE, window=8_000)
            options = Options(models=Models(MODEL, MODEL), limits=limits, memo=False)
            gateway, loop = Gateway(total, concurrency=AT_ONCE, attempts=3), asyncio.get_running_loop()
            works, asked = [], []
            for number in range(chance.randint(1, 4)):
                below = Ledger(caps(chance), parent=total)
                world.ledgers.append(below)
                run = new_run(SimpleNamespace(), options, gateway.under(below), Unrecorded(), loop)  # type: ignore[arg-type]
                calls = Calls(run, SimpleNamespace(passages=list), str(number), 0, None, lambda: 0)  # type: ignore[arg-type]
                prompts = [f"{number}-{i}" for i in range(chance.randint(1, 12))]
                asked.append(prompts)
                works.append(calls._llm_query_batched(prompts))
            return list(zip(asked, await asyncio.gather(*works, return_exceptions=True), strict=True))

        for prompts, replies in asyncio.run(cells()):
            if isinstance(replies, OverBudget):
                refused += 1
                continue
            if isinstance(replies, BaseException):
                raise replies
            assert len(replies) == len(prompts)
            for prompt, reply in zip(prompts, replies, strict=True):
                assert isinstance(reply, dict) or (reply.startswith("reply to") and prompt in reply)
            kept += 1
        settled(world)
    assert kept > 20  # how many of each depends on the clock: both are played
    assert refused > 20
