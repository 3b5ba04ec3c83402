"""A run as the questions that were put and what came of each: one pair, or those of a chat in order."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from rlm.audit.claims import Claim, claims_of
from rlm.audit.costs import PAID
from rlm.audit.events import RecordedEvent
from rlm.audit.routing import Branch, entries
from rlm.gateway.offline import PREFIX, READ_BY
from rlm.gateway.types import Message, Usage

#: How a model was told the next question of a chat, and the question of a conversation; by these words a question is
#: found in the trace of an earlier version, which recorded none but the first.
_NEXT = "The next question, in the same REPL: "
_FIRST, _END_OF_FIRST = "Question: ", "\n\n`context`"
_UNKNOWN = "(a question that this trace does not name)"


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with the events that followed it, until the next.

    `number`: from 1. `answered`: the event of its answer, None where it has none. `usage`: of its model calls, those of
    children among them. `branches`: those entered for it, in order.
    """

    number: int
    question: str
    events: Sequence[RecordedEvent]
    answered: RecordedEvent | None
    usage: Usage
    branches: Sequence[Branch]

    @property
    def claims(self) -> list[Claim]:
        """The claims of its answer."""
        return claims_of(self.answered) if self.answered else []

    @property
    def content(self) -> str:
        """The words of its answer; '' where it has none."""
        return str(self.answered["content"]) if self.answered else ""


def read_by(events: Sequence[RecordedEvent]) -> str:
    """Who read the text, where that was no language model; '' where one did, or may have."""
    named = [event["models"] for event in events if event["kind"] in ("run_opened", "models_changed")]
    readers = [str(models.get(role, "")) for models in named for role in ("root", "child")]
    return READ_BY if readers and all(model.startswith(PREFIX) for model in readers) else ""


def pairs_of(events: Sequence[RecordedEvent]) -> list[Pair]:
    """The pairs of a run, in order; [] for no events."""
    starts = [0, *_next_questions(events)] if events else []
    routes: list[dict[str, Branch]] = [{} for _ in starts]
    for branch in entries(events):
        routes[bisect_right(starts, branch.seq) - 1].setdefault(branch.node, branch)
    ends = [*starts[1:], len(events)]
    return [
        _pair(number, events[start:end], list(route.values()))
        for number, (start, end, route) in enumerate(zip(starts, ends, routes, strict=False), 1)
    ]


def _next_questions(events: Sequence[RecordedEvent]) -> list[int]:
    """Where each question after the first begins. An earlier version recorded only their answers."""
    if put := [i for i, event in enumerate(events) if event["kind"] == "question_put"]:
        return put
    begins, has_answered = [], False
    for i, event in enumerate(events):
        if event["conversation"] != "0":
            continue
        if has_answered and event["kind"] in ("code_scanned", "model_asked"):
            begins.append(i)
            has_answered = False
        has_answered = has_answered or event["kind"] == "answered"
    return begins


def _pair(number: int, events: Sequence[RecordedEvent], route: list[Branch]) -> Pair:
    root = [event for event in events if event["conversation"] == "0"]
    answered = next((event for event in reversed(root) if event["kind"] == "answered"), None)
    used = sum((Usage(**event["usage"]) for event in events if _is_call(event)), Usage())
    question = events[0].get("question")
    return Pair(number, _told(root) if question is None else question, events, answered, used, route)


def _is_call(event: RecordedEvent) -> bool:
    return event["kind"] in PAID and "usage" in event


def _told(root: Sequence[RecordedEvent]) -> str:
    """The question that a model was told first in these events of the root."""
    messages: list[Message] = next(
        (event["messages"] for event in root if event["kind"] == "model_asked"), []
    )
    for message in reversed(messages):
        _, found, question = message["content"].rpartition(_NEXT)
        if found:
            return question
        if message["content"].startswith(_FIRST):
            return message["content"].removeprefix(_FIRST).partition(_END_OF_FIRST)[0]
    return _UNKNOWN
