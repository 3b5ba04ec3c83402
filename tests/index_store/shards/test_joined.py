"""An index of shards gives what one index of the same content gives: every method, to the last bit."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_store import picture
from index_store.areas import area_of
from index_store.errors import IndexStoreError
from index_store.gathering import evidence_for, gather
from index_store.graph import level_stats, to_networkx
from index_store.index import Index, Sharded, narrowed
from index_store.provenance import sources
from index_store.rows import SPLITS, Rows, rows_of
from index_store.types import MODES, Scope
from index_store.view import View
from tests.helpers.sharded import NAMES, random_sharded
from tests.helpers.thorough import cases

SHAPES = [
    [(3, 3), (1, 2), (2, 2)],
    [(2, 2)],
    [(3, 3), (1, 2), (4, 2), (6, 4)],
    [(2, 2), (1, 3), (1, 2), (5, 3), (2, 3), (1, 2)],
]
QUERIES = ["Tyrell rain owl", "Where is Rachael in Zürich?", "orion unicorn Half"]

Pair = tuple[Index, Sharded]


@pytest.fixture(scope="module", params=range(cases(2, 8 * len(SHAPES))))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return random_sharded(tmp_path_factory.mktemp("pair"), request.param, SHAPES[request.param % len(SHAPES)])


def plain(value: Any) -> Any:
    """A result as Python compares it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Rows):
        return [(row, value.text(i), value.chunks(i).tolist()) for i, row in enumerate(value)], value.left_out
    if isinstance(value, Iterator):
        return [plain(one) for one in value]
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return [plain(one) for one in value]
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    return value


def outcome(ask: Callable[[Any], Any], index: Any) -> Any:
    """What is answered, or which error is raised, without the path in it."""
    try:
        return plain(ask(index))
    except IndexStoreError as e:
        return type(e), str(e).replace(str(index.path), "")


def same(pair: Pair, ask: Callable[[Any], Any]) -> None:
    one, many = (outcome(ask, index) for index in pair)
    assert many == one


def every_node(pair: Pair) -> range:
    return range(len(pair[0]))


def test_all_arrays_and_texts_are_those_of_one_index(pair: Pair) -> None:
    one, many = (index.store for index in pair)
    assert (one.levels, one.documents) == (many.levels, many.documents)
    for name, array in one.arrays.items():
        if name in many.arrays:
            joined = np.asarray(many.arrays[name])
            assert joined.dtype == array.dtype
            assert np.array_equal(joined, array)
    for name in ("text", "summaries", "labels", "lines"):
        assert np.asarray(getattr(many, name)).tobytes() == np.asarray(getattr(one, name)).tobytes()


@pytest.mark.parametrize(
    "name",
    "at span_at text_at chars_at home guests members id_of level_of below".split(),  # noqa: SIM905
)
def test_what_is_asked_of_each_node_is_the_same(pair: Pair, name: str) -> None:
    same(pair, lambda tree: [getattr(tree, name)(number) for number in every_node(pair)])


def test_the_edges_and_what_follows_from_them_are_the_same(pair: Pair) -> None:
    some = np.arange(0, len(pair[0]), 3)
    for ask in (
        lambda tree: tree.edges(),
        lambda tree: tree.edges_up(),
        lambda tree: tree.away,
        lambda tree: tree.homes,
        lambda tree: tree.above(some),
        lambda tree: tree.parents_of(some),
        lambda tree: tree.at_home_in(some),
        lambda tree: [tree.neighbours(n, d) for n in every_node(pair) for d in ("children", "parents")],
        lambda tree: [tree.path_to(tree.id_of(n)) for n in every_node(pair)],
        lambda tree: [tree.children(tree.id_of(n)) + tree.leaves(tree.id_of(n)) for n in every_node(pair)],
        lambda tree: [tree.nodes(level) for level in range(len(tree.levels))],
        lambda tree: tree.number_of("L0-99999"),
        lambda tree: [tree.pieces([0, 1, 2, 4, 3, len(tree) - 1])],
        lambda tree: [tree.head_at(n, 7) for n in every_node(pair)],
        lambda tree: tree.root,
    ):
        same(pair, ask)


