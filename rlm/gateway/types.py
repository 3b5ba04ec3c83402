"""What a model call is made of: messages, a request, what it used, and the reply."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict


class Message(TypedDict):
    """One turn of a conversation with a model."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a model. `max_tokens` bounds the reply; `temperature` 0 asks for the likeliest one.

    `options`: further parameters by litellm's names, as `check_options` lets them pass; a temperature among them goes
    before the other. `response_format`: what the provider is to hold the reply to, where it can; one that cannot, or
    refuses it, is asked without.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int = 1024
    temperature: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    response_format: Mapping[str, Any] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What the call is made with beside its model, messages and `max_tokens`."""
        shape = {} if self.response_format is None else {"response_format": dict(self.response_format)}
        return {"temperature": self.temperature, **self.options, **shape}


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls used, or may use at most. Adds up with `+`."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.usd + other.usd,
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request of a call: how it ended, and what it cost.

    `status`: the HTTP status, such as "200" or "429"; else "timeout", "no connection", "connection broke", "worker
    lost", "no chat completion" or "cancelled"; of an offline model "ok" or "failed". `waited_s`: since the attempt
    before it ended, or the call began; `seconds`: what it took. `reserved`: the most that it could cost; `settled`:
    what was charged for it. `error`: one sentence, '' where a reply came. `sent`: the fields of the request as it was
    handed to the connection, but for those that hold the model and the texts; empty where litellm made none.
    """

    status: str
    waited_s: float
    seconds: float
    reserved: Usage
    settled: Usage
    error: str = ""
    sent: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Served:
    """Who replied, in the provider's words: '' or 0 where it says nothing. `cached_tokens`: of the prompt, those that
    the provider had in its cache; `reasoning_tokens`: of the reply, those that nobody is shown."""

    model: str = ""
    system_fingerprint: str = ""
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call gave its caller. `usage` is what it charged to the ledger, failed attempts included.

    `finish_reason` is "stop", "length" (cut at `max_tokens`), "refusal" (`text` says why) or another word of the
    provider's. `tool_call` holds the tools that the model called, though it was offered none: a line of JSON for each,
    {"name": ..., "arguments": ...}, with the arguments as text where they are not JSON. `seconds` is the wall time of
    the call, with its waits and retries. `structured`: it was made under the request's `response_format`. `estimated`:
    the provider reported no count of tokens that can be read, so they were counted here.
    """

    text: str
    model: str
    usage: Usage
    finish_reason: str
    seconds: float
    tool_call: str = ""
    served: Served = Served()
    structured: bool = False
    estimated: bool = False
