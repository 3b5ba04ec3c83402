"""The call itself: one request to litellm, its response read into a `Completion`; offline models answer here."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rlm.gateway.clients import forget_dead_clients
from rlm.gateway.embeddings import embeds, litellms, rows_of
from rlm.gateway.litellm_setup import litellm, our_settings
from rlm.gateway.models import takes_marks
from rlm.gateway.offline.registry import PREFIX, answered
from rlm.gateway.redaction import redacted, without_secrets
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Request, Served

_log = logging.getLogger(__name__)
# The gateway keeps the deadline. litellm has a client, with its connections, for each timeout it is given: only one.
_TIMEOUT_S = 86_400.0
#: Characters of the longest token of the known vocabularies, which is all spaces; a reply of more than that for each
#: token that was asked for is not what was asked for.
TOKEN_CHARS = 128
#: Characters of a reply, whatever was asked for: a trace holds it on one line, at up to six bytes a character.
REPLY_CHARS = 4_000_000
_REASON_CHARS = 100
MOST_TOKENS = 10**9  # that a provider is believed to have counted in one call
_NAME_CHARS = 200  # of a model, or a fingerprint
#: The fields of a request that hold the model and the texts, by the names that providers give them.
_TEXTS = frozenset(
    {
        "model",
        "messages",
        "system",
        "contents",
        "system_instruction",
        "systemInstruction",
        "input",
        "inputs",
        "prompt",
    }
)
_FIELD_CHARS = 2_000  # of a field of a request that is told; of a longer one only its length is


@dataclass(frozen=True, slots=True)
class Completion:
    """What a provider sent back. Tokens are 0 where it reported none; `raw` is litellm's response, None without it.

    `finish_reason` and `tool_call`: as in `Reply`.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    raw: Any
    tool_call: str = ""
    served: Served = Served()  # noqa: RUF009  (frozen)

    @property
    def is_counted(self) -> bool:
        """Whether the provider reported both counts of tokens."""
        return bool(self.prompt_tokens and self.completion_tokens)


async def complete(request: Request, bodies: list[bytes]) -> Completion:
    """Make one call, once, for as long as the caller lets it. The body of its request is added to `bodies`.

    Raises whatever litellm raises, and ValueError or AttributeError for a response that is no chat completion; of an
    offline model whatever its handler raises.
    """
    _log.debug(
        "%s is asked: messages: %d, tokens at most: %d",
        request.model,
        len(request.messages),
        request.max_tokens,
    )
    if request.model.startswith(PREFIX):
        await asyncio.sleep(0)  # others on the event loop take turns with models that do not wait
        return _own(request)
    module = litellm()
    forget_dead_clients()
    if embeds(request.model):
        with our_settings(bodies), _unlogged(module):
            return await _embedded(request, module)
    with our_settings(bodies), _unlogged(module):
        raw = await module.acompletion(
            model=request.model,
            messages=_marked(request),
            max_tokens=request.max_tokens,
            **request.parameters,
            timeout=_TIMEOUT_S,
            num_retries=0,
            max_retries=0,
            drop_params=True,  # reasoning models refuse any temperature but their own
        )
    return _completion(raw, min(TOKEN_CHARS * request.max_tokens, REPLY_CHARS))


def _marked(request: Request) -> list[dict[str, Any]]:
    """The messages as litellm takes them.

    Where the provider keeps the beginning of a prompt only up to a mark, there is one on the system message; in a
    conversation that goes on, also on the last message that was sent before, where the beginning that is kept ends, and
    on the last of all, where that of the next call will.
    """
    messages: list[dict[str, Any]] = [dict(message) for message in request.messages]
    if not takes_marks(request.model):
        return messages
    roles = [message["role"] for message in messages]
    places = {0} if roles[0] == "system" else set[int]()
    if "assistant" in roles:
        places |= {len(roles) - 2 - roles[::-1].index("assistant"), len(roles) - 1}
    for place in places:
        if (text := messages[place]["content"]).strip():  # a mark on nothing is refused
            messages[place]["content"] = [
                {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
            ]
    return messages


async def _embedded(request: Request, module: Any) -> Completion:
    """The vectors of the texts of a request. Raises ValueError where they are none that can be used."""
    texts = [message["content"] for message in request.messages]
    raw = await module.aembedding(
        model=litellms(request.model),
        input=texts,
        **request.options,
        timeout=_TIMEOUT_S,
        num_retries=0,
        max_retries=0,
        drop_params=True,
    )
    usage = getattr(raw, "usage", None)
    text = rows_of(getattr(raw, "data", None), len(texts))
    return Completion(text, "stop", _reported(usage, "prompt_tokens"), 0, None, served=_served(raw, usage))


def _own(request: Request) -> Completion:
    """The completion of a model that runs in this process."""
    messages = [message.copy() for message in request.messages]
    text, is_cut = answered(request.model, messages, request.max_tokens)
    prompt, completion = (count_tokens(request.model, counted) for counted in (messages, text))
    reason = "length" if is_cut else "stop"
    return Completion(without_secrets(text), reason, prompt, completion, None)


@contextmanager
def _unlogged(module: Any) -> Iterator[None]:
    """litellm queues no logging tasks, which would outlive the call, and tells nobody's callbacks of it."""
    token = module._internal_context.is_internal_call.set(True)
    try:
        yield
    finally:
        module._internal_context.is_internal_call.reset(token)


def _completion(raw: Any, most: int) -> Completion:
    """What a response holds; its text is cut off at `most` characters, since a server may send what it likes."""
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
    text = without_secrets(text)
    if len(text) > most:
        text, reason = text[:most], "length"
    called = without_secrets(_tool_calls(choice.message))[:most]
    return Completion(text, str(reason)[:_REASON_CHARS], prompt, completion, raw, called, _served(raw, usage))


def _served(raw: Any, usage: Any) -> Served:
    """What the provider says of itself; nothing where it sends something else than a name or a count."""
    names = (getattr(raw, name, None) for name in ("model", "system_fingerprint"))
    model, fingerprint = (redacted(name)[:_NAME_CHARS] if isinstance(name, str) else "" for name in names)
    cached = _reported(getattr(usage, "prompt_tokens_details", None), "cached_tokens")
    reasoning = _reported(getattr(usage, "completion_tokens_details", None), "reasoning_tokens")
    return Served(model, fingerprint, cached, reasoning)


def sent(bodies: list[bytes]) -> dict[str, Any]:
    """The fields of the request that went out, but for those that hold the model and the texts; without keys."""
    try:
        fields = json.loads(bodies[-1]) if bodies else {}
    except (ValueError, RecursionError):
        return {}
    pairs = fields.items() if isinstance(fields, dict) else ()
    return {name: _told(value) for name, value in pairs if name not in _TEXTS}


def _told(value: Any) -> Any:
    text = json.dumps(value)
    if len(text) > _FIELD_CHARS:
        return f"({len(text):,} characters)"
    clean = redacted(text)
    return value if clean == text else clean


def _reported(usage: Any, name: str) -> int:
    """A count as the provider gave it; 0 for what is no count."""
    value = getattr(usage, name, 0)
    return value if isinstance(value, int) and 0 < value <= MOST_TOKENS else 0


def _tool_calls(message: Any) -> str:
    calls = [call.function for call in message.tool_calls or []] or [message.function_call]
    lines = [{"name": f.name or "", "arguments": _parsed(f.arguments or "")} for f in calls if f]
    return "\n".join(json.dumps(line) for line in lines)


def _parsed(arguments: str) -> Any:
    """Arguments are JSON in a text, when the model keeps to it."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
