"""Slots go round the owners who wait, across threads and loops; what is cancelled loses none."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from rlm.gateway.lanes import Lanes, Slots
from rlm.gateway.pacing import Pacing


def test_a_freed_slot_goes_to_the_owner_whose_turn_it_is() -> None:
    async def order() -> str:
        slots, came = Slots(1), []

        async def call(owner: str) -> None:
            async with slots.one(owner):
                came.append(owner)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for owner in "aaaaaabbbc":
                group.create_task(call(owner))
        return "".join(came)

    assert asyncio.run(order()) == "aabcababaa"


def test_slots_are_neither_lost_nor_made_when_those_who_wait_are_cancelled() -> None:
    slots, at_once, most = Slots(3), 0, 0

    async def call(chance: random.Random) -> None:
        nonlocal at_once, most
        async with slots.one(chance.choice("ab")):
            at_once += 1
            most = max(most, at_once)
            try:
                await asyncio.sleep(chance.choice([0, 0, 0.001]))
            finally:
                at_once -= 1

    async def many(seed: int) -> None:
        chance = random.Random(seed)
        tasks = [asyncio.ensure_future(call(chance)) for _ in range(60)]
        for task in chance.sample(tasks, 30):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    for seed in range(20):
        asyncio.run(many(seed))
        assert (slots._free, slots._waiting) == (3, {})
    assert most == 3


def test_slots_hold_across_threads_with_loops_of_their_own() -> None:
    slots, at_once = Slots(2), []

    async def call(i: int) -> None:
        async with slots.one(i % 3):
            at_once.append(1)
            assert len(at_once) <= 2
            await asyncio.sleep(0.0005)
            at_once.pop()

    async def many() -> None:
        await asyncio.gather(*[call(i) for i in range(40)])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(asyncio.run, many()) for _ in range(4)]:
            done.result()
    assert (slots._free, slots._waiting) == (2, {})


def test_no_slots_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        Slots(0)
    with pytest.raises(ValueError, match="lets nothing through"):
        Lanes(requests_per_minute=0)


def test_owners_take_turns_at_a_rate_limit_and_only_one_call_has_booked_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Pacing, "wait_s", lambda *_: 0.001)

    async def order() -> str:
        lanes, came = Lanes(requests_per_minute=1), []

        async def call(owner: str) -> None:
            await lanes.start(owner, "m", 1)
            came.append(owner)

        async with asyncio.TaskGroup() as group:
            for owner in "aaaaaabb":
                group.create_task(call(owner))
        return "".join(came)

    assert asyncio.run(order()) == "aababaaa"
