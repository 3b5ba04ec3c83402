"""Includes and excludes: patterns as in .gitignore say which files of a folder are taken, and sync keeps to them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from index_store import open_index
from raptor.build import build_index, sync_index, update_index
from raptor.cli import main
from raptor.errors import RaptorError
from raptor.estimating import estimate
from raptor.loading.origins import Origins
from raptor.loading.picking import Picked
from tests.helpers import tiny_embedder

FILES = ("a.md", "drafts/b.md", "drafts/kept.md", "deep/drafts/c.md", "deep/d.txt", "e.bak.md")


@pytest.fixture
def docs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of FILES, in the working folder."""
    tiny_embedder.use(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(FILES):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Document {number} tells of the boat {name}.")
    return Path("docs")


def ids() -> list[str]:
    return sorted(document.id for document in open_index("i").documents)


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        ((), (), FILES),
        ((), ("drafts/",), ("a.md", "deep/d.txt", "e.bak.md")),
        (
            (),
            ("/drafts/*", "!kept.md"),
            ("a.md", "drafts/kept.md", "deep/drafts/c.md", "deep/d.txt", "e.bak.md"),
        ),
        (("*.md",), ("*.bak.*", "drafts"), ("a.md",)),
        (("deep/",), (), ("deep/drafts/c.md", "deep/d.txt")),
    ],
)
def test_patterns_are_read_as_git_reads_them(
    include: Sequence[str], exclude: Sequence[str], taken: Sequence[str]
) -> None:
    picked = Picked(tuple(include), tuple(exclude))
    assert {name for name in FILES if picked.takes(name)} == {*taken}


def test_what_is_left_out_is_counted_by_a_dry_run_and_in_no_index(docs: Path) -> None:
    expected, _ = estimate([docs], "i", exclude=["drafts/", "*.bak.*"])
    assert (expected.documents, expected.excluded) == (2, 4)
    report = build_index([docs], "i", exclude=["drafts/", "*.bak.*"])
    assert (report.documents, report.excluded, ids()) == (2, 4, ["a.md", "deep/d.txt"])


def test_sync_repeats_the_patterns_and_an_update_names_others(docs: Path) -> None:
    build_index([docs], "i", include=["*.md"], exclude=["drafts/"])
    (docs / "drafts" / "new.md").write_text("A draft of the boats.")
    (docs / "new.md").write_text("News of the boats.")
    would = sync_index("i", dry_run=True)
    assert (would.changes.added, would.excluded) == (1, 5)
    sync_index("i")
    assert ids() == ["a.md", "e.bak.md", "new.md"]
    update_index("i", [docs], include=["*.md"], exclude=["drafts/", "*.bak.*"])
    sync_index("i")
    assert ids() == ["a.md", "new.md"]


def test_a_file_that_is_named_itself_is_taken_whatever_its_folder_leaves_out(docs: Path) -> None:
    build_index([docs], "i", exclude=["drafts/"])
    update_index("i", [docs / "drafts" / "b.md"], exclude=["drafts/"])
    assert "drafts/b.md" in ids()
    sync_index("i")
    assert "drafts/b.md" in ids()


def test_patterns_that_leave_nothing_or_cannot_be_read_are_one_sentence(docs: Path) -> None:
    with pytest.raises(RaptorError, match="include and exclude leave none of 6 files; mend these patterns"):
        build_index([docs], "i", exclude=["*"])
    with pytest.raises(RaptorError, match=r"the patterns '.*z-a.*' cannot be read"):
        build_index([docs], "i", exclude=["a/**b[z-a]"])
    with pytest.raises(RaptorError, match="give a list, each item text"):
        build_index([docs], "i", exclude="*.tmp")


def test_patterns_of_a_stranger_that_are_none_name_no_source() -> None:
    row = {"given": "docs", "kind": "folder", "root": "/docs", "follow_links": False}
    whole = {"folder": "/", "sources": [row | {"picked": {"include": [], "exclude": ["*.tmp"]}}]}
    assert Origins.from_json(whole).sources[0].picked == Picked((), ("*.tmp",))
    wrongs: tuple[Any, ...] = ({"exclude": 3}, {"other": []}, [], {"exclude": ["a/**b[z-a]"]})
    for wrong in wrongs:
        assert Origins.from_json({"folder": "/", "sources": [row | {"picked": wrong}]}) == Origins()


def test_the_command_line_takes_them_from_raptor_toml_and_a_flag_wins(
    docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("raptor.toml").write_text('[build]\nexclude = ["drafts/"]\n')
    Path("raptor.toml").chmod(0o644)
    assert main(["build", "docs", "-o", "i", "--dry-run"]) == 0
    assert "3 documents (3 files left out by patterns)" in capsys.readouterr().out
    assert main(["build", "docs", "-o", "i", "--exclude", "*.bak.*"]) == 0
    assert "drafts/b.md" in ids() and "e.bak.md" not in ids()
