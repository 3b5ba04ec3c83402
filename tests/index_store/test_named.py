"""Which documents a name stands for: one by its id, or all in a folder, of a pattern, or of a file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index_store.errors import NoSuchNode
from index_store.index import Index, open_index
from index_store.types import Scope
from index_store.view import View
from index_store.writer import Draft
from tests.helpers.toy import document, index_of, publish_toy, unit_rows

SOURCES = {
    "2020/a.pdf": "scans/first.pdf",
    "2020/b.txt": "b.txt",
    "2021/a.pdf": "rows.jsonl:7",
    "2021/old/c.pdf": "/far/away/c.pdf",
    "2021/rows": "rows.jsonl:8",
    "[x].txt": "x.txt",
}


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """The ids of the documents that a name stands for, in a small index whose sources lie below the working folder."""
    monkeypatch.chdir(tmp_path)
    index = archive(tmp_path / "i")
    return lambda name: [index.documents[int(number)].id for number in index.documents_named(name)]


def archive(path: Path) -> Index:
    documents = [document(doc, f"The text of {doc}.") for doc in SOURCES]
    n = len(documents)
    publish_toy(
        path,
        Draft(
            documents=[(replace(d, source=SOURCES[d.id]), text) for d, text in documents],
            chunks=np.array([(i, 0, d.chars) for i, (d, _) in enumerate(documents)], dtype=np.int64),
            labels=["All"],
            summaries=["Texts."],
            levels=[n, 1],
            children=[np.arange(n)],
            tokens=np.full(n + 1, 5, dtype=np.int64),
            vectors=unit_rows(n + 1),
        ),
    )
    return open_index(path)


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("2020/a.pdf", ["2020/a.pdf"]),
        ("*/a.pdf", ["2020/a.pdf", "2021/a.pdf"]),
        ("2021/*.pdf", ["2021/a.pdf"]),
        ("**/*.pdf", ["2020/a.pdf", "2021/a.pdf", "2021/old/c.pdf"]),
        ("./2020/*", ["2020/a.pdf", "2020/b.txt"]),
        ("2021", ["2021/a.pdf", "2021/old/c.pdf", "2021/rows"]),
        ("2021/old/", ["2021/old/c.pdf"]),
        ("[x].txt", ["[x].txt"]),
        ("scans/first.pdf", ["2020/a.pdf"]),
        ("./scans/../scans/first.pdf", ["2020/a.pdf"]),
        ("scans", ["2020/a.pdf"]),
        ("rows.jsonl", ["2021/a.pdf", "2021/rows"]),
        ("/far/away/c.pdf", ["2021/old/c.pdf"]),
        ("/far/*/*.pdf", ["2021/old/c.pdf"]),
        ("**/" * 5_000, list(SOURCES)),
        ("?.txt", ["2020/b.txt", "[x].txt"]),
    ],
)
def test_a_name_stands_for_an_id_else_for_what_ids_or_sources_fit(
    named: Callable[[str], list[str]], name: str, ids: list[str]
) -> None:
    assert named(name) == ids


def test_a_path_counts_from_the_working_folder(named: Callable[[str], list[str]], tmp_path: Path) -> None:
    assert named(str(tmp_path / "scans" / "first.pdf")) == ["2020/a.pdf"]
    assert named(f"../{tmp_path.name}/rows.jsonl") == ["2021/a.pdf", "2021/rows"]


@pytest.mark.parametrize(
    "name",
    ["", "*.doc", "2020/a", "a.pdf", "\0", "../2020", "*a" * 5_000, "[" * 99, "\udcff"],
)
def test_a_name_that_stands_for_none_is_refused(named: Callable[[str], list[str]], name: str) -> None:
    with pytest.raises(NoSuchNode, match="no document"):
        named(name)


def test_the_nearest_id_is_named(named: Callable[[str], list[str]]) -> None:
    with pytest.raises(NoSuchNode, match=r"no document '2020/\*\.pfd'; did you mean '2020/a.pdf'\?"):
        named("2020/*.pfd")


def test_a_scope_and_a_search_take_what_stands_for_several(tmp_path: Path) -> None:
    index = archive(tmp_path / "i")
    view = View(index, scope=Scope(doc="*/a.pdf"))
    assert [index.documents[number].id for number in view.documents] == ["2020/a.pdf", "2021/a.pdf"]
    assert view.text(0, view.chars) == "The text of 2020/a.pdf.The text of 2021/a.pdf."
    hits = index.search("text", mode="lexical", doc="2021")
    assert {hit.span.doc for hit in hits if hit.span} == {"2021/a.pdf", "2021/old/c.pdf", "2021/rows"}
    whole = index.search("text", 9, mode="tree", doc="**/*", vector=unit_rows(1)[0])
    assert len(whole) == len(SOURCES) + 1  # the root too, as it is about nothing else


def test_no_id_that_is_far_from_a_name_is_taken_for_what_was_meant(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", {"Dagny_Holm.md": ["a"], "boats.txt": ["b"]}, [0, 1])
    for name in ("art/nope.md", "x.md", "n"):
        with pytest.raises(NoSuchNode, match="; there are 2 documents"):
            index.documents_named(name)
    with pytest.raises(NoSuchNode, match=r"did you mean 'Dagny_Holm\.md'"):
        index.documents_named("art/Dagny_Holme.md")
