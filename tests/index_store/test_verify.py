"""`raptor verify`: any flipped bit and any cut is found and named; a cut file never takes the interpreter down."""

import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index_store.errors import BrokenIndex, IndexStoreError
from index_store.files import lock
from index_store.generations import list_generations, prune, rollback
from index_store.index import open_index
from index_store.manifest import FILES
from index_store.verify import verify_index
from index_store.writer import Draft
from tests.helpers.places import ROOT
from tests.helpers.thorough import cases
from tests.helpers.toy import publish_toy, toy_draft

NAMES = sorted([*FILES, "manifest.json", "CURRENT"])


def file_of(path: Path, name: str) -> Path:
    return path / name if name == "CURRENT" else path / "generations" / "000001" / name


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    publish_toy(tmp_path / "a")
    return tmp_path / "a"


def test_a_whole_index_has_no_problems(whole: Path) -> None:
    assert verify_index(whole) == []


@pytest.mark.parametrize("name", NAMES)
def test_any_flipped_bit_is_found_and_its_file_named(whole: Path, name: str) -> None:
    file = file_of(whole, name)
    raw = file.read_bytes()
    # The manifest and the pointer are read as text; of the others one digest tells, wherever the bit lies.
    count = 64 if name in ("manifest.json", "CURRENT") else cases(8, 64)
    places = range(len(raw)) if len(raw) < count else random.Random(name).sample(range(len(raw)), count)
    for place in places:
        for bit in (0, 5, 7):
            file.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :])
            problems = verify_index(whole)
            assert problems and any(Path(name).name in p for p in problems), (place, bit, problems)
    file.write_bytes(raw)
    assert verify_index(whole) == []


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"format": 1}', None])
def test_a_broken_manifest_is_reported_once(whole: Path, raw: bytes | None) -> None:
    file = file_of(whole, "manifest.json")
    file.unlink()
    if raw is not None:
        file.write_bytes(raw)
    assert len(verify_index(whole)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_any_cut_is_found_and_its_file_named(whole: Path, name: str) -> None:
    file = file_of(whole, name)
    raw = file.read_bytes()
    for size in {0, 1, len(raw) // 2, len(raw) - 1} - {len(raw)}:
        file.write_bytes(raw[:size])
        assert any(Path(name).name in p for p in verify_index(whole)), size
        with pytest.raises(BrokenIndex):
            open_index(whole)


def test_a_pointer_never_leads_to_another_generation(whole: Path) -> None:
    """One flipped bit makes 2 of 3: another generation that is whole."""
    for labels in (["a", "b", "c"], ["d", "e", "f"]):
        publish_toy(whole, relabelled(labels))
    (whole / "CURRENT").write_bytes((whole / "CURRENT").read_bytes().replace(b"3 ", b"2 ", 1))
    assert ["CURRENT gives another digest of generation 2" in p for p in verify_index(whole)] == [True]
    with pytest.raises(BrokenIndex, match="another digest"):
        open_index(whole)
    publish_toy(whole, relabelled(["g", "h", "i"]))
    assert verify_index(whole) == []


def test_a_pointer_of_an_earlier_version_is_read(whole: Path) -> None:
    (whole / "CURRENT").write_text("000001\n")
    assert verify_index(whole) == []
    assert open_index(whole).root.label == "All"


@pytest.mark.parametrize("name", [*NAMES, "lexical", "."])
def test_a_link_in_an_index_is_refused_in_one_sentence_though_what_it_leads_to_fits(
    whole: Path, name: str
) -> None:
    file = file_of(whole, name)
    outside = file.resolve().rename(whole.parent / "outside")
    file.symlink_to(outside)
    with pytest.raises(
        BrokenIndex, match=r"is a link, and none is followed here; put the file itself"
    ) as caught:
        open_index(whole)
    assert str(file) in str(caught.value)
    assert any("is a link" in problem for problem in verify_index(whole))
    publish_toy(whole, relabelled(["a", "b", "c"]))
    assert open_index(whole).root.label == "c"
    assert not any(path.is_symlink() for path in open_index(whole).folder.rglob("*"))


def test_what_a_writer_leaves_aside_is_never_written_through_a_link(whole: Path) -> None:
    victim = whole.parent / "victim"
    victim.write_text("precious")
    (whole / "CURRENT.partial").symlink_to(victim)
    (whole / "generations/000002.partial").symlink_to(whole.parent)
    publish_toy(whole, relabelled(["a", "b", "c"]))
    rollback(whole, 1)
    assert (victim.read_text(), open_index(whole).generation) == ("precious", 1)
    outside = (whole / "generations").rename(whole.parent / "outside")
    (whole / "generations").symlink_to(outside)
    with pytest.raises(IndexStoreError, match="is a link"):
        publish_toy(whole)


def test_damage_to_an_old_generation_is_found_too_and_shared_files_are_read_once(whole: Path) -> None:
    publish_toy(whole, relabelled(["a", "b", "c"]))
    reports: list[tuple[int, int]] = []
    assert verify_index(whole, lambda done, total: reports.append((done, total))) == []
    assert reports[-1][0] == reports[-1][1]
    for name in ("labels.bin", "text.bin"):  # one of its own, one that both share
        file = file_of(whole, name)
        raw = file.read_bytes()
        file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        problems = verify_index(whole)
        assert len(problems) == (1 if name == "labels.bin" else 2)
        assert str(file) in problems[0]
        file.write_bytes(raw)


READ_ALL = """
import os, sys
from index_store.errors import IndexStoreError
from index_store.index import open_index

def read_all(path):
    index = open_index(path)
    for level in range(len(index.levels)):
        for node in index.nodes(level):
            index.text(node.id), index.children(node.id), index.parents(node.id)
    index.search("mizzen", mode="lexical"), index.grep("a")

for path in sys.argv[1:]:  # each in a fork, which has loaded already what reading an index loads
    child = os.fork()
    if not child:
        try:
            read_all(path)
        except Exception as e:
            print("refused:", e, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_files_that_lie_about_their_content_never_crash_the_interpreter(whole: Path) -> None:
    """Each array in turn is replaced by wild numbers of the same size, with sizes that still fit."""
    names = [name for name in NAMES if name.endswith(".npy")]
    copies = [whole.parent / f"wild {number}" for number in range(len(names))]
    for name, copy in zip(names, copies, strict=True):
        shutil.copytree(whole, copy)
        file = file_of(copy, name)
        raw, array = file.read_bytes(), np.load(file)
        wild = np.frombuffer(random.Random(name).randbytes(array.nbytes), dtype=np.uint8)
        file.write_bytes(raw[: len(raw) - array.nbytes] + wild.tobytes())
    ran = subprocess.run(
        [sys.executable, "-c", READ_ALL, *copies], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ended = dict(zip(names, ran.stdout.splitlines(), strict=True))
    assert {name for name, code in ended.items() if code not in ("0", "1")} == set(), ran.stderr
    assert "Fatal" not in ran.stderr


def test_an_edge_that_stands_one_way_only_is_found(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(whole, "parents.npy")
    parents = np.load(file)
    np.save(file, np.where(parents == 7, 6, parents))
    monkeypatch.setattr("index_store.verify.damaged_files", lambda folder, progress: iter(()))
    assert any("one direction only" in p for p in verify_index(whole))


def test_a_node_that_the_root_does_not_reach_is_found(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(whole, "children.npy")
    np.save(file, np.where(np.load(file) == 5, 4, np.load(file)))
    monkeypatch.setattr("index_store.verify.damaged_files", lambda folder, progress: iter(()))
    assert any("L0-00005 cannot be reached" in p for p in verify_index(whole))


def test_a_vector_that_is_no_unit_vector_is_found(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(whole, "vectors.npy")
    rows = np.load(file)
    rows[3] *= 2
    np.save(file, rows)
    monkeypatch.setattr("index_store.verify.damaged_files", lambda folder, progress: iter(()))
    assert any("vector of node L0-00003" in p for p in verify_index(whole))


# -- generations -------------------------------------------------------------------------------------------


def relabelled(labels: list[str]) -> Draft:
    return replace(toy_draft(), labels=labels)


def test_generations_are_listed_rolled_back_and_pruned(whole: Path) -> None:
    for labels in (["a", "b", "c"], ["d", "e", "f"]):
        publish_toy(whole, relabelled(labels))
    assert [(g.number, g.live, g.parent) for g in list_generations(whole)] == [
        (1, False, None),
        (2, False, 1),
        (3, True, 2),
    ]
    rollback(whole, 1)
    assert open_index(whole).root.label == "All"
    publish_toy(whole, relabelled(["x", "y", "z"]))
    assert list_generations(whole)[-1].parent == 1
    old = open_index(whole)
    assert prune(whole, keep=2) == [1, 2]
    assert [g.number for g in list_generations(whole)] == [3, 4]
    assert prune(whole) == [3]
    assert old.root.label == "z"
    assert verify_index(whole) == []


def test_a_generation_that_is_not_there_cannot_be_gone_back_to(whole: Path) -> None:
    with pytest.raises(BrokenIndex, match="there are 1"):
        rollback(whole, 7)
    with pytest.raises(BrokenIndex, match="1 or more"):
        prune(whole, keep=0)
    with pytest.raises(BrokenIndex, match="raptor build"):
        list_generations(whole / "none")


def test_nothing_is_created_where_an_index_has_no_generations(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("000001\n")
    for change in (lambda: rollback(tmp_path, 1), lambda: prune(tmp_path)):
        with pytest.raises(IndexStoreError, match="cannot change the index"):
            change()
    assert [path.name for path in tmp_path.iterdir()] == ["CURRENT"]


def test_an_index_has_one_writer_at_a_time(whole: Path) -> None:
    with lock(whole / "generations", RuntimeError("busy")):
        for change in (lambda: rollback(whole, 1), lambda: publish_toy(whole)):
            with pytest.raises(IndexStoreError, match="another build is writing the index"):
                change()
    assert not publish_toy(whole).new


def test_generations_share_unchanged_files(whole: Path) -> None:
    publish_toy(whole, relabelled(["a", "b", "c"]))
    text = [file_of(whole, "text.bin"), whole / "generations" / "000002" / "text.bin"]
    assert text[0].stat().st_ino == text[1].stat().st_ino
    labels = [file_of(whole, "labels.bin"), whole / "generations" / "000002" / "labels.bin"]
    assert labels[0].stat().st_ino != labels[1].stat().st_ino
