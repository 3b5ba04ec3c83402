"""The cache of narrowed indexes: nobody else looks into it, and what they plant there is not believed."""

import gc
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from index_store import access, cache, index as index_module
from index_store.errors import BrokenIndex, IndexStoreError
from index_store.index import Index, open_any, open_index
from tests.helpers.toy import publish_toy, toy_draft


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy index, of which one document is for hr, and one for legal; with a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    draft = toy_draft()
    labels: tuple[dict[str, str], ...] = ({}, {"access": "hr"}, {"access": "legal"})
    documents = [(replace(d, meta=own), text) for (d, text), own in zip(draft.documents, labels, strict=True)]
    publish_toy(tmp_path / "toy.index", replace(draft, documents=documents))
    return tmp_path / "toy.index"


def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "raptor-rlm" / "narrowed"


def ids(index: Index) -> list[str]:
    return [document.id for document in index.documents]


def test_a_narrowed_index_is_made_once_in_a_folder_that_is_its_users_alone(
    whole: Path, tmp_path: Path
) -> None:
    first = open_index(whole, access="hr")
    made = first.folder.stat().st_ino
    assert ids(first) == ["boats.txt", "größe.md"]
    assert open_index(whole, access=["hr"]).folder.stat().st_ino == made
    assert folder(tmp_path).stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o077 for path in folder(tmp_path).iterdir()] == [0]
    assert first.path.name == "toy.index"
    assert (first.named, open_index(whole, access="hr, legal").named, open_index(whole).named) == (whole,) * 3


def test_where_nothing_is_hidden_the_index_itself_is_read(whole: Path) -> None:
    index = open_index(whole, access="legal, hr")
    assert (index.path, index.access) == (whole, frozenset({"hr", "legal"}))
    assert open_index(whole).access is None


