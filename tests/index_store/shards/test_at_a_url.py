"""An index of shards at a URL: each shard comes from there when it is first read."""

from pathlib import Path

import pytest

from index_store import cache
from index_store.errors import BrokenIndex
from index_store.index import Sharded, open_index
from index_store.stores.pruning import prune_store
from index_store.stores.pulling import pull
from index_store.stores.pushing import push
from index_store.verify import verify_index
from tests.helpers.sharded import random_sharded

SHAPES = [(2, 2), (1, 2), (3, 3)]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Sharded:
    return random_sharded(tmp_path_factory.mktemp("url"), 0, SHAPES)[1]


@pytest.fixture
def url(many: Sharded, tmp_path: Path) -> str:
    """A store that holds it."""
    url = (tmp_path / "store").as_uri()
    pushed = push(many.path, url)
    assert pushed.new and pushed.files > len(many.manifest.files) * 2
    assert push(many.path, url).files == 0
    return url


def pulled() -> int:
    return len(list(cache.generations(cache.PULLED)))


@pytest.mark.parametrize("lazy", [False, True])
def test_a_shard_comes_when_it_is_first_read_and_search_finds_the_same(
    many: Sharded, url: str, lazy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    index = open_index(url, lazy=lazy)
    assert isinstance(index, Sharded) and (index.digest, index.named) == (many.digest, url)
    assert index.document_text("part-1/0.txt") == many.document_text("part-1/0.txt")
    assert index.opened == ["part-1"]
    before = pulled()
    assert index.search("Tyrell rain", mode="lexical") == many.search("Tyrell rain", mode="lexical")
    assert pulled() == before + 2
    vector = many.vectors[0]
    assert index.search("Tyrell rain", vector=vector) == many.search("Tyrell rain", vector=vector)
    assert verify_index(url) == []


def test_what_is_pulled_is_the_whole_index(many: Sharded, url: str, tmp_path: Path) -> None:
    assert pull(url, tmp_path / "a.index").new
    assert verify_index(tmp_path / "a.index") == []
    again = open_index(tmp_path / "a.index")
    assert again.slice(0, again.chars) == many.slice(0, many.chars)
    assert not pull(url, tmp_path / "a.index").new


def test_pruning_deletes_generations_of_shards_that_no_pointer_reaches_and_no_other(
    many: Sharded, url: str, tmp_path: Path
) -> None:
    other = random_sharded(tmp_path, 1, SHAPES[:2])[1]
    push(other.path, url, replace=True)
    assert not prune_store(url).deleted  # all is young
    assert prune_store(url, grace_h=0).deleted == [many.digest]
    index = open_index(url)
    assert index.slice(0, index.chars) == other.slice(0, other.chars)
    named = {shard.digest for shard in other.shards}
    kept = {path.name for path in (tmp_path / "store").glob("shards/*/generations/*") if any(path.iterdir())}
    assert kept == named
    assert verify_index(url) == []


def test_no_shard_is_pruned_where_the_index_that_names_it_cannot_be_read(
    many: Sharded, url: str, tmp_path: Path
) -> None:
    there = sorted((tmp_path / "store").glob("shards/**/*.*"))
    manifest = tmp_path / "store" / "generations" / many.digest / "manifest.json"
    raw = manifest.read_bytes()
    for damage in (manifest.unlink, lambda: manifest.write_bytes(raw[:-9])):
        damage()
        with pytest.raises(BrokenIndex):
            prune_store(url, grace_h=0)
        assert sorted((tmp_path / "store").glob("shards/**/*.*")) == there


def test_a_shard_that_is_missing_at_the_url_is_said_when_it_is_read(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for file in (tmp_path / "store").glob("shards/part-1/generations/*/manifest.json"):
        file.unlink()
    index = open_index(url)
    assert index.document_text("part-0/0.txt")
    with pytest.raises(BrokenIndex, match=r"shards/part-1 does not hold the generation"):
        index.document_text("part-1/0.txt")


def test_a_flipped_bit_of_a_shard_at_the_url_is_found_and_its_file_named(url: str, tmp_path: Path) -> None:
    (file,) = (tmp_path / "store").glob("shards/part-2/generations/*/labels.bin")
    raw = file.read_bytes()
    file.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    (said,) = verify_index(url)
    assert "shards/part-2" in said and "labels.bin" in said
