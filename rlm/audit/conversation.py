"""What a model saw, byte for byte, put together from what each ask added."""

from collections.abc import Iterable, Iterator

from rlm.audit.events import RecordedEvent
from rlm.gateway.types import Message


def messages_seen(events: Iterable[RecordedEvent], seq: int) -> list[Message]:
    """All the messages that the model_asked event number `seq` sent, in order; [] where `seq` is no such event.

    An ask records only the messages that are new to it. `conversation_messages - len(messages)` is how many of the
    messages before it were sent again, counted from the first: fewer than there were, where the conversation was
    shortened.
    """
    return next((messages for event, messages in asks(events) if event["seq"] == seq), [])


def asks(events: Iterable[RecordedEvent]) -> Iterator[tuple[RecordedEvent, list[Message]]]:
    """Each model_asked event with all the messages it sent."""
    sent: dict[str, list[Message]] = {}
    for event in events:
        if event["kind"] == "model_asked":
            new: list[Message] = event["messages"]
            again = max(event["conversation_messages"] - len(new), 0)
            name = event["conversation"]
            sent[name] = [*sent.get(name, [])[:again], *new]
            yield event, sent[name]
