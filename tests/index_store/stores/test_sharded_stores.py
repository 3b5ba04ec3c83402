"""An index of indexes at a URL: shards go first, come when they are touched, and are pruned with what names them."""

from pathlib import Path

import pytest

from index_store.errors import BrokenIndex, StoreError
from index_store.generations import list_generations
from index_store.index import Sharded, open_index
from index_store.stores.layout import listed, objects_at
from index_store.stores.pruning import prune_store
from index_store.stores.pulling import pull
from index_store.stores.pushing import push
from index_store.types import Span
from index_store.verify import verify_index
from tests.helpers.sharded import random_sharded


def shards_there(url: str) -> set[tuple[str, str]]:
    """The name and the digest of each shard in a store."""
    keys = (one.key.split("/") for one in listed(objects_at(url), "shards/"))
    return {(key[1], key[3]) for key in keys if key[2] == "generations"}


def test_shards_of_an_index_at_a_url_are_fetched_when_they_are_touched(url: str, tmp_path: Path) -> None:
    one, many = random_sharded(tmp_path, 1, [(3, 2), (2, 3)])
    push(many.path, url)
    index = open_index(url)
    assert isinstance(index, Sharded)
    assert (index.digest, index.named, index.beside.name) == (many.digest, url, "toy")
    cached = tmp_path / "cache" / "raptor-rlm" / "pulled"
    assert len(list(cached.iterdir())) == 1
    document = one.documents[0]
    span = Span(document.id, 0, document.chars)
    assert index.span_text(span) == one.span_text(span)
    assert len(list(cached.iterdir())) == 2, "the other shard is left where it is"
    assert index.grep("rain").matches == one.grep("rain").matches
    hits, same = (i.search("owl rain", k=5, mode="lexical") for i in (index, one))
    assert [hit.node for hit in hits] == [hit.node for hit in same]
    assert verify_index(url) == []


def test_shards_are_pulled_pushed_and_pruned_with_the_index(url: str, tmp_path: Path) -> None:
    _, many = random_sharded(tmp_path / "a", 1, [(3, 2), (2, 2)])
    push(many.path, url)
    pull(url, tmp_path / "mine.index")
    assert verify_index(tmp_path / "mine.index") == []
    first = {(shard.name, shard.digest) for shard in many.shards}
    _, other = random_sharded(tmp_path / "b", 2, [(2, 2), (2, 2), (1, 1)])
    push(other.path, url, replace=True)
    shown = {one.digest: (one.documents, one.levels) for one in list_generations(url)}
    assert shown == {i.digest: (len(i.documents), i.levels) for i in (many, other)}
    second = {(shard.name, shard.digest) for shard in other.shards}
    assert shards_there(url) == first | second
    assert prune_store(url).young == 1
    assert shards_there(url) == first | second
    assert prune_store(url, grace_h=0).deleted == [many.digest]
    assert shards_there(url) == second
    assert verify_index(url) == []


def test_a_shard_that_is_damaged_in_the_store_is_named(url: str, tmp_path: Path) -> None:
    _, many = random_sharded(tmp_path, 1, [(3, 2), (2, 2)])
    push(many.path, url)
    shard = many.shards[1]
    key = f"shards/{shard.name}/generations/{shard.digest}/text.bin"
    objects_at(url).delete([key])
    assert key in verify_index(url)[0]
    index = open_index(url)
    with pytest.raises(
        BrokenIndex, match=f"{key} is missing .* from a whole copy of the index, by raptor push with"
    ):
        index.grep("rain")
    push(many.path, url, replace=True)
    assert verify_index(url) == []


def test_nothing_is_sent_through_a_link_in_a_shared_folder(tmp_path: Path) -> None:
    _, many = random_sharded(tmp_path, 1, [(1, 1), (1, 1)])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "shards").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        push(many.path, (tmp_path / "shared").as_uri())
    assert list((tmp_path / "elsewhere").iterdir()) == []