def test_the_documents_are_the_same(pair: Pair) -> None:
    ids = [document.id for document in pair[0].documents]
    numbers = np.arange(len(ids))
    for ask in (
        lambda tree: list(tree.documents),
        lambda tree: tree.documents[1:],
        lambda tree: [tree.document_number(doc) for doc in ids],
        lambda tree: [tree.document_leaves(n) for n in range(len(ids))],
        lambda tree: [tree.document_text(doc) for doc in ids],
        lambda tree: [(*tree.document_bytes(n), tree.copies(n)) for n in range(len(ids))],
        lambda tree: tree.documents_named("part-0"),
        lambda tree: tree.documents_named("*/0.txt"),
        lambda tree: tree.documents_named("part-9"),
        lambda tree: tree.document("part-0/0.txtt"),
        lambda tree: tree.has_document("part-0/77.txt"),
        lambda tree: tree.documents.having("kind", "novel"),
        lambda tree: tree.documents.having("kind"),
        lambda tree: sorted(tree.documents.field_names() | tree.documents.values("kind")),
        lambda tree: tree.documents.may_contain(numbers[1:], "snow"),
        lambda tree: [tree.chunks_of(numbers[n : n + 2]) for n in range(len(ids))],
        lambda tree: tree.alike,
        lambda tree: tree.has_copies,
    ):
        same(pair, ask)


def test_places_in_the_text_are_the_same(pair: Pair) -> None:
    one, _ = pair
    size, chars = len(one.text_bytes), one.chars
    starts = np.arange(size)
    for ask in (
        lambda tree: tree.chars,
        lambda tree: [tree.slice(n, min(n + 50, chars)) for n in range(0, chars, 17)],
        lambda tree: [tree.corpus_chars(n) + tree.node_bytes(n) for n in range(tree.levels[0])],
        lambda tree: [tree.byte_of(n, c) for n in range(len(tree.documents)) for c in (0, 1, 30, 9_999)],
        lambda tree: (tree.leaf_chars, tree.leaf_starts, tree.leaf_documents, tree.document_borders),
        lambda tree: (tree.document_at(starts), tree.chunk_at(starts)),
        lambda tree: [tree.place(tree.span_at(n)) for n in range(tree.levels[0])],
        lambda tree: [tree.section(tree.span_at(n)) for n in range(tree.levels[0])],
        lambda tree: [tree.span_text(tree.span_at(n)) for n in range(tree.levels[0])],
    ):
        same(pair, ask)


def test_the_names_are_the_same(pair: Pair) -> None:
    chunks = np.arange(pair[0].levels[0])
    for ask in (
        lambda tree: len(tree.names),
        lambda tree: [tree.names.asked(words) for words in (*QUERIES, " ".join(NAMES))],
        lambda tree: [tree.names.of_chunks(chunks[n : n + 3]) for n in chunks],
        lambda tree: tree.names.borne(chunks),
        lambda tree: [tree.names.in_words(n) for n in range(len(tree.names))],
        lambda tree: tree.names.sizes(np.arange(len(tree.names))),
        lambda tree: tree.names.rarity(np.arange(len(tree.names))),
        lambda tree: _columns(tree.names.bearers(np.arange(len(tree.names)), chunks)),
        lambda tree: _columns(tree.names.bearers(np.arange(len(tree.names))[::2], chunks[::3])),
    ):
        same(pair, ask)


def _columns(pairs: Any) -> list[Any]:
    return [pairs.names, pairs.chunks, pairs.weights, pairs.is_title]


@pytest.mark.parametrize("mode", MODES)
def test_every_search_has_the_same_hits_and_scores(pair: Pair, mode: Any) -> None:
    one, _ = pair
    levels = [None, *range(len(one.levels))]
    under = [None, *(one.id_of(n) for n in range(one.levels[0], len(one), 2)), "L0-00001"]
    for place, query in enumerate(QUERIES):
        vector = one.vectors[place % len(one)]
        for level in levels:
            same(pair, lambda t: t.search(query, 9, mode=mode, level=level, vector=vector))  # noqa: B023
        for top in under:
            same(pair, lambda t: t.search(query, 9, mode=mode, under=top, vector=vector))  # noqa: B023
        for named in (
            {"doc": "part-0"},
            {"doc": "*/1.txt"},
            {"where": {"kind": "novel"}},
            {"section": "snow"},
        ):
            same(pair, lambda t: t.search(query, 9, mode=mode, vector=vector, **named))  # noqa: B023
            same(pair, lambda t: t.search(query, 9, mode=mode, level=1, vector=vector, **named))  # noqa: B023
        same(pair, lambda t: t.search(query, 50, mode=mode, vector=vector, fold=False))  # noqa: B023


