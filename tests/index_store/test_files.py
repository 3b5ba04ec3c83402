"""A file's digest, its replacement and its lock: whole or not at all, one owner at a time."""

import hashlib
import multiprocessing
from pathlib import Path

import pytest

from index_store.files import lock, replace_file, sha256_of

BUSY = RuntimeError("busy")


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"words")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"words").hexdigest()


def test_a_replacement_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    replace_file(tmp_path / "page", b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        replace_file(tmp_path / "folder", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "page"]
    assert (tmp_path / "page").read_bytes() == b"old"


@pytest.mark.parametrize("target", ["victim", "nothing", "."])
def test_neither_a_lock_nor_a_replacement_follows_a_link(tmp_path: Path, target: str) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / target)
    (tmp_path / ".page.partial").symlink_to(tmp_path / target)
    with pytest.raises(OSError, match="lock is a link, and none is followed here"):
        lock(tmp_path / "lock", BUSY)
    replace_file(tmp_path / "page", b"new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "page", "victim"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_lock_has_one_owner_at_a_time(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path if is_folder else tmp_path / "lock"
    with lock(path, BUSY), pytest.raises(RuntimeError, match="busy"):
        lock(path, BUSY)
    with lock(path, BUSY):
        pass


def hold_many_times(folder: Path) -> int:
    """How often this process held the lock, each time adding one to a count that only the lock guards."""
    times = 0
    for _ in range(300):
        try:
            with lock(folder / "lock", BUSY, remove=True):
                (folder / "count").write_text(str(int((folder / "count").read_text()) + 1))
                times += 1
        except RuntimeError:
            continue
    return times


def test_a_lock_that_is_removed_by_its_owner_never_has_two(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        times = pool.map(hold_many_times, [tmp_path] * 3, chunksize=1)
    assert int((tmp_path / "count").read_text()) == sum(times) > 0
    assert not (tmp_path / "lock").exists()
