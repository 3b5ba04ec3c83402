"""Which rows are asked about together."""

from hypothesis import given, strategies as st

from rlm.mapping.packing import Size, full_packs, halves, pack
from rlm.mapping.types import Pack

tokens = st.lists(st.integers(1, 30), max_size=60)
sizes = st.builds(Size, st.integers(1, 40), st.integers(1, 9))


def test_a_pack_is_as_full_as_the_next_row_allows() -> None:
    rows = {0: 4, 1: 4, 2: 4, 3: 25, 4: 1, 5: 9}
    assert pack(rows, rows, Size(10, 5)) == [Pack((0, 1)), Pack((2,)), Pack((3,)), Pack((4, 5))]
    assert pack(rows, rows, Size(99, 2)) == [Pack((0, 1)), Pack((2, 3)), Pack((4, 5))]
    assert pack([], {}, Size(10, 5)) == []


@given(tokens, sizes)
def test_every_row_stands_once_in_order_and_only_a_large_one_alone_passes_the_size(
    counts: list[int], size: Size
) -> None:
    packs = pack(range(len(counts)), dict(enumerate(counts)), size)
    assert [row for one in packs for row in one.rows] == list(range(len(counts)))
    for one in packs:
        assert len(one.rows) <= size.rows
        assert len(one.rows) == 1 or sum(counts[row] for row in one.rows) <= size.tokens
    assert len(packs) >= full_packs(len(counts), sum(min(n, size.tokens) for n in counts), size)


def test_halves_keep_all_rows_and_part_of_a_size_holds_one_at_least() -> None:
    assert halves((1, 2, 3)) == [Pack((1, 2)), Pack((3,))]
    assert halves((1,)) == [Pack((1,))]
    assert halves(()) == []
    assert Size(10, 5).part(1 / 2) == Size(5, 2)
    assert Size(10, 5).part(0) == Size(1, 1)
