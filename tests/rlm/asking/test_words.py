"""The digest in a trace covers every word that a model is told: prompts, refusals, errors, what a cell prints."""

import shutil
from pathlib import Path

import pytest

from rlm.asking.runs import TEXT_FOLDERS, words_digest
from tests.helpers.imports import reached
from tests.helpers.places import ROOT

#: Reached by the loop, and silent before a model: what is recorded, what a user chose, what a user is told.
SILENT = {"rlm", "rlm.errors", "rlm.limits", "rlm.audit", "rlm.memo"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in TEXT_FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_digest_is_of_the_files_and_nothing_else(copy: Path) -> None:
    assert words_digest(copy) == words_digest(ROOT)


@pytest.mark.parametrize(
    "file",
    [
        "rlm/prompts/system.md",
        "rlm/prompts/refusals.py",
        "rlm/loop/verbs.py",
        "rlm/answers/schema.py",
        "rlm/gateway/errors.py",
        "rlm/sandbox/cage/scan.py",
        "index_store/tree.py",
    ],
)
def test_one_word_more_in_any_of_them_is_another_digest(copy: Path, file: str) -> None:
    with (copy / file).open("a") as out:
        out.write("# one word more\n")
    assert words_digest(copy) != words_digest(ROOT)


def test_whatever_the_loop_reaches_is_covered_or_silent() -> None:
    covered = tuple(folder.replace("/", ".") for folder in TEXT_FOLDERS)
    beyond = {
        module
        for module in reached("rlm.loop.engine")
        if not module.startswith(covered) and ".".join(module.split(".")[:2]) not in SILENT
    }
    assert beyond == set()


def test_the_loop_words_no_refusal_in_its_code() -> None:
    for path in (ROOT / "rlm/loop").glob("*.py"):
        assert 'Refused("' not in path.read_text() and 'Refused(f"' not in path.read_text(), path
