"""Names: what counts as one, which chunks bear it, and where a search goes over them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from index_store import name_table as made, spool
from index_store.errors import BrokenIndex
from index_store.index import Index, open_index
from index_store.name_table import MOST_BEARERS, MOST_NAMES, TITLE, NameTable, name_table, write
from index_store.names import folded, names_asked, names_in, names_of_title
from index_store.search import Weights
from index_store.walk import best_name, walk
from index_store.writer import Draft
from tests.helpers.mutated import seal
from tests.helpers.toy import DIM, document, publish_toy

FAR = [0] * (DIM - 3)
HOPS = {
    "grace.txt": ("Grace Krilanovich", "Her first novel came out at Two Dollar Radio."),
    "radio.txt": ("Two Dollar Radio", "A small press that was founded in Columbus, Ohio."),
    "press.txt": ("Nowa", "A house for books from Warsaw, founded in 1977, and the first of its kind."),
    **{f"{n}.txt": (f"wave {n}", f"the sea is salt and blue and wide {n}") for n in range(30)},
}


# -- what a name is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("He met Barack Obama.", {"barack obama", "barack", "obama"}),
        ("the University of Oxford stands", {"university of oxford", "university", "oxford"}),
        ("J. K. Rowling and St. Louis", {"j. k. rowling", "st. louis", "rowling", "louis"}),
        ("It is in Paris. Then Rome fell.", {"paris", "rome"}),
        ("The Beatles' first", {"beatles"}),
        ("India's coast", {"india"}),
        ('called "the long road" there', {"the long road"}),
        ("call os.path.join or std::map", {"os.path.join", "std map"}),
        ("as_completed and asCompleted", {"as_completed", "ascompleted"}),
        ("RFC2616, GPT-4 and v1.2 of section 4.2.1", {"rfc2616", "gpt-4", "v1.2", "4.2.1"}),
        ("Form 10-K of Apple", {"form", "10-k", "apple"}),
        ("the apples are red", set()),
        ("", set()),
    ],
)
def test_a_name_is_a_capitalised_run_a_quote_or_an_identifier(text: str, names: set[str]) -> None:
    assert set(names_in(text)) >= names
    assert names or not set(names_in(text))


def test_a_sentence_that_ends_does_not_join_the_names_around_its_point() -> None:
    assert "paris. rome" not in set(names_in("They left Paris. Rome was next."))
    assert not any("paris" in name and "rome" in name for name in names_in("They left Paris. Rome was next."))


def test_a_title_is_called_by_what_stands_before_its_brackets_too() -> None:
    assert names_of_title("Mercury (planet)") == ("mercury", "mercury planet")
    assert names_of_title("Ohio") == ("ohio",)
    assert names_of_title("–") == ()


def test_a_question_in_small_letters_still_names_what_it_asks_about() -> None:
    assert {"two dollar radio", "dollar radio", "columbus"} <= set(
        names_asked("is two dollar radio in columbus?")
    )
    assert "is" not in names_asked("is two dollar radio in columbus?")


def test_of_a_question_that_is_a_whole_text_its_beginning_is_looked_at() -> None:
    names = names_asked(" ".join(f"Ada{n}" for n in range(20_000)))
    assert "ada0" in names and len(names) < 2_000


@given(st.text(max_size=200))
def test_any_text_has_names_on_one_line_and_in_lower_case(text: str) -> None:
    for name in [*names_in(text), *names_asked(text), *names_of_title(text)]:
        assert name == folded(name) or name == name.lower()
        assert name and "\n" not in name and "  " not in name


# -- the table ---------------------------------------------------------------------------------------------


def bearers(table: NameTable) -> dict[str, list[int]]:
    return {
        name: table.bearers[low:high].tolist()
        for name, low, high in zip(table.listed, table.offsets[:-1], table.offsets[1:], strict=True)
    }


def test_the_table_has_each_name_that_two_chunks_bear_with_both() -> None:
    table = name_table(
        [("Two Dollar Radio", ["Grace"]), ("a press", ["Two Dollar Radio"]), ("Lone Wolf", ["x"])]
    )
    assert bearers(table)["two dollar radio"] == [0, 1]
    assert not {"lone wolf", "grace", "x"} & set(table.listed)
    at = table.offsets[table.listed.index("two dollar radio")]
    assert table.titles[at : at + 2].tolist() == [0, 1]


def test_the_first_word_of_a_sentence_is_no_name_where_it_is_written_small_elsewhere() -> None:
    texts = ["Trees grow. Berlin grows.", "Trees fall in Berlin.", "all trees and trees and trees"]
    assert bearers(name_table((text, []) for text in texts)) == {"berlin": [0, 1]}


def test_a_title_is_a_name_even_where_it_is_written_small() -> None:
    assert "trees" in name_table([("all trees", ["Trees"]), ("Trees and trees", [])]).listed


def test_a_name_that_very_many_chunks_bear_joins_nothing() -> None:
    texts: list[tuple[str, list[str]]] = [
        ("Everywhere and Rare Bird", []),
        ("Everywhere, Rare Bird", []),
        *[("in Everywhere", [])] * MOST_BEARERS,
    ]
    assert "everywhere" not in name_table(texts).listed
    assert "rare bird" in name_table(texts).listed


def test_of_a_chunk_with_very_many_names_the_rarest_are_kept() -> None:
    many = " ".join(f"code_{number}" for number in range(MOST_NAMES + 50))
    table = name_table([(f"{many} and Rare Bird", []), (many, []), (many, []), ("Rare Bird", [])])
    assert np.bincount(table.bearers).max() == MOST_NAMES
    assert bearers(table)["rare bird"] == [0, 3]


@given(st.lists(st.lists(st.sampled_from(["Ada", "Bob Low", "Cy", "it", "Dee_1"]), max_size=5), max_size=9))
def test_the_table_says_of_each_name_what_reading_every_text_says(texts: list[list[str]]) -> None:
    passages = [(" is ".join(words), list[str]()) for words in texts]
    held: dict[str, list[int]] = {}
    for number, (text, _) in enumerate(passages):
        for name in set(names_in(text)):
            held.setdefault(name, []).append(number)
    table = name_table(passages)
    assert bearers(table) == {name: rows for name, rows in held.items() if len(rows) > 1}
    assert list(table.listed) == sorted(table.listed, key=str.encode)


_PASSAGE = st.tuples(
    st.lists(
        st.sampled_from(["Ada", "Bob Low", "ada", "it", "Dee_1", "東京", "trees", "Trees"]), max_size=8
    ).map(" is ".join),
    st.lists(st.sampled_from(["Ada", "trees", "Rare Bird"]), max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_PASSAGE, max_size=12), st.integers(1, 9), st.integers(1, 4))
def test_the_table_is_the_same_in_however_many_blocks_names_are_collected(
    passages: list[tuple[str, list[str]]], block: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(made, "MOST_NAMES", most)
        whole = name_table(passages)
        patched.setattr(made, "BLOCK", block)
        patched.setattr(spool, "IN_MEMORY", 100)
        table = name_table(passages)
    assert bearers(table) == bearers(whole)
    assert table.titles.tolist() == whole.titles.tolist()


# -- an index, and a walk in it ----------------------------------------------------------------------------


def draft_of(texts: dict[str, tuple[str, str]], vectors: Sequence[Sequence[float]]) -> Draft:
    rows = np.array(vectors, dtype=np.float32)
    rows = np.concatenate([rows, rows.mean(axis=0, keepdims=True)])
    documents = [(replace(document(doc, text)[0], title=title), text) for doc, (title, text) in texts.items()]
    n = len(documents)
    return Draft(
        documents=documents,
        chunks=np.array([(d, 0, len(text)) for d, (_, text) in enumerate(documents)]),
        labels=["All"],
        summaries=["All of it."],
        levels=[n, 1],
        children=[np.arange(n)],
        tokens=np.full(n + 1, 5),
        vectors=rows / np.linalg.norm(rows, axis=1, keepdims=True),
        names=name_table((text, [title]) for title, text in texts.values()),
    )


@pytest.fixture
def hops(tmp_path: Path) -> Index:
    """The third document is nearer to a question about the first than the second, which answers it; the rest is far."""
    vectors: list[list[float]] = [
        [1, 0, 0, *FAR],
        [0.3, 1, 0, *FAR],
        [0.5, 1, 0, *FAR],
        *[[0.01 * n, 0, 1, *FAR] for n in range(30)],
    ]
    publish_toy(tmp_path / "i", draft_of(HOPS, vectors))
    return open_index(tmp_path / "i")


ASKED = "Grace Krilanovich: where was the publishing house founded?"


def order(index: Index, weights: Weights, mode: str = "hybrid", **where: str) -> list[str]:
    vector = np.array([1, 0.2, 0, *FAR], dtype=np.float32)
    hits = index.search(ASKED, vector=vector / np.linalg.norm(vector), weights=weights, mode=mode, **where)  # type: ignore[arg-type]
    return [hit.span.doc for hit in hits if hit.span]


@pytest.mark.parametrize("mode", ["hybrid", "tree"])
def test_a_passage_that_shares_no_word_with_the_question_is_reached_by_a_name(hops: Index, mode: str) -> None:
    without, found = order(hops, Weights(walk=0), mode), order(hops, Weights(), mode)
    assert without.index("press.txt") < without.index("radio.txt")
    assert found[:2] == ["grace.txt", "radio.txt"]


def test_a_walk_enters_nothing_outside_what_is_searched(hops: Index) -> None:
    assert order(hops, Weights(), doc="press.txt") == ["press.txt"]
    assert hops.names is not None
    walked = walk(hops.names, ASKED, np.array([0, 2]), np.array([1.0, 0.5]), np.array([0, 2]))
    assert set(walked.chunks.tolist()) <= {0, 2}


def test_a_walk_goes_nowhere_where_no_name_is_shared(hops: Index) -> None:
    assert hops.names is not None
    assert not len(walk(hops.names, "salt?", np.array([3]), np.array([1.0]), np.arange(33)).chunks)


def test_a_chunk_gains_what_those_that_share_a_name_with_it_know_of_the_question(hops: Index) -> None:
    """Chunks 0 and 1 share a name, which two of all chunks bear; 2 and 3 share none."""
    assert hops.names is not None
    gathered = best_name(hops.names, np.arange(4), np.array([0.4, 0.1, 0.3, 0.2]))
    assert gathered == pytest.approx([0.5 / np.log2(3), 0.5 / np.log2(3), 0, 0])
    assert best_name(hops.names, np.array([1, 3]), np.array([0.1, 0.2])) == pytest.approx(
        [0.1 / np.log2(3), 0]
    )


def test_the_shares_of_a_walk_are_those_of_the_chain_worked_out_by_hand(hops: Index) -> None:
    """Chunks 0 and 1 share names, of which one is the title of 1; all starts on 0, and a step moves 0.7 of it."""
    assert hops.names is not None
    walked = walk(hops.names, "salt?", np.array([0]), np.array([1.0]), np.arange(33))
    chunks, names = np.array([1.0, 0.0]), 0.0
    to = np.array([1.0, TITLE]) / (1 + TITLE)
    for _ in range(12):
        chunks, names = 0.3 * np.array([1.0, 0.0]) + 0.7 * names * to, 0.7 * chunks.sum()
    assert walked.chunks.tolist() == [0, 1]
    assert walked.shares == pytest.approx(chunks)


def test_an_index_of_before_names_is_searched_as_it_was(tmp_path: Path, hops: Index) -> None:
    publish_toy(tmp_path / "old", replace(draft_of(HOPS, np.array(hops.vectors[:33]).tolist()), names=None))
    old = open_index(tmp_path / "old")
    assert old.names is None
    assert order(old, Weights()) == order(hops, Weights(walk=0))


def test_a_long_search_over_many_nodes_is_led_by_names_too(
    hops: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index_store.search.EXACT_NODES", 1)
    monkeypatch.setattr("index_store.search.SHORTLIST", 1)
    assert order(hops, Weights())[:2] == ["grace.txt", "radio.txt"]


# -- a stranger's arrays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["offsets", "bearers", "titles", "chunk_offsets", "pairs"])
@pytest.mark.parametrize("value", [-1, 2**30 + 2, "fewer"])
def test_damaged_arrays_of_names_are_refused_in_a_sentence(hops: Index, name: str, value: int | str) -> None:
    file = hops.folder / "names" / f"{name}.npy"
    array = np.load(file)
    np.save(
        file,
        array[:-1] if value == "fewer" else np.full_like(array, value % 256 if name == "titles" else value),
    )
    seal(hops.folder)
    with pytest.raises(BrokenIndex, match="damaged"):
        order(open_index(hops.path), Weights())


def test_a_list_of_names_of_another_length_is_refused(hops: Index) -> None:
    (hops.folder / "names" / "names.txt").write_bytes(b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nn")
    seal(hops.folder)
    with pytest.raises(BrokenIndex, match=r"names\.txt has 14 words"):
        order(open_index(hops.path), Weights())


def test_the_files_of_names_come_together_or_not_at_all(hops: Index) -> None:
    import json

    manifest = json.loads((hops.folder / "manifest.json").read_text())
    del manifest["files"]["names/pairs.npy"]
    seal(hops.folder, files=manifest["files"])
    with pytest.raises(BrokenIndex, match="missing"):
        open_index(hops.path)


def test_an_empty_table_is_written_and_read(tmp_path: Path) -> None:
    write(tmp_path, name_table([]))
    assert (tmp_path / "names.txt").read_bytes() == b""
    publish_toy(
        tmp_path / "i", replace(draft_of({"a": ("a", "b")}, [[1.0] * DIM]), names=name_table([("b", ["a"])]))
    )
    assert open_index(tmp_path / "i").search("b", vector=np.full(DIM, DIM**-0.5, dtype=np.float32))
