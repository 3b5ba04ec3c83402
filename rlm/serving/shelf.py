"""The indexes that are served, each in its live generation: when another is published, the next request reads that."""

import threading
from collections.abc import Mapping
from pathlib import Path

from index_store.folder import live_pointer
from index_store.index import Index, open_any
from rlm.errors import RlmError
from rlm.serving.problems import Problem
from rlm.serving.settings import check_name
from rlm.serving.types import Grant

Labels = frozenset[str] | None
Mark = tuple[object, ...]


class Shelf:
    """Indexes by name: those that the server was started with, and those made by upload below `made`."""

    def __init__(self, indexes: Mapping[str, Path], made: Path, access: Labels) -> None:
        self._paths, self._made, self._access = dict(indexes), made, access
        self._opened: dict[tuple[str, Labels], tuple[Mark, Index]] = {}
        self._locks: dict[tuple[str, Labels], threading.Lock] = {}
        self._lock = threading.Lock()

    def names(self, grant: Grant) -> list[str]:
        """The names of the indexes that a key may ask, in order."""
        made = [path.name for path in self._made.glob("*") if (path / "CURRENT").exists()]
        return sorted(name for name in {*self._paths, *made} if _may_ask(grant, name))

    def path(self, name: str) -> Path:
        """Where the index is, or would be."""
        try:
            return self._paths.get(name) or self._made / check_name(name)
        except RlmError as e:
            raise Problem(400, str(e), "bad_name") from e

    def labels(self, grant: Grant) -> Labels:
        """The labels that a key reads with here: its own, as far as the server itself may."""
        if self._access is None or grant.access is None:
            return grant.access if self._access is None else self._access
        return grant.access & self._access

    def may_write(self, grant: Grant) -> bool:
        """Whether a key may change indexes. What an update replaces, and what it counts, does not stop at labels, so it
        must be allowed to read everything."""
        return grant.may_write and self.labels(grant) is None

    def open(self, name: str, grant: Grant) -> Index:
        """The live generation of an index, with what a key may read of it. Raises Problem where it may not ask it, or
        there is none, which is all the same."""
        labels = self.labels(grant)
        path = self.path(name) if _may_ask(grant, name) else None
        if path is None or not path.exists() or (path.is_dir() and not (path / "CURRENT").exists()):
            known = ", ".join(self.names(grant)) or "none"
            raise Problem(404, f"there is no index {name[:80]!r}; there is {known[:400]}", "model_not_found")
        mark = _mark(path)
        with self._lock:
            lock = self._locks.setdefault((name, labels), threading.Lock())
        with lock:  # to narrow an index takes long: others do not wait for that
            held = self._opened.get((name, labels))
            if held is None or held[0] != mark:
                held = self._opened[name, labels] = (mark, open_any(path, access=labels))
            return held[1]


def _may_ask(grant: Grant, name: str) -> bool:
    return grant.indexes is None or name in grant.indexes


def _mark(path: Path) -> Mark:
    """What changes when an index does."""
    if path.is_dir():
        return live_pointer(path) or ()
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size
