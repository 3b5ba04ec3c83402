"""Two publishers at once, and publishers that die: one wins, and readers see the old or the new, whole."""

import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from index_store.errors import IndexStoreError, Overtaken, StoreError
from index_store.index import open_index
from index_store.stores.folder import FolderObjects
from index_store.stores.layout import listed, objects_at
from index_store.stores.objects import Changed
from index_store.stores.pruning import prune_store
from index_store.stores.pulling import pull
from index_store.stores.pushing import push
from index_store.types import Span
from index_store.verify import verify_index
from raptor import build_index
from tests.helpers.object_store import Meddler, meddling, new_bucket
from tests.helpers.places import ROOT
from tests.helpers.thorough import cases
from tests.index_store.stores.test_stores import change


def test_of_two_publishers_at_once_one_wins_and_the_other_keeps_their_work(url: str, tmp_path: Path) -> None:
    change(tmp_path / "a", "first")
    push(tmp_path / "a", url)
    pull(url, tmp_path / "b")
    for number in range(cases(4, 30)):
        made = {name: change(tmp_path / name, f"{name} {number}") for name in ("a", "b")}
        start = Barrier(2)

        def publish(name: str, start: Barrier = start) -> bool:
            start.wait()
            try:
                return push(tmp_path / name, url).new
            except Overtaken:
                return False

        with ThreadPoolExecutor(2) as pool:
            won = dict(zip("ab", pool.map(publish, "ab"), strict=True))
        assert sorted(won.values()) == [False, True]
        winner, loser = sorted("ab", key=lambda name: not won[name])
        assert open_index(url).digest == made[winner]
        assert open_index(tmp_path / loser).digest == made[loser]
        pull(url, tmp_path / loser, replace=True)
    assert verify_index(url) == []


def test_a_first_publisher_does_not_replace_another_first_publisher(url: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        change(tmp_path / name, name)
    start = Barrier(2)

    def publish(name: str) -> bool:
        start.wait()
        try:
            return push(tmp_path / name, url).new
        except Overtaken:
            return False

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(publish, "ab")) == [False, True]


@pytest.mark.slow
def test_a_publisher_that_is_killed_leaves_the_old_or_the_new_whole(url: str, tmp_path: Path) -> None:
    rng, index = random.Random(cases(3, 20)), tmp_path / "toy"
    old = change(index, "first")
    requests = _killed_push(index, url, 0, 0)
    assert requests is not None
    kills, done = cases(3, 20), 0
    while done < kills:
        new = change(index, f"change {done} {rng.random()}")
        # From the first request to the last, which is after the pointer was replaced.
        at = 1 + round((done + rng.random()) * (requests - 1) / kills)
        killed = _killed_push(index, url, at, rng.random() * 4) is None
        assert open_index(url).digest in (old, new)
        assert pull(url, tmp_path / "reader", replace=True).digest in (old, new)
        assert push(index, url).digest == new
        assert open_index(url).digest == new
        old, done = new, done + killed
    assert verify_index(url) == []
    prune_store(url, grace_h=0)
    left = {one.key for one in listed(objects_at(url), "")} - {".lock"}
    assert left == {
        "CURRENT",
        *(f"generations/{old}/{n}" for n in ("manifest.json", *open_index(url).manifest.files)),
    }


def _killed_push(index: Path, url: str, at: int, after_ms: float) -> int | None:
    """How many requests it made; None where it was killed."""
    words = [sys.executable, "-P", "-m", "tests.helpers.killed_push", str(index), url, str(at), str(after_ms)]
    ended = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    if ended.returncode == -9:
        return None
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


def test_a_store_that_ignores_the_conditions_of_a_write_is_refused(server: str, tmp_path: Path) -> None:
    change(tmp_path / "a", "a")
    url = f"{new_bucket(server)}/toy"
    for drops in (("if-",), ("if-match",), ("if-none-match",)):
        with meddling(server, Meddler(drops)), pytest.raises(StoreError, match="ignores the conditions"):
            push(tmp_path / "a", url)
        with meddling(server, Meddler(drops)), pytest.raises(StoreError, match="ignores the conditions"):
            build_index("no source, which is looked at after that", url)
        assert list(listed(objects_at(url), "")) == []
    assert push(tmp_path / "a", url).new


def test_a_store_that_does_not_do_what_it_is_asked_to_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise Changed

    change(tmp_path / "a", "a")
    url = (tmp_path / "store").as_uri()
    push(tmp_path / "a", url)
    change(tmp_path / "a", "b")
    for put in (refused, lambda *_: None):  # it wants other conditions; it keeps nothing
        monkeypatch.setattr(FolderObjects, "put", put)
        with pytest.raises(StoreError, match="does not have what was just written there"):
            push(tmp_path / "a", url)
        with pytest.raises(StoreError, match="does not list what was just written there"):
            prune_store(url)


# -- damage ------------------------------------------------------------------------------------------------


def test_a_file_that_is_damaged_in_the_cache_is_fetched_again_alone(server: str, tmp_path: Path) -> None:
    change(tmp_path / "a", "a")
    url = f"{new_bucket(server)}/toy"
    digest = push(tmp_path / "a", url).digest
    folder = open_index(url).folder
    for damage in (_flip, Path.unlink, _cut):
        damage(folder / "text.bin")
        with meddling(server, meddler := Meddler()):
            index = open_index(url)
        assert (index.digest, index.folder) == (digest, folder)
        fetched = [path.rpartition("/")[2] for _, path in meddler.asked]
        assert fetched == ["CURRENT", "manifest.json", "text.bin"]
        assert (folder / "text.bin").read_bytes() == (tmp_path / "a/generations/000001/text.bin").read_bytes()


def test_what_is_damaged_on_its_way_is_fetched_again(server: str, tmp_path: Path) -> None:
    change(tmp_path / "a", "a")
    url = f"{new_bucket(server)}/toy"
    push(tmp_path / "a", url)
    flipped: list[str] = []

    def flip_once(path: str, body: bytes) -> bytes:
        if path.endswith("text.bin") and not flipped:
            flipped.append(path)
            return bytes([body[0] ^ 1]) + body[1:]
        return body

    with meddling(server, meddler := Meddler(change=flip_once)):
        assert open_index(url).span_text(Span("one.txt", 0, 6)) == "single"
    assert [path for _, path in meddler.asked if path.endswith("text.bin")] == flipped * 2


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_file_that_is_damaged_in_the_store_is_named_and_mended_by_a_push(
    url: str, tmp_path: Path, cache_folder: Path, damage: str
) -> None:
    change(tmp_path / "a", "a")
    digest = push(tmp_path / "a", url).digest
    objects, key = objects_at(url), f"generations/{digest}/text.bin"
    whole = tmp_path / "a" / "generations" / "000001" / "text.bin"
    other = tmp_path / "other"
    shutil.copyfile(whole, other)
    (_flip if damage == "flip" else _cut)(other)
    if damage == "gone":
        objects.delete([key])
    else:
        objects.send(key, other, lambda size: None)
    assert f"{key} " in verify_index(url)[0]
    with pytest.raises(IndexStoreError, match=rf"{key} "):
        open_index(url)
    assert list((cache_folder / "pulled").iterdir()) == [], "nothing half is kept"
    push(tmp_path / "a", url, replace=True)
    assert (verify_index(url), open_index(url).digest) == ([], digest)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
