"""The options of a question: everything that a caller may choose, in one place."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from index_store.arguments import check_fields
from index_store.terminal import brief
from index_store.types import Scope
from rlm.answers.demands import Demands
from rlm.asking.offline import check_schema
from rlm.errors import RlmError
from rlm.limits import RUNS, Limits, Models, Route
from rlm.loop.recording import Watch, unwatched

MOST_WORDS = 1_000  # characters of who asks, and of what for


@dataclass(frozen=True, slots=True)
class Options:
    """The options that `ask`, `ask_async`, `ask_many`, `events` and `open_chat` take by name, as one value within rlm.

    `route`: how a question is answered: "direct", the whole text in one call; "retrieve", what a search finds in one
    call; "overview", the upper levels of the tree in one call; "map", the loop, told to ask every row; "rlm", the loop;
    "auto" chooses, and the trace says why.
    `models`: who answers. `limits`: limits of a run. `demands`: what an answer must satisfy. `scope`: the part of the
    index that it is about; nothing else is seen or cited. `runs`: the folder in which each run gets a folder for its
    trace. `watch`: called as `watch(kind, conversation, fields)` with every event as it is recorded, and with
    `map_progress` of how far a map is.
    `operator`, `purpose`, `retain`: who asks, for what, and the day until which the run is to be kept, such as
    "2030-12-31"; each is recorded where it is given, and does nothing else.
    `memo`: sub-calls at temperature 0 that were answered before are taken from the store beside the index, and new ones
    kept there (rlm/memo.py).

    Raises RlmError for what cannot go together.
    """

    route: Route = "auto"
    models: Models = Models()
    limits: Limits = Limits()
    demands: Demands = Demands()
    scope: Scope = Scope()
    runs: str | Path = RUNS
    watch: Watch = unwatched
    operator: str = ""
    purpose: str = ""
    retain: str = ""
    memo: bool = True

    def __post_init__(self) -> None:
        check_fields(self, RlmError)
        check_account(self.operator, self.purpose, self.retain)
        check_schema(self.models, self.demands.schema)


def check_account(operator: str, purpose: str, retain: str) -> None:
    """Raise RlmError where it cannot be recorded who asks, for what, and until when the run is kept."""
    for name, text in (("operator", operator), ("purpose", purpose)):
        if len(text) > MOST_WORDS or (text and not text.isprintable()):
            raise RlmError(
                f"{name} is {brief(text)}; give at most {MOST_WORDS} characters that can be printed"
            )
    try:
        is_day = not retain or date.fromisoformat(retain).isoformat() == retain
    except ValueError:
        is_day = False
    if not is_day:
        raise RlmError(f"retain is {brief(retain)}; give a day, such as 2030-12-31")
