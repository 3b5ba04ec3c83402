"""Calls through the gateway, over real HTTP to a scripted server: what is retried, charged, refused."""

import asyncio
import gc
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rlm.audit.lines import MAX_LINE_BYTES
from rlm.gateway import gateway as gateway_module
from rlm.gateway.errors import CallFailed, GatewayError, MissingKey, OverBudget, UnknownModel, Unpriced
from rlm.gateway.gateway import Gateway
from rlm.gateway.lanes import Lanes
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.litellm_setup import litellm
from rlm.gateway.models import check_model, price, window
from rlm.gateway.offline.registry import register_offline
from rlm.gateway.provider import REPLY_CHARS, TOKEN_CHARS
from rlm.gateway.types import Message, Reply, Request, Usage
from tests.helpers.gateway_calls import about, complete_all, run
from tests.helpers.model_server import (
    MODEL,
    ModelServer,
    Script,
    Step,
    error,
    half_a_body,
    rate_limited,
    reset,
    slow,
    too_long,
)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test model at $1 a thousand prompt tokens and $2 a thousand completion tokens."""
    module = litellm()
    entry = {
        "input_cost_per_token": 1e-3,
        "output_cost_per_token": 2e-3,
        "litellm_provider": "openai",
        "mode": "chat",
    }
    module.register_model({MODEL: entry})
    yield
    module.model_cost.pop(MODEL)
    module.utils._invalidate_model_cost_lowercase_map()


def ask(
    text: str = "three short words", max_tokens: int = 50, temperature: float = 0.0, model: str = MODEL
) -> Request:
    return Request(model, (Message(role="user", content=text),), max_tokens, temperature)


def served(
    monkeypatch: pytest.MonkeyPatch, script: Script, gateway: Gateway
) -> tuple[Reply | GatewayError, int]:
    with ModelServer(script) as server:
        server.use(monkeypatch)
        return run(gateway, ask())[0], server.calls


def test_a_call_returns_the_text_and_charges_what_the_provider_reports(
    monkeypatch: pytest.MonkeyPatch, priced: None
) -> None:
    ledger = Ledger(Caps(usd=1.0))
    script = [Step("hello there", usage={"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12})]
    reply, calls = served(monkeypatch, script, Gateway(ledger))
    assert isinstance(reply, Reply)
    assert (reply.text, reply.model, reply.finish_reason) == ("hello there", MODEL, "stop")
    assert reply.usage == ledger.spent == Usage(1, 7, 5, about(0.017))
    assert ledger.reserved == Usage()
    assert calls == 1


def test_the_request_goes_out_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        run(Gateway(Ledger()), ask("häß \u2028 text", max_tokens=33, temperature=0.5))
        body = server.requests[0]
    assert body["messages"] == [{"role": "user", "content": "häß \u2028 text"}]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("test-model", 33, 0.5)


@pytest.mark.parametrize(
    ("fault", "may_be_billed"),
    [
        (rate_limited(), False),
        (error(500), False),
        (error(503), False),
        (reset(), True),
        (half_a_body(), True),
        (Step(raw=b"{not json"), True),
        (Step(raw=b"null"), True),
        (Step(raw=b'{"choices": []}'), True),
        (Step(raw=b"<html>", headers={"content-type": "text/html"}), True),
    ],
    ids=["429", "500", "503", "reset", "half", "no-json", "null", "no-choices", "html"],
)
def test_passing_faults_are_retried_and_charged_only_if_the_provider_may_have_billed(
    monkeypatch: pytest.MonkeyPatch, fault: Step, may_be_billed: bool
) -> None:
    ledger = Ledger()
    reply, calls = served(monkeypatch, [fault, "after the fault"], Gateway(ledger))
    assert isinstance(reply, Reply), reply
    assert reply.text == "after the fault"
    assert calls == 2
    assert reply.usage == ledger.spent
    assert (ledger.spent.calls, ledger.spent.completion_tokens) == ((2, 53) if may_be_billed else (1, 3))
    assert ledger.reserved == Usage()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            error(401, "Incorrect API key"),
            "refused the key; check it and its permissions (Incorrect API key)",
        ),
        (error(404, "no such model"), "does not have this model (no such model)"),
        (too_long(), "the prompt is longer than the model's context; shorten it"),
        (error(429, "You exceeded it", "insufficient_quota"), "no credit left (You exceeded it)"),
        (error(400, "bad field"), "the provider refused the request (bad field)"),
    ],
    ids=["401", "404", "context", "quota", "400"],
)
def test_faults_that_will_not_pass_are_not_retried_and_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, fault: Step, words: str
) -> None:
    ledger = Ledger()
    failed, calls = served(monkeypatch, [fault], Gateway(ledger))
    assert isinstance(failed, CallFailed)
    assert words in str(failed)
    assert "\n" not in str(failed)
    assert calls == 1
    assert ledger.spent == ledger.reserved == Usage()


def test_attempts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, calls = served(monkeypatch, [error(500)], Gateway(Ledger(), attempts=3))
    assert str(failed) == (
        "the call to openai/test-model failed after 3 attempts: "
        "the provider failed with status 500 (scripted error)"
    )
    assert calls == 3


def test_retry_after_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    reply, calls = served(monkeypatch, [rate_limited("0.2"), "ok"], Gateway(Ledger()))
    assert isinstance(reply, Reply)
    assert reply.seconds > 0.2
    assert calls == 2


def test_a_wait_past_the_deadline_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, calls = served(monkeypatch, [rate_limited("60"), "ok"], Gateway(Ledger(), timeout_s=5))
    assert isinstance(failed, CallFailed)
    assert "no time is left for another within 5 s" in str(failed)
    assert calls == 1


def test_a_call_in_a_pause_that_leaves_it_no_time_fails_at_once_and_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes, ledger = Lanes(), Ledger()
    failed, calls = served(
        monkeypatch, [rate_limited("3600"), "ok"], Gateway(Ledger(), timeout_s=100, lanes=lanes)
    )
    assert isinstance(failed, CallFailed) and calls == 1
    failed, calls = served(monkeypatch, ["ok"], Gateway(ledger, timeout_s=100, lanes=lanes))
    assert isinstance(failed, CallFailed) and calls == 0
    assert "was not made: its provider has asked for a pause, which goes on for" in str(failed)
    assert ledger.spent == Usage()


def test_a_slow_reply_fails_at_the_deadline_and_counts_as_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()
    failed, _ = served(monkeypatch, [slow("late", 5)], Gateway(ledger, timeout_s=0.2))
    assert isinstance(failed, CallFailed)
    assert "did not answer in time" in str(failed)
    assert ledger.spent == failed.usage
    assert ledger.spent.completion_tokens == 50
    assert ledger.reserved == Usage()


def test_a_server_that_is_not_there_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
    ledger = Ledger()
    (failed,) = run(Gateway(ledger, attempts=2), ask())
    assert "after 2 attempts: no connection to the provider" in str(failed)
    assert ledger.spent == Usage()


def test_usage_that_the_provider_leaves_out_is_counted_here(
    monkeypatch: pytest.MonkeyPatch, priced: None
) -> None:
    ledger = Ledger(Caps(usd=1.0))
    reply, _ = served(monkeypatch, [Step("some words of a reply", usage={})], Gateway(ledger))
    assert isinstance(reply, Reply)
    assert reply.usage == Usage(1, 4 + 7, 6, about(0.011 + 0.012))  # 3 and 5 by o200k, and a fifth


def test_a_provider_that_reports_more_than_was_reserved_is_believed(
    monkeypatch: pytest.MonkeyPatch, priced: None
) -> None:
    ledger = Ledger(Caps(usd=1.0))
    script = [Step("x", usage={"prompt_tokens": 900, "completion_tokens": 300, "total_tokens": 1200})]
    served(monkeypatch, script, Gateway(ledger))
    assert ledger.spent.usd == pytest.approx(1.5)
    (refused,) = run(Gateway(ledger), ask())
    assert isinstance(refused, OverBudget)


@pytest.mark.parametrize("count", [10**400, 10**10, -3, 0], ids=["huge", "large", "negative", "zero"])
def test_a_count_that_is_none_is_replaced_by_our_own(
    count: int, monkeypatch: pytest.MonkeyPatch, priced: None
) -> None:
    """10**400 raised an OverflowError, which no caller expects, out of the run."""
    ledger = Ledger(Caps(usd=10.0))
    usage = {"prompt_tokens": count, "completion_tokens": count, "total_tokens": count}
    reply, _ = served(monkeypatch, [Step("some words of a reply", usage=usage)], Gateway(ledger))
    assert isinstance(reply, Reply), reply
    assert 0 < reply.usage.completion_tokens < 20 and 0 < reply.usage.prompt_tokens < 50
    assert ledger.spent == reply.usage


def test_a_dollar_cap_stops_calls_before_they_are_made(monkeypatch: pytest.MonkeyPatch, priced: None) -> None:
    ledger = Ledger(Caps(usd=1.0))
    usage = {"prompt_tokens": 20, "completion_tokens": 50, "total_tokens": 70}
    with ModelServer([Step("x", usage=usage)]) as server:
        server.use(monkeypatch)
        replies = run(Gateway(ledger), *[ask(f"question {i}") for i in range(30)])
        made = server.calls
    refused = [reply for reply in replies if isinstance(reply, OverBudget)]
    assert made == 30 - len(refused) > 0
    assert {error.cap for error in refused} == {"usd"}
    assert ledger.spent.usd <= 1.0
    assert ledger.reserved == Usage()


def test_a_dollar_cap_refuses_models_without_a_price_unless_told_to_allow_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for ledger in (Ledger(Caps(usd=1.0)), Ledger(parent=Ledger(Caps(usd=1.0)))):
        refused, calls = served(monkeypatch, ["ok"], Gateway(ledger))
        assert isinstance(refused, Unpriced)
        assert "openai/test-model is not known" in str(refused)
        assert "--allow-unpriced" in str(refused)
        assert calls == 0
    reply, _ = served(monkeypatch, ["ok"], Gateway(Ledger(Caps(usd=1.0)), allow_unpriced=True))
    assert isinstance(reply, Reply)
    assert reply.usage.usd == 0


def test_many_calls_keep_their_order_and_each_gets_a_reply_or_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def script(body: dict[str, list[dict[str, str]]]) -> str | Step:
        text = body["messages"][0]["content"]
        return error(400, "odd one out") if text == "3" else f"reply to {text}"

    with ModelServer(script) as server:
        server.use(monkeypatch)
        replies = run(Gateway(Ledger()), *[ask(str(i)) for i in range(8)])
    assert [isinstance(reply, CallFailed) for reply in replies] == [i == 3 for i in range(8)]
    assert [r.text for r in replies if isinstance(r, Reply)] == [f"reply to {i}" for i in range(8) if i != 3]


def test_concurrency_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer([slow("ok", 0.03)]) as server:
        server.use(monkeypatch)
        run(Gateway(Ledger(), concurrency=3), *[ask(str(i)) for i in range(12)])
        assert server.calls == 12
        assert server.most_at_once == 3


def test_cancelling_a_call_closes_its_reservation_as_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()

    async def cancel_under_way(server: ModelServer) -> None:
        async with Gateway(ledger) as gateway:
            task = asyncio.create_task(gateway.complete(ask()))
            while not server.calls:
                await asyncio.sleep(0.005)
            assert ledger.reserved.calls == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with ModelServer([slow("never seen", 5)]) as server:
        server.use(monkeypatch)
        asyncio.run(cancel_under_way(server))
    assert ledger.reserved == Usage()
    assert (ledger.spent.calls, ledger.spent.completion_tokens) == (1, 50)


def test_cancelling_a_call_that_still_waits_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()

    async def cancel_the_second(server: ModelServer) -> None:
        async with Gateway(ledger, lanes=Lanes(requests_per_minute=1)) as gateway:
            await gateway.complete(ask())
            task = asyncio.create_task(gateway.complete(ask()))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        asyncio.run(cancel_the_second(server))
        assert server.calls == 1
    assert ledger.spent.calls == 1
    assert ledger.reserved == Usage()


def test_a_call_uses_what_was_held_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(Caps(calls=2))
    gateway = Gateway(ledger)
    held = ledger.reserve(gateway.worst(ask()))
    ledger.reserve(Usage(1))

    async def answered() -> Reply:
        async with gateway:
            return await gateway.complete(ask(), held)

    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        assert asyncio.run(answered()).text == "ok"
    assert not ledger.holds(held)
    assert (ledger.spent.calls, ledger.reserved.calls) == (1, 1)


def test_what_was_held_is_free_again_where_no_call_was_made() -> None:
    ledger = Ledger(Caps(calls=5))

    async def unknown() -> None:
        async with Gateway(ledger) as gateway:
            with pytest.raises(UnknownModel):
                await gateway.complete(ask(model="offline/unknown"), ledger.reserve(Usage(1)))

    asyncio.run(unknown())
    assert ledger.spent == ledger.reserved == Usage()


def test_a_retry_reserves_anew_and_so_may_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(Caps(calls=1))

    async def held_call() -> None:
        async with (gateway := Gateway(ledger)):
            await gateway.complete(ask(), ledger.reserve(gateway.worst(ask())))

    with ModelServer([reset(), "never asked"]) as server:
        server.use(monkeypatch)
        with pytest.raises(OverBudget) as refused:
            asyncio.run(held_call())
        assert server.calls == refused.value.usage.calls == ledger.spent.calls == 1
    assert ledger.reserved == Usage()


def test_a_question_with_hundreds_of_calls_waiting_does_not_keep_another_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two root calls, each in a thread and on a loop of its own, share the process's four slots.

    What the first sends once the second waits is answered only after the second was: it must not hold all slots.
    """
    lanes, total = Lanes(concurrency=4), Ledger(Caps(calls=1000))
    first, second = (Gateway(Ledger(parent=total), concurrency=8, lanes=lanes) for _ in range(2))
    waits, answered = threading.Event(), threading.Event()

    def script(body: dict[str, list[dict[str, str]]]) -> Step:
        if body["messages"][0]["content"] == "the one":
            answered.set()
        return Step("ok", until=answered if waits.is_set() else waits)

    with ModelServer(script) as server, ThreadPoolExecutor(2) as pool:
        server.use(monkeypatch)
        many = pool.submit(run, first, *[ask(f"many {i}") for i in range(200)])
        while server.calls < 4:
            time.sleep(0.005)
        one = pool.submit(run, second, ask("the one"))
        while second._owner not in lanes._slots._waiting:
            time.sleep(0.005)
        waits.set()
        assert all(isinstance(reply, Reply) for reply in [*one.result(), *many.result()])
        assert server.most_at_once <= 4
    assert (first.ledger.spent.calls, second.ledger.spent.calls, total.spent.calls) == (200, 1, 201)


