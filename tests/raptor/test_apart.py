"""Documents of different access are kept apart in the tree, and a slip opens none of them to all."""

import json
from pathlib import Path

import numpy as np
import pytest

import raptor
from index_store import access
from index_store.errors import IndexStoreError
from index_store.index import Index, open_index
from index_store.narrowing import labels_by_document, visible
from raptor.cli import main
from raptor.clustering.settings import ClusterSettings
from raptor.settings import BuildSettings
from tests.helpers import tiny_embedder

TOPICS = ("masts and sails of boats", "notice and rent of flats", "salaries and grades of staff")
SETTINGS = BuildSettings(root_children=3, cluster=ClusterSettings(target_size=3))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_embedder.use(monkeypatch)


def rows(**labels: list[str] | str) -> list[dict[str, object]]:
    """Eighteen documents about three topics; `labels`: of those that have some, by id."""
    return [
        {"_id": f"d{n}", "text": f"Document {n} about {TOPICS[n % 3]}, kept by Clerk {n % 4}. It ends here."}
        | ({"access": labels[f"d{n}"]} if f"d{n}" in labels else {})
        for n in range(18)
    ]


def built(folder: Path, lines: list[dict[str, object]]) -> Index:
    source = folder / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    raptor.build_index(source, folder / "i.index", settings=SETTINGS)
    return open_index(folder / "i.index")


def mixed(index: Index) -> list[str]:
    """The summaries, but for the root, that are about documents with different labels."""
    labels = labels_by_document(index)
    found = []
    for number in range(index.levels[0], len(index) - 1):
        below = [n for n in index.below(number).tolist() if n < index.levels[0]]
        if len({labels[index.leaf_documents[n]] for n in below}) > 1:
            found.append(index.id_of(number))
    return found


def test_summaries_below_the_root_are_about_documents_that_the_same_readers_may_read(tmp_path: Path) -> None:
    index = built(tmp_path, rows(d1="hr", d4=["hr"], d7="hr", d10="hr", d13="hr", d2="legal, hr"))
    assert mixed(index) == []
    assert index.levels[0] == 18
    assert len(index.levels) > 2


def test_a_reader_sees_each_summary_of_their_documents_and_the_report_says_how_many(tmp_path: Path) -> None:
    index = built(tmp_path, rows(d1="hr", d4="hr", d7="hr", d10="hr", d13="hr"))
    report = raptor.build_index(tmp_path / "rows.jsonl", tmp_path / "i.index", settings=SETTINGS)
    told = {seen.label: (seen.documents, seen.summaries) for seen in report.access}
    labels = labels_by_document(index)
    open_to_all = visible(index, np.array([not own for own in labels]))
    assert told[""] == (13, int(open_to_all[index.levels[0] :].sum()))
    assert told["hr"] == (18, sum(index.levels[1:]))
    assert told[""][1] > 1


def test_how_many_documents_others_have_does_not_show(tmp_path: Path) -> None:
    files = list[dict[str, str]]()
    for others in (1, 4, 40):
        lines = [row | {"access": "a"} for row in rows()[:9]]
        lines += [
            {"_id": f"x{n}", "text": f"Document {n} of Clerk {n % 4} about {TOPICS[n % 3]}.", "access": "b"}
            for n in range(others)
        ]
        (tmp_path / f"{others}").mkdir()
        whole = built(tmp_path / f"{others}", lines)
        narrowed = open_index(whole.path, access="a")
        assert narrowed.path != whole.path
        files.append({name: entry.sha256 for name, entry in narrowed.manifest.files.items()})
        for name in ("documents.jsonl", "documents_lines.npy"):  # which say from which folder
            del files[-1][name]
    assert files[0] == files[1] == files[2]


def test_where_nobody_has_labels_nothing_is_told_and_the_tree_is_the_one_it_was(tmp_path: Path) -> None:
    same = built(tmp_path, rows())
    assert raptor.build_index(tmp_path / "rows.jsonl", same.path, settings=SETTINGS).access == ()
    labelled = {f"d{n}": "hr" for n in range(18)}
    (tmp_path / "all").mkdir()
    other = built(tmp_path / "all", rows(**labelled))
    assert [other.text_at(n) for n in range(len(other))] == [same.text_at(n) for n in range(len(same))]


def test_an_update_that_changes_labels_moves_the_document(tmp_path: Path) -> None:
    built(tmp_path, rows(d1="hr", d4="hr", d7="hr", d10="hr"))
    (tmp_path / "new.csv").write_text("doc,access\nd2,hr\nd5,hr\nd1,*\n")
    raptor.update_index(tmp_path / "i.index", metadata=raptor.read_metadata(tmp_path / "new.csv"))
    index = open_index(tmp_path / "i.index")
    assert mixed(index) == []
    assert index.document("d2").meta == {"access": "hr"}
    seen = {document.id for document in open_index(tmp_path / "i.index", access="").documents}
    assert "d1" in seen
    assert not {"d2", "d5", "d4"} & seen


