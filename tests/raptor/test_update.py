"""An update changes what changed and its ancestors, and leaves the rest as it stands."""

import shutil
from pathlib import Path

import pytest

from index_store.errors import BadQuery, NoSuchNode
from index_store.index import open_index
from index_store.verify import verify_index
from raptor.build import build_index, update_index
from raptor.errors import RaptorError
from raptor.types import BuildReport
from tests.helpers import tiny_embedder


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_embedder.use(monkeypatch)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, BuildReport]:
    """A folder with `docs` and their index `i`, a copy of it as it was built, and the build's report."""
    place = tmp_path_factory.mktemp("update")
    docs = tiny_embedder.write_documents(place / "at" / "docs", 100, 30)
    with pytest.MonkeyPatch.context() as patch:
        tiny_embedder.use(patch)
        report = build_index(docs, place / "at" / "i")
    shutil.copytree(place / "at", place / "kept")
    return place / "at", place / "kept", report


@pytest.fixture
def at(first: tuple[Path, Path, BuildReport]) -> Path:
    """The folder as the build left it. It is one place for all tests: an index knows where its sources lie."""
    at, kept, _ = first
    shutil.rmtree(at)
    shutil.copytree(kept, at)
    return at


@pytest.fixture
def docs(at: Path) -> Path:
    return at / "docs"


def texts(path: Path) -> dict[str, str]:
    index = open_index(path)
    return {d.id: index.document_text(d.id) for d in index.documents}


def test_adding_one_document_in_a_hundred_costs_few_calls(
    at: Path, docs: Path, first: tuple[Path, Path, BuildReport]
) -> None:
    full = first[2]
    (docs / "new.txt").write_text("The mast of a ketch holds a sail. " * 40)
    report = update_index(at / "i", docs)
    assert (report.changes.added, report.changes.unchanged) == (1, 100)
    own = 2  # the new document's chunks make clusters of their own
    assert report.calls <= 0.05 * full.calls + own + 2
    assert verify_index(at / "i") == []
    assert texts(at / "i")["new.txt"].startswith("The mast")


@pytest.mark.parametrize("absolute", [False, True])
def test_a_file_below_an_indexed_folder_keeps_the_id_it_has_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool
) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 5)
    for name in ("sub/x.txt", "sub/y.txt", "sub/deep/x.txt"):
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).write_text(f"The old words of {name}.")
    monkeypatch.chdir(tmp_path)
    build_index("docs", "i")
    (docs / "sub/x.txt").write_text("The new words.")
    monkeypatch.chdir(docs)  # from elsewhere, too
    here = docs if absolute else docs.relative_to(docs)
    report = update_index("../i", here / "sub/x.txt")
    assert (report.changes.changed, report.changes.added) == (1, 0)
    assert texts(tmp_path / "i")["sub/x.txt"] == "The new words."
    (docs / "sub/deep/new.txt").write_text("A new one.")
    report = update_index("../i", [str(here / "sub"), "../docs/d00[0-3].txt"])
    assert (report.changes.added, report.changes.removed) == (1, 0)
    assert "sub/deep/new.txt" in texts(tmp_path / "i")
    assert update_index("../i", here).changes.added == 0


def test_a_file_from_elsewhere_is_named_as_a_build_would_name_it(at: Path, docs: Path) -> None:
    other = at / "other" / "a"
    other.mkdir(parents=True)
    (other / "b.txt").write_text("Words from elsewhere.")
    update_index(at / "i", at / "other")
    (other / "c.txt").write_text("More words from elsewhere.")
    update_index(at / "i", other / "c.txt")
    (at / "lone.txt").write_text("A lone file.")
    update_index(at / "i", at / "lone.txt")
    assert texts(at / "i").keys() >= {"a/b.txt", "a/c.txt", "lone.txt", "d000.txt"}
    assert len(texts(at / "i")) == 103


def test_an_update_without_changes_costs_nothing_and_publishes_nothing(at: Path, docs: Path) -> None:
    report = update_index(at / "i", docs)
    assert (report.calls, report.new, report.generation) == (0, False, 1)


def test_a_document_that_moved_but_says_the_same_costs_nothing(at: Path, docs: Path) -> None:
    docs.rename(at / "elsewhere")
    report = update_index(at / "i", at / "elsewhere")
    assert report.calls == 0
    assert verify_index(at / "i") == []


