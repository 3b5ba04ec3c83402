"""Arrays that come when one of them is first asked for."""

from collections.abc import Callable, Collection, Iterator, Mapping
from threading import Lock
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


class Late(Mapping[str, Array]):
    """Arrays by name, of which some are `late`: `fetch` gives these, once, however many threads ask. What it raises is
    raised to whoever asked, and it is tried again for the next."""

    def __init__(
        self, there: Mapping[str, Array], late: Collection[str], fetch: Callable[[], Mapping[str, Array]]
    ) -> None:
        self._there, self._late, self._fetch = dict(there), frozenset(late), fetch
        self._lock = Lock()

    def __getitem__(self, name: str) -> Array:
        if name in self._late and name not in self._there:
            with self._lock:
                if name not in self._there:
                    self._there |= self._fetch()
        return self._there[name]

    def __contains__(self, name: object) -> bool:
        return name in self._there or name in self._late

    def __iter__(self) -> Iterator[str]:
        return iter(self._there.keys() | self._late)

    def __len__(self) -> int:
        return len(self._there.keys() | self._late)
