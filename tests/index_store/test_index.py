"""An index on disk: what is written comes back, and a wrong folder is refused in one sentence."""

import json
import resource
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from index_store.errors import BadQuery, BrokenIndex, IndexStoreError, NoSuchNode
from index_store.generations import rollback
from index_store.index import Index, open_index
from index_store.lexical import words
from index_store.manifest import FILES, MAX_BYTES
from index_store.search import Weights, fuse, nearby_best, places_within, standardise, top
from index_store.tables import byte_at, char_at, chars_before
from index_store.types import MODES, Hit, Mode, Span
from index_store.writer import publish
from tests.helpers.toy import TEXTS, publish_toy, toy_draft, toy_index, unit_rows


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return toy_index(tmp_path / "toy.index")


def test_chunks_are_exact_spans_of_their_documents(index: Index) -> None:
    for leaf in index.nodes(0):
        assert leaf.span is not None
        assert index.text(leaf.id) == TEXTS[leaf.span.doc][leaf.span.start : leaf.span.end]
        assert index.span_text(leaf.span) == index.text(leaf.id)


def test_every_document_comes_back_character_for_character(index: Index) -> None:
    assert {d.id: index.document_text(d.id) for d in index.documents} == TEXTS
    assert index.slice(0, index.chars) == "".join(TEXTS.values())


def test_summaries_and_labels_come_back(index: Index) -> None:
    assert index.text("L1-00001") == "Äpfel und Birnen."
    assert index.node("L1-00001").label == "Fruit – Maße"
    assert index.root.id == "L2-00000"
    assert index.root.span is None


def test_a_chunk_is_labelled_by_its_first_words(index: Index) -> None:
    assert index.node("L0-00001").label == "boats: The mizzen is shorter."


def test_edges_lead_both_ways_and_a_chunk_may_have_two_parents(index: Index) -> None:
    assert [n.id for n in index.children("L1-00001")] == ["L0-00002", "L0-00003", "L0-00004", "L0-00005"]
    assert [n.id for n in index.parents("L0-00002")] == ["L1-00000", "L1-00001"]
    assert [n.id for n in index.path_to("L0-00005")] == ["L2-00000", "L1-00001", "L0-00005"]
    assert [n.id for n in index.leaves("L1-00000")] == ["L0-00000", "L0-00001", "L0-00002"]
    assert [n.id for n in index.leaves("L0-00003")] == ["L0-00003"]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("L0-0001", "did you mean L0-00001"),
        ("L7-00000", "no node 'L7-00000'"),
        ("L0-00006", "L0-00000..L0-00005"),
    ],
)
def test_a_wrong_node_id_is_answered_with_the_ids_there_are(index: Index, asked: str, answer: str) -> None:
    with pytest.raises(NoSuchNode, match=answer):
        index.node(asked)


def test_a_wrong_document_id_is_answered_with_the_nearest(index: Index) -> None:
    with pytest.raises(NoSuchNode, match=r"did you mean 'boats\.txt'"):
        index.document("boat.txt")


def test_the_same_content_has_the_same_digest_and_is_not_published_twice(tmp_path: Path) -> None:
    first, again = publish_toy(tmp_path / "a"), publish_toy(tmp_path / "a")
    assert (again.generation, again.new) == (1, False)
    assert publish_toy(tmp_path / "b").digest == first.digest
    assert sorted(p.name for p in (tmp_path / "a" / "generations").iterdir()) == ["000001"]


def test_new_content_is_a_new_generation_and_an_open_reader_keeps_the_old_one(tmp_path: Path) -> None:
    old = toy_index(tmp_path / "a")
    assert publish_toy(tmp_path / "a", replace(toy_draft(), labels=["x", "y", "z"])).generation == 2
    assert open_index(tmp_path / "a").root.label == "z"
    assert open_index(tmp_path / "a").manifest.parent == 1
    assert old.root.label == "All"


def test_a_missing_folder_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(BrokenIndex, match="raptor build"):
        open_index(tmp_path / "none")


def test_an_unfinished_build_does_not_open(tmp_path: Path) -> None:
    publish_toy(tmp_path / "a")
    (tmp_path / "a" / "CURRENT").unlink()
    with pytest.raises(BrokenIndex, match="unfinished"):
        open_index(tmp_path / "a")


@pytest.mark.parametrize("name", sorted([*FILES, "manifest.json"]))
@pytest.mark.parametrize("harm", ["remove", "shorten", "empty"])
def test_a_half_copied_index_does_not_open_and_names_the_file(tmp_path: Path, name: str, harm: str) -> None:
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / name
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] if harm == "shorten" else b"")
    with pytest.raises(BrokenIndex) as e:
        open_index(tmp_path / "a")
    assert Path(name).name in str(e.value)


