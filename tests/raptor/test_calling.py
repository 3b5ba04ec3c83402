"""Calls that workers of an engine make: reserved and settled here, lost ones as if they were billed."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from raptor import calling
from raptor.build import build_index
from raptor.calling import made_by
from raptor.engines import choosing
from raptor.engines.engine import Batch, Result, Shared, Stage, WorkerLost
from raptor.engines.local import Local
from raptor.errors import RaptorError
from raptor.estimating import estimate
from raptor.settings import BuildSettings, Spending
from rlm.gateway.errors import CallFailed
from rlm.gateway.failures import FailedAttempt
from rlm.gateway.gateway import Gateway, attempted
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.provider import Completion
from rlm.gateway.types import Attempt, Request
from tests.helpers import tiny_embedder
from tests.helpers.model_server import MODEL, ModelServer, Step, error
from tests.raptor.test_resume import body_key, summary_of

QUESTION = Request(MODEL, ({"role": "user", "content": "What is a ketch?"},), 50)


@dataclass(slots=True)
class Elsewhere:
    """An engine that passes for one on other machines, and loses the workers of its first calls, when they are done."""

    lost: int = 0
    begun: int = field(default=0, init=False)
    made: int = field(default=0, init=False)
    is_here = False

    def map_batches(
        self, stage: Stage[Shared, Batch, Result], batches: Iterable[Batch]
    ) -> Iterator[tuple[int, Result]]:
        return Local().map_batches(stage, batches)

    async def once(
        self, stage: Stage[Shared, Batch, Result], batch: Batch, begun: Callable[[], object] = lambda: None
    ) -> Result:
        await asyncio.sleep(0.01)  # until a worker has it
        self.begun += 1
        begun()
        result = await asyncio.to_thread(stage.run, stage.shared, batch)
        assert threading.current_thread() is threading.main_thread()
        self.made += 1
        if self.made <= self.lost:
            raise WorkerLost("its node is gone")
        return result

    def close(self) -> None: ...


async def completed(gateway: Gateway, told: list[Attempt]) -> str:
    async with gateway:
        return (await gateway.complete(QUESTION, tell=told.append)).text


def test_calls_are_made_from_this_process_unless_the_engine_is_elsewhere() -> None:
    assert made_by(Local()) is attempted


def test_a_call_by_a_worker_is_told_and_charged_as_one_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, list[Attempt]] = {"here": [], "there": []}
    with ModelServer([error(429, retry_after="0"), "two masts"] * 2) as server:
        server.use(monkeypatch)
        for name, engine in (("here", Local()), ("there", Elsewhere())):
            ledger = Ledger()
            assert asyncio.run(completed(Gateway(ledger, make=made_by(engine)), told[name])) == "two masts"
            assert ledger.spent.calls == 1
    here, there = ([(one.status, one.settled, one.sent) for one in attempts] for attempts in told.values())
    assert here == there


def test_a_call_whose_worker_is_lost_counts_as_spent_and_is_made_again_under_the_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Attempt] = []
    with ModelServer(["two masts"]) as server:
        server.use(monkeypatch)
        gateway = Gateway(ledger := Ledger(Caps(calls=2)), make=made_by(Elsewhere(lost=1)))
        assert asyncio.run(completed(gateway, told)) == "two masts"
        assert [attempt.status for attempt in told] == ["worker lost", "200"]
        assert told[0].settled == told[0].reserved
        assert ledger.spent.calls == server.calls == 2
        gateway = Gateway(Ledger(Caps(calls=1)), make=made_by(Elsewhere(lost=1)))
        with pytest.raises(Exception, match="calls"):
            asyncio.run(completed(gateway, told))
        assert server.calls == 3


def test_the_time_of_a_call_counts_from_when_a_worker_has_it() -> None:
    engine = Elsewhere()

    async def made() -> Completion | FailedAttempt:
        return await made_by(engine)(QUESTION, -calling._GRACE_S, [])  # no time at all

    outcome = asyncio.run(made())
    assert isinstance(outcome, FailedAttempt) and outcome.status == "timeout"
    assert engine.begun == 1


def test_an_offline_model_that_fails_on_a_worker_says_so_here() -> None:
    async def made() -> None:
        await made_by(Elsewhere())(Request("offline/nothing-of-the-kind", QUESTION.messages, 50), 5, [])

    with pytest.raises(CallFailed, match="offline/nothing-of-the-kind failed on this prompt"):
        asyncio.run(made())


def test_a_build_elsewhere_stops_at_its_cap_and_goes_on_with_a_higher_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litellm

    entry = {"input_cost_per_token": 1e-5, "output_cost_per_token": 1e-5, "litellm_provider": "openai"}
    monkeypatch.setitem(litellm.model_cost, "openai/priced-there", entry | {"mode": "chat"})
    monkeypatch.setattr(choosing, "_on_ray", lambda address: Elsewhere())
    tiny_embedder.use(monkeypatch)
    docs, out = tiny_embedder.write_documents(tmp_path / "docs", 40), tmp_path / "i"
    usage = {"prompt_tokens": 3_000, "completion_tokens": 200, "total_tokens": 3_200}

    def build(**more: Any) -> Any:
        settings = BuildSettings(concurrency=2)
        how: dict[str, Any] = {"summarizer": "openai/priced-there", "settings": settings, "engine": "ray"}
        return build_index(docs, out, **how, **more)

    with ModelServer(lambda body: Step(summary_of(body), usage=usage)) as server:
        server.use(monkeypatch)
        expected, _ = estimate(str(docs), out, summarizer="openai/priced-there")
        with pytest.raises(RaptorError, match=r"stopped at its cap.*higher cap"):
            build(spending=Spending(usd=expected.usd_low))
        assert expected.usd_low is not None
        # Each reply tells of more tokens than its prompt has: two that are under way may cost more than was reserved.
        assert 0 < (server.calls - 2) * 0.032 <= expected.usd_low
        build()
        assert len({body_key(body) for body in server.requests}) == server.calls
