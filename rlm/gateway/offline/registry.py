"""The models named `offline/...`: functions that are called in place of a server.

They need no network, no key and no litellm, go through the ledger and token counts like any model, and cost nothing.
"""

from collections.abc import Callable

from rlm.gateway.errors import UnknownModel
from rlm.gateway.offline import PREFIX as PREFIX
from rlm.gateway.offline.extractive import summarise
from rlm.gateway.offline.judge import judge
from rlm.gateway.offline.notes import read_or_note
from rlm.gateway.tokens import truncate
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


def answered(model: str, messages: list[Message], max_tokens: int) -> tuple[str, bool]:
    """What an `offline/...` model replies, and whether it was cut at `max_tokens`.

    Raises UnknownModel, and whatever the handler raises.
    """
    full = find_handler(model)(messages, max_tokens)
    text = truncate(full, max_tokens)
    return text, text != full


register_offline("extractive", summarise)
register_offline("judge", judge)
register_offline("reader", read_or_note)
