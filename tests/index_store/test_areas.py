"""A tree as nested areas: sizes that add up, bounds that hold, and what is read of the upper levels."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from index_store.areas import MOST_INSIDE, Area, Homes, area_of, dates_of, levels_read
from index_store.errors import NoSuchNode
from index_store.index import Index, open_index, open_text
from index_store.types import Scope
from index_store.view import View
from index_store.writer import Draft
from raptor import build_index
from tests.helpers.toy import TEXTS, document, publish_toy, toy_draft, toy_index, unit_rows


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return toy_index(tmp_path_factory.mktemp("areas") / "toy.index")


def wide(path: Path, parts: int, chunks: int) -> Index:
    """An index of one document: a root over `parts` summaries, each over `chunks` chunks of ten characters."""
    n = parts * chunks
    texts = [document("long.txt", "0123456789" * n)]
    draft = Draft(
        documents=texts,
        chunks=np.array([(0, 10 * i, 10 * i + 10) for i in range(n)], dtype=np.int64),
        labels=[*(f"part {i}" for i in range(parts)), "all"],
        summaries=[*(f"This is part {i}. And more of it." for i in range(parts)), "All parts."],
        levels=[n, parts, 1],
        children=[*(np.arange(i * chunks, (i + 1) * chunks) for i in range(parts)), np.arange(n, n + parts)],
        tokens=np.full(n + parts + 1, 5, dtype=np.int64),
        vectors=unit_rows(n + parts + 1),
    )
    publish_toy(path, draft)
    return open_index(path)


def everything(area: Area) -> Iterator[Area]:
    yield area
    for one in area.inside:
        yield from everything(one)


def test_areas_that_lie_inside_another_add_up_to_it(toy: Index) -> None:
    whole = area_of(toy, depth=9)
    assert (whole.node, whole.documents, whole.chunks, whole.chars) == ("L2-00000", 3, 6, toy.chars)
    # L0-00002 has two parents, and is at home in the first.
    told = {area.node: (area.documents, area.chunks) for area in everything(whole)}
    assert (told["L1-00000"], told["L1-00001"]) == ((1, 3), (2, 3))
    for area in everything(whole):
        if area.inside:
            assert sum(one.chars for one in area.inside) == area.chars
            assert sum(one.chunks for one in area.inside) == area.chunks
            assert sum(one.share for one in area.inside) == pytest.approx(area.share)
            assert [one.chars for one in area.inside] == sorted(
                (one.chars for one in area.inside), reverse=True
            )


def test_a_branch_is_an_area_by_itself_and_depth_says_how_far_it_is_told(toy: Index) -> None:
    assert [area.level for area in everything(area_of(toy, depth=1))] == [2, 1, 1]
    assert area_of(toy, depth=0).inside == ()
    branch = area_of(toy, "L1-00001", depth=1)
    assert {area.node for area in branch.inside} == {"L0-00003", "L0-00004", "L0-00005"}
    assert area_of(toy, "L0-00003").chars == len(toy.text("L0-00003"))
    with pytest.raises(NoSuchNode):
        area_of(toy, "L7-00000")


def test_what_is_not_told_is_counted_however_many_there_are(tmp_path: Path) -> None:
    index = wide(tmp_path / "wide.index", 60, 40)
    whole = area_of(index, depth=2)
    assert (len(whole.inside), whole.more) == (MOST_INSIDE, 60 - MOST_INSIDE)
    assert {(len(one.inside), one.more) for one in whole.inside} == {(MOST_INSIDE, 40 - MOST_INSIDE)}
    few = area_of(index, depth=2, most=20)
    assert len(list(everything(few))) == 20
    assert sum(one.more + len(one.inside) for one in few.inside) == 40 * MOST_INSIDE


def test_a_text_file_is_one_area_of_its_chunks(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("One sentence. " * 300)
    index = open_text(tmp_path / "book.txt")
    whole = area_of(index)
    assert (whole.documents, whole.chunks, whole.chars) == (1, index.levels[0], index.chars)
    assert levels_read(Homes(index), len(index) - 1, 100, len)


def test_dates_are_those_of_the_documents_metadata(tmp_path: Path) -> None:
    draft = toy_draft()
    metas = [{"year": "2020"}, {"published": "2019-03-07T10:00"}, {"date": "Mon, 21 Nov 1997 09:55:06 -0600"}]
    documents = [(replace(d, meta=m), text) for (d, text), m in zip(draft.documents, metas, strict=True)]
    publish_toy(tmp_path / "dated.index", replace(draft, documents=documents))
    whole = area_of(open_index(tmp_path / "dated.index"))
    assert whole.dates == ("1997-11-21", "2020")
    assert {area.node: area.dates for area in whole.inside} == {
        "L1-00000": ("2020", "2020"),
        "L1-00001": ("1997-11-21", "2019-03-07"),
    }


@pytest.mark.parametrize(
    ("meta", "dates"),
    [
        ({"date": "2021-02-28"}, ["2021-02-28"]),
        ({"Date": "2021-13-01"}, []),
        ({"year": "20210"}, []),
        ({"author": "1984"}, []),
        ({"date": "yesterday"}, []),
        ({"sent": "Mon, 99 Nov 1997 09:55:06"}, []),
        ({"date": "\x00" * 1000}, []),
        ({}, []),
    ],
)
def test_what_is_no_date_is_none(meta: dict[str, str], dates: list[str]) -> None:
    assert list(dates_of(meta)) == dates


@given(st.text(max_size=60))
def test_no_metadata_is_too_odd_for_a_date(value: str) -> None:
    assert all(len(one) in (4, 7, 10) for one in dates_of({"date": value}))


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("named")
    for n, name in enumerate(["Ada Lovelace", "Grace Hopper", "Alan Turing"]):
        said = f"{name} wrote programs. On that day it rained, and {name} stayed at home. " * 12
        (folder / f"{n}.txt").write_text(said)
    path = tmp_path_factory.mktemp("built") / "named.index"
    build_index(folder, path)
    return open_index(path)


def test_names_are_told_as_the_texts_write_them(named: Index) -> None:
    whole = area_of(named, depth=9)
    told = {name for area in everything(whole) for name in area.names} | {
        area.label for area in everything(whole)
    }
    assert any("Ada Lovelace" in one for one in told)
    assert not any("ada lovelace" in one for area in everything(whole) for one in area.names)


# -- what is read ------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 400), st.sampled_from(["L2-00000", "L1-00000", "L1-00001", "L0-00003"]))
def test_what_is_read_has_no_more_tokens_than_there_are(toy: Index, tokens: int, node: str) -> None:
    read = levels_read(Homes(toy), toy.number_of(node), tokens, len)
    assert sum(len(one.text) for one in read) <= tokens
    below = set(toy.below(toy.number_of(node)).tolist())
    assert {one.number for one in read} <= below
    assert sum(one.share for one in read) <= 1 + 1e-9
    assert read == levels_read(Homes(toy), toy.number_of(node), tokens, len)


def test_every_part_is_named_where_the_tokens_allow_and_the_largest_first(tmp_path: Path) -> None:
    index = wide(tmp_path / "wide.index", 20, 3)
    text = "\n".join(one.text for one in levels_read(Homes(index), len(index) - 1, 900, len))
    assert all(f"part {i}" in text for i in range(20))
    assert "This is part" in text


def test_nothing_is_told_twice(tmp_path: Path) -> None:
    index = wide(tmp_path / "wide.index", 20, 3)
    text = "\n".join(one.text for one in levels_read(Homes(index), len(index) - 1, 4_000, len))
    assert text.count("This is part 7.") == 1
    assert sum(line.split("; ").count("part 7") for line in text.splitlines()) <= 1


@pytest.mark.parametrize("doc", [None, "one.txt"])
def test_the_centre_of_an_area_is_the_chunk_of_the_view_that_is_nearest_to_it(
    toy: Index, doc: str | None
) -> None:
    view = View(toy, scope=Scope(doc))
    areas = [number for number in toy.level_range(1) if Homes(toy, np.array(view.chunks)).chunks(number).size]
    for area, centre in zip(areas, view.centres(areas), strict=True):
        own = Homes(toy, np.array(view.chunks)).chunks(area).tolist()
        likeness = {chunk: float(toy.vectors[chunk] @ toy.vectors[area]) for chunk in own}
        assert likeness[centre] == pytest.approx(max(likeness.values())) and centre in view


def test_the_texts_of_the_toy_are_those_that_these_tests_believe(toy: Index) -> None:
    assert toy.chars == sum(map(len, TEXTS.values()))
    assert toy.leaf_chars.tolist() == [len(toy.text(f"L0-0000{n}")) for n in range(6)]
