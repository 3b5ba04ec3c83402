"""The inverted file: near vectors among many are found, and arrays from a stranger harm nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from index_store import inverted_write, lexical, search, spool, stop_words, tree, vectors as v
from index_store.errors import BrokenIndex, IndexStoreError
from index_store.index import Index, open_index
from index_store.manifest import FILES, INVERTED
from index_store.tree import Tree
from index_store.types import Mode
from index_store.vectors import Floats, Ints, Numbers
from tests.helpers.toy import publish_toy, unit_rows
from tests.index_store.test_grep import index_of


@dataclass
class Vectors:
    """What `dense_candidates` reads of a tree."""

    vectors: Floats
    levels: tuple[int, ...]
    inverted_file: v.InvertedFile
    nearest = Tree.nearest


def rows_around_centres(n: int, dim: int = 32, centres: int = 40, seed: int = 0) -> Floats:
    random = np.random.default_rng(seed)
    middle = random.normal(size=(centres, dim))
    rows = middle[random.integers(0, centres, n)] + 0.6 * random.normal(size=(n, dim))
    unit: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def opened(folder: Path, rows: Floats, levels: Sequence[int]) -> Index:
    """An inverted file of these vectors, written and read again, as a tree."""
    inverted_write.write(folder, rows, levels)
    arrays = {name: np.load(folder / f"{name}.npy") for name in v.InvertedFile.__slots__}
    inverted = v.InvertedFile(**arrays)
    assert inverted.fits(len(rows), rows.shape[1], len(levels))
    return cast(Index, Vectors(rows, tuple(levels), inverted))


def exact(rows: Floats, query: Floats, nodes: Numbers, count: int) -> set[int]:
    order = nodes[np.argsort(-(rows[nodes] @ query), kind="stable")]
    return set(order[:count].tolist())


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (v, search):
        monkeypatch.setattr(module, "EXACT_NODES", 4)


@pytest.mark.parametrize("levels", [range(1), range(1, 3), range(3)])
def test_most_of_the_nearest_are_found_in_a_part_of_the_lists(
    few: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, levels: range
) -> None:
    monkeypatch.setattr(v, "READ", 16)
    sizes = [5000, 990, 10]
    rows = rows_around_centres(6000)
    index = opened(tmp_path / "ivf", rows, sizes)
    nodes = np.arange(sum(sizes[: levels.start]), sum(sizes[: levels.stop]))
    hits = 0
    for query in rows_around_centres(50, seed=1):
        numbers, scores = search.dense_candidates(index, query, nodes, 10)
        assert (np.diff(numbers) > 0).all()
        assert numbers[0] >= nodes[0]
        assert numbers[-1] <= nodes[-1]
        assert scores == pytest.approx(rows[numbers] @ query, abs=1e-6)
        hits += len(exact(rows, query, nodes, 10) & set(numbers.tolist()))
    assert hits >= 0.97 * 500


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(5, 300),
    kind=st.sampled_from(["random", "equal", "zero", "twice"]),
    count=st.integers(1, 400),
)
@example(n=5, kind="equal", count=1)
@example(n=300, kind="zero", count=10)
def test_reading_every_list_gives_what_comparing_every_vector_does(
    tmp_path_factory: pytest.TempPathFactory, n: int, kind: str, count: int
) -> None:
    rows = unit_rows(n)
    rows = {"random": rows, "equal": rows[[0] * n], "zero": rows * 0, "twice": rows[np.arange(n) // 2]}[kind]
    index = opened(tmp_path_factory.mktemp("ivf") / "ivf", rows, [n - 1, 1])
    query = unit_rows(1, seed=5)[0]
    with pytest.MonkeyPatch.context() as patch:
        for module in (v, search):
            patch.setattr(module, "EXACT_NODES", 1)
        patch.setattr(v, "READ", 10**6)
        patch.setattr(v, "COMPARED", n)
        numbers, scores = search.dense_candidates(index, query, np.arange(n), count)
    best = np.sort(rows @ query)[::-1][:count]
    assert np.sort(scores)[::-1] == pytest.approx(best, abs=1e-6)
    assert len(numbers) == min(n, count)


def test_nodes_that_are_not_whole_levels_are_all_compared(
    few: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = rows_around_centres(600)
    index = opened(tmp_path / "ivf", rows, [500, 99, 1])
    monkeypatch.setattr(tree, "near", lambda *_: pytest.fail("asked the inverted file"))
    nodes = np.arange(3, 600, 7)
    numbers, _ = search.dense_candidates(index, rows[10], nodes, 5)
    assert set(numbers.tolist()) == exact(rows, rows[10], nodes, 5)


def test_the_same_vectors_give_the_same_bytes(tmp_path: Path) -> None:
    rows = rows_around_centres(500)
    inverted_write.write(tmp_path / "a", rows, [499, 1])
    inverted_write.write(tmp_path / "b", rows, [499, 1])
    assert all((tmp_path / "b" / f.name).read_bytes() == f.read_bytes() for f in (tmp_path / "a").iterdir())


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("offsets", lambda a: a * 0 - 1),
        ("offsets", lambda a: a[::-1].copy()),
        ("offsets", lambda a: a + 10**12),
        ("offsets", lambda a: a * 0),
        ("nodes", lambda a: a * 0 - 5),
        ("nodes", lambda a: a * 0 + 10**6),
    ],
)
def test_arrays_that_lead_nowhere_are_an_error_not_a_crash(
    few: None, tmp_path: Path, name: str, harm: Callable[[Ints], Ints]
) -> None:
    index = opened(tmp_path / "ivf", unit_rows(100), [99, 1])
    broken = {f: getattr(index.inverted_file, f) for f in v.InvertedFile.__slots__}
    broken[name] = harm(broken[name])
    index.inverted_file = v.InvertedFile(**broken)
    with pytest.raises(BrokenIndex, match="inverted file"):
        search.dense_candidates(index, unit_rows(1)[0], np.arange(100), 5)


# -- in an index folder ------------------------------------------------------------------------------------


@pytest.fixture
def folder(few: None, tmp_path: Path) -> Path:
    publish_toy(tmp_path / "toy.index")
    return tmp_path / "toy.index" / "generations" / "000001"


def test_a_small_index_has_no_inverted_file_and_a_large_one_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert open_index(tmp_path / "toy.index").inverted_file is not None
    for module in (v, search):
        monkeypatch.setattr(module, "EXACT_NODES", 9)
    publish_toy(tmp_path / "small.index")
    assert open_index(tmp_path / "small.index").inverted_file is None


def test_both_kinds_of_index_find_the_same(folder: Path, tmp_path: Path) -> None:
    query = unit_rows(9)[4]
    hits = open_index(tmp_path / "toy.index").search("anything", mode="dense", vector=query, k=6)
    assert hits[0].node == "L0-00004"
    assert len(hits) == 6


@pytest.mark.parametrize("name", sorted(INVERTED))
def test_each_array_must_fit_the_index(folder: Path, tmp_path: Path, name: str) -> None:
    array = np.load(folder / name)
    size = (folder / name).stat().st_size
    np.save(folder / "x.npy", array[:-1])
    (folder / name).write_bytes((folder / "x.npy").read_bytes().ljust(size, b"\0"))
    with pytest.raises(BrokenIndex):
        open_index(tmp_path / "toy.index")


def test_a_manifest_lists_the_inverted_file_whole_or_not_at_all(folder: Path, tmp_path: Path) -> None:
    assert not INVERTED & FILES
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"ivf/nodes.npy"', '"ivf/other.npy"'))
    with pytest.raises(BrokenIndex, match=r"missing \['ivf/nodes\.npy'\], unknown \['ivf/other\.npy'\]"):
        open_index(tmp_path / "toy.index")


# -- documents, read when asked for --------------------------------------------------------------------------


def test_documents_are_found_by_id_in_any_order(tmp_path: Path) -> None:
    publish_toy(tmp_path / "a")
    index = open_index(tmp_path / "a")
    assert [index.document_number(d) for d in ("one.txt", "boats.txt", "größe.md")] == [2, 0, 1]
    assert [d.id for d in index.documents[1:]] == ["größe.md", "one.txt"]
    assert index.documents[-1].id == "one.txt"


@pytest.mark.parametrize("name", ["documents_lines.npy", "documents_order.npy", "documents_text.npy"])
@pytest.mark.parametrize("value", [-1, 10**6, 0])
def test_document_arrays_that_lead_nowhere_are_an_error_not_a_crash(
    tmp_path: Path, name: str, value: int
) -> None:
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / name
    np.save(file, np.full_like(np.load(file), value))
    with pytest.raises(IndexStoreError):
        index = open_index(tmp_path / "a")
        index.document("größe.md")
        index.node("L0-00002")
        index.grep("e")


# -- in ranked search ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hybrid", "dense", "tree"])
@pytest.mark.parametrize("where", [{}, {"under": "L1-00000"}, {"doc": "000.txt"}])
@pytest.mark.parametrize("limit", ["EXACT_NODES", "SCORED"])
def test_a_shortlist_of_enough_nodes_ranks_as_all_nodes_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, where: dict[str, Any], limit: str
) -> None:
    texts = [" ".join(f"w{(d * 7 + i * i) % 23}" for i in range(60)) for d in range(5)]
    index = index_of(tmp_path / "i", texts, width=10)
    vector = rows_around_centres(1, dim=8, seed=3)[0]
    full = index.search("w1 w5 w7", mode=mode, vector=vector, **where)
    for module in (v, search):
        monkeypatch.setattr(module, limit, 2, raising=module is search)
    monkeypatch.setattr(search, "SHORTLIST", 40)
    short = index.search("w1 w5 w7", mode=mode, vector=vector, **where)
    assert [h.node for h in short] == [h.node for h in full]
    assert [h.score for h in short] == pytest.approx([h.score for h in full], abs=1e-4)


def test_a_shortlist_keeps_the_chunks_around_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = index_of(tmp_path / "i", ["a" * 300], width=3)
    for module in (v, search):
        monkeypatch.setattr(module, "EXACT_NODES", 2)
    chosen = search.shortlist(
        index, np.zeros(len(index), np.float32), None, index.vectors[50], np.arange(100), 1, 3
    )
    assert {47, 48, 49, 50, 51, 52, 53} <= set(chosen.tolist())


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_nodes_among_others_are_those_in_both(numbers: set[int], nodes: set[int]) -> None:
    common = search.among(np.array(sorted(numbers), np.int64), np.array(sorted(nodes), np.int64))
    assert common.tolist() == sorted(numbers & nodes)


# -- words -----------------------------------------------------------------------------------------------------


def lexicon_in(folder: Path, chunks: int) -> lexical.Lexicon:
    scores, nodes, offsets = (np.load(folder / f"{name}.npy") for name in ("scores", "nodes", "offsets"))
    lengths = np.load(folder / "lengths.npy") if (folder / "lengths.npy").exists() else None
    return lexical.Lexicon(scores, nodes, offsets, folder / "words.txt", chunks, lengths=lengths)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["ketch", "yawl", "mizzen", "größe", "zz"]), max_size=6), min_size=1)
)
@example([[]])
@example([["ketch"], []])
def test_lexical_scores_are_those_of_bm25s(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]]
) -> None:
    bm25s = pytest.importorskip("bm25s")
    folder = tmp_path_factory.mktemp("lexical")
    lexical.write(folder, [" ".join(text) for text in texts], len(texts))
    scores = lexicon_in(folder, len(texts)).score("ketch größe absent", len(texts))
    if any(texts):
        stems = [lexical.words(" ".join(text)) for text in texts]
        model = bm25s.BM25(k1=1.5, b=0.75)
        model.index(stems, show_progress=False)
        known = [word for word in lexical.words("ketch größe") if word in model.vocab_dict]
        expected = model.get_scores(known) if known else np.zeros(len(texts))
        assert scores == pytest.approx(expected, abs=1e-5)
    else:
        assert not scores.any()


@pytest.mark.parametrize("counted", [False, True])
def test_what_is_summarised_of_chunks_does_not_move_their_lexical_scores(
    tmp_path: Path, counted: bool
) -> None:
    chunks = ["ketch ketch yawl", "yawl mizzen", "ketch größe kite zz"]
    summaries = ["ketch yawl ketch ketch kite", "zz zz", "ketch barque"]
    for folder, texts in ((tmp_path / "alone", chunks), (tmp_path / "summarised", chunks + summaries)):
        folder.mkdir()
        lexical.write(folder, texts, len(chunks), counted=counted)
    alone, summarised = (
        lexicon_in(tmp_path / name, 3).score("ketch yawl zz barque", n)
        for name, n in (("alone", 3), ("summarised", 6))
    )
    assert alone.tolist() == summarised[:3].tolist()
    assert (summarised[3:] > 0).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["ketch", "yawl", "mizzen", "größe", "the"]), max_size=6), min_size=1),
    st.integers(1, 12),
)
@example([[], ["ketch"]], 1)
@example([["the"], ["yawl"] * 9, [], ["yawl", "a" * 99_999], ["the"]], 2)
def test_lexical_arrays_are_the_same_in_however_many_blocks_they_are_counted(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], block: int
) -> None:
    folder, nodes = tmp_path_factory.mktemp("lexical"), [" ".join(text) for text in texts]
    lexical.write(folder, nodes, max(len(nodes) // 2, 1))
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lexical, "BLOCK", block)
        patched.setattr(spool, "IN_MEMORY", 100)
        lexical.write(folder, nodes, max(len(nodes) // 2, 1))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole
    assert [np.load(folder / f"{name}.npy").dtype for name in ("scores", "nodes")] == [np.float32, np.int32]


def test_stop_words_are_those_of_bm25s() -> None:
    listed = pytest.importorskip("bm25s.stopwords")
    assert frozenset(listed.STOPWORDS_EN) == stop_words.FEW
    assert frozenset(listed.STOPWORDS_EN_PLUS) == stop_words.MANY


@pytest.mark.parametrize("word", ["", "a", "ketch", "zzz", "größe", "\ud800"])
def test_a_word_that_no_node_has_scores_nothing(tmp_path: Path, word: str) -> None:
    lexical.write(tmp_path, ["mizzen yawl", "kite"], 2)
    assert not lexicon_in(tmp_path, 2).score(word, 2).any()
