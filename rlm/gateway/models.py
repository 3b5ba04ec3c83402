"""What is known of a model by its name: who serves it, which key it needs, what it costs, how much it reads."""

from typing import Any

from rlm.gateway.errors import MissingKey, UnknownModel
from rlm.gateway.litellm_setup import litellm, our_settings
from rlm.gateway.offline.registry import PREFIX, find_handler

# Servers that people run themselves: litellm lists them at no price or not at all, and their calls are free.
_LOCAL = frozenset({"offline", "ollama", "ollama_chat", "lm_studio", "llamafile"})
_HAVE_DEFAULT_ADDRESS = frozenset({"ollama", "ollama_chat"})


@our_settings()
def check_model(model: str) -> None:
    """Raise `UnknownModel` or `MissingKey` if a call to this model cannot work. Sends nothing."""
    provider = provider_of(model)
    if provider == "offline":
        return
    environment = litellm().validate_environment(model)
    if not environment["keys_in_environment"] and provider not in _HAVE_DEFAULT_ADDRESS:
        keys = (" or " if provider == "gemini" else " and ").join(environment["missing_keys"])
        raise MissingKey(f"model {model!r} needs {keys} in the environment")


@our_settings()
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

    With `raw`, litellm's response, cached and reasoning tokens are priced as what they are. Raises `UnknownModel`.
    """
    if provider_of(model) in _LOCAL:
        return 0.0
    if not _is_priced(model):
        return None
    return sum(_costs(model, prompt_tokens, completion_tokens, getattr(raw, "usage", None)))


@our_settings()
def window(model: str) -> int | None:
    """The most prompt tokens a model takes, by litellm's bundled map; `None` where it does not say, and for
    `offline/` models. Raises `UnknownModel`."""
    provider = provider_of(model)
    if provider == "offline":
        return None
    listed = litellm().model_cost
    own = listed.get(model.removeprefix(f"{provider}/"), {})
    entry = listed.get(model) or (own if own.get("litellm_provider") == provider else {})
    tokens = entry.get("max_input_tokens")
    return tokens if isinstance(tokens, int) else None


def _is_priced(model: str) -> bool:
    """Whether the map has a price; litellm also answers 0 dollars where it knows nothing."""
    costs = _costs(model, 1000, 1000)
    return bool(costs) and (all(costs) or _is_listed_as_free(model))


def _is_listed_as_free(model: str) -> bool:
    entry = litellm().model_cost.get(model, {})
    return all(entry.get(name) == 0 for name in ("input_cost_per_token", "output_cost_per_token"))


@our_settings()
def _costs(model: str, prompt_tokens: int, completion_tokens: int, usage: Any = None) -> list[float]:
    module = litellm()
    try:
        costs = module.cost_per_token(
            model=model, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, usage_object=usage
        )
    except getattr(module.exceptions, "ModelNotMappedError", Exception):  # a bare Exception in older versions
        return []
    return [float(cost) for cost in costs]
