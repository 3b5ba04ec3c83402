"""Which shards are opened: those that are asked about, and no other before it is."""

import gc
import resource
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_store.errors import BrokenIndex, NoSuchNode
from index_store.index import Sharded, open_index
from index_store.rows import SPLITS, Split, rows_in_parts, rows_of
from index_store.types import MODES, Mode, Scope
from index_store.view import View
from tests.helpers.sharded import random_sharded

SHAPES = [(3, 3), (1, 2), (4, 2), (6, 4)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_sharded(tmp_path_factory.mktemp("opened"), 0, SHAPES)[1].path


@pytest.fixture
def many(path: Path) -> Sharded:
    index = open_index(path)
    assert isinstance(index, Sharded)
    return index


def root_of(many: Sharded, shard: int) -> str:
    """The root of a shard, at the height of the highest."""
    return f"L{max(height for _, height in SHAPES) - 1}-{shard:05d}"


def test_opening_descending_to_the_roots_and_counting_open_no_shard(many: Sharded) -> None:
    top = many.root
    roots = [node for child in many.children(top.id) for node in many.children(child.id)]
    assert len({node.id for node in roots}) == len(many.shards)
    assert all(many.text(node.id) and node.label and many.path_to(node.id) for node in roots)
    assert many.chars and len(many.documents) and many.vectors[-1].any()
    assert many.names is not None and len(many.names)
    assert not many.has_document("elsewhere.txt")
    assert many.opened == []


def searched(mode: Mode, index: Sharded, top: str) -> Any:
    return index.search("Tyrell rain", 5, under=top, mode=mode, vector=index.vectors[-1])


def split_into(split: Split, index: Sharded, top: str) -> Any:
    return rows_of(View(index, top), split)


def looked_at(index: Sharded, top: str) -> Any:
    view = View(index, top)
    return view.chars, view.text(0, 90), view.documents, view.bytes, [bytes(one) for one in view.windows(3)]


def in_its_first_document(index: Sharded, top: str) -> Any:
    (first, *_) = View(index, top).documents
    return index.search("rain", 3, under=top, mode="lexical", doc=index.documents[first].id) or index.opened


ON_A_BRANCH: dict[str, Callable[[Sharded, str], Any]] = {
    **{f"search {mode}": partial(searched, mode) for mode in MODES},
    **{f"rows {split}": partial(split_into, split) for split in SPLITS},
    "grep": lambda index, top: index.grep("rain", under=top).total,
    "view": looked_at,
    "levels read": lambda index, top: View(index, top).levels_read("", None, 900),
    "below": lambda index, top: index.leaves(top),
    "path": lambda index, top: index.path_to(index.leaves(top)[-1].id),
    "document": in_its_first_document,
}


@pytest.mark.parametrize("shard", range(len(SHAPES)))
@pytest.mark.parametrize("name", ON_A_BRANCH)
def test_what_is_asked_below_the_root_of_a_shard_opens_that_shard_alone(
    many: Sharded, name: str, shard: int
) -> None:
    assert ON_A_BRANCH[name](many, root_of(many, shard))
    assert many.opened == [f"part-{shard}"]
    assert many.read[shard] > 0 and not np.delete(many.read[:-1], shard).any()


def test_evidence_branches_and_what_is_gathered_below_a_root_open_that_shard_alone(
    many: Sharded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "embed_queries", lambda queries: many.vectors[-1:])
    view = View(many, root_of(many, 2))
    assert view.best_branches("rain owl", None, 3)
    assert view.gather("rain owl", (), 300)
    assert view.levels_read("rain owl", None, 600)
    assert many.opened == ["part-2"]


@pytest.mark.parametrize("shard", range(len(SHAPES)))
def test_a_document_is_read_from_its_shard_alone(many: Sharded, shard: int) -> None:
    doc = f"part-{shard}/0.txt"
    assert many.document(doc).id == doc
    assert many.document_text(doc)
    assert many.grep(".", doc=doc).total
    assert many.search("rain", 3, doc=doc, mode="lexical") is not None
    assert many.span_text(View(many).spans_of(doc)[0])
    assert many.opened == [f"part-{shard}"]


def test_for_an_id_that_no_document_has_no_shard_is_opened_and_one_that_is_may_hint(many: Sharded) -> None:
    with pytest.raises(NoSuchNode, match=r"no document 'part-1/0.tx'; there are 14 documents"):
        many.document("part-1/0.tx")
    assert many.opened == []
    many.document("part-1/0.txt")
    with pytest.raises(NoSuchNode, match=r"did you mean 'part-1/0.txt'"):
        many.document("part-1/0.tx")
    assert many.opened == ["part-1"]


def test_matches_and_rows_come_before_the_last_shard_is_opened(many: Sharded) -> None:
    assert len(many.grep("rain|owl|street", limit=1, count_to=1).matches) == 1
    assert many.opened == ["part-0"]
    for number, rows in enumerate(rows_in_parts(View(many), "line")):
        assert len(rows) and rows[0].span.doc.startswith(f"part-{number}/")
        assert many.opened == [f"part-{shard}" for shard in range(number + 1)]


def test_a_search_counts_what_it_reads_of_each_shard(many: Sharded) -> None:
    many.search("rain", 3, mode="dense", vector=many.vectors[-1])
    rows = np.array([shard.levels[0] for shard in many.shards])
    assert (many.read[:-1] >= 4 * many.vectors.shape[1] * rows).all()
    before = many.read.copy()
    many.search("owl", 3, mode="lexical")
    assert (many.read >= before).all() and many.read.sum() > before.sum()


def test_a_scope_of_one_document_is_read_in_its_shard_alone_where_no_summary_is_wanted(many: Sharded) -> None:
    assert many.search("rain owl", 3, mode="hybrid", vector=many.vectors[-1], doc="part-1/0.txt")
    assert many.opened == ["part-1"]
    assert View(many, root_of(many, 1), Scope(doc="part-1/0.txt")).chars


@pytest.fixture
def few_handles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For 40 files more than are open, with which these shards do not do, and as many more as one asks for. No file is
    so small that it is not kept open."""
    monkeypatch.setattr("index_store.folder.SMALL_BYTES", 0)
    gc.collect()
    taken = frozenset(int(file.name) for file in Path("/dev/fd").iterdir())
    last = next(islice((number for number in count() if number not in taken), 40, None))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (last, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_handles")
def test_more_shards_are_opened_than_the_usual_number_of_files_allows(path: Path) -> None:
    index = open_index(path)
    assert isinstance(index, Sharded)
    assert len(list(index.indexes())) == len(SHAPES)


@pytest.mark.usefixtures("few_handles")
def test_where_the_system_allows_no_more_files_that_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index_store.index.allow_many_files", lambda: None)
    with pytest.raises(BrokenIndex, match=r"Too many open files; let the process have more files open"):
        index = open_index(path)
        assert isinstance(index, Sharded)
        list(index.indexes())


def test_a_shard_of_few_nodes_keeps_no_file_open(path: Path) -> None:
    handles = Path("/dev/fd")
    before = len(list(handles.iterdir()))
    index = open_index(path)
    assert isinstance(index, Sharded)
    assert len([one.digest for one in index.indexes()]) == len(SHAPES)
    assert len(list(handles.iterdir())) <= before
