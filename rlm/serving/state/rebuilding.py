"""The list of runs, and what was spent, made anew from the folders of runs, which are the truth.

Of a trace its ends are read, as by `rlm trace list`; only that of a run which never ended is read whole, for what its
calls cost until then. A call that was under way when its process died is in no trace, so what the database knows to be
spent never becomes less.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from index_store.errors import IndexStoreError
from rlm.audit import read
from rlm.audit.costs import costs
from rlm.audit.listing import BROKEN, UNCLOSED, Listed, list_runs, moment
from rlm.errors import RlmError
from rlm.gateway.ledger import pico_of
from rlm.serving.state.database import Database, put
from rlm.serving.state.tables import MOST_PICO, RUNS, SPENDING
from rlm.serving.types import RunRow

_KEY = re.compile(r"[0-9a-f]{12}")
_MOST = 2**53


@dataclass(frozen=True, slots=True)
class Found:
    """What folders of runs say: the runs, picodollars by key and day, and the folders whose trace cannot be read."""

    runs: tuple[RunRow, ...]
    spent: Mapping[tuple[str, str], int]
    unread: tuple[str, ...]


def found_in(folder: Path) -> Found:
    """What the folders of runs at and below a folder say. Raises RlmError where there is none."""
    listed = list_runs(folder)
    good = [one for one in listed if one.stop != BROKEN and one.started]
    runs = [run for one in good if (run := _row(one, folder)) is not None]
    spent = Counter[tuple[str, str]]()
    for run in runs:
        if run.key:
            spent[run.key, run.began[:10]] += pico_of(run.usd)
    known = {run.folder for run in runs}
    names = (_name(one, folder) for one in listed)
    return Found(tuple(runs), spent, tuple(name for name in names if name not in known))


def rebuild(database: Database, found: Found) -> None:
    """Put these runs in place of those that are listed, and raise what was spent to what they cost."""
    database.store.write(lambda c: _rebuilt(c, found))


def _rebuilt(c: Connection, found: Found) -> None:
    c.execute(delete(RUNS))
    for run in found.runs:
        put(c, run)
    for (key, day), pico in found.spent.items():
        where = (SPENDING.c.key == key, SPENDING.c.day == day)
        row = c.execute(select(SPENDING).where(*where).with_for_update()).first()
        spent = min(max(pico, row.spent if row else 0), MOST_PICO)
        if row is None:
            c.execute(insert(SPENDING).values(key=key, day=day, spent=spent, reserved=0))
        else:
            c.execute(update(SPENDING).where(*where).values(spent=spent))


def _row(one: Listed, folder: Path) -> RunRow | None:
    """A run, as its trace says; None where that says no time."""
    try:
        began = moment(one.started or "").astimezone(UTC).isoformat(timespec="seconds")
    except (RlmError, OverflowError):
        return None
    usd, calls, tokens = one.cost, one.calls, one.tokens
    if one.stop == UNCLOSED:
        usd, calls, tokens = _so_far(Path(one.run))
    return RunRow(
        _name(one, folder),
        one.key if one.key and _KEY.fullmatch(one.key) else "",
        Path(one.index or "").stem,
        one.question or "",
        began,
        one.stop,
        min(max(float(usd or 0), 0.0), float(_MOST)),
        int(min(max(calls or 0, 0), _MOST)),
        int(min(max(tokens or 0, 0), _MOST)),
        None if one.access is None else frozenset(one.access),
    )


def _so_far(run: Path) -> tuple[float, int, int]:
    """Dollars, calls and tokens of a run that never ended."""
    try:
        paid = costs(read(run)[0])
    except (RlmError, IndexStoreError, OSError):
        return 0.0, 0, 0
    return (paid[-1].usage.usd, paid[-1].usage.calls, paid[-1].usage.tokens) if paid else (0.0, 0, 0)


def _name(one: Listed, folder: Path) -> str:
    return Path(one.run).relative_to(folder).as_posix() if Path(one.run) != folder else folder.name
