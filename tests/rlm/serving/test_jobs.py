"""Jobs: in order, followed, cancelled, forgotten."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from rlm.errors import RlmError
from rlm.serving import jobs as module
from rlm.serving.jobs import Job, Jobs, event_of


def run(go: Callable[[Jobs], Awaitable[Any]], **more: Any) -> Any:
    async def running() -> Any:
        return await go(Jobs(**{"max_running": 1, "max_waiting": 9, "abandon_s": 0.0, **more}))

    return asyncio.run(running())


def test_who_follows_is_told_nothing_where_a_job_that_waited_has_begun_since() -> None:
    async def go(jobs: Jobs) -> None:
        told: list[Any] = []
        let_go = asyncio.Event()

        async def work() -> dict[str, Any]:
            await let_go.wait()
            return {}

        async def follow(job: Job) -> None:
            told.extend([event async for _, event in job.follow()])

        begun = [jobs.begin(Job("ask", "", "toy"), work, lambda: None) for _ in range(3)]
        following = asyncio.ensure_future(follow(begun[2]))
        await asyncio.sleep(0.01)
        let_go.set()  # the second begins and ends at once, so that the third moves up and begins at once
        await following
        assert told[0] == {"kind": "waiting", "conversation": "0", "ahead": 1}
        assert all(event["kind"] == "waiting" for event in told)

    run(go)


def test_events_are_told_in_the_order_of_the_trace_whatever_the_order_in_which_they_come() -> None:
    async def go(jobs: Jobs) -> None:
        job = Job("ask", "", "toy")
        for number in (1, 2, 0):
            job.add(event_of("note", "0", {"seq": number, "text": "x" * 9_000}))
            assert len(job.events) == (0 if number else 3)
        assert [event["seq"] for event in job.events] == [0, 1, 2]
        assert str(job.events[0]["text"]).endswith("x … (9,000 characters)")

    run(go)


def test_a_job_that_is_cancelled_before_its_first_step_ends_all_the_same() -> None:
    async def go(jobs: Jobs) -> None:
        unbegun: list[str] = []

        async def work() -> dict[str, Any]:
            raise AssertionError("it has not begun")

        job = jobs.begin(Job("ask", "", "toy"), work, lambda: unbegun.append("unbegun"))
        jobs.cancel(job)
        await job.ended()
        assert (job.state, jobs.waiting, jobs.running, unbegun) == ("cancelled", 0, 0, ["unbegun"])

    run(go)


def test_a_job_that_is_cancelled_twice_still_ends_what_it_has_started() -> None:
    async def go(jobs: Jobs) -> None:
        ended: list[str] = []

        async def work() -> dict[str, Any]:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)  # as a build is waited for, and a run's trace closed
                ended.append("ended")
            return {}

        job = jobs.begin(Job("ask", "", "toy"), work, lambda: None)
        while job.state != "running":
            await asyncio.sleep(0)
        for _ in range(2):
            jobs.cancel(job)
            await asyncio.sleep(0)
        await job.ended()
        assert (job.state, ended) == ("cancelled", ["ended"])

    run(go)


def test_what_fails_is_told_and_what_nobody_foresaw_only_in_the_log() -> None:
    async def go(jobs: Jobs) -> list[str]:
        async def fails() -> dict[str, Any]:
            raise RlmError("so it is")

        async def breaks() -> dict[str, Any]:
            raise ZeroDivisionError("a secret")

        told = []
        for work in (fails, breaks):
            job = jobs.begin(Job("ask", "", "toy"), work, lambda: None)
            await job.ended()
            told.append(str(job.as_json()["error"]))
        return told

    assert run(go) == ["so it is", "the server failed; its log says why"]


def test_a_question_that_all_have_left_is_cancelled_but_for_one_that_is_kept() -> None:
    async def go(jobs: Jobs) -> None:
        async def work() -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        left = jobs.begin(Job("ask", "", "toy"), work, lambda: None)
        kept = jobs.begin(Job("ask", "", "toy", is_kept=True), work, lambda: None)
        for job in (left, kept):
            jobs.attend(job, 1)
            jobs.attend(job, 1)
            jobs.attend(job, -1)
        await asyncio.sleep(0.02)
        assert left.state == "running"
        for job in (left, kept):
            jobs.attend(job, -1)
        await left.ended()
        assert (left.state, kept.state) == ("cancelled", "running")
        jobs.cancel(kept)
        await kept.ended()

    run(go, max_running=2)


def test_of_jobs_that_have_ended_few_are_kept_and_none_of_their_events(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "KEPT", 2)

    async def go(jobs: Jobs) -> None:
        async def work() -> dict[str, Any]:
            return {"answer": "x"}

        ended = []
        for _ in range(4):
            job = jobs.begin(Job("ask", "", "toy"), work, lambda: None)
            job.add({"kind": "note", "seq": 0})
            await job.ended()
            ended.append(job)
        assert [jobs.find(job.id) is not None for job in ended] == [False, False, True, True]
        assert all(job.events == [] for job in ended)

    run(go)