def test_near_duplicates_of_different_access_are_not_named_to_each_other(tmp_path: Path) -> None:
    text = "The rent is due on the first working day of each month, and notice is given three months before."
    lines = [
        {"_id": "a", "text": text},
        {"_id": "b", "text": text, "access": "hr"},
        {"_id": "c", "text": text},
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    report = raptor.build_index(source, tmp_path / "i.index", settings=SETTINGS)
    assert [(twin.doc, twin.of) for twin in report.near_duplicates] == [("c", "a")]
    assert open_index(tmp_path / "i.index").copies(1) == []


@pytest.mark.parametrize(
    "wrong",
    [None, 7, True, {}, [], "", " ", "hr,,legal", ["hr", 3], ["hr, legal"], "*, hr", "\x07", "x" * 101],
)
def test_a_document_whose_access_cannot_be_read_is_refused(wrong: object, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    lines = [{"_id": "ok", "text": "Open text."}, {"_id": "odd", "text": "Secret text.", "access": wrong}]
    source.write_text("\n".join(map(json.dumps, lines)))
    report = raptor.build_index(source, tmp_path / "i.index", settings=SETTINGS)
    assert [document.id for document in open_index(tmp_path / "i.index").documents] == ["ok"]
    (failure,) = report.failures
    assert failure.reason.startswith("line 2 has the access ")


def test_an_access_that_cannot_be_read_is_quoted_once() -> None:
    for given, shown in (
        ("a,,b", "'a,,b'"),
        (["a", 3], "['a', 3]"),
        (["x" * 101], "list"),
        ("\x07", r"'\x07'"),
    ):
        with pytest.raises(IndexStoreError) as caught:
            access.labels(given, "a reader")  # type: ignore[arg-type]
        assert f"has the access {shown}; give" in str(caught.value)


def test_labels_in_an_object_of_metadata_and_near_misses_of_the_name_count(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    lines = [
        {"_id": "in", "text": "Held text.", "meta": {"access": ["hr"]}},
        {"_id": "odd", "text": "Other text.", "Access": "hr"},
    ]
    source.write_text("\n".join(map(json.dumps, lines)))
    report = raptor.build_index(source, tmp_path / "i.index", settings=SETTINGS)
    assert [failure.reason for failure in report.failures] == [
        "line 2 has a field 'Access'; did you mean access? write it so, or rename the field"
    ]
    with pytest.raises(IndexStoreError, match="holds nothing that a reader of what is open to all may read"):
        open_index(tmp_path / "i.index", access="")


@pytest.mark.parametrize(
    "name",
    ["acess", "acces", "Access", " access", "acccess", "accses", "axcess", "ACESS", "access_", "accesses"],
)
def test_a_field_that_is_nearly_called_access_is_refused_wherever_it_stands(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "m.csv").write_text(f"doc,{name}\nd1,hr\n")
    with pytest.raises(raptor.RaptorError, match=r"line 2 has a field .*; did you mean access\?"):
        raptor.read_metadata(tmp_path / "m.csv")
    rows = [{"_id": "ok", "text": "Open."}, {"_id": "odd", "text": "Held.", "meta": {name: ["hr"]}}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = raptor.build_index(tmp_path / "rows.jsonl", tmp_path / "i.index", settings=SETTINGS)
    assert [document.id for document in open_index(tmp_path / "i.index").documents] == ["ok"]
    assert "did you mean access?" in report.failures[0].reason


@pytest.mark.parametrize(
    "name", ["accessed", "accession", "success", "excess", "process", "class", "address"]
)
def test_another_word_than_access_is_a_field_like_others(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"doc,{name}\nd1,2025\n")
    assert raptor.read_metadata(tmp_path / "m.csv").fields == {"d1": {name: "2025"}}


def test_labels_of_an_id_that_no_document_has_stop_the_build_and_an_update(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows()[:3])))
    (tmp_path / "m.csv").write_text("doc,access,year\nd0,hr,1\nd1.txt,hr,2\nd2.txt,hr,3\n")
    wrong = raptor.read_metadata(tmp_path / "m.csv")
    words = r"m\.csv:3 gives access to 'd1\.txt', and no document has that id \(and 1 more\), .*; mend the id"
    with pytest.raises(raptor.RaptorError, match=words):
        raptor.build_index(tmp_path / "rows.jsonl", tmp_path / "i.index", metadata=wrong, settings=SETTINGS)
    assert not (tmp_path / "i.index" / "CURRENT").exists()
    raptor.build_index(tmp_path / "rows.jsonl", tmp_path / "i.index", settings=SETTINGS)
    for dry_run in (True, False):
        with pytest.raises(raptor.RaptorError, match=words):
            raptor.update_index(tmp_path / "i.index", metadata=wrong, dry_run=dry_run)
    assert open_index(tmp_path / "i.index").generation == 1


@pytest.mark.parametrize("row", ['d1,""', "d1,", "d1,hr;x\x07"])
def test_metadata_with_access_that_cannot_be_read_is_one_sentence(row: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"doc,access\n{row}\n")
    with pytest.raises(
        raptor.RaptorError, match=r"the metadata .*m\.csv cannot be used: line 2 has the access "
    ):
        raptor.read_metadata(tmp_path / "m.csv")


def test_inspect_shows_what_each_label_sees_and_as_a_reader_nothing_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = built(tmp_path, rows(d1="hr", d4="hr", d7="secretlabel"))
    assert main(["inspect", str(index.path)]) == 0
    told = capsys.readouterr().out
    assert "readers of hr see 17 of 18 documents" in told
    assert "readers without a label see 15 of 18 documents" in told
    for more in ([], ["--json"], ["--documents"], ["--documents", "--json"]):
        assert main(["inspect", str(index.path), "--as", "hr", *more]) == 0
        told = capsys.readouterr().out
        assert "secretlabel" not in told
        assert "Document 7 " not in told
        assert "d7\t" not in told
        assert '"d7"' not in told
        assert " 18 " not in told
