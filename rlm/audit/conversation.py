"""What a model saw, byte for byte, put together from what each ask added."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from rlm.audit.events import Event

Message: TypeAlias = dict[str, str]


def messages_seen(events: Iterable[Event], seq: int) -> list[Message]:
    """All the messages that the model_asked event number `seq` sent, in order; [] where `seq` is no such event.

    An ask records only what is new. `conversation_messages - len(messages)` is how many of the earlier messages
    it kept, counted from the first, so a conversation that was shortened or begun again is told truly as well.
    """
    return next((messages for event, messages in _asks(events) if event["seq"] == seq), [])


def _asks(events: Iterable[Event]) -> Iterator[tuple[Event, list[Message]]]:
    held: dict[str, list[Message]] = {}
    for event in events:
        if event["kind"] == "model_asked":
            new: list[Message] = event["messages"]
            kept = max(event["conversation_messages"] - len(new), 0)
            before = held.get(event["conversation"], [])
            held[event["conversation"]] = [*before[:kept], *new]
            yield event, held[event["conversation"]]
