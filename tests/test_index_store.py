"""An index on disk: what is written comes back, and a wrong folder is refused in one sentence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from index_store.errors import BadQuery, BrokenIndex, IndexStoreError, NoSuchNode
from index_store.manifest import FILES
from index_store.reader import open_index
from index_store.search import Weights, fuse, lift, standardise, top
from index_store.tables import byte_at, char_at, chars_before
from index_store.types import Span
from tests.toy import TEXTS, publish_toy, toy_draft, toy_index, unit_rows


@pytest.fixture
def index(tmp_path):
    return toy_index(tmp_path / "toy.index")


def test_chunks_are_exact_spans_of_their_documents(index):
    for leaf in index.nodes(0):
        assert index.text(leaf.id) == TEXTS[leaf.span.doc][leaf.span.start : leaf.span.end]
        assert index.span_text(leaf.span) == index.text(leaf.id)


def test_every_document_comes_back_character_for_character(index):
    assert {d.id: index.document_text(d.id) for d in index.documents} == TEXTS
    assert index.slice(0, index.chars) == "".join(TEXTS.values())


def test_summaries_and_labels_come_back(index):
    assert index.text("L1-00001") == "Äpfel und Birnen."
    assert index.node("L1-00001").label == "Fruit – Maße"
    assert index.root.id == "L2-00000"
    assert index.root.span is None


def test_a_chunk_is_labelled_by_its_first_words(index):
    assert index.node("L0-00001").label == "The mizzen is shorter."


def test_edges_lead_both_ways_and_a_chunk_may_have_two_parents(index):
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
def test_a_wrong_node_id_is_answered_with_the_ids_there_are(index, asked, answer):
    with pytest.raises(NoSuchNode, match=answer):
        index.node(asked)


def test_a_wrong_document_id_is_answered_with_the_nearest(index):
    with pytest.raises(NoSuchNode, match=r"did you mean 'boats\.txt'"):
        index.document("boat.txt")


def test_the_same_content_has_the_same_digest_and_is_not_published_twice(tmp_path):
    first, again = publish_toy(tmp_path / "a"), publish_toy(tmp_path / "a")
    assert (again.generation, again.new) == (1, False)
    assert publish_toy(tmp_path / "b").digest == first.digest
    assert sorted(p.name for p in (tmp_path / "a" / "generations").iterdir()) == ["000001"]


def test_new_content_is_a_new_generation_and_an_open_reader_keeps_the_old_one(tmp_path):
    old = toy_index(tmp_path / "a")
    draft = toy_draft()
    changed = type(draft)(**{f: getattr(draft, f) for f in draft.__slots__} | {"labels": ["x", "y", "z"]})
    assert publish_toy(tmp_path / "a", changed).generation == 2
    assert open_index(tmp_path / "a").root.label == "z"
    assert open_index(tmp_path / "a").manifest.parent == 1
    assert old.root.label == "All"


def test_a_missing_folder_says_how_to_build_one(tmp_path):
    with pytest.raises(BrokenIndex, match="raptor build"):
        open_index(tmp_path / "none")


def test_an_unfinished_build_does_not_open(tmp_path):
    publish_toy(tmp_path / "a")
    (tmp_path / "a" / "CURRENT").unlink()
    with pytest.raises(BrokenIndex, match="unfinished"):
        open_index(tmp_path / "a")


@pytest.mark.parametrize("name", sorted([*FILES, "manifest.json"]))
@pytest.mark.parametrize("harm", ["remove", "shorten", "empty"])
def test_a_half_copied_index_does_not_open_and_names_the_file(tmp_path, name, harm):
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / name
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] if harm == "shorten" else b"")
    with pytest.raises(BrokenIndex) as e:
        open_index(tmp_path / "a")
    assert Path(name).name in str(e.value)


def test_another_format_number_is_refused_by_name(tmp_path):
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(BrokenIndex, match="format 99"):
        open_index(tmp_path / "a")


@pytest.mark.parametrize("line", ["", "../../etc", "1", "000009", "٠٠٠٠٠١"])
def test_a_pointer_that_names_no_generation_is_refused(tmp_path, line):
    publish_toy(tmp_path / "a")
    (tmp_path / "a" / "CURRENT").write_text(line)
    with pytest.raises(BrokenIndex):
        open_index(tmp_path / "a")


def test_a_changed_setting_in_the_manifest_is_noticed(tmp_path):
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / "manifest.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(BrokenIndex, match="digest"):
        open_index(tmp_path / "a")


def test_edges_out_of_range_are_an_error_not_a_crash(tmp_path):
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / "children.npy"
    edges = np.load(file)
    np.save(file, np.full_like(edges, 10**6))
    with pytest.raises(BrokenIndex, match="out of range"):
        open_index(tmp_path / "a").children("L2-00000")


def test_lexical_arrays_out_of_range_are_an_error_not_a_crash(tmp_path):
    publish_toy(tmp_path / "a")
    file = tmp_path / "a" / "generations" / "000001" / "lexical" / "nodes.npy"
    np.save(file, np.full_like(np.load(file), 10**8))
    with pytest.raises(BrokenIndex, match="damaged"):
        open_index(tmp_path / "a").search("mizzen", mode="lexical")


def test_a_pickled_array_is_never_loaded(tmp_path):
    publish_toy(tmp_path / "a")
    folder = tmp_path / "a" / "generations" / "000001"
    size = (folder / "children.npy").stat().st_size
    np.save(folder / "x.npy", np.array([print], dtype=object), allow_pickle=True)
    (folder / "children.npy").write_bytes((folder / "x.npy").read_bytes()[:size].ljust(size, b"\0"))
    with pytest.raises(BrokenIndex, match=r"children\.npy"):
        open_index(tmp_path / "a")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IndexStoreError, match="cannot write"):
        publish_toy(tmp_path / "file")


def test_a_dead_builds_leftovers_are_cleared_by_the_next_one(tmp_path):
    (tmp_path / "a" / "generations" / "000001.partial").mkdir(parents=True)
    publish_toy(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a" / "generations").iterdir()) == ["000001"]


def test_an_index_can_be_moved(tmp_path):
    publish_toy(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert open_index(tmp_path / "b").root.label == "All"


# -- offsets -----------------------------------------------------------------------------------------------


@given(st.text(max_size=3000))
@example("")
@example("é" * 1024)
@example("a" * 1023 + "\U0001f34e" * 600)
@example("\u2028\r\n\0" * 700)
def test_character_and_byte_offsets_are_inverse(text):
    raw = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
    marks = chars_before(raw)
    byte = 0
    for char in range(len(text) + 1):
        if char % 97 == 0 or char == len(text):
            assert byte_at(raw, marks, char) == byte
            assert char_at(raw, marks, byte) == char
        byte += len(text[char].encode("utf-8", "surrogatepass")) if char < len(text) else 0


def test_a_span_reaching_past_the_document_is_cut_as_a_slice_is(index):
    assert index.span_text(Span("one.txt", 3, 99)) == "gle"
    assert index.span_text(Span("one.txt", 5, 2)) == ""


# -- grep --------------------------------------------------------------------------------------------------


def test_grep_finds_every_match_with_its_chunk_and_characters(index):
    found = index.grep("mizzen")
    assert found.total == 2
    assert found.complete
    assert [m.node for m in found.matches] == ["L0-00001", "L0-00002"]
    assert all(index.span_text(m.span) == "mizzen" for m in found.matches)
    assert found.matches[0].line == "The ketch has two masts. The mizzen is shorter."


def test_grep_offsets_are_characters_not_bytes(index):
    (match,) = index.grep("Birnen").matches
    assert TEXTS["größe.md"][match.span.start : match.span.end] == "Birnen"


def test_grep_stays_in_the_branch_and_in_the_document(index):
    assert index.grep("mizzen", under="L1-00001").total == 1
    assert index.grep("wiegen", doc="größe.md").total == 2
    assert index.grep("wiegen", doc="boats.txt").total == 0
    assert index.grep("(?s)ketch.*rudder", under="L1-00001").total == 0


def test_grep_counts_past_its_limit_and_says_when_it_stopped(index):
    assert len(index.grep("e", limit=2).matches) == 2
    assert index.grep("e", limit=2).total > 2
    assert not index.grep("e", count_to=3).complete


@pytest.mark.parametrize("pattern", [r"(?=x)", r"(a)\1", "(", "x" * 5000])
def test_a_pattern_that_re2_refuses_is_refused_in_a_sentence(index, pattern):
    with pytest.raises(BadQuery):
        index.grep(pattern)


def test_anchors_match_at_lines(index):
    assert index.grep("^A yawl").total == 1


def test_grep_ignores_case_when_asked(index):
    assert index.grep("THE KETCH").total == 0
    assert index.grep("THE KETCH", ignore_case=True).total == 1


# -- search ------------------------------------------------------------------------------------------------


def test_lexical_search_finds_the_word_and_nothing_else(index):
    hits = index.search("rudder", mode="lexical")
    assert [h.node for h in hits] == ["L0-00002"]
    assert hits[0].span.doc == "boats.txt"


def test_dense_search_ranks_by_cosine(index):
    vector = unit_rows(9)[4]
    hits = index.search("anything", mode="dense", vector=vector, k=6)
    assert hits[0].node == "L0-00004"
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_search_stays_in_level_branch_and_document(index):
    vector = unit_rows(9)[0]
    assert {h.level for h in index.search("x", vector=vector, level=1)} == {1}
    assert {h.node for h in index.search("x", vector=vector, under="L1-00000")} == {
        "L0-00000",
        "L0-00001",
        "L0-00002",
    }
    assert {h.span.doc for h in index.search("x", vector=vector, doc="größe.md")} == {"größe.md"}
    tree = index.search("x", vector=vector, mode="tree", doc="one.txt")
    assert {h.node for h in tree} == {"L0-00005", "L1-00001", "L2-00000"}


@pytest.mark.parametrize("bad", [{"mode": "magic"}, {"k": 0}, {"vector": unit_rows(1, 3)[0]}])
def test_a_search_that_makes_no_sense_is_refused_in_a_sentence(index, bad):
    with pytest.raises(BadQuery):
        index.search("x", **{"vector": unit_rows(1)[0]} | bad)


def test_an_empty_query_is_refused(index):
    with pytest.raises(BadQuery, match="empty"):
        index.search("  ", mode="lexical")


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.integers(1, 60))
@example([1.0, 1.0, 1.0], 2)
def test_top_is_the_head_of_a_stable_sort(scores, k):
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert top(np.array(scores), k).tolist() == expected


def test_scores_that_do_not_differ_do_not_decide():
    assert standardise(np.array([3.0, 3.0])).tolist() == [0.0, 0.0]
    assert fuse(np.array([0.1, 0.9]), np.zeros(2), 0.6)[1] > 0


def test_a_lone_chunk_loses_nothing_by_having_no_neighbour():
    leaves, owners = np.array([0, 1, 2]), np.array([0, 0, 1], dtype=np.int32)
    lifted = lift(np.array([1.0, 0.0, 1.0]), leaves, owners, Weights(neighbour=0.3, document=0.0))
    assert lifted[2] >= lifted[0]
