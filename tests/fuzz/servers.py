"""Model servers that answer with anything: each call has a reply, or an error that says why there is none."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlm.audit.kinds import ModelAnswered
from rlm.audit.log import Trace
from rlm.gateway import gateway as gateway_module
from rlm.gateway.errors import GatewayError
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps, Ledger
from rlm.gateway.types import Message, Reply, Request
from tests.fuzz.mutate import mutated_bytes, mutated_json
from tests.fuzz.target import Target
from tests.helpers.audit_sample import opening
from tests.helpers.gateway_calls import run
from tests.helpers.model_server import MODEL, ModelServer, Step
from tests.helpers.rlm_toy import warm_up

BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "test-model",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "A reply.",
                "tool_calls": [
                    {
                        "id": "1",
                        "type": "function",
                        "function": {"name": "python", "arguments": '{"code": "1"}'},
                    }
                ],
                "refusal": None,
            },
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
ERROR: dict[str, Any] = {
    "error": {"message": "slow down", "type": "x", "param": None, "code": "rate_limited"}
}
WORDS = (
    b"{",
    b"[" * 2_000,
    b"9" * 5_000,
    b"NaN",
    b"Infinity",
    b"\\ud800",
    b"\xff",
    b"\0",
    b"null",
    b'"choices":[],',
)
REQUEST = Request(MODEL, (Message(role="user", content="three short words"),), 50)


def drawn(rng: random.Random) -> list[Step]:
    """What the server answers, call by call."""
    return [_step(rng) for _ in range(3)]


def _step(rng: random.Random) -> Step:
    status = rng.choice([200, 200, 200, 400, 401, 429, 500])
    body = mutated_json(rng, BODY if status == 200 else ERROR)
    try:
        raw = json.dumps(body).encode()
    except (ValueError, RecursionError):  # JSON has no words for it
        raw = b"[" * 3_000
    return Step(status=status, raw=mutated_bytes(rng, raw, WORDS) if rng.random() < 0.3 else raw)


@contextmanager
def servers(folder: Path) -> Iterator[Target]:
    """A gateway under caps, and a server on loopback that answers with bodies of any kind."""
    warm_up()

    def check(steps: list[Step]) -> None:
        with pytest.MonkeyPatch.context() as patch, ModelServer(list(steps)) as server:
            server.use(patch)
            patch.setattr(gateway_module, "backoff_s", lambda attempt: 0.001)
            ledger = Ledger(Caps(tokens=1_000, calls=20))
            (answer,) = run(Gateway(ledger, attempts=3), REQUEST)
        assert isinstance(answer, Reply | GatewayError), answer
        assert not ledger.reserved.calls
        if isinstance(answer, Reply):
            _record(answer)
        else:
            assert "\n" not in str(answer) and len(str(answer)) < 2_000, str(answer)[:4_000]

    def _record(reply: Reply) -> None:
        (folder / "trace.jsonl").unlink(missing_ok=True)
        with Trace.open(folder) as trace:
            trace.record("0", opening("?"))
            answered = ModelAnswered(
                call=1,
                model=MODEL,
                text=reply.text,
                usage=reply.usage,
                finish_reason=reply.finish_reason,
                seconds=reply.seconds,
                cached=False,
            )
            trace.record("0", answered)

    yield Target(drawn, check, deadline_s=60)
