"""The beginning of a prompt that a provider is asked to keep: where the marks stand, what is reserved, what is paid."""

from typing import Any

import pytest

from index_store.index import Index
from rlm import Models, ask, prompts
from rlm.audit.timeline import show
from rlm.commands.answers import as_text
from rlm.gateway.errors import OverBudget
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.models import highest_price, price, takes_marks
from rlm.gateway.types import Message, Reply, Request, Usage
from tests.helpers.gateway_calls import about, run
from tests.helpers.model_server import MODEL, Body, ModelServer, Step, text_of
from tests.helpers.recorded import DONE, cell, events_of

CLAUDE = "anthropic/claude-sonnet-4-5"
#: Dollars for a token of this model: read, kept for later, read from what was kept, written.
READ, KEPT, AGAIN, WRITTEN = 3e-6, 3.75e-6, 0.3e-6, 15e-6
MARK = {"type": "ephemeral"}


def talk(*contents: str) -> tuple[Message, ...]:
    """A system message, then turns of the user and the assistant."""
    roles = ["system", *["user", "assistant"] * len(contents)]
    return tuple(Message(role=role, content=text) for role, text in zip(roles, contents, strict=False))  # type: ignore[typeddict-item]


def marked(body: Body) -> list[str]:
    """The texts that carry a mark, in the order in which a provider reads them."""
    system: Any = body.get("system", [])
    parts = [*system, *(part for message in body["messages"] for part in message["content"])]
    parts = [part for part in parts if isinstance(part, dict)]
    assert all(part["cache_control"] == MARK for part in parts if "cache_control" in part)
    return [part["text"] for part in parts if "cache_control" in part]


@pytest.mark.parametrize(
    ("contents", "places"),
    [
        (["be brief", "first"], ["be brief"]),
        (["be brief", "first", "reply", "second"], ["be brief", "first", "second"]),
        (["be brief", "first", "reply", "second", "reply 2", "third"], ["be brief", "second", "third"]),
        (["be brief", "first", "reply", " "], ["be brief", "first"]),
    ],
    ids=["one call", "a turn", "two turns", "nothing new"],
)
def test_marks_end_what_was_sent_before_and_what_the_next_call_sends_again(
    contents: list[str], places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(["yes"]) as server:
        server.use(monkeypatch)
        messages = talk(*contents)
        (reply,) = run(Gateway(Ledger()), Request(CLAUDE, messages, 10))
        assert isinstance(reply, Reply), reply
        (body,) = server.requests
    assert marked(body) == places
    assert messages == talk(*contents)  # the marks are the provider's alone


def test_models_of_others_are_sent_texts_without_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer(["yes"]) as server:
        server.use(monkeypatch)
        run(Gateway(Ledger()), Request(MODEL, talk("be brief", "first", "reply", "second"), 10))
        assert all(isinstance(message["content"], str) for message in server.requests[0]["messages"])
    assert takes_marks("bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0") and takes_marks(
        "vertex_ai/claude-sonnet-4-5"
    )
    others = ("openai/gpt-5-mini", "offline/reader", "anthropic/claude-that-nobody-knows")
    assert not any(map(takes_marks, others))


def test_what_was_kept_is_paid_as_such_and_the_full_price_is_set_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 5}
    kept = Step("yes", usage=usage | {"cache_creation_input_tokens": 1_000, "cache_read_input_tokens": 0})
    again = Step("yes", usage=usage | {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 1_000})
    request = Request(CLAUDE, talk("be brief " * 600, "first"), 10)
    gateway = Gateway(Ledger(Caps(usd=1.0)))
    with ModelServer([kept, again]) as server:
        server.use(monkeypatch)
        first, second = (run(gateway, request)[0] for _ in range(2))
    assert isinstance(first, Reply) and isinstance(second, Reply)
    assert first.usage == Usage(1, 1_100, 5, about(100 * READ + 1_000 * KEPT + 5 * WRITTEN))
    assert second.usage == Usage(1, 1_100, 5, about(100 * READ + 1_000 * AGAIN + 5 * WRITTEN))
    assert (first.served.cached_tokens, second.served.cached_tokens) == (0, 1_000)
    worst = gateway.worst(request)
    assert worst.usd == about(worst.prompt_tokens * KEPT + 10 * WRITTEN)  # whatever was kept before
    assert worst.usd > first.usage.usd > second.usage.usd
    with ModelServer([again]) as server:
        server.use(monkeypatch)
        (refused,) = run(Gateway(Ledger(Caps(usd=worst.usd * 0.99))), request)
        assert isinstance(refused, OverBudget) and server.calls == 0


def test_where_nothing_is_marked_the_highest_price_is_the_price() -> None:
    assert highest_price("openai/gpt-5-mini", 1_000, 10) == price("openai/gpt-5-mini", 1_000, 10)
    assert highest_price("openai/no-such-price", 1_000, 10) is None
    assert highest_price(CLAUDE, 1_000, 10) == about(1_000 * KEPT + 10 * WRITTEN)


def test_a_run_sends_marks_tells_of_cached_tokens_and_has_no_mark_in_its_trace(
    index: Index, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [
        cell("print(llm_query('How many?', nodes=['L0-00000']))"),
        cell("print(context.read('L0-00001'))"),
        cell(DONE),
    ]

    def play(body: Body) -> Step:
        is_sub_call = text_of(body["system"]) == prompts.SUB_CALL
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        usage = {"prompt_tokens": 300, "completion_tokens": 20, "cache_creation_input_tokens": 200}
        return Step(
            "two" if is_sub_call else cells[turn], usage=usage | {"cache_read_input_tokens": 1_500 * turn}
        )

    with ModelServer(play) as server:
        server.use(monkeypatch)
        answer = ask(index, "How many masts?", route="rlm", models=Models(CLAUDE), runs=tmp_path, memo=False)
        counts = [len(marked(body)) for body in server.requests]
        last = server.requests[-1]
    assert counts == [1, 1, 3, 3]
    assert marked(last)[0] == prompts.system(CLAUDE)
    assert (answer.cached_tokens, answer.as_json()["usage"]["cached_tokens"]) == (4_500, 4_500)  # type: ignore[index,call-overload]
    assert "tokens (4,500 of them cached), $" in as_text(answer)
    events = events_of(answer.trace)
    assert "Had before: 4,500 tokens cached by the provider" in show(events)
    assert "cache_control" not in (answer.trace / "trace.jsonl").read_text()
