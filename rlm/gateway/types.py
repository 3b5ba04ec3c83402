"""What a model call is made of: messages, a request, what it used, and the reply."""

from dataclasses import dataclass
from typing import Literal, TypedDict


class Message(TypedDict):
    """One turn of a conversation with a model."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a model. `max_tokens` bounds the reply; `temperature` 0 asks for the likeliest one."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int = 1024
    temperature: float = 0.0


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
class Reply:
    """What a call gave its caller. `usage` is what it charged to the ledger, failed attempts included.

    `finish_reason` is "stop", "length" (cut at `max_tokens`), "refusal" (`text` says why) or another word of the
    provider's. `tool_call` holds the tools that the model called, though it was offered none: a line of JSON for each,
    {"name": ..., "arguments": ...}, with the arguments as text where they are not JSON. `seconds` is the wall time of
    the call, with its waits and retries.
    """

    text: str
    model: str
    usage: Usage
    finish_reason: str
    seconds: float
    tool_call: str = ""
