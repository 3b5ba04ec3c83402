"""litellm: imported on first use, made quiet, and kept from sending a request twice. No other module imports it.

It takes 2.8 s to import and would reach for the network while doing so; its downloads, retries, callbacks and
printing are turned off. Keys come from the environment alone.
"""

import atexit
import gc
import importlib
import logging
import os
import pkgutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any

from rlm.gateway.errors import GatewayError
from rlm.gateway.offline.registry import litellm_handler

#: The versions that the gateway's tests pass with, as in pyproject.toml: run with 1.100.0, 1.106.2 and 1.106.12. 1.96
#: shows a refusal of Anthropic's (403) as a fault that passes (500), so that it is sent again. 1.108 renamed the method
#: by which litellm repeats a broken request, and moved a model's refusal to another field of the response.
SUPPORTED = "litellm>=1.100,<1.108"

_RESEND = "litellm.llms.custom_httpx.http_handler:AsyncHTTPHandler.single_connection_post_request"
#: What the gateway sets, replaces, or reads though litellm does not document it. Where one is missing, setting it
#: would have no effect and no error.
RELIED_ON = (
    _RESEND,
    "litellm:num_retries",
    "litellm:custom_provider_map",
    "litellm:disable_hf_tokenizer_download",
    "litellm:disable_aiohttp_transport",
    "litellm:suppress_debug_info",
    "litellm:in_memory_llm_clients_cache.cache_dict",
    "litellm._internal_context:is_internal_call",
)

#: Of a response; the longest reply of any model has a tenth of it.
MOST_BYTES = 16 << 20
_OF_THE_WIRE = (b"content-encoding", b"content-length", b"transfer-encoding")
_held: ContextVar[list[bytes] | None] = ContextVar("held to its server", default=None)
_lock = threading.Lock()
_module: Any = None


def litellm() -> Any:
    """The litellm module. The first call imports it, and raises GatewayError for a version that cannot be used."""
    global _module
    with _lock:
        if _module is None:
            _module = _import()
    return _module


def warm_up() -> None:
    """Import litellm now, before a clock starts that its import should not count in. Raises like `litellm`."""
    litellm()


def _import() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # its development mode reads keys from a .env file
    os.environ.setdefault("LITELLM_LOG", "CRITICAL")
    module: Any = importlib.import_module("litellm")
    _check()
    _hold_to_one_request(module)
    _quieten(module)
    module.custom_provider_map = [{"provider": "offline", "custom_handler": litellm_handler(module)}]
    # or the interpreter takes a second and more to go through litellm's objects at the end
    atexit.register(gc.freeze)
    return module


def _check() -> None:
    missing = [name for name in RELIED_ON if not _exists(name)]
    if missing:
        raise GatewayError(
            f"litellm {version('litellm')} has no {', '.join(missing)}, which the gateway must change to keep every "
            f'request within its budget; install a version that was tested: pip install "{SUPPORTED}"'
        )


def _exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def _hold_to_one_request(module: Any) -> None:
    module.num_retries = 0
    owner, _, method = _RESEND.rpartition(".")
    setattr(pkgutil.resolve_name(owner), method, _no_second_request)
    _hold_clients()


async def _no_second_request(*_: Any, **__: Any) -> None:
    """In place of litellm's own repeat of a request whose connection broke: raise the error being handled.

    The first request may have been billed; a repeat must pass the ledger first.
    """
    raise


@contextmanager
def held_to_its_server(bodies: list[bytes]) -> Iterator[None]:
    """Requests in this block, and in tasks begun in it, go to no other server than they were made for, and a response
    of more than MOST_BYTES ends them. The body of each is added to `bodies` as it goes out."""
    token = _held.set(bodies)
    try:
        yield
    finally:
        _held.reset(token)


def _hold_clients() -> None:
    """Let httpx, with which all of litellm's providers send, follow no redirect and read no endless response for us.

    Redirected, a request and its documents would go to a host that nobody chose, or twenty times, and one was reserved.
    """
    import httpx

    send = httpx.AsyncClient.send

    async def held(client: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        bodies = _held.get()
        if bodies is None:
            return await send(client, request, stream=stream, **options)
        bodies.append(getattr(request, "_content", b""))  # absent where it is streamed
        response = await send(client, request, stream=True, **options | {"follow_redirects": False})
        return response if stream else await _read(response)

    async def _read(response: Any) -> Any:
        parts, size = [], 0
        try:
            async for part in response.aiter_bytes():
                parts.append(part)
                if (size := size + len(part)) > MOST_BYTES:
                    raise httpx.RemoteProtocolError(f"the response has more than {MOST_BYTES:,} bytes")
        finally:
            await response.aclose()
        headers = [pair for pair in response.headers.raw if pair[0].lower() not in _OF_THE_WIRE]
        whole = httpx.Response(
            response.status_code,
            headers=headers,
            content=b"".join(parts),
            request=response.request,
            extensions=response.extensions,
        )
        whole.elapsed = response.elapsed
        return whole

    setattr(httpx.AsyncClient, "send", held)  # noqa: B010  (its type is narrower)


def _quieten(module: Any) -> None:
    # litellm builds its models when first used, and pydantic then warns of a type of theirs: nobody's business here.
    # And where a reply holds something else than the format says, which is judged here.
    for message in (
        "Item .* on TypedDict class .* is using the .ReadOnly. qualifier",
        "Pydantic serializer warnings",
    ):
        warnings.filterwarnings("ignore", message, UserWarning)
    # It makes this coroutine before the task that awaits it; where a call is cancelled between, nobody does.
    warnings.filterwarnings("ignore", r"coroutine '.*\.acompletion' was never awaited", RuntimeWarning)
    module.disable_hf_tokenizer_download = True
    module.telemetry = False  # gone in 1.106, and with it what it turned off
    module.suppress_debug_info = True
    module.disable_aiohttp_transport = True  # aiohttp sessions outlive their loop and complain
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
