"""The options of a question: everything that a caller may choose, in one place."""

from dataclasses import dataclass
from pathlib import Path

from index_store.arguments import check_fields
from index_store.types import Scope
from rlm.answers.demands import Demands
from rlm.asking.offline import check_schema
from rlm.errors import RlmError
from rlm.limits import RUNS, Limits, Models, Route
from rlm.loop.recording import Watch, unwatched


@dataclass(frozen=True, slots=True)
class Options:
    """The options that `ask`, `ask_async`, `ask_many`, `events` and `open_chat` take by name, as one value within rlm.

    `route`: how a question is answered: "direct", the whole text in one call; "retrieve", what a search finds in one
    call; "overview", the upper levels of the tree in one call; "rlm", the loop; "auto" chooses, and the trace says why.
    `models`: who answers. `limits`: limits of a run. `demands`: what an answer must satisfy. `scope`: the part of the
    index that it is about; nothing else is seen or cited. `runs`: the folder in which each run gets a folder for its
    trace. `watch`: called as `watch(kind, conversation, fields)` with every event as it is recorded.

    Raises RlmError for what cannot go together.
    """

    route: Route = "auto"
    models: Models = Models()
    limits: Limits = Limits()
    demands: Demands = Demands()
    scope: Scope = Scope()
    runs: str | Path = RUNS
    watch: Watch = unwatched

    def __post_init__(self) -> None:
        check_fields(self, RlmError)
        check_schema(self.models, self.demands.schema)
