"""Models that need no network and no key: plain functions behind litellm's custom provider "offline".

They take the same way as paid models (ledger, counting, litellm), cost nothing, and say so by name.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from rlm.gateway.errors import UnknownModel
from rlm.gateway.offline.extractive import summarise
from rlm.gateway.offline.reader import read
from rlm.gateway.tokens import count_tokens, truncate
from rlm.gateway.types import Message

Handler = Callable[[list[Message], int], str]

PREFIX = "offline/"
_handlers: dict[str, Handler] = {}


def register_offline(name: str, handler: Handler) -> None:
    """Let `offline/{name}` be answered by `handler(messages, max_tokens) -> text`; a second one replaces it.

    What the handler returns beyond `max_tokens` is cut off, as with any model.
    """
    _handlers[name] = handler


def find_handler(model: str) -> Handler:
    """The handler of an `offline/...` model. Raises `UnknownModel`, naming those that exist."""
    handler = _handlers.get(model.removeprefix(PREFIX))
    if handler is None:
        known = ", ".join(PREFIX + name for name in sorted(_handlers))
        raise UnknownModel(f"unknown model {model!r}: the offline models are {known}")
    return handler


@cache
def provider() -> Any:
    """The litellm provider that serves the registered handlers; imports litellm."""
    from litellm import CustomLLM

    class OfflineModels(CustomLLM):  # type: ignore[misc]
        def completion(self, *args: Any, **kwargs: Any) -> Any:
            return _answer(kwargs)

        async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
            return _answer(kwargs)

    return OfflineModels()


def _answer(call: dict[str, Any]) -> Any:
    from litellm import Usage

    model, messages = PREFIX + call["model"], call["messages"]
    max_tokens = call["optional_params"].get("max_tokens", 1024)
    full = find_handler(model)(messages, max_tokens)
    text = truncate(full, max_tokens)
    response = call["model_response"]
    response.choices[0].message.content = text
    response.choices[0].finish_reason = "stop" if text == full else "length"
    asked, said = count_tokens(model, messages), count_tokens(model, text)
    response.usage = Usage(prompt_tokens=asked, completion_tokens=said, total_tokens=asked + said)
    return response


register_offline("extractive", summarise)
register_offline("reader", read)
