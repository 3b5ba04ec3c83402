"""The page "adding a model provider" of CONTRIBUTING.md, run: a model that answers without a network."""

import pytest

from rlm.gateway.blocks import Block, quote, unquote
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.models import check_model, price
from rlm.gateway.offline.registry import register_offline
from rlm.gateway.types import Message, Reply, Request
from tests.helpers.gateway_calls import run
from tests.helpers.model_server import ModelServer


def first_line(messages: list[Message], max_tokens: int) -> str:
    """The first line of the first document in the prompt."""
    blocks = unquote(messages[-1]["content"])
    return blocks[0].text.partition("\n")[0] if blocks else "NOT FOUND"


def test_a_function_is_a_model_that_costs_nothing_and_is_counted() -> None:
    register_offline("first-line", first_line)
    check_model("offline/first-line")
    assert price("offline/first-line", 1000, 1000) == 0
    prompt = "What is it called?\n" + quote(
        [Block("story.txt 0-30", "The Happy Prince\nHigh above the city")]
    )
    ledger = Ledger(Caps(usd=0, tokens=2000))
    (reply,) = run(Gateway(ledger), Request("offline/first-line", (Message(role="user", content=prompt),)))
    assert isinstance(reply, Reply), reply
    assert (reply.text, reply.finish_reason) == ("The Happy Prince", "stop")
    assert ledger.spent == reply.usage
    assert (reply.usage.calls, reply.usage.usd, reply.usage.completion_tokens) == (1, 0.0, 3)


def test_a_server_that_speaks_openais_protocol_is_named_and_needs_no_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ModelServer(["Paris"]) as server:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", server.base_url)
        check_model("hosted_vllm/some-model")
        question = Message(role="user", content="What is the capital of France?")
        (reply,) = run(Gateway(Ledger(Caps(tokens=2000))), Request("hosted_vllm/some-model", (question,)))
    assert isinstance(reply, Reply), reply
    assert (reply.text, server.calls) == ("Paris", 1)