def test_a_root_call_holds_no_more_slots_than_its_own_concurrency(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(Ledger(), concurrency=2, lanes=Lanes(concurrency=8))
    with ModelServer([slow("ok", 0.02)]) as server:
        server.use(monkeypatch)
        run(gateway, *[ask(str(i)) for i in range(10)])
        assert server.most_at_once == 2


def test_one_gateway_serves_several_event_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(Ledger(), concurrency=2)
    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        for _ in range(3):
            assert all(isinstance(reply, Reply) for reply in run(gateway, *[ask()] * 5))
        assert server.calls == 15


def test_all_calls_on_a_loop_share_a_client_and_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = litellm().in_memory_llm_clients_cache.cache_dict

    async def clients_after_many_calls() -> int:
        async with Gateway(Ledger(), concurrency=2) as gateway:
            await complete_all(gateway, [ask(str(i)) for i in range(10)])
            return len(clients)

    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        clients.clear()
        assert asyncio.run(clients_after_many_calls()) == 1
        assert server.connections <= 2


def test_closing_closes_the_connections_of_this_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = litellm().in_memory_llm_clients_cache.cache_dict

    async def clients_around_close() -> tuple[list[bool], int]:
        async with Gateway(Ledger()) as gateway:
            await gateway.complete(ask())
            used = list(clients.values())
        return [client.is_closed() for client in used], len(clients)

    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        clients.clear()
        assert asyncio.run(clients_around_close()) == ([True], 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the client left open
def test_a_loop_with_the_id_of_a_dead_one_gets_its_own_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = litellm().in_memory_llm_clients_cache.cache_dict
    gateway = Gateway(Ledger())

    async def call_with_left_over_clients() -> Reply:
        loop_id = id(asyncio.get_running_loop())
        for key in list(clients):
            clients[f"{key.rsplit('-', 1)[0]}-{loop_id}"] = clients.pop(key)
        async with gateway:
            return await gateway.complete(ask())

    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        clients.clear()
        asyncio.run(gateway.complete(ask()))  # not closed: its client stays behind
        assert len(clients) == 1
        asyncio.run(call_with_left_over_clients())
        assert server.calls == gateway.ledger.spent.calls == 2
    gc.collect()


def test_reasoning_models_are_asked_in_their_own_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        (reply,) = run(Gateway(Ledger(Caps(usd=1.0))), ask(model="gpt-5-mini", max_tokens=40))
        assert isinstance(reply, Reply), reply
        assert "temperature" not in server.requests[0]
        assert server.requests[0]["max_completion_tokens"] == 40


def test_a_call_leaves_no_task_behind_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tasks_after_a_call() -> int:
        async with Gateway(Ledger()) as gateway:
            await gateway.complete(ask())
            for _ in range(5):
                await asyncio.sleep(0)
            return len(asyncio.all_tasks())

    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        assert asyncio.run(tasks_after_a_call()) == 1


def test_a_model_that_the_price_map_does_not_list_is_not_free() -> None:
    assert price("openrouter/nobody/nothing", 1000, 1000) is None
    assert (
        price("openrouter/openai/gpt-5", 1000, 1000) != 0
    )  # what litellm answers since its map has no such entry
    assert price("hosted_vllm/gpt-4o", 1000, 1000) is None
    assert price("ollama/whatever", 1000, 1000) == price("offline/reader", 1000, 1000) == 0
    assert price("gpt-5-mini", 1000, 1000) == pytest.approx(0.00025 + 0.002)


def test_a_model_takes_as_many_tokens_as_the_map_says_where_it_does() -> None:
    assert window("openai/gpt-5-mini") == window("gpt-5-mini") == 272_000
    assert window("anthropic/claude-sonnet-4-5") == 200_000
    for unknown in ("offline/reader", "hosted_vllm/gpt-4o", "openrouter/nobody/nothing", MODEL):
        assert window(unknown) is None
    with pytest.raises(UnknownModel):
        window("nonsense/foo")


def test_unknown_models_are_named_before_any_work() -> None:
    for name in ("foo", "nonsense/foo", ""):
        with pytest.raises(
            UnknownModel, match=f"unknown model '{name}': name it as litellm does, provider first"
        ):
            check_model(name)
    with pytest.raises(UnknownModel, match=r"the offline models are offline/extractive, .*offline/reader"):
        check_model("offline/unknown")


def test_missing_keys_are_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    with pytest.raises(MissingKey, match="model 'gpt-5-mini' needs OPENAI_API_KEY in the environment"):
        check_model("gpt-5-mini")
    with pytest.raises(MissingKey, match="GOOGLE_API_KEY or GEMINI_API_KEY"):
        check_model("gemini/gemini-2.5-flash")
    (refused,) = run(Gateway(Ledger()), ask(model="gpt-5-mini"))
    assert isinstance(refused, MissingKey)
    for keyless in ("ollama/llama3", "hosted_vllm/some-model", "offline/reader"):
        check_model(keyless)


def test_offline_models_cost_nothing_and_count_their_tokens() -> None:
    register_offline("test-echo", lambda messages, max_tokens: messages[-1]["content"].upper())
    ledger = Ledger(Caps(usd=0.0))
    (reply,) = run(Gateway(ledger), ask("some words", model="offline/test-echo"))
    assert isinstance(reply, Reply)
    assert reply.text == "SOME WORDS"
    assert (reply.usage.calls, reply.usage.usd) == (1, 0.0)
    assert reply.usage.prompt_tokens >= 2
    assert ledger.spent == reply.usage


def test_an_offline_reply_is_cut_at_max_tokens_like_any_other() -> None:
    register_offline("test-long", lambda messages, max_tokens: "word " * 100)
    (reply,) = run(Gateway(Ledger(Caps(tokens=100))), ask(max_tokens=10, model="offline/test-long"))
    assert isinstance(reply, Reply)
    assert (reply.finish_reason, reply.usage.completion_tokens) == ("length", 10)


@pytest.mark.parametrize("text", ["x" * 12_000_000, "\ud83d" * 2_000_000], ids=["letters", "half surrogates"])
def test_a_reply_far_longer_than_what_was_asked_for_is_cut_off(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may send what it likes; no trace could hold this one on a line, and the run ended without an answer."""
    reply, calls = served(monkeypatch, [text], Gateway(Ledger()))
    assert isinstance(reply, Reply), reply
    assert (reply.text, reply.finish_reason, calls) == (text[: 50 * TOKEN_CHARS], "length", 1)


def test_no_reply_is_longer_than_a_line_of_a_trace_can_hold() -> None:
    assert 6 * REPLY_CHARS < MAX_LINE_BYTES * 3 / 4


def test_an_offline_model_that_raises_is_a_failed_call_that_costs_nothing() -> None:
    def broken(messages: list[Message], max_tokens: int) -> str:
        raise RuntimeError("no such luck")

    register_offline("test-broken", broken)
    ledger = Ledger()
    (failed,) = run(Gateway(ledger), ask(model="offline/test-broken"))
    assert isinstance(failed, CallFailed)
    assert "no such luck" in str(failed)
    assert ledger.spent == ledger.reserved == Usage()


def test_text_that_cannot_be_sent_is_refused_by_message_and_place() -> None:
    (failed,) = run(Gateway(Ledger()), ask("abc\ud800"))
    assert "message 1 holds half a surrogate pair at character 3" in str(failed)


def test_a_broken_connection_is_not_repeated_behind_the_ledger_by_other_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """litellm's own HTTP client, which serves most providers but OpenAI, repeats such requests by itself."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    with ModelServer([half_a_body(), reset()]) as server:
        monkeypatch.setenv("ANTHROPIC_API_BASE", server.base_url.removesuffix("/v1"))
        ledger = Ledger()
        (failed,) = run(Gateway(ledger, attempts=2), ask(model="anthropic/claude-sonnet-4-5"))
        assert isinstance(failed, CallFailed)
        assert server.calls == ledger.spent.calls == 2


def test_other_providers_are_read_through_the_same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 11, "output_tokens": 4},
    }
    with ModelServer([rate_limited("0.05"), Step(raw=json.dumps(body).encode())]) as server:
        monkeypatch.setenv("ANTHROPIC_API_BASE", server.base_url.removesuffix("/v1"))
        (reply,) = run(Gateway(Ledger(Caps(usd=1.0))), ask(model="anthropic/claude-sonnet-4-5"))
    assert isinstance(reply, Reply), reply
    assert reply.text == "hello"
    assert reply.usage == Usage(1, 11, 4, about(11 * 3e-6 + 4 * 15e-6))
