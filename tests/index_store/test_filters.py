"""A search is filtered by the metadata of documents and by the headings over chunks."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from index_store.documents import Documents, line_of
from index_store.errors import BadQuery, BrokenIndex
from index_store.filters import _no_document, _ranges
from index_store.index import Index, open_index
from index_store.outline import Outline
from index_store.types import MODES, Span
from tests.helpers.toy import DIM, index_of, publish_toy, toy_draft, unit_rows

META = {
    "boats.txt": {"year": "2021", "kind": "boat"},
    "größe.md": {"year": "2021", "Größe": "ä"},
    "one.txt": {"year": "2020"},
}
SECTIONS = {
    "boats.txt": ((0, 1, "Boats"), (30, 2, "The MIZZEN")),
    "größe.md": ((0, 1, "Maße"), (9, 2, "Äpfel"), (40, 1, "Rest")),
}


@pytest.fixture
def index(tmp_path: Path) -> Index:
    draft = toy_draft()
    documents = [
        (replace(d, meta=META[d.id], sections=SECTIONS.get(d.id, ())), text) for d, text in draft.documents
    ]
    publish_toy(tmp_path / "i", replace(draft, documents=documents))
    return open_index(tmp_path / "i")


def found(index: Index, **filters: Any) -> set[str]:
    return {hit.node for hit in index.search("ketch", 100, mode="dense", vector=unit_rows(1)[0], **filters)}


def test_metadata_and_sections_are_read_back(index: Index) -> None:
    assert {d.id: dict(d.meta) for d in index.documents} == META
    assert index.document("größe.md").sections == SECTIONS["größe.md"]


def test_the_order_of_metadata_fields_does_not_change_the_digest(tmp_path: Path) -> None:
    def digest(name: str, meta: dict[str, str]) -> str:
        draft = toy_draft()
        documents = [(replace(d, meta=meta), text) for d, text in draft.documents]
        return publish_toy(tmp_path / name, replace(draft, documents=documents)).digest

    assert digest("a", {"x": "1", "y": "2"}) == digest("b", {"y": "2", "x": "1"})
    assert digest("a", {"x": "1", "y": "2"}) != digest("c", {"x": "1", "y": "3"})


@pytest.mark.parametrize("damage", [b'"meta": {"', b'"sections": ['])
def test_a_document_without_its_fields_is_damage(index: Index, damage: bytes) -> None:
    file = index.folder / "documents.jsonl"
    raw = file.read_bytes()
    assert damage in raw
    file.write_bytes(raw.replace(damage, damage.replace(b"me", b"em").replace(b"se", b"es")))
    with pytest.raises(BrokenIndex, match="damaged at document 0"):
        open_index(index.path).documents[0]


def test_a_section_is_the_headings_over_a_place(index: Index) -> None:
    assert index.section(Span("boats.txt", 29, 40)) == ("Boats",)
    assert index.section(Span("boats.txt", 30, 40)) == ("Boats", "The MIZZEN")
    assert index.section(Span("größe.md", 50, 51)) == ("Rest",)
    assert index.section(Span("one.txt", 0, 1)) == ()


headings = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 6), st.text(max_size=3))).map(sorted)


@given(headings, st.integers(0, 60))
def test_a_path_is_made_of_ever_deeper_headings_that_nothing_ended(
    sections: list[tuple[int, int, str]], at: int
) -> None:
    before = [s for s in sections if s[0] <= at]
    want = [
        heading
        for i, (_, level, heading) in enumerate(before)
        if all(other > level for _, other, _ in before[i + 1 :])
    ]
    assert Outline(replace(toy_draft().documents[0][0], sections=tuple(sections))).path(at) == tuple(want)


def test_a_search_is_of_documents_that_have_all_fields(index: Index) -> None:
    assert found(index, where={"year": "2021"}) == {f"L0-{i:05}" for i in range(5)}
    assert found(index, where={"year": "2021", "kind": "boat"}) == {"L0-00000", "L0-00001", "L0-00002"}
    assert found(index, where={"year": "2020", "kind": "boat"}) == set()
    assert found(index, where={"Größe": "ä"}, doc="boats.txt") == set()
    assert found(index, where={}) == found(index)


def test_summaries_pass_only_where_all_their_chunks_do(index: Index) -> None:
    levels = {n: found(index, level=n, where={"kind": "boat"}) for n in (1, 2)}
    assert levels == {1: {"L1-00000"}, 2: set()}
    assert found(index, level=1, where={"year": "2020"}) == set()


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["a", "id", "meta", 'x"', "é", 'a": "b']), st.text(max_size=3), max_size=3
        ),
        min_size=3,
        max_size=3,
    )
)
@example([{"a": '"x": "1"', "x": "1"}, {"title": "boats"}, {"a": '", "x": "1'}])
def test_documents_are_found_by_exactly_their_metadata(metas: list[dict[str, str]]) -> None:
    draft = toy_draft()
    documents = [(replace(d, meta=m), text) for (d, text), m in zip(draft.documents, metas, strict=True)]
    lines = [line_of(d) for d, _ in documents]
    offsets = np.cumsum([0, *map(len, lines)])
    raw = np.frombuffer(b"".join(lines), dtype=np.uint8)
    opened = Documents(raw, offsets, np.arange(3), Path("documents.jsonl"))
    pairs = {pair for meta in metas for pair in meta.items()} | {
        ("title", "boats"),
        ("x", "1"),
        ("id", "one.txt"),
    }
    for name, value in pairs:
        assert opened.having(name, value).tolist() == [i for i, m in enumerate(metas) if m.get(name) == value]
        assert opened.having(name).tolist() == [i for i, m in enumerate(metas) if name in m]


def test_a_section_is_part_of_a_heading_in_any_case_with_all_below_it(index: Index) -> None:
    assert found(index, section="boat") == {"L0-00000", "L0-00001", "L0-00002"}
    assert found(index, section="mizzen") == {"L0-00001", "L0-00002"}  # the first of them holds the heading
    assert found(index, section="MASSE") == {"L0-00003", "L0-00004"}
    assert found(index, section="rest", where={"kind": "boat"}) == set()
    assert found(index, section="nothing") == set()


def test_a_field_that_nobody_has_is_an_error_that_names_those_there_are(index: Index) -> None:
    with pytest.raises(BadQuery, match=r"metadata field 'yaer'; there are Größe, kind, year"):
        found(index, where={"yaer": "2021"})
    with pytest.raises(BadQuery, match="the section is empty"):
        found(index, section=" ")


def test_a_value_that_nobody_has_is_an_error_that_names_those_there_are(index: Index) -> None:
    with pytest.raises(
        BadQuery, match=r"no document has '1' in the metadata field 'year'; there are '2020', '2021'$"
    ):
        found(index, where={"year": "1"})


def test_of_many_values_and_long_ones_the_first_are_named(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", {f"{n:02}": ["words"] for n in range(12)}, range(12))
    draft = [replace(d, meta={"n": f"{d.id}\x1b{'x' * 500}"}) for d in index.documents]
    raw, offsets = b"".join(map(line_of, draft)), np.cumsum([0, *map(len, map(line_of, draft))])
    opened = Documents(np.frombuffer(raw, dtype=np.uint8), offsets, np.arange(12), Path("documents.jsonl"))
    said = _no_document(opened, "n", "y" * 9_000)
    assert said.endswith("… and 2 more")
    assert "\x1b" not in said
    assert len(said) < 1_500


def test_all_modes_take_filters(index: Index) -> None:
    vector = unit_rows(1, DIM)[0]
    for mode in MODES:
        hits = index.search("mizzen", mode=mode, vector=vector, where={"kind": "boat"}, section="mizzen")
        assert {hit.node for hit in hits if hit.level == 0} <= {"L0-00001", "L0-00002"}
        assert hits


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["boat", "fruit"])), max_size=12))
@example([(1, "boat"), (2, "boat"), (2, "fruit"), (1, "fruit"), (1, "boat")])
def test_what_stands_under_a_heading_is_read_off_in_one_pass(levels: list[tuple[int, str]]) -> None:
    sections = [(10 * i, level, heading) for i, (level, heading) in enumerate(levels)]
    ranges = list(_ranges(sections, "boat", 1_000))
    wanted = {
        char
        for i, (start, level, heading) in enumerate(sections)
        if heading == "boat"
        for char in range(start, next((s for s, other, _ in sections[i + 1 :] if other <= level), 1_000))
    }
    assert {char for start, end in ranges for char in range(start, end)} == wanted
    assert all(end <= start for (_, end), (start, _) in pairwise(ranges))


def test_a_search_by_heading_can_be_stopped(index: Index) -> None:
    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        index.search("mizzen", mode="lexical", section="boat", check=stop)
