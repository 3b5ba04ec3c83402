"""The indexes that are served, each in its live generation: when another is published, the next request reads that.

At a URL that is looked up every few seconds at most; where the store does not answer, what was opened last is read on.
"""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from index_store.errors import IndexStoreError, StoreError
from index_store.folder import live_pointer
from index_store.index import Index, open_any
from index_store.stores.layout import objects_at, the_live
from rlm.errors import RlmError
from rlm.serving.problems import Problem
from rlm.serving.settings import check_name
from rlm.serving.types import Grant

Labels = frozenset[str] | None
Mark = tuple[object, ...]
#: Seconds after which the pointer at a URL is looked up again.
AGAIN_S = 5.0
_log = logging.getLogger(__name__)


class Shelf:
    """Indexes by name: those that the server was started with, and those made by upload below `made`."""

    def __init__(
        self, indexes: Mapping[str, str | Path], made: Path, access: Labels, embedder: str | None = None
    ) -> None:
        self._paths, self._made, self._access, self._embedder = dict(indexes), made, access, embedder
        self._opened: dict[tuple[str, Labels], tuple[Mark, Index]] = {}
        self._looked: dict[str, tuple[float, Mark]] = {}
        self._locks: dict[tuple[str, Labels], threading.Lock] = {}
        self._lock = threading.Lock()

    def names(self, grant: Grant) -> list[str]:
        """The names of the indexes that a key may ask, in order."""
        made = [path.name for path in self._made.glob("*") if (path / "CURRENT").exists()]
        return sorted(name for name in {*self._paths, *made} if _may_ask(grant, name))

    def path(self, name: str) -> str | Path:
        """Where the index is, or would be: a path, or a URL."""
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
        if path is None or not _is_there(path):
            known = ", ".join(self.names(grant)) or "none"
            raise Problem(404, f"there is no index {name[:80]!r}; there is {known[:400]}", "model_not_found")
        mark = self._mark(path)
        with self._lock:
            lock = self._locks.setdefault((name, labels), threading.Lock())
        with lock:  # to narrow an index takes long: others do not wait for that
            held = self._opened.get((name, labels))
            if held is None or held[0] != mark:
                held = self._opened[name, labels] = self._opened_anew(path, mark, labels, held)
            return held[1]

    def _opened_anew(
        self, place: str | Path, mark: Mark, labels: Labels, held: tuple[Mark, Index] | None
    ) -> tuple[Mark, Index]:
        try:
            return mark, open_any(place, self._embedder, labels).by_its_own()
        except StoreError as e:
            if held is None:
                raise
            _log.warning("%s; what was opened last is read on", e)
            with self._lock:
                self._looked[str(place)] = time.monotonic(), held[0]
            return held

    def _mark(self, place: str | Path) -> Mark:
        """What changes when an index does."""
        if isinstance(place, Path):
            return _mark(place)
        now = time.monotonic()
        with self._lock:
            looked, mark = self._looked.get(place, (-AGAIN_S, ()))
            if now - looked < AGAIN_S:
                return mark
            if mark:  # others go on with it while this one looks
                self._looked[place] = now, mark
        try:
            live = the_live(objects_at(place))
            mark = live.number, live.digest
        except IndexStoreError as e:
            if not mark:
                raise
            _log.warning("%s; what was opened last is read on", e)
        with self._lock:
            self._looked[place] = now, mark
        return mark


def _is_there(place: str | Path) -> bool:
    if isinstance(place, str):  # a URL, which was looked at when the server started
        return True
    return place.exists() and (not place.is_dir() or (place / "CURRENT").exists())


def _may_ask(grant: Grant, name: str) -> bool:
    return grant.indexes is None or name in grant.indexes


def _mark(path: Path) -> Mark:
    """What changes when an index does."""
    if path.is_dir():
        return live_pointer(path) or ()
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size