def test_another_format_number_is_refused_by_name(tmp_path: Path) -> None:
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(BrokenIndex, match="format 99"):
        open_index(tmp_path / "a")


@pytest.mark.parametrize("line", ["", "../../etc", "1", "000009", "٠٠٠٠٠١"])
def test_a_pointer_that_names_no_generation_is_refused(tmp_path: Path, line: str) -> None:
    publish_toy(tmp_path / "a")
    (tmp_path / "a" / "CURRENT").write_text(line)
    with pytest.raises(BrokenIndex):
        open_index(tmp_path / "a")


def test_a_changed_setting_in_the_manifest_is_noticed(tmp_path: Path) -> None:
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / "manifest.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(BrokenIndex, match="digest"):
        open_index(tmp_path / "a")


def test_edges_out_of_range_are_an_error_not_a_crash(tmp_path: Path) -> None:
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / "children.npy"
    edges = np.load(file)
    np.save(file, np.full_like(edges, 10**6))
    with pytest.raises(BrokenIndex, match="out of range"):
        open_index(tmp_path / "a").children("L2-00000")


def test_lexical_arrays_out_of_range_are_an_error_not_a_crash(tmp_path: Path) -> None:
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / "lexical" / "nodes.npy"
    np.save(file, np.full_like(np.load(file), 10**8))
    with pytest.raises(BrokenIndex, match="damaged"):
        open_index(tmp_path / "a").search("mizzen", mode="lexical")


def test_a_pickled_array_is_never_loaded(tmp_path: Path) -> None:
    publish_toy(tmp_path / "a")
    folder = tmp_path / "a" / "generations" / "000001"
    size = (folder / "children.npy").stat().st_size
    np.save(folder / "x.npy", np.array([print], dtype=object), allow_pickle=True)
    (folder / "children.npy").write_bytes((folder / "x.npy").read_bytes()[:size].ljust(size, b"\0"))
    with pytest.raises(BrokenIndex, match=r"children\.npy"):
        open_index(tmp_path / "a")


def test_a_manifest_that_no_one_would_read_is_refused_and_the_old_generation_stays(tmp_path: Path) -> None:
    before = toy_index(tmp_path / "i")
    models = dict(before.manifest.models)
    with pytest.raises(
        IndexStoreError, match=r"would have 4,\d{3},\d{3} bytes.* give the index fewer shards"
    ):
        publish(tmp_path / "i", toy_draft(), models, {"shards of": "x" * MAX_BYTES})
    assert open_index(tmp_path / "i").digest == before.digest


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IndexStoreError, match="cannot write"):
        publish_toy(tmp_path / "file")


def test_a_disk_that_fills_up_leaves_the_old_generation_and_nothing_half_written(tmp_path: Path) -> None:
    before = publish_toy(tmp_path / "i").digest
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 100, 200, 300):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(IndexStoreError, match="free the space"):
                publish_toy(tmp_path / "i", replace(toy_draft(), labels=["x", "y", "z"]))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert open_index(tmp_path / "i").manifest.digest == before
        assert [p.name for p in (tmp_path / "i" / "generations").iterdir()] == ["000001"]


def test_going_back_in_an_index_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_toy(tmp_path / "i")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("index_store.generations.switch", refuse)
    with pytest.raises(IndexStoreError, match="Permission denied; make it writable"):
        rollback(tmp_path / "i", 1)


