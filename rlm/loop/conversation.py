"""One model with one REPL, and the state of their exchange."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from index_store.types import Json
from rlm.answers.citations import Citation
from rlm.gateway.types import Message
from rlm.loop.calls import Calls
from rlm.loop.run import Run
from rlm.prompts import refusals
from rlm.sandbox import Session

SEEN = 500
FEW = 5  # cuts that are told of one cell


@dataclass(slots=True)
class Conversation:
    """One model with one REPL, and the state of their exchange.

    `cell`: the number of the last cell. `code`: the code of the current cell, until its scan is recorded. `recorded`:
    how many of the messages are in the trace. `cuts`: what bounds left out of results since that was last told.
    `turns`: a line about each turn so far. `drafting`: whether any code has named the variable `answer`. `draft`: its
    value when a cell last handed it over. `cited`: the draft's citations, once they are looked up. `seen`: the chunks
    that verbs have shown, the last SEEN of them. `thread`: where cells run.
    """

    run: Run
    id: str
    depth: int
    calls: Calls
    session: Session
    messages: list[Message]
    cell: int = 0
    code: str | None = None
    recorded: int = 0
    cuts: list[str] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)
    drafting: bool = False
    draft: dict[str, Json] = field(default_factory=dict)
    cited: Sequence[Citation] | None = None
    seen: deque[dict[str, Json]] = field(default_factory=lambda: deque(maxlen=SEEN))
    thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="cell")
    )

    def tell_cuts(self) -> list[str]:
        """What calls take, and what bounds have left out of results, since this was last asked: a sentence each, FEW at
        most and a count."""
        told = list(dict.fromkeys([*self.calls.told, *self.cuts]))
        self.calls.told, self.cuts = [], []
        more = len(told) - FEW
        return told[:FEW] + ([refusals.CUT_MORE.format(more=more)] if more > 0 else [])

    def end_turn(self, text: str, line: str) -> None:
        """Add `text` as the next message to the model; `line` is the turn in short, shown once the turn is put away."""
        self.messages.append({"role": "user", "content": text})
        self.turns.append(line)


async def close(talk: Conversation) -> None:
    """Cancel the calls under way and end the sandbox."""
    talk.calls.stop()
    talk.session.kill()
    talk.thread.shutdown()
    talk.session.close()
    await talk.calls.settled()
