"""An index at a URL that is opened without its vectors."""

from pathlib import Path

import pytest

from index_store.errors import StoreError
from index_store.index import open_index
from index_store.stores.pushing import push
from tests.helpers.object_store import Meddler, meddling, new_bucket
from tests.helpers.toy import toy_index, unit_rows


def test_vectors_are_left_in_the_store_until_a_search_needs_them(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = toy_index(tmp_path / "toy.index")
    url = f"{new_bucket(server)}/toy"
    push(own.path, url)
    with meddling(server, meddler := Meddler()):
        index = open_index(url, lazy=True)
        assert index.grep("mizzen").matches == own.grep("mizzen").matches
        assert not [path for _, path in meddler.asked if "vectors" in path]
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        patch.setattr("index_store.stores.cloud.RETRIES", {"max_retries": 0})
        with pytest.raises(StoreError, match=r"cannot use .* \(no connection\)"):
            _ = index.vectors
    vector = unit_rows(1)[0]
    with meddling(server, meddler := Meddler()):
        assert index.search("x", mode="dense", vector=vector) == own.search("x", mode="dense", vector=vector)
        files = [path.rpartition("/")[2] for _, path in meddler.asked]
    assert files == ["manifest.json", "vectors.npy"], "the rest is linked"
    assert open_index(url, lazy=True).folder == open_index(url).folder, "it is there by now"
