"""Keeping a conversation inside its model's window: old turns are put away, and stay within reach of the code."""

from collections.abc import Callable, Sequence
from itertools import accumulate, takewhile

from rlm import prompts
from rlm.gateway.types import Message

#: Of a window: what the messages may fill before the oldest turns go, and what they should fill afterwards.
FULL, KEPT = 0.75, 0.4
#: For a model whose window nobody knows.
UNKNOWN_WINDOW = 32_000
_OPENING = 2  # the system's message and the question
_TURN = 2  # a reply and what it was told
_SHOWN = 2  # turns that always stay


def put_away(
    messages: Sequence[Message], lines: Sequence[str], window: int, count: Callable[[Message], int]
) -> list[Message] | None:
    """The conversation without its oldest turns; None while it fits, or where nothing can go.

    After two opening messages come turns of two. `lines` says each turn since the beginning in a few words; those
    of all turns that are gone, now or before, stand at the end of the second message. `count`: tokens of a message.
    """
    sizes = [count(message) for message in messages]
    if sum(sizes) <= FULL * window:
        return None
    turns = (len(messages) - _OPENING) // _TURN
    rest = [sum(sizes[_OPENING + i * _TURN :]) for i in range(turns)]
    new = sum(1 for size in rest[: max(turns - _SHOWN, 0)] if sum(sizes[:_OPENING]) + size > KEPT * window)
    if not new:
        return None
    gone = len(lines) - turns + new
    question = messages[1]["content"]
    if len(lines) > turns:  # some went before; the last such words are ours, earlier ones a document's
        question = question.rpartition(prompts.PUT_AWAY.partition("{")[0])[0]
    opening = question + prompts.put_away(_newest(lines[:gone], KEPT * window / 4, count))
    kept = messages[_OPENING + new * _TURN :]
    return [messages[0], {"role": "user", "content": opening}, *kept]


def _newest(lines: Sequence[str], tokens: float, count: Callable[[Message], int]) -> list[str]:
    """As many of the last lines as fit."""
    sizes = accumulate(count({"role": "user", "content": line}) for line in reversed(lines))
    fitting = sum(1 for _ in takewhile(lambda size: size <= tokens, sizes))
    return list(lines[len(lines) - fitting :])
