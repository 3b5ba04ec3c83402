"""Record what a verb was asked about the tree, and what it showed."""

import json
from collections.abc import Callable
from typing import Literal

from rlm.audit.kinds import Visited
from rlm.audit.suspicion import texts_shown
from rlm.loop.run import Run
from rlm.loop.verbs import Visit


def record_visit(
    run: Run, conversation: str, cell: Callable[[], int], visit: Visit, by: Literal["run"] | None = None
) -> None:
    """Record one use of a verb, before its result is handed to the cell. `cell` gives the number of the cell; `by` says
    that no cell used it, but the run itself."""
    result = visit.result
    visited = Visited(
        cell=cell(),
        verb=visit.verb,
        arguments=visit.arguments,
        shown=visit.shown,
        not_taken=visit.not_taken,
        result=result,
        result_chars=0 if visit.error else len(result if isinstance(result, str) else json.dumps(result)),
        error=visit.error or None,
        by=by,
        cut=visit.cut or None,
    )
    run.journal.record(conversation, visited)
    run.journal.flag(conversation, f"context.{visit.verb}", texts_shown(result, visit.shown))
