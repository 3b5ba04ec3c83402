"""What a hostile server sends back: keys, other addresses, bodies without end, times and counts that nobody means."""

import asyncio
import html
from dataclasses import asdict

import pytest

from rlm.gateway import gateway as gateway_module
from rlm.gateway.embeddings import embedding_request
from rlm.gateway.errors import CallFailed
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.gateway.litellm_setup import MOST_BYTES
from rlm.gateway.types import Reply, Request
from tests.helpers.gateway_calls import run
from tests.helpers.model_server import MODEL, ModelServer, Step, dripping, error

KEY = 'sk-proj-Zq9&x/Kw+"83hTb'


def asked(server: ModelServer, monkeypatch: pytest.MonkeyPatch, attempts: int = 1) -> Reply:
    server.use(monkeypatch)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    async def ask() -> Reply:
        async with Gateway(Ledger(), attempts=attempts) as gateway:
            return await gateway.complete(Request(MODEL, ({"role": "user", "content": "?"},), 5))

    return asyncio.run(ask())


def test_a_reply_that_repeats_the_key_is_taken_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer([f"your key is {KEY}, is it not?"]) as server:
        assert asked(server, monkeypatch).text == "your key is [value of OPENAI_API_KEY], is it not?"


@pytest.mark.parametrize("written", [html.escape(KEY), KEY.lower(), KEY.upper()])
def test_an_error_that_repeats_the_key_in_another_form_is_told_without_it(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    with ModelServer([error(401, f"bad key {written} here")]) as server, pytest.raises(CallFailed) as told:
        asked(server, monkeypatch)
    assert written not in str(told.value) and "[value of OPENAI_API_KEY]" in str(told.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_request_is_not_taken_to_another_server_nor_sent_twice(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with ModelServer(["from elsewhere"]) as other:
        there = Step(status=status, headers={"location": f"{other.base_url}/chat/completions"})
        with ModelServer([there]) as server, pytest.raises(CallFailed):
            asked(server, monkeypatch)
        assert (server.calls, other.calls) == (1, 0)


def test_a_response_that_is_too_long_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    long = Step(raw=b" " * (MOST_BYTES + 1))
    with ModelServer([long]) as server, pytest.raises(CallFailed):
        asked(server, monkeypatch)


PAGE = Step(raw=b"<!DOCTYPE html>\n<p>\x1b[31mWelcome</p>", headers={"content-type": "text/html"})
ELSEWHERE = Step(status=307, raw=b"", headers={"location": "https://elsewhere.example/v1"})


@pytest.mark.parametrize(
    "request_",
    [
        Request(MODEL, ({"role": "user", "content": "?"},), 5),
        Request("anthropic/claude-sonnet-4-5", ({"role": "user", "content": "?"},), 5),
        embedding_request("litellm/openai/text-embedding-3-small", ["car"]),
        embedding_request("litellm/hosted_vllm/m", ["car"]),
    ],
    ids=lambda request: request.model,
)
@pytest.mark.parametrize(
    ("step", "told"),
    [
        (
            PAGE,
            r"it is no JSON and begins with '<!DOCTYPE html> <p>\x1b[31mWelcome</p>'; look at the model's address",
        ),
        (
            ELSEWHERE,
            "redirects to 'https://elsewhere.example/v1', which is not followed; look at the model's address",
        ),
    ],
    ids=["a page", "a redirect"],
)
def test_what_answers_at_a_wrong_address_is_told_of_by_whichever_client_asks(
    monkeypatch: pytest.MonkeyPatch, request_: Request, step: Step, told: str
) -> None:
    with ModelServer([step]) as server:
        server.use(monkeypatch)
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", server.base_url)
        (failed,) = run(Gateway(Ledger(), attempts=1), request_)
    assert told in str(failed)


def test_an_embedding_that_drips_without_end_is_a_failed_attempt_that_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each byte came in time for the next, so that a search waited until the end of all attempts."""
    monkeypatch.setattr(gateway_module, "backoff_s", lambda attempt: 0.005)
    with ModelServer([dripping()]) as server:
        server.use(monkeypatch)
        gateway = Gateway(Ledger(), timeout_s=20, embedding_s=0.2, attempts=2)
        (failed,) = run(gateway, embedding_request("litellm/openai/text-embedding-3-small", ["car"]))
    assert "failed after 2 attempts: the provider did not answer in time" in str(failed)


def test_a_time_zone_beyond_all_clocks_is_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    late = error(429, "later", retry_after="Wed, 21 Oct 2015 07:28:00 +99999999999999")
    with ModelServer([late, "after it"]) as server:
        assert asked(server, monkeypatch, attempts=2).text == "after it"


@pytest.mark.parametrize("tokens", [10**18, 10**400])
def test_tokens_that_nobody_can_mean_are_counted_here(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 1}
    with ModelServer([Step("two words", usage)]) as server:
        assert max(asdict(asked(server, monkeypatch).usage).values()) < 100
