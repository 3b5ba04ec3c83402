"""Many questions in one process, at once: none disturbs another."""

import asyncio
import threading
from pathlib import Path

import pytest

from index_store.index import Index
from rlm import Answer, Limits, Models, ask, ask_async
from rlm.audit import read, verify
from tests.helpers.model_server import MODEL, Body, ModelServer, Step

MODELS = Models(MODEL, MODEL)
SUM = """```python
total = sum(len(r) for r in llm_query_batched(["{name}"] * 5))
print(total)
```"""
DONE = '```python\nFINAL("{name} " + str(total))\n```'


def by_name(body: Body) -> str:
    """A root of two turns that carries the name in its question through its sub-calls to its answer."""
    messages = body["messages"]
    if len(messages) == 2 and not messages[1]["content"].startswith("Question: "):
        return str(messages[1]["content"])
    name = messages[1]["content"].split()[1]
    return (SUM if len(messages) == 2 else DONE).format(name=name)


def check(answers: list[Answer]) -> None:
    assert [a.content for a in answers] == [f"q{n} {5 * len(f'q{n}')}" for n in range(len(answers))]
    assert len({a.trace for a in answers}) == len(answers)
    for answer in answers:
        assert verify(answer.trace).ok
        assert answer.usage.calls == 7
        kinds = [e["kind"] for e in read(answer.trace)[0]]
        assert (kinds.count("model_asked"), kinds.count("model_answered")) == (7, 7)


def test_many_questions_on_one_event_loop_keep_apart(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def all_of_them() -> list[Answer]:
        asking = (ask_async(index, f"q{n} ?", models=MODELS, runs=tmp_path) for n in range(12))
        return await asyncio.gather(*asking)

    with ModelServer(by_name) as server:
        server.use(monkeypatch)
        check(asyncio.run(all_of_them()))


def test_many_questions_in_threads_keep_apart(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[int, Answer] = {}

    def one(n: int) -> None:
        answers[n] = ask(index, f"q{n} ?", models=MODELS, runs=tmp_path)

    with ModelServer(by_name) as server:
        server.use(monkeypatch)
        threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    check([answers[n] for n in range(6)])


def test_a_run_that_ends_leaves_the_calls_of_others_alone(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_ended = threading.Event()

    def script(body: Body) -> Step:
        long = body["messages"][1]["content"].startswith("Question: long")
        return Step('```python\nFINAL("done")\n```', until=first_ended if long else None)

    async def both() -> Answer:
        long = asyncio.create_task(
            ask_async(index, "long", models=MODELS, runs=tmp_path, limits=Limits(calls=1), route="rlm")
        )
        while not server.requests:
            await asyncio.sleep(0.01)
        await ask_async(index, "short", models=MODELS, runs=tmp_path)
        assert not long.done()
        first_ended.set()
        return await long

    with ModelServer(script) as server:
        server.use(monkeypatch)
        answer = asyncio.run(both())
    assert (answer.content, answer.usage.calls, len(server.requests)) == ("done", 1, 2)


def test_runs_of_one_process_share_its_rate(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float, *_: object) -> None:
        waits.append(seconds)
        await real_sleep(0)

    async def three() -> None:
        limits = Limits(requests_per_minute=2)
        await asyncio.gather(
            *(
                ask_async(index, "q ?", models=MODELS, limits=limits, runs=tmp_path, route="rlm")
                for _ in range(3)
            )
        )

    real_sleep = asyncio.sleep
    monkeypatch.setattr("rlm.gateway.lanes.asyncio.sleep", sleep)
    with ModelServer(['```python\nFINAL("done")\n```']) as server:
        server.use(monkeypatch)
        asyncio.run(three())
    (wait,) = [wait for wait in waits if wait > 1]  # of three runs under two a minute, the third
    assert 50 < wait <= 60
