"""litellm: imported on first use, made quiet, and kept from sending a request twice. No other module imports it.

It takes 2.8 s to import and would reach for the network while doing so; its downloads, retries, callbacks and
printing are turned off. Keys come from the environment alone.

litellm keeps its settings in its module, for the whole process, and the program that we run in may have its own. So
ours hold in our calls alone: there a setting reads as ours, and everywhere else as it was left. A context variable
says where.
"""

import atexit
import gc
import importlib
import os
import pkgutil
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from types import ModuleType
from typing import Any

from rlm.gateway.errors import GatewayError
from rlm.gateway.offline import PREFIX
from rlm.gateway.tokens import environment
from rlm.gateway.usage import counts_mended

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
    "litellm:_custom_providers",
    "litellm:in_memory_llm_clients_cache.cache_dict",
    "litellm._internal_context:is_internal_call",
)

#: Of a response; the longest reply of any model has a tenth of it.
MOST_BYTES = 16 << 20
_SHOWN_BYTES = 80  # of a response that is no JSON
_OF_THE_WIRE = (b"content-encoding", b"content-length", b"transfer-encoding")
#: Names of our clients in litellm's cache begin so: no others are taken, or closed.
CLIENT = "raptor-rlm "
_ours: ContextVar[list[bytes] | None] = ContextVar("a call of ours", default=None)
_lock = threading.Lock()
_module: Any = None


def litellm() -> Any:
    """The litellm module. The first call imports it, and raises GatewayError for a version that cannot be used."""
    global _module
    with _lock:
        if _module is None:
            _module = _import()
    return _module


def warm_up(*models: str) -> None:
    """Import litellm now, where one of the models needs it: before a clock starts that its import should not count in.

    Raises like `litellm`.
    """
    if not all(model.startswith(PREFIX) for model in models):
        litellm()


def _import() -> Any:
    with (
        _uncollected(),
        environment(
            LITELLM_LOCAL_MODEL_COST_MAP="True",
            LITELLM_MODE=os.environ.get(
                "LITELLM_MODE", "PRODUCTION"
            ),  # its development mode reads keys from a .env file
        ),
    ):
        module: Any = importlib.import_module("litellm")
    _check()
    _hold_to_one_request()
    _hold_clients()
    _keep_apart(module)
    _ignore_warnings()
    # or the interpreter takes a second and more to go through litellm's objects at the end
    atexit.register(gc.freeze)
    return module


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage is collected in this block: an import makes objects that stay, and going through them again and again
    would take a seventh of its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


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


def _hold_to_one_request() -> None:
    """Let litellm not repeat a request of ours whose connection broke, but raise the error being handled.

    The first request may have been billed; a repeat must pass the ledger first.
    """
    name, _, method = _RESEND.rpartition(".")
    owner = pkgutil.resolve_name(name)
    resend = getattr(owner, method)

    async def held(*args: Any, **options: Any) -> Any:
        if _ours.get() is not None:
            raise
        return await resend(*args, **options)

    if not hasattr(resend, "is_held"):
        setattr(held, "is_held", True)  # noqa: B010 (functions are not typed to have it)
        setattr(owner, method, held)


@contextmanager
def our_settings(bodies: list[bytes] | None = None) -> Iterator[None]:
    """litellm's settings are ours in this block and in tasks begun in it, requests go to no other server than they were
    made for, and a response of more than MOST_BYTES ends them. The body of each request is added to `bodies`."""
    token = _ours.set([] if bodies is None else bodies)
    try:
        yield
    finally:
        _ours.reset(token)