def test_a_dead_builds_leftovers_are_cleared_by_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "a" / "generations" / "000001.partial").mkdir(parents=True)
    publish_toy(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a" / "generations").iterdir()) == ["000001"]


def test_an_index_can_be_moved(tmp_path: Path) -> None:
    publish_toy(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert open_index(tmp_path / "b").root.label == "All"


# -- offsets -----------------------------------------------------------------------------------------------


@given(st.text(max_size=3000))
@example("")
@example("é" * 1024)
@example("a" * 1023 + "\U0001f34e" * 600)
@example("\u2028\r\n\0" * 700)
def test_character_and_byte_offsets_are_inverse(text: str) -> None:
    raw = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
    marks = chars_before(raw)
    byte = 0
    for char in range(len(text) + 1):
        if char % 97 == 0 or char == len(text):
            assert byte_at(raw, marks, char) == byte
            assert char_at(raw, marks, byte) == char
        byte += len(text[char].encode("utf-8", "surrogatepass")) if char < len(text) else 0


def test_a_span_reaching_past_the_document_is_cut_as_a_slice_is(index: Index) -> None:
    assert index.span_text(Span("one.txt", 3, 99)) == "gle"
    assert index.span_text(Span("one.txt", 5, 2)) == ""


# -- grep --------------------------------------------------------------------------------------------------


def test_grep_finds_every_match_with_its_chunk_and_characters(index: Index) -> None:
    result = index.grep("mizzen")
    assert result.total == 2
    assert result.complete
    assert [m.node for m in result.matches] == ["L0-00001", "L0-00002"]
    assert all(index.span_text(m.span) == "mizzen" for m in result.matches)
    assert result.matches[0].line == "The ketch has two masts. The mizzen is shorter."


def test_grep_offsets_are_characters_not_bytes(index: Index) -> None:
    (match,) = index.grep("Birnen").matches
    assert TEXTS["größe.md"][match.span.start : match.span.end] == "Birnen"


def test_grep_stays_in_the_branch_and_in_the_document(index: Index) -> None:
    assert index.grep("mizzen", under="L1-00001").total == 1
    assert index.grep("wiegen", doc="größe.md").total == 2
    assert index.grep("wiegen", doc="boats.txt").total == 0
    assert index.grep("(?s)ketch.*rudder", under="L1-00001").total == 0


def test_grep_counts_past_its_limit_and_says_when_it_stopped(index: Index) -> None:
    assert len(index.grep("e", limit=2).matches) == 2
    assert index.grep("e", limit=2).total > 2
    assert not index.grep("e", count_to=3).complete


@pytest.mark.parametrize("pattern", [r"(?=x)", r"(a)\1", "(", "x" * 5000])
def test_a_pattern_that_re2_refuses_is_refused_in_a_sentence(index: Index, pattern: str) -> None:
    with pytest.raises(BadQuery):
        index.grep(pattern)


def test_anchors_match_at_lines(index: Index) -> None:
    assert index.grep("^A yawl").total == 1


def test_grep_ignores_case_when_asked(index: Index) -> None:
    assert index.grep("THE KETCH").total == 0
    assert index.grep("THE KETCH", ignore_case=True).total == 1


# -- search ------------------------------------------------------------------------------------------------


def documents_of(hits: Sequence[Hit]) -> list[str]:
    return [hit.span.doc for hit in hits if hit.span]


def test_lexical_search_finds_the_word_and_nothing_else(index: Index) -> None:
    hits = index.search("rudder", mode="lexical")
    assert [h.node for h in hits] == ["L0-00002"]
    assert documents_of(hits) == ["boats.txt"]


def test_dense_search_ranks_by_cosine(index: Index) -> None:
    vector = unit_rows(9)[4]
    hits = index.search("anything", mode="dense", vector=vector, k=6)
    assert hits[0].node == "L0-00004"
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_search_stays_in_level_branch_and_document(index: Index) -> None:
    vector = unit_rows(9)[0]
    assert {h.level for h in index.search("x", vector=vector, level=1)} == {1}
    assert {h.node for h in index.search("x", vector=vector, under="L1-00000")} == {
        "L0-00000",
        "L0-00001",
        "L0-00002",
    }
    assert set(documents_of(index.search("x", vector=vector, doc="größe.md"))) == {"größe.md"}


def test_a_search_in_one_document_shows_no_summary_of_another(index: Index) -> None:
    def nodes(doc: str) -> set[str]:
        return {h.node for h in index.search("x", vector=unit_rows(9)[0], mode="tree", doc=doc)}

    assert nodes("boats.txt") == {"L0-00000", "L0-00001", "L0-00002", "L1-00000"}
    assert nodes("one.txt") == {"L0-00005"}


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_the_tree_finds_chunks_in_the_order_in_which_flat_search_finds_them(index: Index, k: int) -> None:
    for row in range(9):
        flat, tree = (
            index.search("ketch and yawl", k, vector=unit_rows(9)[row], mode=mode)
            for mode in ("hybrid", "tree")
        )
        chunks = [h.node for h in tree if h.level == 0]
        assert chunks == [h.node for h in flat][: len(chunks)]
        assert [h.score for h in tree] == sorted((h.score for h in tree), reverse=True)
    assert any(h.level for h in tree)


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_gives_more_hits_than_were_asked_for(index: Index, mode: Mode) -> None:
    for k in (1, 2, 3):
        assert len(index.search("ketch and yawl mizzen", k, vector=unit_rows(9)[6], mode=mode)) == k


def test_the_words_of_a_name_in_code_are_found_and_the_name_itself() -> None:
    assert {"httpclientpool", "client", "pool"} <= set(words("the HttpClientPool"))
    assert {"as_complet", "complet"} <= set(words("as_completed"))
    assert words("mRNA") == ["mrna"]


@pytest.mark.parametrize("bad", [{"mode": "magic"}, {"k": 0}, {"vector": unit_rows(1, 3)[0]}])
def test_a_search_that_makes_no_sense_is_refused_in_a_sentence(index: Index, bad: dict[str, Any]) -> None:
    with pytest.raises(BadQuery):
        index.search("x", **{"vector": unit_rows(1)[0]} | bad)


def test_an_empty_query_is_refused(index: Index) -> None:
    with pytest.raises(BadQuery, match="empty"):
        index.search("  ", mode="lexical")


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.integers(1, 60))
@example([1.0, 1.0, 1.0], 2)
def test_top_is_the_head_of_a_stable_sort(scores: list[float], k: int) -> None:
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert top(np.array(scores), k).tolist() == expected


def test_scores_that_do_not_differ_do_not_decide() -> None:
    assert standardise(np.array([3.0, 3.0]), np.array([3.0, 3.0])).tolist() == [0.0, 0.0]
    assert fuse(np.array([0.1, 0.9]), np.zeros(2), Weights(), 2)[1] > 0


def test_chunks_without_a_word_of_the_query_do_not_change_how_the_others_rank() -> None:
    rng = np.random.default_rng(0)
    dense, lexical = rng.random(300), rng.random(300)
    more = np.zeros(5000)
    few = fuse(dense, lexical, Weights(best=200), 300)
    many = fuse(np.concatenate([dense, more]), np.concatenate([lexical, more]), Weights(best=200), 5300)
    assert np.allclose(many[:300], few)


def test_a_lone_chunk_loses_nothing_by_having_no_neighbour() -> None:
    near = nearby_best(np.array([1.0, 0.0, 1.0]), np.arange(3), np.array([0, 0, 1], dtype=np.int32), 3)
    assert near.tolist() == [1.0, 1.0, 1.0]


CHUNKS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.floats(-5, 5)), min_size=1, max_size=40)


