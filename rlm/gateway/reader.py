"""x."""

from rlm.gateway.types import Message


def read(messages: list[Message], max_tokens: int) -> str:
    return "NOT FOUND"
