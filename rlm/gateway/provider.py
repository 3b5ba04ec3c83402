"""The call itself: one request to litellm, and its response read into a `Completion`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rlm.gateway.clients import forget_dead_clients
from rlm.gateway.litellm_setup import litellm, our_settings
from rlm.gateway.redaction import without_secrets
from rlm.gateway.types import Request

# The gateway keeps the deadline. litellm has a client, with its connections, for each timeout it is given: only one.
_TIMEOUT_S = 86_400.0
#: Characters of the longest token of the known vocabularies, which is all spaces; a reply of more than that for each
#: token that was asked for is not what was asked for.
TOKEN_CHARS = 128
#: Characters of a reply, whatever was asked for: a trace holds it on one line, at up to six bytes a character.
REPLY_CHARS = 4_000_000
_REASON_CHARS = 100
MOST_TOKENS = 10**9  # that a provider is believed to have counted in one call


@dataclass(frozen=True, slots=True)
class Completion:
    """What a provider sent back. Tokens are 0 where it reported none; `raw` is litellm's response.

    `finish_reason` and `tool_call`: as in `Reply`.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    raw: Any
    tool_call: str = ""


async def complete(request: Request) -> Completion:
    """Make one call, once, for as long as the caller lets it.

    Raises whatever litellm raises, and ValueError or AttributeError for a response that is no chat completion.
    """
    module = litellm()
    forget_dead_clients()
    with our_settings(), _unlogged(module):
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
    return _completion(raw, min(TOKEN_CHARS * request.max_tokens, REPLY_CHARS))


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
    return Completion(text, str(reason)[:_REASON_CHARS], prompt, completion, raw, called)


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
