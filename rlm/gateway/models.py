"""What is known of a model by its name: who serves it, which key it needs, what it costs, how much it reads."""

import json
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from rlm.gateway.embeddings import embeds, litellms
from rlm.gateway.errors import MissingKey, UnknownModel
from rlm.gateway.litellm_setup import litellm, our_settings
from rlm.gateway.offline.registry import PREFIX, find_handler

# The provider counts the prompt with its own tokenizer and chat template; a tenth more than our count, and a
# few tokens, have covered the difference. What it reports is entered as reported in any case.
_PROMPT_MARGIN = 1.1
_PROMPT_MARGIN_TOKENS = 16
# Servers that people run themselves: litellm lists them at no price or not at all, and their calls are free.
_LOCAL = frozenset({"offline", "ollama", "ollama_chat", "lm_studio", "llamafile"})
_HAVE_DEFAULT_ADDRESS = frozenset({"ollama", "ollama_chat"})
#: Variables of the environment by which litellm learns where a provider is.
_ADDRESS = re.compile(r"(?:API_BASE|BASE_URL|API_URL|ENDPOINT(?:_URL)?|REGION(?:_NAME)?|LOCATION)\Z")
#: Whose marks on a prompt litellm hands on: that what stands before them may be kept, and read again for less.
_MARKED = frozenset({"anthropic", "bedrock", "bedrock_converse", "vertex_ai"})
_given: dict[str, tuple[float, float]] = {}  # prices that the user has told, by model


@our_settings()
def check_model(model: str) -> None:
    """Raise `UnknownModel` or `MissingKey` if a call to this model cannot work. Sends nothing."""
    provider = provider_of(model)
    if has_key(model) is False:
        missing = litellm().validate_environment(litellms(model))["missing_keys"]
        keys = (" or " if provider == "gemini" else " and ").join(missing)
        raise MissingKey(f"model {model!r} needs {keys} in the environment")


@our_settings()
def has_key(model: str) -> bool | None:
    """Whether the key of a model, or its address, is in the environment; None for one that needs none.

    Raises `UnknownModel`.
    """
    provider = provider_of(model)
    if provider == "offline" or provider in _HAVE_DEFAULT_ADDRESS:
        return None
    return bool(litellm().validate_environment(litellms(model))["keys_in_environment"])


def give_price(model: str, usd_per_million: tuple[float, float] | None) -> None:
    """Let a model cost so many dollars for a million tokens in and out in this process, whatever litellm lists; None
    changes nothing."""
    if usd_per_million is not None:
        _given[model] = usd_per_million


@our_settings()
def provider_of(model: str) -> str:
    """litellm's name for who serves a model, e.g. "openai". Raises `UnknownModel`."""
    if model.startswith(PREFIX):
        find_handler(model)
        return "offline"
    module = litellm()
    try:
        provider = module.get_llm_provider(model=litellms(model))[1]
    except module.exceptions.BadRequestError as error:
        such = (
            "litellm/openai/text-embedding-3-small or litellm/ollama/nomic-embed-text"
            if embeds(model)
            else "openai/gpt-5-mini, ollama/llama3 or offline/extractive"
        )
        raise UnknownModel(
            f"unknown model {model!r}: name it as litellm does, provider first, such as {such}"
        ) from error
    return str(provider)


@our_settings()
def addresses() -> dict[str, str]:
    """All that says where models are called: each provider has a variable of its own, and one too many does no harm
    where answers are told apart by them."""
    named = {name: value for name, value in os.environ.items() if _ADDRESS.search(name)}
    everywhere = getattr(litellm(), "api_base", None)
    return named | ({"": str(everywhere)} if everywhere else {})


@lru_cache(256)
@our_settings()
def takes_marks(model: str) -> bool:
    """Whether the model's provider keeps the beginning of a prompt only where a mark says so, as Anthropic's do."""
    return (
        "claude" in model
        and provider_of(model) in _MARKED
        and bool(litellm().utils.supports_prompt_caching(model=model))
    )


