"""Every way a provider can fail, over real HTTP in both protocols: nothing is lost, charged twice, or waited for."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from rlm.gateway import gateway as gateway_module
from rlm.gateway.errors import CallFailed, GatewayError
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.litellm_setup import MOST_BYTES
from rlm.gateway.types import Message, Reply, Request, Usage
from rlm.gateway.usage import counts_mended
from tests.helpers.gateway_calls import run
from tests.helpers.model_server import (
    MODEL,
    Body,
    ModelServer,
    Step,
    error,
    half_a_body,
    rate_limited,
    reset,
    slow,
    text_of,
    too_long,
)

ANTHROPIC = "anthropic/claude-sonnet-4-5"
both = pytest.mark.parametrize("model", [MODEL, ANTHROPIC], ids=["openai", "anthropic"])


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)


def ask(text: str, model: str) -> Request:
    return Request(model, (Message(role="user", content=text),), 50)


def one(
    monkeypatch: pytest.MonkeyPatch, model: str, step: Step, **more: object
) -> tuple[Reply | GatewayError, Ledger]:
    """What a single answer of the server becomes, and what it cost; nothing stays reserved."""
    ledger = Ledger()
    with ModelServer([step]) as server:
        server.use(monkeypatch)
        (result,) = run(Gateway(ledger, **more), ask("three short words", model))  # type: ignore[arg-type]
    assert ledger.reserved == Usage()
    return result, ledger


def in_a_moment() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)


@both
@pytest.mark.parametrize(
    ("fault", "may_be_billed"),
    [
        (rate_limited(), False),
        (rate_limited("0.1"), False),
        (rate_limited(in_a_moment()), False),
        (rate_limited("soon"), False),
        (error(500), False),
        (error(529, "Overloaded"), False),
        (reset(), True),
        (half_a_body(), True),
        (Step(raw=b""), True),
        (Step(raw=b"{not json"), True),
        (Step(raw=b"[]"), True),
        (Step(raw=b'{"choices": 3, "content": 3}'), True),
        (Step(raw=json.dumps({"choices": [{"message": {"content": {"a": 1}}}]}).encode()), True),
    ],
    ids=[
        "429",
        "seconds",
        "date",
        "nonsense",
        "500",
        "529",
        "reset",
        "half",
        "empty",
        "no-json",
        "list",
        "wrong",
        "content",
    ],
)
def test_a_fault_in_a_batch_costs_no_item_its_reply_or_its_place(
    monkeypatch: pytest.MonkeyPatch, model: str, fault: Step, may_be_billed: bool
) -> None:
    failed = threading.Event()

    def script(body: Body) -> str | Step:
        text = text_of(body["messages"][-1]["content"])
        if text == "2" and not failed.is_set():
            failed.set()
            return fault
        return f"reply to {text}"

    ledger = Ledger(Caps(calls=5))
    with ModelServer(script) as server:
        server.use(monkeypatch)
        replies = run(Gateway(ledger, concurrency=2), *[ask(str(i), model) for i in range(4)])
        assert server.calls == 5
    assert [r.text if isinstance(r, Reply) else str(r) for r in replies] == [
        f"reply to {i}" for i in range(4)
    ]
    assert ledger.spent.calls == 4 + may_be_billed
    assert ledger.spent.completion_tokens == 4 * 3 + 50 * may_be_billed
    assert ledger.spent == replace(charged := sum((r.usage for r in replies), Usage()), usd=ledger.spent.usd)
    assert ledger.spent.usd == pytest.approx(charged.usd)
    assert ledger.reserved == Usage()


@both
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (error(401, "invalid key"), "refused the key; check it and its permissions"),
        (error(403, "not yours"), "refused the key; check it and its permissions"),
        (None, "the prompt is longer than the model's context; shorten it"),
        (error(404, "no such model"), "does not have this model"),
        (error(400, "bad field"), "the provider refused the request"),
        (error(413, "too large"), "the provider refused the request"),
    ],
    ids=["401", "403", "context", "404", "400", "413"],
)
def test_what_will_not_pass_is_asked_once_costs_nothing_and_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, model: str, fault: Step | None, words: str
) -> None:
    ledger = Ledger()
    with ModelServer([fault or too_long(model)]) as server:
        server.use(monkeypatch)
        failed, other = run(Gateway(ledger), ask("one", model), ask("two", model))
        assert server.calls == 2
    for result in (failed, other):
        assert isinstance(result, CallFailed)
        assert words in str(result)
        assert "\n" not in str(result)
        assert "Traceback" not in str(result)
        assert len(str(result)) < 500
    assert ledger.spent == ledger.reserved == Usage()


@both
def test_a_reply_that_comes_too_late_fails_alone(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    ledger = Ledger()

    def script(body: Body) -> Step:
        return slow("late", 300) if text_of(body["messages"][-1]["content"]) == "1" else Step("in time")

    with ModelServer(script) as server:
        server.use(monkeypatch)
        run(Gateway(Ledger()), ask("warm up", model))
        replies = run(Gateway(ledger, timeout_s=5.0), *[ask(str(i), model) for i in range(3)])
    assert [isinstance(reply, Reply) for reply in replies] == [True, False, True]
    assert "did not answer in time" in str(replies[1])
    assert ledger.spent.completion_tokens == 2 * 2 + 50
    assert ledger.reserved == Usage()


@both
def test_usage_that_is_no_count_is_counted_here(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    ways: list[dict[str, int]] = [{}] if model == MODEL else []  # Anthropic's protocol has no reply without
    for usage in [
        *ways,
        {"prompt_tokens": -7, "completion_tokens": -5},
        {"prompt_tokens": 0, "completion_tokens": 0},
    ]:
        reply, ledger = one(monkeypatch, model, Step("some words of a reply", usage=usage), attempts=1)
        assert isinstance(reply, Reply), (usage, reply)
        assert (ledger.spent.calls, ledger.spent.completion_tokens) == (1, 6)  # 5 by o200k, and a fifth
        assert ledger.spent.prompt_tokens > 3


ODD_COUNTS = [("12", "3"), (12.0, 3.0), (" 12.00", 3), (12, "3.0")]
NO_COUNTS = [
    (12.5, 3.5),
    ("many", "few"),
    ([12], {}),
    (float("nan"), float("inf")),
    (True, False),
    ("1e9", "-3"),
]


@both
@pytest.mark.parametrize(("prompt", "completion"), ODD_COUNTS)
def test_whole_counts_that_come_as_floats_or_text_are_taken_as_they_are(
    monkeypatch: pytest.MonkeyPatch, model: str, prompt: Any, completion: Any
) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    reply, ledger = one(monkeypatch, model, Step("some words of a reply", usage=usage))
    assert isinstance(reply, Reply), reply
    assert (ledger.spent.calls, ledger.spent.prompt_tokens, ledger.spent.completion_tokens) == (1, 12, 3)
    assert not reply.estimated


@both
@pytest.mark.parametrize(("prompt", "completion"), NO_COUNTS)
def test_a_reply_whose_counts_are_none_is_taken_at_once_and_its_tokens_are_counted_here(
    monkeypatch: pytest.MonkeyPatch, model: str, prompt: Any, completion: Any
) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt}
    reply, ledger = one(monkeypatch, model, Step("some words of a reply", usage=usage))
    assert isinstance(reply, Reply), reply
    assert reply.estimated and reply.text == "some words of a reply"
    assert (ledger.spent.calls, ledger.spent.completion_tokens) == (1, 6)


@pytest.mark.parametrize("usage", ["12", 12, [1], {"prompt_tokens": 12, "prompt_tokens_details": "none"}])
def test_usage_of_another_kind_costs_nobody_the_reply(monkeypatch: pytest.MonkeyPatch, usage: Any) -> None:
    reply, ledger = one(monkeypatch, MODEL, Step("some words of a reply", usage=usage))
    assert isinstance(reply, Reply), reply
    assert (ledger.spent.calls, ledger.spent.completion_tokens) == (1, 6)


def test_what_stands_beside_counts_is_left_as_it_came() -> None:
    for body in (b"", b"[]", b'{"usage": ', b'{"usage": {"cost": 0.5, "tier": "x", "prompt_tokens": 1}}'):
        assert counts_mended(body) is body
    mended = counts_mended(
        b'{"usage": {"cost": 0.5, "tokens": 2.0, "output_tokens_details": {"a_tokens": "x"}}}'
    )
    assert json.loads(mended) == {"usage": {"cost": 0.5, "tokens": 2, "output_tokens_details": {}}}


MALFORMED = [b"", b"{not json", b"<html>log in</html>", b"[]", b'{"choices": 3, "content": 3}']


@both
@pytest.mark.parametrize("raw", MALFORMED)
def test_a_reply_that_cannot_be_read_is_asked_for_twice_again_at_most(
    monkeypatch: pytest.MonkeyPatch, model: str, raw: bytes
) -> None:
    failed, ledger = one(monkeypatch, model, Step(raw=raw))
    assert "failed after 3 attempts: the reply is not a chat completion (" in str(failed)
    assert (ledger.spent.calls, ledger.spent.completion_tokens) == (3, 150)


def test_a_reply_that_is_too_long_is_asked_for_twice_again_at_most_and_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed, ledger = one(monkeypatch, MODEL, Step(raw=b" " * (MOST_BYTES + 1)))
    assert f"(the response has more than {MOST_BYTES:,} bytes)" in str(failed)
    assert ledger.spent.calls == 3


def test_faults_that_pass_do_not_count_among_the_replies_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script: list[str | Step] = [error(503), Step(raw=b"{"), error(503), Step(raw=b"{"), error(503), "at last"]
    with ModelServer(script) as server:
        server.use(monkeypatch)
        (reply,) = run(Gateway(Ledger()), ask("one", MODEL))
    assert isinstance(reply, Reply) and reply.text == "at last", reply


def test_a_reply_that_litellm_cannot_read_is_not_called_a_broken_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed, ledger = one(monkeypatch, ANTHROPIC, Step("no usage", usage={}), attempts=1)
    assert "the reply is not a chat completion" in str(failed)
    assert ledger.spent.completion_tokens == 50  # it may have been billed


@both
def test_an_empty_reply_and_one_cut_short_are_replies(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    empty, _ = one(monkeypatch, model, Step("", usage={"prompt_tokens": 3, "completion_tokens": 1}))
    assert isinstance(empty, Reply), empty
    assert (empty.text, empty.finish_reason, empty.usage.calls) == ("", "stop", 1)
    cut, _ = one(
        monkeypatch,
        model,
        Step("", finish_reason="length", usage={"prompt_tokens": 3, "completion_tokens": 50}),
    )
    assert isinstance(cut, Reply), cut
    assert (cut.text, cut.finish_reason, cut.usage.completion_tokens) == ("", "length", 50)


@both
def test_a_tool_that_nobody_offered_is_handed_over_as_text(
    monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    step = Step("", tool=("python", json.dumps({"code": "print(1)"})), finish_reason="tool_calls")
    reply, _ = one(monkeypatch, model, step)
    assert isinstance(reply, Reply), reply
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")
    assert json.loads(reply.tool_call) == {"name": "python", "arguments": {"code": "print(1)"}}


def test_arguments_that_are_no_json_are_handed_over_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    reply, _ = one(monkeypatch, MODEL, Step("as follows", tool=("python", "print(1)")))
    assert isinstance(reply, Reply), reply
    assert reply.text == "as follows"
    assert json.loads(reply.tool_call) == {"name": "python", "arguments": "print(1)"}


def test_a_refusal_in_its_own_field_is_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I will not."}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    for given, reason in (("stop", "refusal"), ("content_filter", "content_filter")):
        choice = {"index": 0, "message": message, "finish_reason": given}
        reply, _ = one(monkeypatch, MODEL, Step(raw=json.dumps({**body, "choices": [choice]}).encode()))
        assert isinstance(reply, Reply), reply
        assert (reply.text, reply.finish_reason) == ("I will not.", reason)


def test_details_of_usage_that_cannot_be_true_do_not_break_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    for cached in (-(10**9), 10**9):
        usage = {
            "prompt_tokens": 7,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        reply, ledger = one(monkeypatch, "openai/gpt-5-mini", Step("x", usage=usage))  # type: ignore[arg-type]
        assert isinstance(reply, Reply), reply
        assert ledger.spent.usd >= 0


@both
def test_no_retry_starts_after_the_deadline(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    failed, ledger = one(monkeypatch, model, rate_limited("3600"), timeout_s=5.0)
    assert isinstance(failed, CallFailed)
    assert "the rate limit was reached" in str(failed)
    assert "no time is left for another within 5 s" in str(failed)
    assert ledger.spent == Usage()
