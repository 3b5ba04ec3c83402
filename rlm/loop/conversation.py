"""One model with one REPL, and where it stands."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rlm.answers.citations import Citation
from rlm.gateway.types import Message
from rlm.loop.calls import Calls
from rlm.loop.run import Run
from rlm.sandbox import Session

Json = Any


@dataclass(slots=True)
class Conversation:
    """One model with one REPL. `told` counts the messages already in the trace; `turns` says each in a line."""

    run: Run
    id: str
    depth: int
    calls: Calls
    session: Session
    messages: list[Message]
    cell: int = 0
    code: str | None = None  # of the current cell, until its scan is recorded
    told: int = 0
    turns: list[str] = field(default_factory=list)
    drafting: bool = False  # whether any code has named the answer
    draft: dict[str, Json] = field(default_factory=dict)
    cited: Sequence[Citation] | None = None  # of the draft, once they are looked up
    thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="cell")
    )


def _say(talk: Conversation, text: str, line: str) -> None:
    """End a turn: what the model is told, and the turn in short."""
    talk.messages.append({"role": "user", "content": text})
    talk.turns.append(line)