def price(model: str, prompt_tokens: int, completion_tokens: int, raw: Any = None) -> float | None:
    """Dollars for so many tokens as `give_price` was told, else by litellm's bundled price map; `None` for a model
    without a price there.

    With `raw`, litellm's response, cached and reasoning tokens are priced as what they are. Raises `UnknownModel`.
    """
    provider = provider_of(model)
    if given := _given.get(model):
        return (given[0] * prompt_tokens + given[1] * completion_tokens) / 1e6
    if provider in _LOCAL:
        return 0.0
    if not _is_priced(model):
        return None
    return sum(_costs(model, prompt_tokens, completion_tokens, getattr(raw, "usage", None)))


def most_prompt_tokens(model: str, prompt_tokens: int) -> int:
    """The tokens that are set aside for a prompt that has so many by our count."""
    if model.startswith(PREFIX):
        return prompt_tokens
    return int(prompt_tokens * _PROMPT_MARGIN) + _PROMPT_MARGIN_TOKENS


def highest_price(model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
    """As `price`, where the provider keeps the whole prompt for the calls to come, for which Anthropic's take a quarter
    more than for reading it."""
    usd = price(model, prompt_tokens, completion_tokens)
    if usd is None or model in _given or not takes_marks(model):
        return usd
    tokens = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    usage = litellm().Usage(**tokens, cache_creation_input_tokens=prompt_tokens)
    return max(usd, sum(_costs(model, prompt_tokens, completion_tokens, usage)))


@our_settings()
def takes_format(model: str) -> bool:
    """Whether litellm knows that the model can be held to a JSON Schema by its provider."""
    return not model.startswith(PREFIX) and bool(litellm().supports_response_schema(model=model))


def not_sent(model: str, options: Mapping[str, Any]) -> str:
    """A sentence on the options that litellm leaves out of a call to this model, which has no such parameter or not
    this value of it; '' where it sends all. Raises `UnknownModel`."""
    names = _left_out(model, json.dumps(options, sort_keys=True)) if options else ()
    return f"{model} does not take {' and '.join(names)} as it was given: it is not sent" if names else ""


@lru_cache(256)
@our_settings()
def _left_out(model: str, options: str) -> tuple[str, ...]:
    given, provider = json.loads(options), provider_of(model)
    if provider == "offline":
        return tuple(given)
    if embeds(model):
        return ()
    module = litellm()
    name = module.get_llm_provider(model=model)[0]

    def mapped(parameters: Mapping[str, Any]) -> Any:
        return module.utils.get_optional_params(
            model=name, custom_llm_provider=provider, max_tokens=1_024, drop_params=True, **parameters
        )

    try:
        whole = mapped(given)
        less = {one: mapped({other: given[other] for other in given if other != one}) for one in given}
    except Exception:  # whatever litellm raises of a parameter, it raises of the call too, which tells of it
        return ()
    return tuple(one for one, rest in less.items() if rest == whole)


@our_settings()
def window(model: str) -> int | None:
    """The most prompt tokens a model takes, by litellm's bundled map; `None` where it does not say, and for
    `offline/` models. Raises `UnknownModel`."""
    provider = provider_of(model)
    if provider == "offline":
        return None
    tokens = _listed(model, provider).get("max_input_tokens")
    return tokens if isinstance(tokens, int) else None


def _listed(model: str, provider: str) -> Mapping[str, Any]:
    """What litellm's bundled map has of a model."""
    listed, name = litellm().model_cost, litellms(model)
    own = listed.get(name.removeprefix(f"{provider}/"), {})
    return listed.get(name) or (own if own.get("litellm_provider") == provider else {})


def _is_priced(model: str) -> bool:
    """Whether the map has a price; litellm also answers 0 dollars where it knows nothing."""
    costs = _costs(model, 1000, 1000)
    if embeds(model):
        return bool(costs) and costs[0] > 0
    return bool(costs) and (all(costs) or _is_listed_as_free(model))


def _is_listed_as_free(model: str) -> bool:
    entry = litellm().model_cost.get(model, {})
    return all(entry.get(name) == 0 for name in ("input_cost_per_token", "output_cost_per_token"))


@our_settings()
def _costs(model: str, prompt_tokens: int, completion_tokens: int, usage: Any = None) -> list[float]:
    module = litellm()
    try:
        costs = module.cost_per_token(
            model=litellms(model),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            usage_object=usage,
        )
    except getattr(module.exceptions, "ModelNotMappedError", Exception):  # a bare Exception in older versions
        return []
    return [float(cost) for cost in costs]
