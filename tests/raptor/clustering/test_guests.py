"""Guests: a text stands in the branches of what it names, too, and no summary is about it there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from index_store.index import open_index
from index_store.name_table import name_table
from index_store.verify import verify_index
from raptor import BuildSettings, build_index, update_index
from raptor.cli import main
from raptor.clustering.guests import MEAN, guests, named_above, named_chunks
from raptor.clustering.settings import ClusterSettings

SETTINGS = ClusterSettings()
# Two clusters of four chunks, each chunk a document; the last of the first names what the second is about.
TEXTS = [
    ("masts and sails", "Ketch"),
    ("sails and masts of a Ketch", "Yawl"),
    ("The Ketch and the Yawl have masts", "Rig"),
    ("a Yawl from the yard of Ada Low, near Port Lowe", "Boats"),
    ("a yard on the river, by Port Lowe", "Ada Low"),
    ("ropes that Ada Low made", "Rope walk"),
    ("the harbour of Ada Low", "Port Lowe"),
    ("a Rope walk in Port Lowe", "Harbour street"),
]
CLUSTERS = [(0, 1, 2, 3), (4, 5, 6, 7)]


def named(texts: list[tuple[str, str]] = TEXTS):  # type: ignore[no-untyped-def]
    return named_chunks(name_table((text, [title]) for text, title in texts), np.arange(len(texts)))


def test_a_text_is_a_guest_where_what_it_names_is_at_home() -> None:
    boats, yard = guests(named(), CLUSTERS, SETTINGS)
    assert yard == (3,) and not {4, 6} & {*boats}


def test_no_text_is_a_guest_for_a_name_of_its_own_document_alone() -> None:
    of_one = named_chunks(name_table((text, [title]) for text, title in TEXTS), np.zeros(8, dtype=int))
    assert [*guests(of_one, CLUSTERS, SETTINGS)] == [(), ()]


def test_texts_without_names_have_one_parent() -> None:
    assert [*guests(named([("the sea is wide", "")] * 8), CLUSTERS, SETTINGS)] == [(), ()]


def test_a_threshold_that_no_posterior_passes_leaves_the_clusters_as_they_are() -> None:
    assert [*guests(named(), CLUSTERS, replace(SETTINGS, threshold=1.0))] == [(), ()]
    assert [*guests(named(), CLUSTERS, replace(SETTINGS, max_memberships=1))] == [(), ()]


NAMES = ["Ada", "Bob", "Cy", "Dee", "Eve"]


@given(
    st.lists(st.lists(st.sampled_from(NAMES), max_size=4), min_size=2, max_size=30),
    st.integers(2, 5),
    st.data(),
)
def test_guests_are_never_members_and_never_more_than_are_allowed(
    texts: list[list[str]], count: int, data: st.DataObject
) -> None:
    home = data.draw(st.lists(st.integers(0, count - 1), min_size=len(texts), max_size=len(texts)))
    clusters = [tuple(np.flatnonzero(np.array(home) == c).tolist()) for c in sorted({*home})]
    found = guests(named([(" met ".join(names), "") for names in texts]), clusters, SETTINGS)
    assert len(found) == len(clusters)
    joined = [node for places in found for node in places]
    assert len(joined) <= MEAN * len(texts)
    assert all(joined.count(node) < SETTINGS.max_memberships for node in joined)
    for members, places in zip(clusters, found, strict=True):
        assert not {*members} & {*places} and list(places) == sorted({*places})
        assert len(places) <= 4 * SETTINGS.target_size


def test_a_summary_bears_the_names_of_what_it_is_about() -> None:
    above = named_above(named(), CLUSTERS)
    assert len(above.bears) == 2 and above.kin.tolist() == [0, 1]


# -- in an index -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of short texts that name each other, with few to a cluster."""
    folder = tmp_path_factory.mktemp("town")
    write_town(folder / "docs")
    build_index(folder / "docs", folder / "i", settings=settings())
    return folder


def write_town(docs: Path) -> None:
    docs.mkdir()
    subjects = {
        "boat": ["mast", "sail", "keel", "rudder", "hull", "deck"],
        "bread": ["flour", "yeast", "oven", "crust", "dough", "salt"],
        "law": ["court", "judge", "writ", "oath", "appeal", "clerk"],
    }
    for subject, words in subjects.items():
        for n, word in enumerate(words):
            text = f"The {word} of a {subject} is a part of the {subject}, and {word} and {subject} go together.\n"
            other = f"{word.title()} Number{n} was seen by Mary Smith{n}.\n" if subject != "law" else ""
            (docs / f"{subject}-{n}.txt").write_text(text * 3 + other)


def settings() -> BuildSettings:
    return BuildSettings(cluster=ClusterSettings(target_size=4, part_size=64), root_children=3)


def test_a_guest_is_a_child_that_the_summary_is_not_about(town: Path) -> None:
    index = open_index(town / "i")
    with_guests = [n for n in index.level_range(1) if index.guests(n)]
    assert with_guests and not verify_index(town / "i")
    for number in with_guests:
        for guest in index.guests(number):
            assert guest in index.neighbours(number, "children")
            assert number in index.neighbours(guest, "parents")
            assert index.home(guest) != number
            assert index.path_to(index.id_of(guest))[-2].id != index.id_of(number)


def test_guests_change_neither_the_summaries_nor_how_many_there_are(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raptor.clustering.guests.MEAN", 0)
    build_index(town / "docs", tmp_path / "i", settings=settings())
    alone, index = open_index(tmp_path / "i"), open_index(town / "i")
    assert index.levels == alone.levels
    summaries = range(index.levels[0], len(index))
    assert [index.text_at(n) for n in summaries] == [alone.text_at(n) for n in summaries]
    assert not any(alone.guests(n) for n in range(len(alone)))


def test_an_update_keeps_the_summaries_whose_own_members_stayed(town: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    write_town(docs)
    first = build_index(docs, tmp_path / "i", settings=settings())
    (docs / "boat-9.txt").write_text("The anchor of a boat is a part of the boat, seen by Mary Smith1.\n")
    second = update_index(tmp_path / "i", docs)
    before, index = open_index(town / "i"), open_index(tmp_path / "i")
    same = {before.text_at(n) for n in range(before.levels[0], len(before))}
    stayed = [n for n in index.level_range(1) if index.text_at(n) in same]
    assert first.digest != second.digest and len(stayed) >= before.levels[1] - 1
    assert not update_index(tmp_path / "i", docs).new


def test_inspect_says_which_children_are_guests_and_where_a_node_is_one(
    town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = open_index(town / "i")
    branch = next(n for n in index.level_range(1) if index.guests(n))
    guest = index.guests(branch)[0]
    assert main(["inspect", str(town / "i"), "--depth", "3"]) == 0
    shown = capsys.readouterr().out
    assert f"guest {index.id_of(guest)}" in shown and "among them" in shown
    assert main(["inspect", str(town / "i"), "--node", index.id_of(guest), "--json"]) == 0
    assert index.id_of(branch) in json.loads(capsys.readouterr().out)["guest_in"]
