"""The program that we run in may use litellm, httpx and logging too: it finds all of them as it left them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import rlm
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.gateway.litellm_setup import litellm, our_settings
from rlm.gateway.types import Request
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.rlm_toy import embedded, warm_up
from tests.helpers.toy import toy_index

OURS = Request(MODEL, ({"role": "user", "content": "ours"},), 50)
#: What another program may have set; and what litellm adds to of itself.
SETTINGS = frozenset(
    {
        *(
            "num_retries",
            "drop_params",
            "suppress_debug_info",
            "disable_hf_tokenizer_download",
            "set_verbose",
        ),
        *(
            "disable_aiohttp_transport",
            "telemetry",
            "custom_provider_map",
            "_custom_providers",
            "provider_list",
        ),
        *("callbacks", "success_callback", "failure_callback", "input_callback", "_async_success_callback"),
        *("_async_failure_callback", "modify_params", "aclient_session", "cache", "max_tokens"),
    }
)


def settings() -> dict[str, Any]:
    """The module's own settings, lists as they are now, not as they will be."""
    given = vars(litellm())
    return {
        name: list(given[name]) if isinstance(given[name], list) else given[name]
        for name in SETTINGS
        if name in given
    }


def loggers() -> dict[str, tuple[int, list[logging.Handler], list[Any], bool]]:
    """The logging tree: what each logger that is there does."""
    root = logging.getLogger()
    known = {
        name: logging.getLogger(name)
        for name in ("", "LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "httpx", "openai")
    }
    return {
        name: (logger.level, list(logger.handlers), list(logger.filters), logger.propagate)
        for name, logger in (known | {"root": root}).items()
    }


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """litellm as another program has set it."""
    module = litellm()
    called: list[str] = []
    monkeypatch.setattr(module, "num_retries", 3)
    monkeypatch.setattr(module, "suppress_debug_info", False)
    monkeypatch.setattr(module, "drop_params", False)
    monkeypatch.setattr(module, "disable_aiohttp_transport", False)
    monkeypatch.setattr(module, "custom_provider_map", [{"provider": "theirs", "custom_handler": object()}])
    monkeypatch.setattr(module, "_custom_providers", ["theirs"])
    monkeypatch.setattr(module, "provider_list", [*module.provider_list, "theirs"])
    monkeypatch.setattr(module, "success_callback", [lambda *_: called.append("success")])
    yield module


def test_a_question_leaves_the_settings_and_loggers_of_others_as_they_were(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm_up()
    embedded(monkeypatch)
    index = toy_index(tmp_path / "toy.index")
    before, tree = settings(), loggers()
    answer = rlm.ask(index, "How many masts has the ketch?", runs=tmp_path / "runs")
    assert answer.stop == "answer"
    assert settings() == before
    assert loggers() == tree
    assert all(isinstance(h, logging.NullHandler) for h in logging.getLogger("rlm").handlers)
    assert logging.getLogger("rlm").level == logging.NOTSET


def test_a_call_of_ours_has_our_settings_and_one_beside_it_has_its_own(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both on one event loop, at the same time, and each with clients of its own, which ours does not close."""
    seen: list[tuple[Any, ...]] = []
    names = ("num_retries", "suppress_debug_info", "disable_aiohttp_transport")

    async def theirs(begun: asyncio.Event) -> str:
        begun.set()
        for _ in range(3):
            seen.append(tuple(getattr(host, name) for name in names))
            await asyncio.sleep(0.01)
        reply = await host.acompletion(
            model=MODEL, messages=[{"role": "user", "content": "theirs"}], max_tokens=5
        )
        return str(reply.choices[0].message.content)

    async def both() -> tuple[str, int]:
        begun = asyncio.Event()
        task = asyncio.create_task(theirs(begun))
        await begun.wait()
        async with Gateway(Ledger()) as gateway:
            await gateway.complete(OURS)
            first = await task
        keys = [str(key) for key in host.in_memory_llm_clients_cache.cache_dict]
        again = await host.acompletion(
            model=MODEL, messages=[{"role": "user", "content": "theirs"}], max_tokens=5
        )
        assert again.choices[0].message.content == "ok"
        return first, sum(key.startswith("raptor-rlm ") for key in keys)

    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        before = settings()
        assert asyncio.run(both()) == ("ok", 0)
        assert server.calls == 3
    assert set(seen) == {(3, False, False)}
    assert settings() == before
    with our_settings():
        assert tuple(getattr(host, name) for name in names) == (0, True, True)
    host.num_retries = 7  # what is set is what is read
    assert host.num_retries == 7


def test_a_host_follows_redirects_by_its_own_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    litellm()

    async def words() -> AsyncIterator[bytes]:
        yield b"there"

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/a":
            return httpx.Response(302, headers={"location": "/b"}, content=words())
        return httpx.Response(200, content=words())

    async def get(*, ours: bool) -> int:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), follow_redirects=True) as client:
            if ours:
                with our_settings():
                    return (await client.get("http://h/a")).status_code
            return (await client.get("http://h/a")).status_code

    assert asyncio.run(get(ours=False)) == 200
    assert asyncio.run(get(ours=True)) == 302


def test_an_await_of_ours_leaves_nothing_behind_in_the_task_that_made_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def asked() -> bool:

        async with Gateway(Ledger()) as gateway:
            await gateway.complete(OURS)
        return bool(litellm()._internal_context.is_internal_call.get())

    with ModelServer(["ok"]) as server:
        server.use(monkeypatch)
        assert asyncio.run(asked()) is False
