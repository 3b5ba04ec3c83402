"""An index and its sources drift apart: what says so, and what brings them together again."""

import gc
import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from zipfile import ZipFile

import pytest
from hypothesis import given, strategies as st

import rlm
from index_store import open_index
from index_store.errors import NoSuchNode
from index_store.paths import matches
from index_store.verify import verify_index
from raptor import cli
from raptor.build import build_index, sync_index, update_index
from raptor.checking import check_sources
from raptor.checkpoint import Checkpoint
from raptor.errors import RaptorError
from raptor.estimating import estimate
from raptor.loading.find import matching
from raptor.loading.metadata import read_metadata
from raptor.loading.origins import Origins, Source
from raptor.pruning import places_of_removed, prune_index
from raptor.settings import BuildSettings
from raptor.types import BuildReport
from tests.helpers import tiny_embedder
from tests.raptor.loading.test_archives import encrypted


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny_embedder.use(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def docs() -> Path:
    """Twenty documents, in a folder of the working folder."""
    return tiny_embedder.write_documents(Path("docs"), 20)


def write_rows(path: Path, **rows: str) -> None:
    path.write_text("".join(json.dumps({"_id": doc, "text": text}) + "\n" for doc, text in rows.items()))


def ids(index: str = "i") -> set[str]:
    return {document.id for document in open_index(index).documents}


def text(doc: str, index: str = "i") -> str:
    return open_index(index).document_text(doc)


def counted(report: BuildReport) -> dict[str, int]:
    return {name: number for name, number in asdict(report.changes).items() if number}


def state_of_disk(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- an update replaces nothing of another source ------------------------------------------------------------


def test_update_never_replaces_a_document_of_another_source_folder(docs: Path) -> None:
    other = Path("other")
    other.mkdir()
    (other / "d003.txt").write_text("Words of another folder.")
    (other / "new.txt").write_text("New words.")
    build_index([docs, other / "new.txt"], "both")
    as_build = build_index([docs, other], "clash").failures
    build_index(docs, "i")
    before = text("d003.txt")
    report = update_index("i", other)
    assert [asdict(failure) for failure in report.failures] == [asdict(failure) for failure in as_build]
    assert "'d003.txt' is already taken by docs/d003.txt" in report.failures[0].reason
    assert counted(report) == {"added": 1, "unchanged": 20}
    assert text("d003.txt") == before
    assert not update_index("i", "other/d003.txt").new
    assert counted(sync_index("i")) == {"unchanged": 21}


def test_nor_does_an_update_by_a_file_of_the_same_name_or_a_line_of_the_same_id(docs: Path) -> None:
    for folder, words in (("a", "one"), ("b", "two")):
        Path(folder).mkdir()
        Path(folder, "x.md").write_text(f"# Title\n\nWords of {words}.")
        write_rows(Path(folder, "rows.jsonl"), r=f"Row of {words}.")
    build_index(["a/x.md", "a/rows.jsonl", docs], "i")
    report = update_index("i", ["b/x.md", "b/rows.jsonl"])
    assert [f.source for f in report.failures] == ["b/rows.jsonl:1", "b/x.md"]
    assert "Row of one" in text("r")
    assert "Words of one" in text("x.md")


def test_an_update_from_another_folder_knows_the_files_that_were_indexed(
    docs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build_index(docs, "i")
    (docs / "d003.txt").write_text("Other words.")
    Path("elsewhere/docs").mkdir(parents=True)
    Path("elsewhere/docs/d004.txt").write_text("Words of another folder that is typed alike.")
    monkeypatch.chdir("elsewhere")
    assert counted(update_index("../i", "../docs/d003.txt")) == {"changed": 1, "unchanged": 19}
    refused = update_index("../i", "docs")
    assert [f.source for f in refused.failures] == ["docs/d004.txt"]
    monkeypatch.chdir(tmp_path)
    assert {d.source for d in open_index("i").documents} == {f"docs/d{n:03}.txt" for n in range(20)}


def test_what_was_moved_may_take_its_own_place(docs: Path) -> None:
    write_rows(docs / "rows.jsonl", one="The first row.", two="The second row.")
    build_index(docs, "i")
    docs.rename("moved")
    assert update_index("i", "moved").failures == ()
    assert {d.source for d in open_index("i").documents if "rows" in d.source} == {
        "moved/rows.jsonl:1",
        "moved/rows.jsonl:2",
    }
    write_rows(Path("moved/b.jsonl"), one="The first row, changed.")
    write_rows(Path("moved/rows.jsonl"), two="The second row.")
    assert update_index("i", "moved").failures == ()
    assert text("one") == "The first row, changed."


def test_without_its_record_an_index_still_takes_files_that_end_alike(docs: Path) -> None:
    build_index(docs, "i")
    Path("i/build.sqlite").unlink()
    (docs / "d003.txt").write_text("Other words.")
    assert counted(update_index("i", docs)) == {"changed": 1, "unchanged": 19}


def test_without_its_record_the_longest_path_says_which_document_a_file_is(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (docs / "sub").mkdir()
    (docs / "sub/d003.txt").write_text("Words of another one of that name.")
    monkeypatch.chdir(docs)
    build_index(".", "../i")
    Path("../i/build.sqlite").unlink()
    monkeypatch.chdir("..")
    for named in ("docs", "docs/sub", "docs/sub/d003.txt", "docs/d003.txt", "docs/sub/*.txt"):
        assert counted(update_index("i", named, dry_run=True)) == {"unchanged": 21}


# -- sync --------------------------------------------------------------------------------------------------


def change_everything(docs: Path) -> None:
    """One of each: d001 changed, d002 renamed with its title, d003 moved into a folder, d004 gone, one added."""
    (docs / "d001.txt").write_text("Other words now.")
    (docs / "d002.txt").rename(docs / "new name.txt")
    (docs / "sub").mkdir()
    (docs / "d003.txt").rename(docs / "sub/d003.txt")
    (docs / "d004.txt").unlink()
    (docs / "added.txt").write_text("The mast of a ketch.")


CHANGED = {"added": 1, "changed": 1, "renamed": 2, "removed": 1, "unchanged": 16}


def test_sync_makes_the_index_what_its_sources_are_now_and_counts_each_change(docs: Path) -> None:
    build_index(docs, "i")
    change_everything(docs)
    old = open_index("i")
    assert counted(sync_index("i")) == CHANGED
    fresh = open_index(build_index(docs, "fresh").index)
    now = open_index("i")
    assert {d.id: (d, now.document_text(d.id)) for d in now.documents} == {
        d.id: (d, fresh.document_text(d.id)) for d in fresh.documents
    }
    assert verify_index("i") == []
    assert len(old.documents) == 20  # whoever has the old generation open reads on
    generation = state_of_disk(now.folder).values()
    assert not any(bytes(Path.cwd()) in content for content in generation)  # it may be given away
    again = sync_index("i")
    assert (counted(again), again.new, again.calls, again.unseen) == ({"unchanged": 20}, False, 0, ())


def test_a_dry_run_of_sync_prints_the_same_counts_and_writes_nothing(docs: Path) -> None:
    build_index(docs, "i")
    change_everything(docs)
    before = state_of_disk(Path("i"))
    report = sync_index("i", dry_run=True)
    assert (counted(report), report.dry_run, report.new, report.calls) == (CHANGED, True, False, 0)
    assert counted(update_index("i", docs, remove=["d00[5-7].txt"], dry_run=True))["removed"] == 3
    assert state_of_disk(Path("i")) == before
    assert counted(sync_index("i")) == CHANGED


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_dry_run_needs_no_right_to_write(docs: Path) -> None:
    build_index(docs, "i")
    Path("i").chmod(0o500)
    assert counted(sync_index("i", dry_run=True)) == {"unchanged": 20}


def test_a_renamed_document_costs_no_model_call_and_keeps_its_metadata(docs: Path) -> None:
    write_rows(docs / "rows.jsonl", one="Ketch and yawl " * 30)
    build_index(docs, "i")
    before = open_index("i")
    for number in range(10):
        (docs / f"d{number:03}.txt").rename(docs / f"renamed {number}.txt")
    write_rows(docs / "rows.jsonl", eins="Ketch and yawl " * 30)
    report = sync_index("i")
    assert (counted(report), report.calls) == ({"renamed": 11, "unchanged": 10}, 0)
    after = open_index("i")
    assert [after.text(n.id) for n in after.nodes(1)] == [before.text(n.id) for n in before.nodes(1)]
    fresh = open_index(build_index(docs, "fresh").index)
    for doc in ("renamed 3.txt", "eins", "d015.txt"):  # the title is part of what is embedded
        mine, theirs = ([*x.document_leaves(x.document_number(doc))] for x in (after, fresh))
        assert abs(after.vectors[mine] - fresh.vectors[theirs]).max() < 1e-6


def test_sync_knows_folders_patterns_jsonl_and_single_files_from_wherever_it_is_called(
    docs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("notes/a.md", "notes/deep/b.md", "notes/c.txt", "lone.txt", "later/x.txt", "absolute/y.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"Words of {name}.")
    write_rows(Path("rows.jsonl"), r1="The first.", r2="The second.")
    build_index([docs, "notes/**/*.md", "lone.txt", "rows.jsonl", tmp_path / "absolute"], "i")
    monkeypatch.chdir("later")
    update_index("../i", "../later")
    assert not sync_index("../i").new
    monkeypatch.chdir(tmp_path)
    Path("notes/d.md").write_text("A new note.")
    Path("notes/no.txt").write_text("Not of the pattern.")
    Path("notes/deep/b.md").unlink()
    Path("lone.txt").unlink()
    Path("later/z.txt").write_text("Later still.")
    Path("absolute/z2.txt").write_text("Absolutely later.")
    write_rows(Path("rows.jsonl"), r0="The zeroth.", r2="The second.")
    monkeypatch.chdir("notes")
    assert counted(sync_index("../i")) == {"added": 4, "removed": 3, "unchanged": 24}
    monkeypatch.chdir(tmp_path)
    assert ids() - {f"d{n:03}.txt" for n in range(20)} == {
        "a.md",
        "d.md",
        "r0",
        "r2",
        "x.txt",
        "z.txt",
        "y.txt",
        "z2.txt",
    }
    sources = {d.id: d.source for d in open_index("i").documents}
    assert [sources[doc] for doc in ("d.md", "r0", "r2", "z.txt", "z2.txt")] == [
        "notes/d.md",
        "rows.jsonl:1",
        "rows.jsonl:2",
        "later/z.txt",
        str(tmp_path / "absolute/z2.txt"),  # as it was typed
    ]
    Path("lone.txt").write_text("It is back.")
    assert counted(sync_index("i")) == {"added": 1, "unchanged": 28}


def test_what_cannot_be_read_now_stays_as_it_was(docs: Path) -> None:
    write_rows(docs / "rows.jsonl", one="The first row.", two="The second row.")
    build_index(docs, "i")
    (docs / "d003.txt").write_bytes(b"\xff")
    (docs / "rows.jsonl").write_text('{"_id": "one", "text": "The first row."}\n{"_id": "two", "te\n')
    report = sync_index("i")
    assert {Path(f.source).name for f in report.failures} == {"d003.txt", "rows.jsonl:2"}
    assert counted(report) == {"unchanged": 22}


def test_a_source_folder_that_is_missing_is_no_reason_to_remove_its_documents(docs: Path) -> None:
    Path("more").mkdir()
    Path("more/x.txt").write_text("More words.")
    build_index([docs, "more/*.txt"], "i")
    docs.rename("away")
    for dry_run in (True, False):
        with pytest.raises(RaptorError, match=r"the source 'docs' is gone.*raptor remove i docs"):
            sync_index("i", dry_run=dry_run)
    assert len(ids()) == 21
    assert counted(update_index("i", remove=["docs"])) == {"removed": 20, "unchanged": 1}
    assert counted(sync_index("i")) == {"unchanged": 1}
    Path("more/x.txt").unlink()
    with pytest.raises(RaptorError):
        sync_index("i")
    assert ids() == {"x.txt"}


def test_an_index_that_does_not_say_what_it_was_built_from_is_refused(docs: Path) -> None:
    build_index(docs, "i")
    Path("i/build.sqlite").unlink()
    with pytest.raises(RaptorError, match="name that once: raptor update i SOURCE"):
        sync_index("i")
    update_index("i", docs)
    assert counted(sync_index("i")) == {"unchanged": 20}


@pytest.mark.parametrize(
    "record",
    [
        [],
        3,
        {"folder": 1},
        {"folder": "", "sources": [{}]},
        {"folder": "", "sources": 5},
        "x",
        {"sources": []},
    ],
)
def test_a_record_that_is_none_is_as_if_there_was_none(docs: Path, record: object) -> None:
    build_index(docs, "i")
    with Checkpoint(Path("i")) as checkpoint:
        checkpoint.put_json("origins", "roots", record)  # type: ignore[arg-type]
    with pytest.raises(RaptorError, match="name that once"):
        sync_index("i", dry_run=True)


def test_a_record_of_an_earlier_version_still_names_files(docs: Path) -> None:
    (docs / "sub").mkdir()
    (docs / "sub/x.txt").write_text("Words.")
    build_index(docs, "i")
    with Checkpoint(Path("i")) as checkpoint:
        checkpoint._run("DELETE FROM results WHERE kind = 'roots'")
        checkpoint.put_json("roots", "roots", [str(docs.resolve())])
    (docs / "sub/x.txt").write_text("Other words.")
    assert counted(update_index("i", docs / "sub/x.txt")) == {"changed": 1, "unchanged": 20}


def test_links_that_leave_a_folder_are_skipped_by_sync_unless_the_build_followed_them(docs: Path) -> None:
    Path("outside").mkdir()
    Path("outside/o.txt").write_text("Words from outside.")
    (docs / "o.txt").symlink_to(Path("outside/o.txt").resolve())
    (docs / "folder").symlink_to(Path("outside").resolve())
    build_index(docs, "i")
    report = sync_index("i")
    assert {Path(f.source).name for f in report.failures} == {"folder", "o.txt"}
    assert all("--follow-links" in failure.reason for failure in report.failures)
    assert counted(sync_index("i", follow_links=True, dry_run=True)) == {"added": 1, "unchanged": 20}
    build_index(docs, "followed", follow_links=True)
    Path("outside/o.txt").write_text("Other words from outside.")
    Path("outside/p.txt").write_text("More.")
    assert counted(sync_index("followed")) == {"added": 1, "changed": 1, "unchanged": 20}
    Path("outside/p.txt").unlink()
    assert counted(sync_index("followed")) == {"removed": 1, "unchanged": 21}


def test_update_says_when_documents_of_its_sources_have_vanished(docs: Path) -> None:
    write_rows(Path("rows.jsonl"), one="The first row.", two="The second row.")
    build_index([docs, "rows.jsonl"], "i")
    (docs / "d003.txt").unlink()
    write_rows(Path("rows.jsonl"), two="The second row.")
    assert update_index("i", docs).vanished == ("d003.txt",)
    (docs / "new.txt").write_text("New.")
    assert update_index("i", [docs / "new.txt", "rows.jsonl"]).vanished == ("d003.txt", "one")
    assert update_index("i", "rows.jsonl", remove=["d003.txt"]).vanished == ("one",)
    assert ids() >= {"one", "new.txt"}


@pytest.mark.parametrize("moment", ["raptor.grower.Grower.plan", "raptor.build.publish"])
def test_a_sync_that_is_stopped_leaves_the_old_generation_live_and_goes_on(
    docs: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    build_index(docs, "i")
    change_everything(docs)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(moment, stop)
        sync_index("i")
    assert (open_index("i").generation, verify_index("i")) == (1, [])
    assert counted(sync_index("i")) == CHANGED


# -- remove ------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(docs: Path) -> Iterator[set[str]]:
    """An index of a folder with folders in it and of lines; its ids."""
    for name in ("sub/a.md", "sub/deep/b.md", "sub.md"):
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).write_text(f"Words of {name}.")
    write_rows(Path("rows.jsonl"), r1="The first row.", r2="The second row.")
    write_rows(Path("more.jsonl"), s1="Another first row.")
    build_index([docs, "rows.jsonl", "more.jsonl"], "i")
    yield ids()


@pytest.mark.parametrize(
    ("names", "gone"),
    [
        (["docs/sub"], {"sub/a.md", "sub/deep/b.md"}),
        (["docs/sub/"], {"sub/a.md", "sub/deep/b.md"}),
        (["sub"], {"sub/a.md", "sub/deep/b.md"}),
        (["docs/*.md"], {"sub.md"}),
        (["docs/**/*.md"], {"sub.md", "sub/a.md", "sub/deep/b.md"}),
        (["*.md"], {"sub.md"}),
        (["**/b.md"], {"sub/deep/b.md"}),
        (["./docs/d00[1-3].txt"], {"d001.txt", "d002.txt", "d003.txt"}),
        (["docs/d001.txt", "d002.txt"], {"d001.txt", "d002.txt"}),
        (["rows.jsonl"], {"r1", "r2"}),
        (["*.jsonl"], {"r1", "r2", "s1"}),
        (["list.jsonl"], {"r1", "s1", "sub.md"}),
    ],
)
@pytest.mark.parametrize("deleted", [False, True])
def test_remove_takes_folders_globs_and_jsonl(
    mixed: set[str], docs: Path, names: list[str], gone: set[str], deleted: bool
) -> None:
    if deleted:
        docs.rename("elsewhere")
        Path("rows.jsonl").unlink()
    Path("list.jsonl").write_text('{"_id": "r1"}\n{"doc": "s1"}\n{"_id": "sub.md", "text": "whatever"}\n')
    assert counted(update_index("i", remove=names))["removed"] == len(gone)
    assert ids() == mixed - gone


def test_removing_what_nothing_came_from_is_one_sentence(mixed: set[str], docs: Path) -> None:
    Path("empty").mkdir()
    Path("list.jsonl").write_text('{"_id": "r1"}\n{"_id": "nobody"}\n')
    for name in ("empty", "*.none", "docs/none*"):
        with pytest.raises(RaptorError, match="no document of i has the id"):
            update_index("i", remove=[name])
    with pytest.raises(RaptorError, match=r"list.jsonl:2 lists 'nobody'"):
        update_index("i", remove=["list.jsonl"])
    with pytest.raises(RaptorError, match="one of the documents named is ''"):
        update_index("i", remove=[""])
    with pytest.raises(NoSuchNode, match="did you mean"):
        update_index("i", remove=["d00.txt"])
    with pytest.raises(RaptorError, match="would leave no document"):
        update_index("i", remove=["."])
    assert ids() == mixed


def test_a_source_that_is_gone_and_holds_nothing_any_more_is_no_hindrance(docs: Path) -> None:
    Path("more").mkdir()
    Path("more/x.txt").write_text("More words.")
    build_index([docs, "more"], "i")
    docs.rename("moved")
    update_index("i", "moved")
    assert counted(sync_index("i")) == {"unchanged": 21}
    Path("more/x.txt").unlink()
    assert counted(sync_index("i")) == {"removed": 1, "unchanged": 20}
    Path("more/x.txt").write_text("More words.")
    assert counted(sync_index("i")) == {"added": 1, "unchanged": 20}
    Path("more/x.txt").unlink()
    sync_index("i")
    Path("more").rmdir()
    assert counted(sync_index("i")) == {"unchanged": 20}


def test_a_source_of_which_everything_was_removed_is_not_synced_again(mixed: set[str], docs: Path) -> None:
    update_index("i", remove=["docs", "r1"])
    assert counted(sync_index("i")) == {"unchanged": 2}  # rows.jsonl is a source still, and r1 was removed
    assert counted(sync_index("i", again=True)) == {"added": 1, "unchanged": 2}
    assert ids() == {"r1", "r2", "s1"}


names = st.text(alphabet="ab.*?[]", min_size=1, max_size=4)


@given(st.lists(names | st.just("**"), min_size=1, max_size=3), st.data())
def test_a_pattern_means_of_vanished_files_what_glob_means_of_files(
    parts: list[str], data: st.DataObject
) -> None:
    import tempfile

    if not any(c in "".join(parts) for c in "*?["):
        return
    plain = st.text(alphabet="ab.", min_size=1, max_size=3).filter(lambda name: name.strip("."))
    files = data.draw(st.lists(st.lists(plain, min_size=1, max_size=3), max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for file in files:
            path = Path(folder, *file)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                made.append(path)
            except OSError:  # one is a folder of another
                continue
        pattern = str(Path(folder, *parts))
        expected = set(map(str, matching(pattern, follow_links=True)))
        assert {str(path) for path in made if path.is_file() and matches(pattern, str(path))} == expected


def test_equal_parts_of_a_pattern_stand_for_a_folder_each(tmp_path: Path) -> None:
    for file in ("a", "b/c", "d/e/f"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = matching(str(tmp_path / "**" / "**" / "?" / "?"), follow_links=True)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in found) == ["b/c", "d/e/f"]


def test_remove_says_where_the_text_still_is_and_pruning_deletes_it_there(docs: Path) -> None:
    secret = "The secret of the yawl is a xylophone."
    (docs / "page.html").write_text(f"<p>{secret}</p>")
    build_index(docs, "i")
    update_index("i", remove=["d001.txt"])
    assert places_of_removed("i") == ["generation 1", "build.sqlite"]
    update_index("i", remove=["page.html"])
    assert places_of_removed("i") == ["generations 1, 2", "build.sqlite"]
    assert any(b"xylophone" in content for content in state_of_disk(Path("i")).values())
    prune_index("i")
    assert places_of_removed("i") == []
    assert not any(b"xylophone" in content for content in state_of_disk(Path("i")).values())


def test_what_was_removed_is_deleted_from_the_copies_for_readers_too_but_for_those_in_use(
    docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = str(Path("cache/raptor-rlm/narrowed").resolve())
    write_rows(docs / "a.jsonl", a="The secret of the yawl is a xylophone.", b="Of masts.")
    Path("m.csv").write_text("doc,access\nb,hr\n")
    build_index(docs, "i", metadata=read_metadata("m.csv"))
    seen = open_index("i", access="staff")
    assert seen.path.is_relative_to(kept)
    assert cli.main(["remove", "i", "a", "--quiet"]) == 0
    assert f"and in {kept}, and in runs" in capsys.readouterr().out
    assert cli.main(["prune", "i"]) == 0
    assert "1 copy for readers" in capsys.readouterr().err
    assert places_of_removed("i") == [kept]
    assert seen.document_text("a")
    del seen
    gc.collect()
    Path(kept, ".partial-1/i").mkdir(parents=True)
    assert cli.main(["remove", "i", "b", "--purge", "--quiet"]) == 0
    assert "no longer in the index folder, nor in your cache" in capsys.readouterr().out
    assert not any(b"xylophone" in content for content in state_of_disk(Path("cache")).values())
    assert list(Path(kept).iterdir()) == []


# -- a build onto an index ---------------------------------------------------------------------------------


def test_build_onto_an_index_says_what_it_would_drop_and_does_it_only_with_replace(docs: Path) -> None:
    build_index(docs, "i")
    other = Path("other")
    other.mkdir()
    (other / "d003.txt").write_text("Of another folder.")
    before = state_of_disk(Path("i"))
    with pytest.raises(RaptorError, match=r"would drop 20 documents \(d000.txt, d001.txt, d002.txt, ...\)"):
        build_index(other, "i")
    assert state_of_disk(Path("i")).keys() == before.keys()
    (docs / "d003.txt").unlink()
    with pytest.raises(RaptorError, match=r"would drop 1 document \(d003.txt\); give --replace"):
        build_index(docs, "i")
    expected, _ = estimate(docs, "i")
    assert expected.dropped == ("d003.txt",)
    assert len(ids()) == 20
    build_index(docs, "i", replace=True)
    assert len(ids()) == 19
    build_index(other, "i", replace=True)
    assert ids() == {"d003.txt"}
    assert counted(sync_index("i")) == {"unchanged": 1}


def test_a_build_that_drops_nothing_needs_no_leave(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(docs, "i")
    (docs / "d003.txt").write_text("Changed.")
    (docs / "new.txt").write_text("New.")
    monkeypatch.chdir(docs)
    build_index(".", "../i")
    assert len(ids("../i")) == 21


# -- check-sources -----------------------------------------------------------------------------------------


def states(*arguments: object, **options: bool) -> dict[str, str]:
    found = check_sources(*arguments, **options)  # type: ignore[arg-type]
    return {state.doc: state.state for state in found if state.state != "same"}


def test_check_sources_says_which_files_have_changed_or_gone_since(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(Path("rows.jsonl"), r1="One.", r2="Two.", r3="Three.")
    (docs / "page.html").write_text("<h1>Page</h1><p>Its words.</p>")
    build_index([docs, "rows.jsonl"], "i")
    assert states("i") == {}
    (docs / "page.html").write_text("<h1 class='x'>Page</h1><p>Its words.</p>")  # the text is the same
    (docs / "d001.txt").write_text("Changed.")
    (docs / "d002.txt").unlink()
    (docs / "d003.txt").write_bytes(b"\xff")
    (docs / "unasked.txt").write_text("New.")
    write_rows(Path("rows.jsonl"), r0="Zero.", r1="One.", r2="Zwei.")
    before = state_of_disk(Path("i"))
    expected = {
        "d001.txt": "changed",
        "d002.txt": "gone",
        "d003.txt": "unread",
        "r2": "changed",
        "r3": "gone",
    }
    assert states("i") == expected
    monkeypatch.chdir(docs)
    assert states("../i") == expected
    monkeypatch.chdir("..")
    assert state_of_disk(Path("i")) == before


def test_check_sources_follows_no_link_that_leaves_the_folder_unless_asked(docs: Path) -> None:
    build_index(docs, "i")
    for number in (1, 2):
        (docs / f"d00{number}.txt").rename(f"away{number}.txt")
        (docs / f"d00{number}.txt").symlink_to(Path(f"away{number}.txt").resolve())
    Path("away2.txt").write_text("Changed.")
    assert states("i") == {"d001.txt": "unread", "d002.txt": "unread"}
    assert all("--follow-links" in s.reason for s in check_sources("i") if s.state == "unread")
    assert states("i", follow_links=True) == {"d002.txt": "changed"}


def test_check_sources_of_a_run_looks_at_what_its_answer_cites(docs: Path) -> None:
    build_index(docs, "i")
    answer = rlm.ask("i", "What holds the ketch's mast?", runs="runs")
    cited = {citation.doc for citation in answer.citations if citation.doc}
    assert cited
    run = next(Path("runs").iterdir())
    assert states("i", run) == {}
    for path in docs.iterdir():
        path.unlink()
    assert states("i", run) == dict.fromkeys(cited, "gone")
    (docs / "only.txt").write_text("Something else.")
    build_index(docs, "i", replace=True)
    assert states("i", run) == dict.fromkeys(cited, "gone")  # the generation that it asked is there still
    prune_index("i")
    with pytest.raises(RaptorError, match="which no generation of i has"):
        check_sources("i", run)


def test_check_sources_of_a_changed_file_says_how_many_cited_words_and_chunks_still_stand(docs: Path) -> None:
    file = Path("long.txt")
    lines = [f"Line {n} says that the {n}th boat of the fleet has {n} oars and no sail." for n in range(80)]
    file.write_text("\n".join(lines))
    build_index(file, "i")
    run = Path("run")
    run.mkdir()
    cited = [
        {"doc": "long.txt", "quote": "seven oars", "found": "the 7th boat of the fleet has 7 oars"},
        {"doc": "long.txt", "quote": lines[20]},
        {"doc": None, "quote": "nowhere"},
    ]
    opened = {"kind": "run_opened", "index": {"digest": open_index("i").digest}}
    answered = {"kind": "answered", "conversation": "0", "citations": cited}
    (run / "trace.jsonl").write_text(json.dumps(opened) + "\n" + json.dumps(answered) + "\n")
    assert [(s.passages, s.standing) for s in check_sources("i", run)] == [(0, 0)]  # it is the same
    lines[20] = "Nothing of this is left."
    file.write_text("A new beginning.\n\n" + "\n  ".join(lines).replace(" fleet", "\nfleet"))
    (one,) = check_sources("i", run)
    assert (one.state, one.passages, one.standing) == ("changed", 2, 1)
    (one,) = check_sources("i")
    assert one.passages == open_index("i").levels[0] and one.passages - 2 <= one.standing < one.passages
    file.write_text("All is new.")
    assert [(s.passages, s.standing) for s in check_sources("i", run)] == [(2, 0)]


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"kind": "answered", "conversation": "0"}', "\x00"])
def test_what_is_no_trace_is_one_sentence(docs: Path, line: str) -> None:
    build_index(docs, "i")
    Path("trace.jsonl").write_text(line + "\n")
    with pytest.raises(RaptorError, match=r"is no trace of a run|which no generation"):
        check_sources("i", ".")
    with pytest.raises(RaptorError, match="cannot read the run nowhere"):
        check_sources("i", "nowhere")


@pytest.mark.parametrize(
    "source", ["\0", "\ud800", "a/../../../b", "", "x.jsonl:" + "9" * 40, "~", "x" * 5_000]
)
def test_a_strangers_name_of_a_file_raises_nothing(source: str) -> None:
    origins = Origins(
        "", (Source(source, "file"), Source(source, "folder", source), Source("*" + source, "pattern"))
    )
    assert Path(origins.place(source)).is_absolute()
    assert isinstance(origins.owners(source), list)


# -- what is packed in a file ----------------------------------------------------------------------------------


def write_zip(path: Path, **members: str) -> None:
    with ZipFile(path, "w") as package:
        for name, words in members.items():
            package.writestr(name.replace("__", "/"), words)


@pytest.mark.parametrize("source", ["docs", "docs/a.zip", "docs/*.zip"])
def test_an_archive_is_synced_member_by_member(docs: Path, source: str) -> None:
    write_zip(docs / "a.zip", x="Words of x.", sub__y="Words of y.", z="Words of z.", picture="\x00")
    held = build_index([docs / "d000.txt", source], "i").documents
    assert held == (23 if source == "docs" else 4)
    assert counted(sync_index("i")) == {"unchanged": held}
    assert {state.state for state in check_sources("i")} == {"same"}
    write_zip(docs / "a.zip", x="Words of x.", sub__y="Other words.", picture="\x00")
    assert {s.doc.rpartition("/")[2]: s.state for s in check_sources("i") if s.state != "same"} == {
        "y": "changed",
        "z": "gone",
    }
    assert counted(sync_index("i")) == {"changed": 1, "removed": 1, "unchanged": held - 2}
    (docs / "a.zip").unlink()
    assert counted(sync_index("i", dry_run=True))["removed"] == 2
    assert {s.state for s in check_sources("i") if ".zip" in s.file} == {"gone"}


def test_a_file_in_a_gz_and_an_attachment_keep_their_ids(docs: Path) -> None:
    (docs / "a.txt.gz").write_bytes(gzip.compress(b"Words of a."))
    (docs / "m.eml").write_bytes(
        b"Subject: m\nDate: today\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
        b"--b\n\nWords of m.\n--b\nContent-Type: text/plain\n"
        b"Content-Disposition: attachment; filename=note.txt\n\nWords of a note.\n--b--\n"
    )
    build_index("docs", "i")
    assert {"a.txt.gz", "m.eml", "m.eml/note.txt"} <= ids()
    assert counted(update_index("i", "docs/m.eml")) == {"unchanged": 23}
    assert counted(sync_index("i")) == {"unchanged": 23}
    assert {state.state for state in check_sources("i")} == {"same"}
    assert not update_index("i", ["docs/d000.txt"]).vanished
    assert counted(update_index("i", remove=["docs/m.eml"])) == {"removed": 2, "unchanged": 21}


def test_rows_of_a_file_without_a_suffix_are_not_taken_for_gone(docs: Path) -> None:
    write_rows(docs / "rows", one="The first row.", two="The second row.")
    build_index("docs", "i")
    assert {state.state for state in check_sources("i")} == {"same"}
    assert not update_index("i", ["docs/d000.txt"]).vanished
    write_rows(docs / "rows", two="The second row.")
    assert counted(sync_index("i")) == {"removed": 1, "unchanged": 21}


def test_what_is_encrypted_is_read_with_its_password_and_stays_without(docs: Path) -> None:
    (docs / "secret.zip").write_bytes(encrypted(b"Hidden words.", b"open"))
    build_index("docs", "i", password="open")
    assert [s.doc for s in check_sources("i") if s.state == "unread"] == ["secret.zip/a.txt"]
    assert {s.state for s in check_sources("i", password="open")} == {"same"}
    assert counted(sync_index("i")) == {"unchanged": 21}
    (docs / "secret.zip").write_bytes(encrypted(b"Other words.", b"open"))
    assert counted(sync_index("i")) == {"unchanged": 21}
    assert counted(sync_index("i", password="open")) == {"changed": 1, "unchanged": 20}


def test_the_encoding_of_a_build_is_that_of_what_follows_it(docs: Path) -> None:
    (docs / "k.txt").write_bytes("Слова на русском языке".encode("koi8_r"))
    build_index("docs", "i", settings=BuildSettings(encoding="koi8_r"))
    assert {state.state for state in check_sources("i")} == {"same"}
    assert counted(sync_index("i")) == {"unchanged": 21}
