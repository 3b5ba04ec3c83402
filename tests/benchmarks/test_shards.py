"""What shards are measured by: an index of the same shape finds the same."""

from pathlib import Path

import pytest

from benchmarks._sets import Trial
from benchmarks.shards import SHAPE, WAYS, _hits, _same_shape, _shard_chunks, _share
from index_store.index import Index, Sharded, open_index
from raptor.build import build_index
from raptor.settings import Sharding
from tests.helpers import tiny_embedder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Sharded, Index]:
    """One index, the same documents as shards, and one of the shards' shape."""
    place = tmp_path_factory.mktemp("shards")
    docs = tiny_embedder.write_documents(place / "docs", 16, 12)
    with pytest.MonkeyPatch.context() as patch:
        tiny_embedder.use(patch)
        build_index(docs, place / "one")
        one = open_index(place / "one")
        build_index(docs, place / "i", shards=Sharding("size", _shard_chunks(one)))
    index = open_index(place / "i")
    assert isinstance(index, Sharded)
    return one, index, _same_shape(index, place / SHAPE)


def test_a_corpus_is_divided_into_four(built: tuple[Index, Sharded, Index]) -> None:
    _, index, shape = built
    assert len(index.shards) == 4
    assert (shape.levels, shape.chars) == (index.levels, index.chars)


@pytest.mark.parametrize("way", WAYS)
def test_one_index_of_the_same_shape_finds_the_same(built: tuple[Index, Sharded, Index], way: str) -> None:
    _, index, shape = built
    texts = ["mast of a ketch", "bread and yeast", "Ledger audit", "old lens"]
    queries = [{"text": text, "scope": None} for text in texts]
    trial = Trial("tiny", index, queries, tiny_embedder.encode(texts))
    for number, query in enumerate(queries):
        assert _share(index, shape, trial, number, way) == 1.0
        assert _hits(index, query, trial.vectors[number], way) == _hits(
            shape, query, trial.vectors[number], way
        )


def test_a_hit_that_the_other_has_not_lowers_the_share(
    built: tuple[Index, Sharded, Index], tmp_path: Path
) -> None:
    _, index, _ = built
    docs = tiny_embedder.write_documents(tmp_path / "docs", 2, 12)
    with pytest.MonkeyPatch.context() as patch:
        tiny_embedder.use(patch)
        build_index(docs, tmp_path / "few")
    query = {"text": "mast", "scope": None}
    trial = Trial("tiny", index, [query], tiny_embedder.encode(["mast"]))
    assert _share(open_index(tmp_path / "few"), index, trial, 0, "dense") < 1.0
