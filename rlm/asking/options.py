"""How questions are asked: everything that a caller may choose, in one place."""

from dataclasses import dataclass
from pathlib import Path

from rlm.answers.demands import Demands
from rlm.limits import RUNS, Limits, Models, Route
from rlm.loop.recording import Watch, unwatched


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `ask` and its kin, which each of them takes by name.

    `route`: the way a question goes: "direct", the whole text in one call; "retrieve", what a search finds in one call;
    "rlm", the loop; "auto" chooses, and the trace says why. `models`: who answers. `limits`: hard caps of a run.
    `demands`: what an answer must satisfy. `runs`: the folder in which each run gets a folder for its trace. `watch`:
    called with every event as it is recorded.
    """

    route: Route = "auto"
    models: Models = Models()
    limits: Limits = Limits()
    demands: Demands = Demands()
    runs: str | Path = RUNS
    watch: Watch = unwatched
