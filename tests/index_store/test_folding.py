"""Passages that say the same in documents that are near-duplicates are one hit, and the others stand beside it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from index_store.errors import BrokenIndex
from index_store.index import Index, open_index
from index_store.manifest import ALIKE
from index_store.types import MODES
from index_store.verify import verify_index
from index_store.view import View
from tests.helpers.mutated import seal
from tests.helpers.toy import index_of

RENT = "The rent is 900 euros a month, due on the first day. "
NOTICE = "Notice is given in writing three months ahead. "
PETS = "Pets need the landlord's consent, which is not withheld without reason. "


LEASES = {
    "a.txt": [RENT, NOTICE, PETS],
    "b.txt": [RENT, NOTICE, PETS],
    "c.txt": [RENT.replace("900", "950"), NOTICE.replace("writing", "WRITING,\n"), PETS],
    "other.txt": [NOTICE],
}


@pytest.fixture
def leases(tmp_path: Path) -> Index:
    return index_of(tmp_path / "i", LEASES, [0, 0, 0, 3])


def docs(index: Index, query: str, k: int = 10, **how: object) -> list[tuple[str, tuple[str, ...]]]:
    hits = index.search(query, k, **{"mode": "lexical", **how})  # type: ignore[arg-type]
    return sorted((hit.span.doc, hit.also_in) for hit in hits if hit.span)


def test_passages_that_say_the_same_are_one_hit_and_the_others_stand_beside_it(leases: Index) -> None:
    assert docs(leases, "pets") == [("a.txt", ("b.txt", "c.txt"))]
    assert docs(leases, "notice writing") == [("a.txt", ("b.txt", "c.txt")), ("other.txt", ())]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("a.zip/lease.txt", "old/leases/lease (copy).txt"),
        ("lease (copy).txt", "old/leases/lease.txt"),
        ("Copy of lease.txt", "old/leases/lease.txt"),
        ("lease_copy.txt", "copyright/lease.txt"),
        ("lease (2).txt", "old/leases/lease.txt"),
        ("lease-2.txt", "old/leases/lease.txt"),
        ("old/leases/lease.txt", "lease.txt"),
        ("b1.txt", "c1.txt/lease.txt"),
    ],
)
def test_of_those_that_say_the_same_the_likeliest_original_is_shown(
    tmp_path: Path, wrong: str, right: str
) -> None:
    index = index_of(tmp_path / "i", {wrong: [RENT, NOTICE], right: [RENT, NOTICE]}, [0, 0])
    assert docs(index, "notice") == [(right, (wrong,))]
    assert docs(index, "notice", doc=wrong) == [(wrong, ())]
    hits = index.search("notice rent", mode="lexical")
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_the_first_is_shown_where_names_tell_nothing_and_none_that_shows_less(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", {"b.txt": [RENT], "a.txt": [RENT]}, [0, 0])
    assert docs(index, "rent") == [("b.txt", ("a.txt",))]
    texts = {"x (copy).txt": [RENT + NOTICE + PETS], "x.txt": [RENT, NOTICE + PETS * 4]}
    less = index_of(tmp_path / "less", texts, [0, 0])
    assert ("x.txt", ("x (copy).txt",)) not in docs(less, "rent")


def test_a_passage_that_differs_in_a_digit_is_a_hit_of_its_own(leases: Index) -> None:
    assert docs(leases, "rent euros") == [("a.txt", ("b.txt",)), ("c.txt", ())]


def test_without_folding_each_is_a_hit_and_a_search_in_one_document_finds_it(leases: Index) -> None:
    assert docs(leases, "pets", fold=False) == [("a.txt", ()), ("b.txt", ()), ("c.txt", ())]
    assert docs(leases, "pets", doc="b.txt") == [("b.txt", ())]
    assert [h.span.doc for h in View(leases).search("pets", 9, mode="lexical", fold=False) if h.span] == [
        "a.txt",
        "b.txt",
        "c.txt",
    ]


def test_folded_hits_leave_room_for_others(leases: Index) -> None:
    assert docs(leases, "rent notice pets", 5) == [
        ("a.txt", ("b.txt",)),
        ("a.txt", ("b.txt", "c.txt")),
        ("a.txt", ("b.txt", "c.txt")),
        ("c.txt", ()),
        ("other.txt", ()),
    ]


def test_a_hundred_copies_are_one_hit(tmp_path: Path) -> None:
    copies = {f"{n:03}.txt": [RENT] for n in range(300)}
    index = index_of(tmp_path / "i", copies | {"other.txt": [RENT + NOTICE]}, [0] * 300 + [300])
    hits = index.search("rent", 2, mode="lexical")
    assert [hit.span.doc for hit in hits if hit.span] == ["000.txt", "other.txt"]
    assert len(hits[0].also_in) == 20


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It costs 1.5 mg a day for adults.", "It costs 15 mg a day for adults."),
        ("It costs .5 mg a day for adults.", "It costs 5 mg a day for adults."),
        ("The balance is -5 at the end.", "The balance is 5 at the end."),
        ("The balance is (5) at the end.", "The balance is 5 at the end."),
        ("It pays $5 at the end of it.", "It pays €5 at the end of it."),
        ("It is allowed to sublet the flat.", "It is not allowed to sublet the flat."),
        ("Where x < y the clause holds.", "Where x > y the clause holds."),
        ("Between 2020 and 2021 it rose.", "Between 2021 and 2020 it rose."),
        ("def f(a, b): return a + b here", "def f(a, b): return a - b here"),
    ],
)
def test_what_differs_in_what_it_says_is_not_folded(tmp_path: Path, one: str, other: str) -> None:
    index = index_of(tmp_path / "i", {"a": [RENT, one, PETS], "b": [RENT, other, PETS]}, [0, 0])
    assert len(index.search(one, 9, mode="hybrid", vector=index.vectors[0])) == 4


def test_a_passage_that_was_cut_elsewhere_is_folded_where_nearly_all_of_it_is_shown(tmp_path: Path) -> None:
    words, more = RENT + NOTICE + PETS, "So it is agreed. "
    texts = {"a": [words[:-9], words[-9:] + more], "b": [words, more], "c": [RENT + NOTICE, PETS + more]}
    index = index_of(tmp_path / "i", texts, [0, 0, 0])
    assert len(docs(index, "rent", fold=False)) == 3
    assert docs(index, "rent") == [
        ("a", ("b",)),
        ("c", ()),
    ]  # c is the best, and shows two thirds of the others


@given(
    st.lists(st.sampled_from([RENT, NOTICE, PETS, "One. ", "Two. "]), min_size=1, max_size=5),
    st.integers(1, 9),
)
@settings(deadline=None, max_examples=30)
def test_what_is_folded_and_what_is_shown_together_are_all_hits(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], k: int
) -> None:
    index = index_of(
        tmp_path_factory.mktemp("i") / "i", {"a": parts, "b": parts[::-1], "c": parts}, [0, 0, 0]
    )
    vector = index.vectors[0]
    for mode in MODES:
        every = index.search("rent pets", 99, mode=mode, vector=vector, fold=False)
        shown = index.search("rent pets", 99, mode=mode, vector=vector)
        beside = {(span.doc, span.start) for hit in shown for span in hit.copies}
        assert {(h.span.doc, h.span.start) for h in every if h.span} == beside | {
            (h.span.doc, h.span.start) for h in shown if h.span
        }
        assert [h.node for h in index.search("rent pets", k, mode=mode, vector=vector)] == [
            h.node for h in shown
        ][:k]


def test_an_index_without_near_duplicates_has_no_file_of_them(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", LEASES, [0, 1, 2, 3])
    assert not (index.folder / ALIKE).exists()
    assert index.alike.tolist() == [0, 1, 2, 3]
    assert len(index.search("pets", mode="lexical")) == 3


@pytest.mark.parametrize(
    "alike", [[0, 0, 1, 3], [0, 0, -1, 3], [0, 0, 9, 3], [1, 1, 1, 3], [0, 0, 0], [0, 0, 0, 3, 0]]
)
def test_a_file_of_near_duplicates_that_no_build_writes_is_refused(leases: Index, alike: list[int]) -> None:
    np.save(leases.folder / ALIKE, np.array(alike, dtype=np.int32))
    seal(leases.folder)
    with pytest.raises(BrokenIndex, match=ALIKE):
        open_index(leases.path)
    assert ALIKE in verify_index(leases.path)[0]
