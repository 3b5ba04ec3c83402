"""An index at a URL is the index that was pushed there, and nobody's work is lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from index_store.errors import BrokenIndex, Overtaken, StoreError
from index_store.generations import rollback
from index_store.index import open_any, open_index
from index_store.stores import pushing
from index_store.stores.pruning import prune_store
from index_store.stores.pulling import pull
from index_store.stores.pushing import push
from index_store.stores.transfers import send
from index_store.verify import verify_index
from tests.helpers.toy import publish_toy, toy_draft, toy_index


def change(path: Path, label: str) -> str:
    """Publish another generation of the toy index in a folder, and give its digest."""
    draft = toy_draft()
    return publish_toy(path, replace(draft, labels=[label, *draft.labels[1:]])).digest


def test_what_was_pushed_is_opened_by_its_url_and_comes_once(
    url: str, tmp_path: Path, cache_folder: Path
) -> None:
    own = toy_index(tmp_path / "toy.index")
    pushed = push(own.path, url)
    assert (pushed.digest, pushed.files, pushed.new) == (own.digest, len(own.manifest.files), True)
    assert (push(own.path, url).files, push(own.path, url).new) == (0, False)
    index = open_index(url)
    assert (index.digest, index.named, index.generation) == (own.digest, url, 1)
    assert index.search("mizzen", mode="lexical") == own.search("mizzen", mode="lexical")
    assert index.folder.is_relative_to(cache_folder)
    made = index.folder.stat().st_ino
    assert open_any(Path(url)).folder.stat().st_ino == made, "pathlib makes one slash of two"


def test_what_is_pulled_is_a_whole_index_that_can_be_changed_and_pushed(url: str, tmp_path: Path) -> None:
    first = push(toy_index(tmp_path / "toy.index").path, url)
    assert pull(url, tmp_path / "other.index").new
    assert not pull(url, tmp_path / "other.index").new
    assert verify_index(tmp_path / "other.index") == []
    second = change(tmp_path / "other.index", "Masts")
    assert push(tmp_path / "other.index", url).digest == second != first.digest
    assert pull(url, tmp_path / "toy.index").generation == 2
    assert open_index(tmp_path / "toy.index").digest == open_index(url).digest == second


def test_what_is_pulled_is_nobody_elses_and_mended_by_another_pull(url: str, tmp_path: Path) -> None:
    index = push(toy_index(tmp_path / "toy.index").path, url)
    assert open_index(url).digest == index.digest
    one, other = (tmp_path / name for name in ("one.index", "other.index"))
    for folder in (one, other):
        pull(url, folder)
    files = [path for path in (one / "generations" / "000001").rglob("*") if path.is_file()]
    assert all(path.stat().st_nlink == 1 for path in files)
    longer, gone, flipped = (
        one / "generations" / "000001" / name for name in ("text.bin", "labels.bin", "nodes.npy")
    )
    longer.write_bytes(longer.read_bytes() + b"junk")
    gone.unlink()
    assert not pull(url, one).new and verify_index(one) == [] == verify_index(other)
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"\x7f")
    assert pull(url, one).generation == 1 and verify_index(one), "nothing is read that has its size"
    assert pull(url, one, replace=True).generation == 1 and verify_index(one) == []
    assert not list((one / "generations").glob("*.partial"))


def test_what_somebody_else_published_is_replaced_only_where_that_is_asked_for(
    url: str, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        change(tmp_path / name, name)
    push(tmp_path / "a", url)
    with pytest.raises(StoreError, match="somebody else published it"):
        push(tmp_path / "b", url)
    with pytest.raises(StoreError, match="which was not pushed"):
        pull(url, tmp_path / "b")
    assert open_index(url).digest == open_index(tmp_path / "a").digest
    assert push(tmp_path / "b", url, replace=True).new
    assert pull(url, tmp_path / "a", replace=True).generation == 2
    assert open_index(tmp_path / "a").digest == open_index(url).digest


def test_who_publishes_second_is_told_and_keeps_their_work(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(toy_index(tmp_path / "a").path, url)
    pull(url, tmp_path / "b")
    won, lost = change(tmp_path / "a", "a"), change(tmp_path / "b", "b")

    def slowly(*args: object) -> None:
        monkeypatch.setattr(pushing, "send", send)
        push(tmp_path / "a", url)
        send(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pushing, "send", slowly)
    with pytest.raises(Overtaken, match="somebody else has published"):
        push(tmp_path / "b", url)
    assert (open_index(url).digest, open_index(tmp_path / "b").digest) == (won, lost)


def test_where_nothing_was_published_it_is_one_sentence(url: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenIndex, match=r"there is no index at .*; put one there with: raptor push"):
        open_index(url)
    with pytest.raises(BrokenIndex, match="there is no index at"):
        push(tmp_path / "none", url)


def test_of_two_generations_of_one_number_the_digest_says_which_is_meant(url: str, tmp_path: Path) -> None:
    change(tmp_path / "a", "first")
    push(tmp_path / "a", url)
    pull(url, tmp_path / "b")
    digests = {name: change(tmp_path / name, name) for name in ("a", "b")}
    for name in digests:
        push(tmp_path / name, url, replace=True)
    with pytest.raises(BrokenIndex, match=f"2 generations .* are 2; name one by .*{digests['a'][:12]}"):
        rollback(url, 2)
    rollback(url, digests["a"][:12])
    rollback(tmp_path / "a", 1)
    rollback(tmp_path / "a", digests["a"])
    assert open_index(url).digest == open_index(tmp_path / "a").digest == digests["a"]


def test_a_bucket_that_is_not_there_is_told_from_one_that_is_empty(server: str, tmp_path: Path) -> None:
    change(tmp_path / "a", "a")
    url = "s3://not-there/toy"
    for use in (lambda: open_index(url), lambda: push(tmp_path / "a", url), lambda: prune_store(url)):
        with pytest.raises(StoreError, match="there is no bucket 'not-there' for s3://not-there/toy"):
            use()