@pytest.mark.parametrize(
    "pattern", ["rain", "(?i)TYRELL", "g.*e", "^.", r"\.$", "🍎", "part", r"\A", "z*", "("]
)
def test_every_pattern_has_the_same_matches(pair: Pair, pattern: str) -> None:
    one, _ = pair
    for top in (None, "L0-00001", one.id_of(len(one) - 1), one.id_of(one.levels[0])):
        for doc in (None, "part-0/0.txt"):
            for limit in (3, 10_000):
                same(pair, lambda t: t.grep(pattern, under=top, doc=doc, limit=limit))  # noqa: B023


@pytest.mark.parametrize("split", SPLITS)
def test_the_rows_are_the_same(pair: Pair, split: Any) -> None:
    one, _ = pair
    for top in (None, one.id_of(one.levels[0])):
        for scope in (Scope(), Scope(doc="part-0"), Scope(where={"kind": "novel"})):
            same(pair, lambda t: rows_of(View(t, top, scope), split))  # noqa: B023


def test_a_view_shows_the_same(pair: Pair) -> None:
    one, _ = pair
    for top in (None, one.id_of(one.levels[0]), one.id_of(len(one) - 1)):
        for scope in (Scope(), Scope(doc="part-0"), Scope(section="rain")):
            for ask in (
                lambda v: (v.chars, v.size, v.bytes, v.root),
                lambda v: (list(v.chunks), list(v.documents)),
                lambda v: v.text(0, v.chars),
                lambda v: [v.text(n, n + 40) for n in range(0, v.chars, 33)],
                lambda v: [bytes(window) for window in v.windows(3)],
                lambda v: [v.children(n) + v.parents(n) for n in range(len(v.index)) if n in v],
                lambda v: [v.is_text(n) for n in range(len(v.index))],
                lambda v: list(v.passages()),
                lambda v: [v.spans_of(document.id) for document in v.index.documents],
                lambda v: v.levels_read("", None, 600),
            ):
                same(pair, lambda t: ask(View(t, top, scope)))  # noqa: B023


def test_evidence_branches_and_what_is_gathered_are_the_same(pair: Pair) -> None:
    one, _ = pair
    for place, query in enumerate(QUERIES):
        vector = one.vectors[place % len(one)]
        for top in (None, one.levels[0], len(one) - 1):

            def evidence(tree: Index) -> Any:
                chunks = np.arange(tree.levels[0]) if top is None else tree.below(top)  # noqa: B023
                return evidence_for(tree, query, chunks[chunks < tree.levels[0]], vector)  # noqa: B023

            def seen(tree: Index) -> Any:
                found = evidence(tree)
                return found.chunks, found.shares, found.scores

            same(pair, seen)
            same(pair, lambda t: gather(t, evidence(t), 400))


def test_overviews_graphs_and_what_lies_above_are_the_same(pair: Pair) -> None:
    for ask in (
        lambda tree: area_of(tree),
        lambda tree: area_of(tree, tree.id_of(tree.levels[0]), 3),
        lambda tree: level_stats(tree),
        lambda tree: sorted(to_networkx(tree).edges),
        lambda tree: picture.page(tree),
        lambda tree: [sources(tree, tree.id_of(n)) for n in range(len(tree))],
    ):
        same(pair, ask)


def test_what_a_reader_sees_is_the_same_and_an_ordinary_index(pair: Pair) -> None:
    one, many = (narrowed(index, "") for index in pair)
    assert many.digest == one.digest
    assert not isinstance(many, Sharded)
    assert len(many.documents) < len(pair[1].documents)


def test_shards_with_inverted_files_find_what_comparing_all_vectors_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = random_sharded(tmp_path / "exact", 3, SHAPES[2])[0]
    monkeypatch.setattr("index_store.vectors.EXACT_NODES", 2)
    monkeypatch.setattr("index_store.search.EXACT_NODES", 2)
    many = random_sharded(tmp_path / "inverted", 3, SHAPES[2])[1]
    assert many.shard(3).inverted_file is not None and many.inverted_file is None
    for vector in exact.vectors[:9]:
        for level in (None, 0, 1):
            for mode in ("dense", "hybrid"):
                found = many.search("rain owl", 5, mode=mode, level=level, vector=vector)
                assert [hit.node for hit in found] == [
                    hit.node for hit in exact.search("rain owl", 5, mode=mode, level=level, vector=vector)
                ]
