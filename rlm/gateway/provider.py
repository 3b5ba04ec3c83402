"""The one place that touches litellm: import, model names, prices, the call itself, its errors, its clients.

litellm takes 2.8 s to import and would reach for the network while doing so; it is imported on first use,
with its downloads, retries, callbacks and printing turned off. Keys come from the environment alone.
"""

import asyncio
import atexit
import gc
import json
import logging
import os
import threading
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from rlm.gateway.errors import MissingKey, UnknownModel
from rlm.gateway.offline.registry import PREFIX, find_handler
from rlm.gateway.offline.registry import provider as offline_provider
from rlm.gateway.types import Request

# Servers that people run themselves: litellm lists them at no price or not at all, and their calls are free.
_LOCAL = frozenset({"offline", "ollama", "ollama_chat", "lm_studio", "llamafile"})
# The gateway keeps the deadline. litellm has a client, with its connections, for each timeout it is given: only one.
_TIMEOUT_S = 86_400.0
_HAVE_DEFAULT_ADDRESS = frozenset({"ollama", "ollama_chat"})

_lock = threading.Lock()
_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
_users: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = (
    WeakKeyDictionary()
)  # who has clients open on a loop
_module: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider sent back. Tokens are 0 where it reported none; `raw` is litellm's response.

    `tool_call`: as in `Reply`.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    raw: Any
    tool_call: str = ""


def litellm() -> Any:
    """The litellm module, imported and made quiet on the first call."""
    global _module
    with _lock:
        if _module is None:
            _module = _import()
    return _module


def check_model(model: str) -> None:
    """Raise `UnknownModel` or `MissingKey` if a call to this model cannot work. Calls nobody."""
    provider = provider_of(model)
    if provider == "offline":
        return
    found = litellm().validate_environment(model)
    if not found["keys_in_environment"] and provider not in _HAVE_DEFAULT_ADDRESS:
        keys = (" or " if provider == "gemini" else " and ").join(found["missing_keys"])
        raise MissingKey(f"model {model!r} needs {keys} in the environment")


def provider_of(model: str) -> str:
    """litellm's name for who serves a model, e.g. "openai". Raises `UnknownModel`."""
    if model.startswith(PREFIX):
        find_handler(model)
        return "offline"
    module = litellm()
    try:
        provider = module.get_llm_provider(model=model)[1]
    except module.exceptions.BadRequestError as error:
        raise UnknownModel(
            f"unknown model {model!r}: name it as litellm does, provider first, "
            f"such as openai/gpt-5-mini, ollama/llama3 or offline/extractive"
        ) from error
    return str(provider)


def price(model: str, prompt_tokens: int, completion_tokens: int, raw: Any = None) -> float | None:
    """Dollars for so many tokens by litellm's bundled price map; `None` for a model without a price there.

    With the provider's `raw` response, cached and reasoning tokens are priced as what they are.
    """
    if provider_of(model) in _LOCAL:
        return 0.0
    if not _is_priced(model):
        return None
    return sum(_costs(model, prompt_tokens, completion_tokens, getattr(raw, "usage", None)))


def window(model: str) -> int | None:
    """Input tokens a model takes, by litellm's bundled map; `None` where it is not said, and for `offline/`."""
    provider = provider_of(model)
    if provider == "offline":
        return None
    known = litellm().model_cost
    own = known.get(model.removeprefix(f"{provider}/"), {})
    entry = known.get(model) or (own if own.get("litellm_provider") == provider else {})
    tokens = entry.get("max_input_tokens")
    return tokens if isinstance(tokens, int) else None


def _is_priced(model: str) -> bool:
    """Whether the map has a price; litellm also answers 0 dollars where it knows nothing."""
    costs = _costs(model, 1000, 1000)
    return bool(costs) and (all(costs) or _is_listed_as_free(model))


def _is_listed_as_free(model: str) -> bool:
    entry = litellm().model_cost.get(model, {})
    return all(entry.get(name) == 0 for name in ("input_cost_per_token", "output_cost_per_token"))


def _costs(model: str, prompt_tokens: int, completion_tokens: int, usage: Any = None) -> list[float]:
    module = litellm()
    try:
        costs = module.cost_per_token(
            model=model, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, usage_object=usage
        )
    except getattr(module.exceptions, "ModelNotMappedError", Exception):  # a bare Exception in older versions
        return []
    return [float(cost) for cost in costs]


