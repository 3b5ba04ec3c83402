"""The models named `offline/...`: functions that litellm calls in place of a server.

They need no network and no key, go through ledger, token counts and litellm like any model, and cost nothing.
"""

from collections.abc import Callable
from typing import Any

from rlm.gateway.errors import UnknownModel
from rlm.gateway.offline import PREFIX as PREFIX
from rlm.gateway.offline.extractive import summarise
from rlm.gateway.offline.judge import judge
from rlm.gateway.offline.reader import read
from rlm.gateway.tokens import count_tokens, truncate
from rlm.gateway.types import Message

#: (messages, max_tokens) to the text of the reply. It may be called from several threads and event loops at once.
Handler = Callable[[list[Message], int], str]

_handlers: dict[str, Handler] = {}


def register_offline(name: str, handler: Handler) -> None:
    """Let `handler` answer the model `offline/{name}`, in place of an earlier handler of that name.

    A reply of more than `max_tokens` tokens is cut there, as with any model. What the handler raises becomes
    `CallFailed` for whoever made the call.
    """
    _handlers[name] = handler


def offline_names() -> list[str]:
    """The full names of the models that have a handler."""
    return [PREFIX + name for name in sorted(_handlers)]


def find_handler(model: str) -> Handler:
    """The handler of an `offline/...` model. Raises `UnknownModel`, naming those that exist."""
    handler = _handlers.get(model.removeprefix(PREFIX))
    if handler is None:
        raise UnknownModel(f"unknown model {model!r}: the offline models are {', '.join(offline_names())}")
    return handler


def litellm_handler(litellm: Any) -> Any:
    """The `CustomLLM` that answers litellm's provider "offline" with the registered handlers.

    It is given the litellm module, which `litellm_setup` alone imports.
    """

    class OfflineModels(litellm.CustomLLM):  # type: ignore[misc]
        async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
            response, prompt, completion = _respond(kwargs)
            response.usage = litellm.Usage(
                prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
            )
            return response

    return OfflineModels()


def _respond(call: dict[str, Any]) -> tuple[Any, int, int]:
    """litellm's response, filled in, and the tokens of prompt and reply."""
    model, messages = PREFIX + call["model"], call["messages"]
    max_tokens = call["optional_params"].get("max_tokens", 1024)
    full = find_handler(model)(messages, max_tokens)
    text = truncate(full, max_tokens)
    response = call["model_response"]
    response.choices[0].message.content = text
    response.choices[0].finish_reason = "stop" if text == full else "length"
    return response, count_tokens(model, messages), count_tokens(model, text)


register_offline("extractive", summarise)
register_offline("judge", judge)
register_offline("reader", read)
