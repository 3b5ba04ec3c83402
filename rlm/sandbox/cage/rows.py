"""Rows in the worker: a lazy sequence of what `context.rows` chose, and the answers that a question about rows gave.

Neither class is ever handed out: for a cell both are lists. What they hold of the session is a call that every cell may
make anyway, under a name that no cell may say.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

#: The call that gives rows, and the one that gives the texts of some of them.
ROWS, READ_ROWS = "context.rows", "context.read_rows"
#: Calls whose answers come in columns.
ANSWERING = frozenset({"llm_map", "llm_filter"})
PAGE = 500
#: What tells where a row is; the other columns are what was asked.
_PLACE = ("row", "node", "doc", "start", "end")

Row = dict[str, Any]
Read = Callable[[str, int, int], Sequence[Row]]


class Rows:
    """The rows `start:stop` of a selection of the parent. A slice is another such; one row, and each in a loop, is a
    dict of its id as `row`, its `doc`, `start`, `end` and `text`. The first that is looked at comes alone, what follows
    it in pages."""

    __slots__ = ("_first", "_name", "_page", "_read", "_start", "_stop")

    def __init__(self, name: str, start: int, stop: int, read: Read) -> None:
        self._name, self._start, self._stop, self._read = name, start, stop, read
        self._first = start  # of the page that is at hand
        self._page: Sequence[Row] = ()

    def __repr__(self) -> str:
        look = "a loop, [i] and [a:b] read them; llm_map and its kin take them as they are"
        return f"<{len(self):,} rows {self._name}: {look}>"

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return Rows(self._name, self._start + start, self._start + max(start, stop), self._read)
            return [self._row(self._start + i) for i in range(start, stop, step)]
        return self._row(range(self._start, self._stop)[key])  # raises IndexError as a list does

    def __iter__(self) -> Iterator[Row]:
        return map(self.__getitem__, range(len(self)))

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self]

    def _row(self, place: int) -> Row:
        past = self._first + len(self._page)
        if not self._first <= place < past:
            size = PAGE if self._page and place == past else 1
            self._page = self._read(self._name, place, min(place + size, self._stop))
            self._first = place
        return self._page[place - self._first]

    def _frame(self) -> dict[str, Any]:
        """The rows as an argument of a call."""
        return {"rows": self._name, "start": self._start, "stop": self._stop}


Sequence.register(Rows)  # so that `random.sample` takes them


class Answers(list[Row]):
    """The answers to a question about rows, one dict a row. `failed`: those that have an `error`; `agreement`: how
    often two readings of a row gave the same, by field."""

    __slots__ = ("_intervals", "agreement", "failed")

    def __init__(
        self,
        rows: Sequence[Row],
        failed: Sequence[Row],
        agreement: dict[str, Any],
        intervals: Mapping[str, Any],
    ) -> None:
        super().__init__(rows)
        self.failed, self.agreement, self._intervals = list(failed), agreement, intervals

    def counts(self, field: str) -> dict[Any, dict[str, Any]]:
        """How many rows have each value of a field, as `count`, most first; `low` and `high`, between which another
        reading would most likely count, where some rows were read twice, else None."""
        found = dict[Any, int]()
        for row in self:
            if field in row:
                found[row[field]] = found.get(row[field], 0) + 1
        known = self._intervals.get(field) or {}
        told = {_written(value): value for value in found}
        found |= {told.get(value, value): found.get(told.get(value, value), 0) for value in known}
        return {
            value: dict(
                zip(
                    ("count", "low", "high"), (count, *(known.get(_written(value)) or _NONE)[1:]), strict=True
                )
            )
            for value, count in sorted(found.items(), key=lambda pair: -pair[1])
        }


_NONE = (None, None, None)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def is_of_rows(kind: type) -> bool:
    """Whether a class is one of those that are lists for a cell."""
    return issubclass(kind, Rows | Answers)


def frame_of(rows: Rows) -> dict[str, Any]:
    """Rows as an argument of a call."""
    return rows._frame()


def made_of(name: str, value: Any, read: Read) -> Any:
    """What a cell is given for the reply to the call `name`."""
    if name == ROWS and isinstance(value, dict):
        return Rows(value["rows"], value["start"], value["stop"], read)
    if name in ANSWERING and isinstance(value, dict) and "columns" in value:
        rows = rows_in(value["columns"])
        failed = rows_in(value["failed"]) if "failed" in value else [row for row in rows if "error" in row]
        return Answers(rows, failed, value.get("agreement") or {}, value.get("intervals") or {})
    return value


def rows_in(columns: Mapping[str, Sequence[Any]]) -> list[Row]:
    """One dict a row of columns of the same length; a row with an error has no values beside it."""
    errors = columns.get("error")
    names = [name for name in columns if name != "error"]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*map(columns.get, names), strict=True)]
    if errors is None:
        return rows
    return [
        row if error is None else {n: row[n] for n in _PLACE if n in row} | {"error": error}
        for row, error in zip(rows, errors, strict=True)
    ]
