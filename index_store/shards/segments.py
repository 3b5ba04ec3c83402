"""One array out of many: what is asked of it is read from the segments that have it, and no other is loaded."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from os import cpu_count
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

LEAST_PLACES = 8  # for which a thread is worth its start

Array = npt.NDArray[Any]
#: Called with the number of a segment and the bytes that are read of it.
Touched = Callable[[int, int], object]


def _untold(segment: int, size: int) -> None:
    """Nobody counts what is read."""


class Segmented(np.lib.mixins.NDArrayOperatorsMixin):
    """The concatenation of arrays that are loaded when something of them is read.

    A number, an array of numbers or of flags, or a slice that stays in one segment gives a numpy array, as of one
    array; a longer slice and a field of a table are again such arrays, that read nothing yet. What numpy computes with
    it is computed with all of it in memory.

    `sizes`: rows of each segment; some may have none. `load`: the array of the segment with a number, (size, *tail).
    `shifts`: what is added to the values of each segment, (segments,); of a table by field. `heads`: the first value of
    each segment with its shift, where it is known, so that no segment is loaded for the end of the one before.
    """

    __array_priority__ = 1000

    def __init__(
        self,
        sizes: Sequence[int],
        load: Callable[[int], Array],
        dtype: Any,
        tail: tuple[int, ...] = (),
        shifts: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
        heads: Sequence[int] | None = None,
        touched: Touched = _untold,
    ) -> None:
        self._starts = np.concatenate([[0], np.cumsum(np.asarray(sizes, dtype=np.int64))])
        self._borders: list[int] = self._starts.tolist()
        self._load, self._tail, self._heads, self._touched = load, tail, heads, touched
        self._shifts = {"": shifts} if isinstance(shifts, Sequence) else dict(shifts or {})
        self._table, self._field = np.dtype(dtype), ""
        self._low, self._high = 0, int(self._starts[-1])

    def _part(self, low: int, high: int, field: str) -> "Segmented":
        part = object.__new__(Segmented)
        part.__dict__.update(self.__dict__, _low=low, _high=high, _field=field)
        return part

    # -- what it is --------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of each value."""
        own: np.dtype[Any] = self._table[self._field] if self._field else self._table
        return own

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the one array."""
        return (self._high - self._low, *self._tail)

    @property
    def ndim(self) -> int:
        """Dimensions."""
        return 1 + len(self._tail)

    @property
    def size(self) -> int:
        """Values."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self._high - self._low

    def __iter__(self) -> Iterator[Any]:
        for first, past in self._stretches():
            yield from self._read(first, past)

    # -- reading -----------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._part(self._low, self._high, key)
        if isinstance(key, slice):
            return self._sliced(range(*key.indices(len(self))))
        if isinstance(key, tuple):
            rows = np.asarray(self[key[0]])
            return rows[key[1:] if rows.ndim == self.ndim - 1 else (slice(None), *key[1:])]
        if isinstance(key, int | np.integer):
            place = int(key) + (len(self) if key < 0 else 0)
            if not 0 <= place < len(self):
                raise IndexError(f"there are {len(self)} rows, none with the number {key}")
            return self._read(self._low + place, self._low + place + 1)[0]
        places = np.asarray(key)
        if places.dtype == np.bool_:
            if places.shape != (len(self),):
                raise IndexError(f"flags of shape {places.shape} for {len(self)} rows")
            places = np.flatnonzero(places)
        elif not np.issubdtype(places.dtype, np.integer) and places.size:
            raise IndexError(f"an index is a number, found {places.dtype}")
        if not places.size:
            return np.empty((*places.shape, *self._tail), dtype=self.dtype)
        low, high = int(places.min()), int(places.max())
        if low < 0:
            return self[np.where(places < 0, places + len(self), places)] if low >= -len(self) else self[low]
        if high >= len(self):
            return self[high]
        return self._gathered(places.astype(np.int64) + self._low, low + self._low, high + self._low)

    def _sliced(self, places: range) -> Any:
        if places.step != 1:
            return self[np.arange(places.start, places.stop, places.step)]
        low = self._low + places.start
        high = max(self._low + places.stop, low)
        if low == high:
            return np.empty((0, *self._tail), dtype=self.dtype)
        segment = self._segment(low)
        if high <= self._borders[segment + 1]:
            return self._read(low, high)
        return self._part(low, high, self._field)

    def _segment(self, place: int) -> int:
        """The segment that a row is in."""
        return bisect_right(self._borders, place) - 1

    def _read(self, low: int, high: int) -> Array:
        """Rows that are all in one segment, which has some."""
        segment = self._segment(low)
        start = self._borders[segment]
        if self._heads is not None and (low, high) == (start, start + 1):
            return np.array([self._heads[segment]], dtype=self.dtype)
        return self._shifted(segment, self._loaded(segment)[low - start : high - start])

    def _loaded(self, segment: int) -> Array:
        loaded = self._load(segment)
        return loaded[self._field] if self._field else loaded

    def _shifted(self, segment: int, part: Array) -> Array:
        """Some rows of a segment as they are in the one array."""
        self._touched(segment, part.nbytes)
        if self._field or not part.dtype.names:
            shifts = self._shifts.get(self._field)
            return part if shifts is None or not shifts[segment] else part + part.dtype.type(shifts[segment])
        if by := {name: shifts[segment] for name, shifts in self._shifts.items() if shifts[segment]}:
            part = part.copy()
            for name, shift in by.items():
                part[name] += part.dtype[name].type(shift)
        return part

    def _gathered(self, places: npt.NDArray[np.int64], low: int, high: int) -> Array:
        """Rows at some places, of which these are the least and the greatest."""
        segment = self._segment(low)
        start, past = self._borders[segment : segment + 2]
        is_head = self._heads is not None and high == start
        if high < past and not is_head:
            return self._shifted(segment, self._loaded(segment)[places - start])
        flat = places.ravel()
        out = np.empty((len(flat), *self._tail), dtype=self.dtype)
        segments = np.searchsorted(self._starts, flat, side="right") - 1
        order = None
        if (segments[1:] < segments[:-1]).any():
            order = np.argsort(segments, kind="stable")
            segments = segments[order]
        edges = [0, *(np.flatnonzero(segments[1:] != segments[:-1]) + 1).tolist(), len(flat)]
        for at, past in pairwise(edges):
            if at == past:
                continue
            segment, rows = int(segments[at]), slice(at, past) if order is None else order[at:past]
            own = flat[rows] - self._starts[segment]
            if self._heads is not None and not own.any():
                out[rows] = self._heads[segment]
            else:
                out[rows] = self._shifted(segment, self._loaded(segment)[own])
        return out.reshape(*places.shape, *self._tail)

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """The rows of each segment that are in this part, where there are some."""
        at = self._low
        while at < self._high:
            past = min(self._borders[self._segment(at) + 1], self._high)
            yield at, past
            at = past

    def mapped(self, function: Callable[[int], T], places: range) -> list[T]:
        """What a function of this array gives for each of some places, in order; on all cores, where they are many."""
        workers = min(cpu_count() or 1, len(places) // LEAST_PLACES)
        if workers < 2:
            return list(map(function, places))
        size = -(-len(places) // workers)
        parts = [places[at : at + size] for at in range(0, len(places), size)]
        with ThreadPoolExecutor(workers) as pool:
            return list(chain.from_iterable(pool.map(lambda part: list(map(function, part)), parts)))

    # -- all of it in memory -----------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("what is in segments is put together in a copy")
        parts = [self._read(at, past) for at, past in self._stretches()]
        whole = np.concatenate([np.empty((0, *self._tail), dtype=self.dtype), *parts])
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **named: Any) -> Any:
        whole = (np.asarray(one) if isinstance(one, Segmented) else one for one in inputs)
        return getattr(ufunc, method)(*whole, **named)

    def astype(self, dtype: Any) -> Array:
        """All of it, as values of another kind."""
        return np.asarray(self).astype(dtype)

    def tobytes(self) -> bytes:
        """The bytes of all of it."""
        return np.asarray(self).tobytes()

    @property
    def data(self) -> memoryview:
        """All of it as a buffer."""
        return np.asarray(self).data

    def tolist(self) -> list[Any]:
        """All of it as Python has it."""
        found: list[Any] = np.asarray(self).tolist()
        return found
