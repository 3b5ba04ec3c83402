"""A map over rows: waves of packs, until each row has an answer or an error."""

from collections.abc import Callable, Sequence

from rlm.mapping.types import Ask, Mapped, Memo, Plan, Progress, Task, Turn


def key(task: Task, text: str, turn: Turn = "first") -> str:
    """The sha256, as 64 hexadecimal digits, of all that bears on the answer of a row with that text."""
    raise NotImplementedError


def plan(task: Task, texts: Sequence[str], memo: Memo) -> Plan:
    """What a map will take, before anything is asked."""
    raise NotImplementedError


async def map_rows(
    task: Task, texts: Sequence[str], ask: Ask, memo: Memo, tell: Callable[[Progress], None]
) -> Mapped:
    """An answer or an error for each text, in order."""
    raise NotImplementedError
