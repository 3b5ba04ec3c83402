"""Builds and changes of an index at a URL: what is live there is the start, and nothing is lost or paid for twice."""

import json
from pathlib import Path

import pytest

import raptor.places
from index_store.errors import IndexStoreError, Overtaken, StoreError
from index_store.generations import list_generations, rollback
from index_store.index import open_index
from index_store.stores.pulling import pull
from index_store.stores.pushing import Pushed, push
from index_store.verify import verify_index
from raptor import build_index, check_sources, sync_index, update_index
from raptor.cli import main
from raptor.errors import RaptorError
from raptor.pruning import prune_at
from tests.helpers import tiny_embedder


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("index_store.embedder.load_embedder", tiny_embedder.load)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("ketch", "yawl", "sloop"):
        (folder / f"{name}.txt").write_text(f"The {name} is a boat. " * 40)
    return folder


@pytest.fixture
def url(tmp_path: Path) -> str:
    return (tmp_path / "shared" / "boats").as_uri()


def ids(index: str | Path) -> list[str]:
    return sorted(document.id for document in open_index(index).documents)


def test_an_index_at_a_url_is_built_and_changed_as_one_in_a_folder(
    docs: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = build_index(docs, tmp_path / "here.index")
    there = build_index(docs, url)
    assert (there.index, there.digest) == (url, here.digest)
    assert (open_index(url).digest, verify_index(url)) == (here.digest, [])
    (docs / "ketch.txt").unlink()
    (docs / "brig.txt").write_text("The brig has two masts. " * 40)
    assert sync_index(url, dry_run=True).changes.removed == 1
    assert ids(url) == ["ketch.txt", "sloop.txt", "yawl.txt"]
    assert sync_index(url).index == url
    assert ids(url) == ["brig.txt", "sloop.txt", "yawl.txt"]
    assert [state.state for state in check_sources(url)] == ["same"] * 3
    assert main(["remove", url, "brig.txt", "--quiet"]) == 0
    assert "text that was removed is still in 2 earlier generations there" in capsys.readouterr().out
    assert ids(url) == ["sloop.txt", "yawl.txt"]
    assert main(["prune", url, "--grace", "0", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["deleted"]) == 2
    assert [generation.live for generation in list_generations(url)] == [True]


def test_a_build_that_was_killed_before_it_published_goes_on_and_publishes(
    docs: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(docs, url)
    (docs / "brig.txt").write_text("The brig has two masts. " * 40)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(raptor.places, "publish_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            update_index(url, [docs / "brig.txt"])
    assert "brig.txt" not in ids(url)
    with pytest.raises(
        RaptorError, match=rf"^what was built for {url} on this machine was not published yet"
    ):
        prune_at(
            url, grace_h=0
        )  # it would take away what the build came from, and nothing else can publish it
    assert not update_index(url, [docs / "brig.txt"]).new
    assert "brig.txt" in ids(url)
    assert len(prune_at(url, grace_h=0).deleted) == 1


def test_a_store_that_cannot_be_written_is_refused_before_anything_is_built(
    docs: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(docs, url)
    (docs / "brig.txt").write_text("The brig has two masts. " * 40)

    def refused(*args: object) -> None:
        raise StoreError("cannot write there: Read-only file system")

    stages: list[str] = []
    for write in ("put", "send"):  # what is tried before, and what is sent at the end
        with monkeypatch.context() as patch:
            patch.setattr(f"index_store.stores.folder.FolderObjects.{write}", refused)
            with pytest.raises(StoreError, match="cannot write there") as error:
                update_index(url, [docs / "brig.txt"], progress=lambda stage, *_: stages.append(stage))
        assert ("what was built is kept" in str(error.value)) == bool(stages) == (write == "send")
    assert not update_index(url, [docs / "brig.txt"]).new
    assert "brig.txt" in ids(url)


def test_what_somebody_else_publishes_is_what_the_next_change_begins_with(
    docs: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(docs, url)
    pull(url, tmp_path / "theirs.index")
    (tmp_path / "cutter.txt").write_text("A cutter has one mast. " * 40)
    update_index(tmp_path / "theirs.index", [tmp_path / "cutter.txt"])
    (docs / "brig.txt").write_text("The brig has two masts. " * 40)
    publish = raptor.places.publish_folder

    def slowly(*args: object) -> Pushed:
        monkeypatch.setattr(raptor.places, "publish_folder", publish)
        push(tmp_path / "theirs.index", url)
        return publish(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(raptor.places, "publish_folder", slowly)
    with pytest.raises(Overtaken, match=r"the same command goes on from theirs"):
        update_index(url, [docs / "brig.txt"])
    assert "brig.txt" not in ids(url)
    same = update_index(url, [tmp_path / "cutter.txt"])  # in our folder theirs is the third
    assert (same.new, same.generation) == (False, list_generations(url)[-1].number) == (False, 2)
    update_index(url, [docs / "brig.txt"])
    assert ids(url) == ["brig.txt", "cutter.txt", "ketch.txt", "sloop.txt", "yawl.txt"]
    rollback(url, 1)
    assert ids(url) == ["ketch.txt", "sloop.txt", "yawl.txt"]
    update_index(url, [docs / "brig.txt"])
    assert "cutter.txt" not in ids(url), "it was taken back"


def test_a_machine_on_which_the_folder_lies_elsewhere_changes_the_same_documents(
    docs: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (docs / "small").mkdir()
    (docs / "small" / "dinghy.txt").write_text("The dinghy is a boat. " * 40)
    monkeypatch.chdir(tmp_path)
    build_index("docs", url)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "second"))
    (tmp_path / "second").mkdir()
    there = docs.rename(tmp_path / "second" / "docs")
    (there / "small" / "punt.txt").write_text("The punt is a boat. " * 40)
    update_index(url, "second/docs/small/punt.txt")
    assert "small/punt.txt" in ids(url)
    for name, sources in (("small/dinghy", "second/docs/small/dinghy.txt"), ("ketch", "second/docs")):
        (there / f"{name}.txt").write_text(f"Other words of the {name}. " * 40)
        report = update_index(url, sources)
        assert (report.failures, report.changes.changed, report.changes.added) == ((), 1, 0)
    (there / "yawl.txt").unlink()
    assert sync_index(url).changes.removed == 1
    assert ids(url) == ["ketch.txt", "sloop.txt", "small/dinghy.txt", "small/punt.txt"]


def test_a_sync_says_which_documents_it_did_not_look_for(
    docs: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build_index(docs, url)
    monkeypatch.setenv("XDG_DATA_HOME", str(docs.parent / "second"))
    (docs.parent / "punt.txt").write_text("The punt is a boat. " * 40)
    update_index(url, docs.parent / "punt.txt")  # the one source that is known on this machine
    (docs / "yawl.txt").unlink()
    for dry_run in (True, False):
        assert sync_index(url, dry_run=dry_run, allow=lambda outside: True).unseen == (
            "ketch.txt",
            "sloop.txt",
            "yawl.txt",
        )
    assert main(["sync", url, "--yes", "--quiet"]) == 0
    told = capsys.readouterr().out
    assert (
        f"not looked at: 3 documents ({', '.join(('ketch.txt', 'sloop.txt', 'yawl.txt'))}), of no source"
        in told
    )
    update_index(url, docs)
    assert (sync_index(url).unseen, "yawl.txt" in ids(url)) == ((), False)


def test_an_index_that_was_taken_away_at_a_url_is_not_brought_back(docs: Path, url: str) -> None:
    build_index(docs, url)
    Path(url.removeprefix("file://"), "CURRENT").unlink()
    with pytest.raises(IndexStoreError, match=rf"{url} .*run raptor build SOURCE -o {url}"):
        update_index(url, [docs / "ketch.txt"])
    (docs / "yawl.txt").unlink()
    build_index(docs, url)
    assert ids(url) == ["ketch.txt", "sloop.txt"]
