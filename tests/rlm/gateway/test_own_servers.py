"""Servers of one's own that speak OpenAI's protocol."""

import pytest

from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.models import check_model
from rlm.gateway.types import Message, Reply, Request
from tests.helpers.gateway_calls import run
from tests.helpers.model_server import ModelServer


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