def test_one_that_moved_and_was_changed_is_refused_until_the_one_that_is_gone_is_removed(
    at: Path, docs: Path
) -> None:
    docs.rename(at / "elsewhere")
    (at / "elsewhere" / "d003.txt").write_text("Other words.")
    (refused,) = update_index(at / "i", at / "elsewhere").failures
    assert "d003.txt, which is gone; to have this one in its place, first raptor remove" in refused.reason
    update_index(at / "i", remove=["d003.txt"])
    assert update_index(at / "i", at / "elsewhere").failures == ()
    assert texts(at / "i")["d003.txt"] == "Other words."


def test_a_changed_document_replaces_the_old_one(at: Path, docs: Path) -> None:
    (docs / "d007.txt").write_text("Something else altogether.")
    report = update_index(at / "i", docs / "d007.txt")
    assert (report.changes.changed, report.changes.added, report.changes.removed) == (1, 0, 0)
    assert texts(at / "i")["d007.txt"] == "Something else altogether."
    assert verify_index(at / "i") == []


def test_a_removed_document_is_gone_and_its_neighbours_stay(at: Path, docs: Path) -> None:
    report = update_index(at / "i", remove=["d003.txt", "d050.txt"])
    assert report.changes.removed == 2
    left = texts(at / "i")
    assert len(left) == 98
    assert "d003.txt" not in left
    assert verify_index(at / "i") == []
    hits = open_index(at / "i").search("ketch", k=200, mode="lexical")
    assert hits
    assert not any(h.span and h.span.doc == "d003.txt" for h in hits)


def test_a_kept_summary_is_word_for_word_the_old_one(at: Path, docs: Path) -> None:
    before = open_index(at / "i")
    old = {before.text(n.id) for n in before.nodes(1)}
    (docs / "new.txt").write_text("The mast of a ketch holds a sail. " * 40)
    report = update_index(at / "i", docs)
    after = open_index(at / "i")
    assert len({after.text(n.id) for n in after.nodes(1)} - old) <= report.calls


@pytest.mark.slow
def test_many_small_updates_leave_a_whole_tree(at: Path, docs: Path) -> None:
    for i in range(12):
        (docs / f"n{i}.txt").write_text(f"Yeast and bread number {i}. " * (3 + 20 * (i % 3)))
        update_index(at / "i", docs, remove=[f"d{i:03}.txt"] if i % 2 else [])
        (docs / f"d{i:03}.txt").unlink()
        assert verify_index(at / "i") == []
    index = open_index(at / "i")
    assert index.levels[-1] == 1
    assert max(len(index.children(n.id)) for n in index.nodes(1)) <= 32


def test_an_update_into_one_chunk_and_back_works(at: Path, docs: Path) -> None:
    names = [d.id for d in open_index(at / "i").documents]
    (docs / "d000.txt").write_text("one chunk")
    update_index(at / "i", docs / "d000.txt", remove=names[1:])
    assert open_index(at / "i").levels == (1,)
    (docs / "d000.txt").unlink()
    update_index(at / "i", docs)
    assert len(open_index(at / "i").documents) == 100
    assert verify_index(at / "i") == []


def test_removing_everything_or_the_unknown_is_refused_in_a_sentence(at: Path, docs: Path) -> None:
    names = [d.id for d in open_index(at / "i").documents]
    with pytest.raises(RaptorError, match="no document"):
        update_index(at / "i", remove=names)
    with pytest.raises(NoSuchNode, match="did you mean"):
        update_index(at / "i", remove=["d00.txt"])
    assert open_index(at / "i").manifest.generation == 1


def test_another_embedder_than_the_one_that_built_the_index_is_refused_naming_both(
    at: Path, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setattr(
        "index_store.embedder.load_embedder",
        lambda name, **_: replace(tiny_embedder.load(name), fingerprint="other"),
    )
    with pytest.raises(BadQuery, match=r"tiny.*other"):
        update_index(at / "i", docs)


def test_a_reader_of_the_old_generation_is_not_disturbed(at: Path, docs: Path) -> None:
    old = open_index(at / "i")
    before = old.text("L0-00000")
    update_index(at / "i", remove=["d000.txt"])
    assert old.text("L0-00000") == before
    assert open_index(at / "i").text("L0-00000") != before
