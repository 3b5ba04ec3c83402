"""An array in segments is read as numpy reads the concatenation, and loads no segment that it need not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from index_store.shards.segments import Segmented

SIZES = st.lists(st.integers(0, 4), min_size=1, max_size=6)
TABLE = np.dtype([("level", "u1"), ("start", "<i8"), ("end", "<i4")])


def segmented(sizes: list[int], columns: int = 0, table: bool = False) -> tuple[Segmented, Any, list[int]]:
    """An array in segments, the same in one, and where the numbers of loaded segments are noted."""
    loaded, dtype = list[int](), TABLE if table else np.dtype("<i4")
    tail = (columns,) if columns else ()
    parts = [np.zeros((size, *tail), dtype=dtype) for size in sizes]
    for number, part in enumerate(parts):
        for name in dtype.names or (None,):
            column = part if name is None else part[name]
            column[...] = np.arange(column.size).reshape(column.shape) + 7 * number
    shifts = [10 * number for number in range(len(sizes))]

    def load(number: int) -> Any:
        loaded.append(number)
        return parts[number]

    whole = [part.copy() for part in parts]
    for part, shift in zip(whole, shifts, strict=True):
        if table:
            part["start"] += shift
        else:
            part += shift
    moved: Any = {"start": shifts} if table else shifts
    return Segmented(sizes, load, dtype, tail, moved), np.concatenate(whole), loaded


def equal(found: Any, expected: Any) -> None:
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    assert np.array_equal(np.asarray(found), expected)


@given(SIZES, st.integers(0, 2), st.booleans(), st.data())
@example([0], 0, False, None)
@example([0, 3, 0, 0, 2, 0], 2, False, None)
def test_numbers_slices_flags_and_lists_give_what_numpy_gives(
    sizes: list[int], columns: int, table: bool, data: Any
) -> None:
    joined, whole, _ = segmented(sizes, 0 if table else columns, table)
    size = len(whole)
    equal(joined, whole)
    assert (len(joined), joined.shape, joined.ndim, joined.size) == (
        size,
        whole.shape,
        whole.ndim,
        whole.size,
    )
    if data is None:
        return
    places = st.integers(-size, size - 1) if size else st.nothing()
    some = data.draw(st.lists(places, max_size=8)) if size else []
    equal(joined[np.array(some, dtype=np.int64)], whole[np.array(some, dtype=np.int64)])
    grid = np.array(some, dtype=np.int64)[: len(some) // 2 * 2].reshape(-1, 2)
    equal(joined[grid], whole[grid])
    flags = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=np.bool_)
    equal(joined[flags], whole[flags])
    borders = st.none() | st.integers(-size - 2, size + 2)
    part = slice(
        data.draw(borders), data.draw(borders), data.draw(st.none() | st.sampled_from([1, 2, -1, -3]))
    )
    equal(joined[part], whole[part])
    again = slice(data.draw(borders), data.draw(borders))
    equal(np.asarray(joined[part][again]), whole[part][again])
    for place in some[:2]:
        equal(joined[place], whole[place])
    if table:
        for name in TABLE.names or ():
            equal(joined[name], whole[name])
            equal(joined[name][part], whole[name][part])
            equal(joined[part][name], whole[part][name])
            equal(joined[name][np.array(some, dtype=np.int64)], whole[name][np.array(some, dtype=np.int64)])
    else:
        equal(joined + 1, whole + 1)
        equal(1 - joined, 1 - whole)
        equal(joined > 3, whole > 3)
        equal(np.diff(joined, axis=0), np.diff(whole, axis=0))
        assert [np.asarray(row).tolist() for row in joined] == whole.tolist() == joined.tolist()
        assert joined.tobytes() == whole.tobytes() == bytes(joined.data.cast("B") if whole.size else b"")
        equal(joined.astype(np.int64), whole.astype(np.int64))


@given(SIZES, st.integers(0, 30), st.integers(0, 30))
def test_only_the_segments_of_what_is_asked_for_are_loaded(sizes: list[int], one: int, other: int) -> None:
    joined, whole, loaded = segmented(sizes)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    low, high = sorted((min(one, len(whole)), min(other, len(whole))))
    part = joined[low:high]
    assert loaded == [] or len({*owners[low:high].tolist()}) == 1
    np.asarray(part)
    assert {*loaded} == {*owners[low:high].tolist()}
    loaded.clear()
    equal(joined[np.arange(low, high)[::-1]], whole[low:high][::-1])
    assert sorted(loaded) == sorted({*owners[low:high].tolist()})


@pytest.mark.parametrize("key", [5, -6, [0, 5], np.zeros(4, dtype=bool), [0.5]])
def test_what_is_no_place_is_refused_as_numpy_refuses_it(key: Any) -> None:
    joined, whole, _ = segmented([2, 3])
    with pytest.raises(IndexError):
        whole[key]
    with pytest.raises(IndexError):
        joined[key]


def test_where_a_segment_begins_is_known_without_it() -> None:
    loaded = list[int]()

    def load(number: int) -> Any:
        loaded.append(number)
        return np.arange(3)

    offsets = Segmented([3, 3], load, np.int64, shifts=[0, 10], heads=[0, 10])
    assert (offsets[3], offsets[np.array([0, 3, 3])].tolist()) == (10, [0, 10, 10])
    assert np.asarray(offsets[2:4]).tolist() == [2, 10]
    assert loaded == [0]
    assert offsets[np.array([3, 4])].tolist() == [10, 11]


def test_the_bytes_that_are_read_of_each_segment_are_told() -> None:
    read = np.zeros(2, dtype=np.int64)

    def touched(segment: int, size: int) -> None:
        read[segment] += size

    rows = Segmented([3, 3], lambda _: np.zeros((3, 5), np.float32), np.float32, (5,), touched=touched)
    np.asarray(rows[1:5])
    assert read.tolist() == [40, 40]
