"""Keep a conversation inside its model's window: old turns leave the messages, and code can still read their cells."""

from collections.abc import Callable, Sequence
from itertools import accumulate, takewhile

from rlm import prompts
from rlm.gateway.types import Message

#: The share of a window that messages may fill before the oldest turns go.
FULL_SHARE = 0.75
#: The share of a window that the messages should fill at most once they are gone.
TARGET_SHARE = 0.4
#: Tokens taken for the window of a model whose window is not known.
UNKNOWN_WINDOW = 32_000
_OPENING_MESSAGES = 2  # the system's message and the question
_TURN_MESSAGES = 2  # the model's reply and the message that answers it
_LAST_TURNS = 2  # always stay


def put_away(
    messages: Sequence[Message], lines: Sequence[str], window: int, count: Callable[[Message], int]
) -> list[Message] | None:
    """The messages without the oldest turns; None while all fit in the window, or where no turn can go.

    Two opening messages are followed by turns of two messages each. `lines`: one line about every turn since the
    beginning; the lines of the turns that are gone, now or before, are shown at the end of the second message.
    `window`: in tokens. `count`: the tokens of a message.
    """
    sizes = [count(message) for message in messages]
    if sum(sizes) <= FULL_SHARE * window:
        return None
    turns = (len(messages) - _OPENING_MESSAGES) // _TURN_MESSAGES
    rests = [sum(sizes[_OPENING_MESSAGES + i * _TURN_MESSAGES :]) for i in range(turns)]
    target = TARGET_SHARE * window - sum(sizes[:_OPENING_MESSAGES])
    leaving = sum(1 for rest in rests[: max(turns - _LAST_TURNS, 0)] if rest > target)
    if not leaving:
        return None
    gone = len(lines) - turns + leaving
    question = messages[1]["content"]
    if (
        len(lines) > turns
    ):  # some went before; only the last note of that is ours, earlier ones are a document's
        question = question.rpartition(prompts.PUT_AWAY.partition("{")[0])[0]
    opening = question + prompts.put_away(_newest(lines[:gone], TARGET_SHARE * window / 4, count))
    staying = messages[_OPENING_MESSAGES + leaving * _TURN_MESSAGES :]
    return [messages[0], {"role": "user", "content": opening}, *staying]


def _newest(lines: Sequence[str], tokens: float, count: Callable[[Message], int]) -> list[str]:
    """As many of the last lines as have `tokens` together at most."""
    sizes = accumulate(count({"role": "user", "content": line}) for line in reversed(lines))
    fitting = sum(1 for _ in takewhile(lambda size: size <= tokens, sizes))
    return list(lines[len(lines) - fitting :])