@given(CHUNKS, st.integers(0, 5))
@example([(0, 1, 1.0)], 3)
@example([(0, 1, 1.0), (0, 4, 0.0), (1, 1, -1.0)], 3)
def test_a_chunk_is_lifted_by_the_best_within_reach_in_its_document(
    drawn: list[tuple[int, int, float]], reach: int
) -> None:
    documents = np.sort(np.array([d for d, _, _ in drawn], dtype=np.int32))
    chunks = np.cumsum([gap for _, gap, _ in drawn])
    scores = np.array([s for _, _, s in drawn])
    expected = [
        max(
            s
            for c, d, s in zip(chunks, documents, scores, strict=True)
            if abs(c - chunk) <= reach and d == document
        )
        for chunk, document in zip(chunks, documents, strict=True)
    ]
    assert nearby_best(scores, chunks, documents, reach).tolist() == expected


@given(CHUNKS, st.floats(0, 2))
@example([(0, 1, 1.0), (0, 1, 1.0), (1, 1, 0.9)], 0.2)
def test_less_their_places_scores_come_in_the_order_of_a_greedy_choice(
    drawn: list[tuple[int, int, float]], again: float
) -> None:
    documents = np.sort(np.array([d for d, _, _ in drawn], dtype=np.int32))
    scores = np.array([s for _, _, s in drawn])
    left, greedy = dict(enumerate(scores.tolist())), []
    taken = dict.fromkeys(documents.tolist(), 0)
    while left:
        best = min(left, key=lambda i: (-round(left[i] - again * taken[int(documents[i])], 9), i))
        greedy.append(left.pop(best) - again * taken[int(documents[best])])
        taken[int(documents[best])] += 1
    spread = scores - again * places_within(scores, documents)
    assert np.allclose(np.sort(spread)[::-1], greedy)


def test_what_stands_beside_the_best_chunk_comes_next_when_neighbours_weigh_much(index: Index) -> None:
    def nodes(near: float) -> list[str]:
        weights = Weights(near=near, again=0.0)
        return [h.node for h in index.search("x", 2, vector=unit_rows(9)[3], weights=weights)]

    assert nodes(0.0) != nodes(50.0) == ["L0-00003", "L0-00004"]


def test_every_document_comes_before_any_comes_again_when_repeats_cost_much(index: Index) -> None:
    hits = index.search("x", 6, vector=unit_rows(9)[0], weights=Weights(again=50.0))
    assert set(documents_of(hits[:3])) == set(TEXTS)


def test_a_second_chunk_of_a_document_gives_way_to_one_nearly_as_good_elsewhere() -> None:
    scores, documents = np.array([3.0, 2.0, 1.9]), np.array([0, 0, 1], dtype=np.int32)
    assert top(scores - 0.2 * places_within(scores, documents), 2).tolist() == [0, 2]
