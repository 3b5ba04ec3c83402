"""Where a passage stands, in words: its label, what is searched of it, what a prompt says of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from index_store.index import open_index
from index_store.outline import LABEL_CHARS, PLACE_CHARS, Outline, shortened
from index_store.types import Document, Span
from tests.helpers.toy import publish_toy, toy_draft

TEXT = "# Lease\n\n## Notice\n\nThree months, in writing.\n\n### By tenants\n\n- **One** month\nis enough.\n"
HEADINGS = ((0, 1, "Lease"), (9, 2, "Notice"), (47, 3, "By tenants"))
LEASE = Document("lease.md", "Lease", "lease.md", "0" * 64, len(TEXT), (0, 40), HEADINGS)


def label(start: int, end: int | None = None, document: Document = LEASE) -> str:
    return Outline(document).label(TEXT[start:end], start)


def test_a_label_reads_as_title_section_and_first_words() -> None:
    assert label(0) == "Lease › Notice: Three months, in writing."
    assert label(47) == "Lease › Notice › By tenants: One month"
    assert label(20, 47) == "Lease › Notice: Three months, in writing."


def test_a_label_says_no_word_twice() -> None:
    assert label(0, 9) == "Lease"
    assert label(9, 20) == "Lease › Notice"
    again = replace(LEASE, title="lease", sections=((0, 1, "LEASE"), (9, 2, "Three months")))
    assert label(20, 47, again) == "lease: Three months, in writing."


def test_a_long_path_keeps_its_ends_in_a_label() -> None:
    deep = tuple((i, i + 1, f"heading number {i} of this long way down") for i in range(9))
    words = label(20, 47, replace(LEASE, sections=deep))
    assert words.startswith("Lease › heading number 8 of this long…: Three months")
    assert len(words) <= LABEL_CHARS


def test_a_place_names_title_sections_and_page() -> None:
    assert Outline(LEASE).place(20) == "Lease › Notice, page 1"
    assert Outline(LEASE).place(60) == "Lease › Notice › By tenants, page 2"
    assert Outline(replace(LEASE, title="", sections=(), pages=())).place(60) == ""


@given(
    st.text(max_size=400), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.text(max_size=300)))
)
def test_any_title_and_headings_make_one_short_line(title: str, sections: list[tuple[int, int, str]]) -> None:
    outline = Outline(replace(LEASE, title=title, sections=tuple(sorted(sections))))
    words, place = outline.label(TEXT, 0), outline.place(30)
    assert len(words) <= LABEL_CHARS
    assert len(place) <= PLACE_CHARS + len(", page 2")
    assert " ".join(words.split()) == words
    assert " ".join(place.split()) == place
    assert not set("<>[]") & set(place)


@pytest.mark.parametrize("words", ["", "word", "two words", "a" * 99, "word " * 99, "Ä  ö\n\u2028x"])
@pytest.mark.parametrize("chars", [1, 5, 20])
def test_words_are_shortened_to_what_there_is_room_for(words: str, chars: int) -> None:
    assert len(shortened(words, chars)) <= chars


def test_a_word_search_finds_a_chunk_by_its_heading(tmp_path: Path) -> None:
    draft = toy_draft()
    headed = [
        (replace(d, sections=((0, 1, "Rigging"),)) if d.id == "boats.txt" else d, t)
        for d, t in draft.documents
    ]
    publish_toy(tmp_path / "i", replace(draft, documents=headed))
    index = open_index(tmp_path / "i")
    hits = index.search("rigging", mode="lexical")
    assert {hit.span.doc for hit in hits if hit.span} == {"boats.txt"}
    assert len(hits) == 3
    assert index.place(Span("boats.txt", 30, 40)) == "boats › Rigging"


def test_many_headings_cost_no_chunk_a_look_at_all_of_them() -> None:
    many = replace(LEASE, chars=10**6, sections=tuple((i, 2, "x") for i in range(100_000)))
    outline = Outline(many)
    assert all(outline.path(int(at)) == ("x",) for at in np.linspace(0, 99_999, 20_000))