async def ask(request: Request) -> Answer:
    """Make one call, once, for as long as the caller lets it. Raises whatever litellm raises."""
    module = litellm()
    _forget_clients_of_dead_loops(module)
    _skip_callbacks()
    raw = await module.acompletion(
        model=request.model,
        messages=[dict(message) for message in request.messages],
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        timeout=_TIMEOUT_S,
        num_retries=0,
        max_retries=0,
        drop_params=True,  # reasoning models refuse any temperature but their own
    )
    return _answer(raw)


def open_clients() -> None:
    """Count one more user of the running event loop's connections, which all its users share."""
    loop = asyncio.get_running_loop()
    _users[loop] = _users.get(loop, 0) + 1


async def leave_clients() -> None:
    """Count one user less; the last closes the connections."""
    loop = asyncio.get_running_loop()
    _users[loop] -= 1
    await close_clients()


async def close_clients() -> None:
    """Close the connections that litellm holds open on the running event loop, unless somebody uses them."""
    if _module is not None and not _users.get(asyncio.get_running_loop()):
        for client in _take_clients(_module):
            await client.close()


def _skip_callbacks() -> None:
    """Tell litellm, where its version knows the flag, not to queue logging tasks that outlive the call."""
    if find_spec("litellm._internal_context") is not None:
        from litellm._internal_context import is_internal_call

        is_internal_call.set(True)


async def _no_second_request(*_: Any, **__: Any) -> None:
    """In place of litellm's own repeat of a request whose connection broke: raise the error being handled.

    The first request may have been billed; a repeat must pass the ledger first.
    """
    raise


def _import() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # its development mode reads keys from a .env file
    os.environ.setdefault("LITELLM_LOG", "CRITICAL")
    import litellm as module
    from litellm.llms.custom_httpx import http_handler

    # litellm builds its models when first used, and pydantic then warns of a type of theirs: nobody's business here.
    # And where a reply holds something else than the format says, which is judged here.
    for message in (
        "Item .* on TypedDict class .* is using the .ReadOnly. qualifier",
        "Pydantic serializer warnings",
    ):
        warnings.filterwarnings("ignore", message, UserWarning)
    module.disable_hf_tokenizer_download = True
    module.telemetry = False
    module.suppress_debug_info = True
    module.num_retries = 0
    module.disable_aiohttp_transport = True  # aiohttp sessions outlive their loop and complain
    http_handler.AsyncHTTPHandler.single_connection_post_request = _no_second_request
    module.custom_provider_map = [{"provider": "offline", "custom_handler": offline_provider()}]
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    atexit.register(
        gc.freeze
    )  # or the interpreter takes a second and more to go through litellm's objects at the end
    return module


def _answer(raw: Any) -> Answer:
    if not raw.choices:
        raise ValueError("the list of choices is empty")
    choice, usage = raw.choices[0], getattr(raw, "usage", None)
    text, reason = choice.message.content or "", choice.finish_reason or "stop"
    refusal = (getattr(choice.message, "provider_specific_fields", None) or {}).get("refusal")
    if refusal and not text:
        text, reason = refusal, reason if reason == "content_filter" else "refusal"
    if not isinstance(text, str):
        raise ValueError("the content is not text")
    prompt, completion = (_reported(usage, f"{kind}_tokens") for kind in ("prompt", "completion"))
    return Answer(text, str(reason), prompt, completion, raw, _tool_calls(choice.message))


def _reported(usage: Any, name: str) -> int:
    """A count as the provider gave it; 0 for what is no count."""
    value = getattr(usage, name, 0)
    return value if isinstance(value, int) and value > 0 else 0


def _tool_calls(message: Any) -> str:
    called = [call.function for call in message.tool_calls or []] or [message.function_call]
    lines = [{"name": f.name or "", "arguments": _parsed(f.arguments or "")} for f in called if f]
    return "\n".join(json.dumps(line) for line in lines)


def _parsed(arguments: str) -> Any:
    """Arguments are JSON in a text, when the model keeps to it."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _take_clients(module: Any) -> list[Any]:
    """Remove and return the clients litellm keeps for the running loop; its keys end with the loop's id."""
    kept = module.in_memory_llm_clients_cache.cache_dict
    suffix = f"-{id(asyncio.get_running_loop())}"
    return [kept.pop(key) for key in list(kept) if str(key).endswith(suffix)]


def _forget_clients_of_dead_loops(module: Any) -> None:
    """A new loop can have a dead one's id, and would be handed connections that died with it."""
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        _loops.add(loop)
        _take_clients(module)