def test_without_a_home_it_is_one_sentence_and_there_are_no_copies(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    for variable in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
        with pytest.raises(IndexStoreError, match=r"cache folder: there is no home folder; .*XDG_CACHE_HOME"):
            open_index(whole, access="hr")
    assert cache.copies(whole) == []
    cache.forget(whole)


def test_a_text_file_is_open_to_all(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Two masts.")
    assert open_any(tmp_path / "a.txt", access="hr").access == frozenset({"hr"})


def _change_a_file(entry: Path) -> None:
    text = entry / "toy.index" / "generations" / "000001" / "text.bin"
    text.write_bytes(text.read_bytes().replace(b"masts", b"lasts"))


def _plant_the_whole(entry: Path) -> None:
    whole = entry.parents[3] / "toy.index"
    shutil.rmtree(entry / "toy.index")
    shutil.copytree(whole, entry / "toy.index")


def _say_that_nothing_is_hidden(entry: Path) -> None:
    (entry / "seal").write_text(" " + (entry / "seal").read_text().partition(" ")[2])


def _link_a_file(entry: Path) -> None:
    text = entry / "toy.index" / "generations" / "000001" / "text.bin"
    content = text.read_bytes()
    text.unlink()
    (entry.parent / ".else").write_bytes(content)
    text.symlink_to(entry.parent / ".else")


def _link_the_entry(entry: Path) -> None:
    entry.rename(entry.parent / ".moved")
    entry.symlink_to(entry.parent / ".moved")


def _forget_the_seal(entry: Path) -> None:
    (entry / "seal").unlink()


def _seal_in_a_strange_alphabet(entry: Path) -> None:
    (entry / "seal").write_bytes(b"\xff\xfe \xff")


@pytest.mark.parametrize(
    "harm",
    [
        _change_a_file,
        _plant_the_whole,
        _say_that_nothing_is_hidden,
        _link_a_file,
        _link_the_entry,
        _forget_the_seal,
        _seal_in_a_strange_alphabet,
    ],
)
def test_an_entry_that_is_not_as_it_was_made_is_made_anew(
    whole: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    expected = open_index(whole, access="hr").digest
    (entry,) = folder(tmp_path).iterdir()
    harm(entry)
    index = open_index(whole, access="hr")
    assert (index.digest, ids(index)) == (expected, ["boats.txt", "größe.md"])
    assert index.document_text("boats.txt").startswith("The ketch has two masts.")
    assert not entry.is_symlink()


def test_the_entry_of_another_reader_in_the_place_of_ones_own_is_not_believed(
    whole: Path, tmp_path: Path
) -> None:
    open_index(whole, access="hr")
    (theirs,) = folder(tmp_path).iterdir()
    open_index(whole, access="")
    (mine,) = (entry for entry in folder(tmp_path).iterdir() if entry != theirs)
    shutil.rmtree(mine)
    shutil.copytree(theirs, mine)
    assert ids(open_index(whole, access="")) == ["boats.txt"]


def test_what_an_index_has_other_than_its_digest_says_is_kept_for_nobody(whole: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted" / whole.name
    shutil.copytree(whole, planted)
    (documents,) = planted.rglob("documents.jsonl")
    documents.write_bytes(documents.read_bytes().replace(b'"access"', b'"excess"'))
    with pytest.raises(BrokenIndex, match=r"documents\.jsonl is not as it was written"):
        open_index(planted, access="")
    assert ids(open_index(whole, access="")) == ["boats.txt"]


def test_a_folder_that_is_a_link_is_refused_and_one_that_others_may_read_is_closed(
    whole: Path, tmp_path: Path
) -> None:
    folder(tmp_path).mkdir(parents=True)
    folder(tmp_path).chmod(0o777)
    open_index(whole, access="hr")
    assert folder(tmp_path).stat().st_mode & 0o777 == 0o700
    folder(tmp_path).rename(tmp_path / "elsewhere")
    folder(tmp_path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        IndexStoreError, match="narrowed is a link, no folder, or another user's; mend the folder"
    ):
        open_index(whole, access="hr")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to another user")
def test_a_folder_of_another_user_is_refused(whole: Path, tmp_path: Path) -> None:
    folder(tmp_path).mkdir(parents=True)
    os.chown(folder(tmp_path), 4_242, 4_242)
    with pytest.raises(IndexStoreError, match="another user's"):
        open_index(whole, access="hr")


def test_the_entries_that_were_used_longest_ago_go_first_and_none_that_is_in_use(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "NARROWED", replace(cache.NARROWED, entries=1))
    held = open_index(whole, access="hr")
    (first,) = folder(tmp_path).iterdir()
    os.utime(first / "seal", (1, 1))
    open_index(whole, access="legal")
    assert first.exists(), "it is in use"
    assert ids(held) == ["boats.txt", "größe.md"]
    del held
    gc.collect()
    os.utime(first / "seal", (1, 1))
    open_index(whole, access="")
    assert not first.exists()


def test_what_a_process_left_that_was_killed_goes_and_nothing_that_is_being_made(
    whole: Path, tmp_path: Path
) -> None:
    open_index(whole, access="hr")
    dead, made, gone = (folder(tmp_path) / name for name in (".partial-dead", ".partial-made", ".gone-0"))
    for entry in (dead, made, gone):
        entry.mkdir()
        (entry / "vectors.npy").touch()
    (dead / "lock").touch()
    with cache._in_use(made):
        for entry in (dead, made, gone):
            os.utime(entry, (1, 1))
        open_index(whole, access="legal")
        assert [entry.exists() for entry in (dead, made, gone)] == [False, True, False]


@pytest.mark.parametrize(
    "wrong", [",", "hr,,legal", "*", "hr, *", ["hr,legal"], ["x" * 101], ["hr", ""], "a\nb"]
)
def test_labels_of_a_reader_that_are_none_are_one_sentence(whole: Path, wrong: str | list[str]) -> None:
    with pytest.raises(IndexStoreError, match=r"^a reader has the access .*[a-z]$"):
        open_index(whole, access=wrong)


@pytest.mark.parametrize("wrong", ["", "hr,,", "x" * 200])
def test_a_document_of_an_index_from_elsewhere_whose_labels_cannot_be_read_is_hidden(
    whole: Path, tmp_path: Path, wrong: str
) -> None:
    draft = toy_draft()
    documents = [
        (replace(d, meta={"access": wrong} if d.id == "one.txt" else {}), t) for d, t in draft.documents
    ]
    publish_toy(tmp_path / "odd.index", replace(draft, documents=documents))
    assert ids(open_index(tmp_path / "odd.index", access=["hr", "x"])) == ["boats.txt", "größe.md"]
    assert len(open_index(tmp_path / "odd.index").documents) == 3


def test_who_may_read_what() -> None:
    assert access.may_read(frozenset(), frozenset())
    assert access.may_read(frozenset({"hr"}), None)
    assert access.may_read(frozenset({"hr", "legal"}), {"legal"})
    assert not access.may_read(frozenset({"hr"}), {"legal"})
    assert not access.may_read(None, {"hr"})
    assert access.of_document({"access": "*"}) == access.of_document({}) == frozenset()