def _keep_apart(module: Any) -> None:
    """Let the settings below read as ours in our calls. What others set, and read, stays in the module."""
    settings: dict[str, Callable[[], Any]] = {
        "num_retries": lambda: 0,
        "custom_provider_map": list,  # none: a handler of others may send what it likes, and twice
        "_custom_providers": list,
        "suppress_debug_info": lambda: True,
        "disable_hf_tokenizer_download": lambda: True,
        "disable_aiohttp_transport": lambda: True,  # aiohttp sessions outlive their loop and complain
        "in_memory_llm_clients_cache": lambda: _OwnClients(module),
    }
    kind = type(module)
    if not issubclass(kind, _Apart):
        names = {name: _setting(name, ours) for name, ours in settings.items()}
        module.__class__ = type("_LiteLLM", (_Apart, kind), names)


class _Apart(ModuleType):
    """litellm with settings that read as ours in our calls."""


def _setting(name: str, ours: Callable[[], Any]) -> property:
    def read(module: ModuleType) -> Any:
        if _ours.get() is not None:
            return ours()
        if name not in vars(module):
            raise AttributeError(name)  # the module may make it when it is first asked for
        return vars(module)[name]

    def write(module: ModuleType, value: Any) -> None:
        vars(module)[name] = value

    def delete(module: ModuleType) -> None:
        if name not in vars(module):
            raise AttributeError(name)
        del vars(module)[name]

    return property(read, write, delete)


class _OwnClients:
    """litellm's cache of clients, under names of our own: ours differ from others', and so does who closes them."""

    def __init__(self, module: Any) -> None:
        self._cache = as_left(module, "in_memory_llm_clients_cache")

    def get_cache(self, key: str, *args: Any, **options: Any) -> Any:
        return self._cache.get_cache(CLIENT + key, *args, **options)

    def set_cache(self, key: str, value: Any, *args: Any, **options: Any) -> Any:
        return self._cache.set_cache(CLIENT + key, value, *args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def as_left(module: Any, name: str) -> Any:
    """A setting of litellm as it was left, whoever asks."""
    token = _ours.set(None)
    try:
        return getattr(module, name)
    finally:
        _ours.reset(token)


def _hold_clients() -> None:
    """Let httpx, with which all of litellm's providers send, follow no redirect and read no endless response for us.

    Redirected, a request and its documents would go to a host that nobody chose, or twenty times, and one was reserved.
    A page where a reply should be is told of here: what litellm makes of it hangs on the provider, and says no address.
    """
    import httpx

    class UnreadableResponse(httpx.RemoteProtocolError):
        """A response of which no more is read, or that is no JSON."""

    send = httpx.AsyncClient.send
    if hasattr(send, "is_held"):
        return

    async def held(client: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        bodies = _ours.get()
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
                    raise UnreadableResponse(f"the response has more than {MOST_BYTES:,} bytes")
        finally:
            await response.aclose()
        headers = [pair for pair in response.headers.raw if pair[0].lower() not in _OF_THE_WIRE]
        whole = httpx.Response(
            response.status_code,
            headers=headers,
            content=counts_mended(b"".join(parts)),
            request=response.request,
            extensions=response.extensions,
        )
        whole.elapsed = response.elapsed
        begins = " ".join(whole.content[:_SHOWN_BYTES].decode("utf-8-sig", "replace").split())
        if whole.is_success and not begins.startswith(("{", "[")) and begins:
            raise UnreadableResponse(f"it is no JSON and begins with {begins!r}; look at the model's address")
        return whole

    setattr(held, "is_held", True)  # noqa: B010 (functions are not typed to have it)
    setattr(httpx.AsyncClient, "send", held)  # noqa: B010  (its type is narrower)


def _ignore_warnings() -> None:
    # litellm builds its models when first used, and pydantic then warns of a type of theirs: nobody's business here.
    # And where a reply holds something else than the format says, which is judged here.
    for message in (
        "Item .* on TypedDict class .* is using the .ReadOnly. qualifier",
        "Pydantic serializer warnings",
    ):
        warnings.filterwarnings("ignore", message, UserWarning)
    # It makes this coroutine before the task that awaits it; where a call is cancelled between, nobody does.
    warnings.filterwarnings("ignore", r"coroutine '.*\.acompletion' was never awaited", RuntimeWarning)
