"""A text file as a tree of one level: nothing of it changes, and what is no text is refused in one sentence."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from index_store import plain
from index_store.errors import BadQuery, BrokenIndex
from index_store.index import Index, open_any, open_text, text_index
from index_store.plain import CHUNK_BYTES, cuts
from index_store.types import Mode
from tests.helpers.rlm_toy import recorded_verbs
from tests.helpers.toy import toy_index

NOTES = "".join(
    f"Entry {i}. The ketch lay at mooring {i}, and its mizzen was set.\r\n"
    + ("\r\n" if i % 7 == 0 else "Größe: 3 m\u2028– nothing more.\n")
    for i in range(100)
)


def written(folder: Path, text: str | bytes = NOTES, name: str = "notes.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.fixture
def notes(tmp_path: Path) -> Index:
    return open_text(written(tmp_path))


def refusal(path: Path) -> str:
    with pytest.raises(BrokenIndex) as caught:
        open_any(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- the tree ----------------------------------------------------------------------------------------------


def test_a_text_is_one_document_whose_chunks_stand_under_one_root(notes: Index) -> None:
    chunks = [node.span for node in notes.leaves("L1-00000")]
    assert notes.levels == (len(chunks), 1) and len(chunks) > 3
    assert [d.id for d in notes.documents] == ["notes.txt"]
    assert notes.root.label == "notes.txt"
    assert {p.id for node in notes.nodes(0) for p in notes.parents(node.id)} == {"L1-00000"}
    assert [span.start for span in chunks if span] == [0, *(span.end for span in chunks[:-1] if span)]


def test_not_one_character_of_it_changes(notes: Index) -> None:
    assert "".join(notes.text(node.id) for node in notes.nodes(0)) == NOTES
    assert notes.document_text("notes.txt") == notes.slice(0, notes.chars) == NOTES
    place = NOTES.index("mooring 60")
    assert notes.slice(place, place + 10) == "mooring 60"


def test_the_digest_is_the_sha256_of_the_file(notes: Index) -> None:
    assert notes.digest == hashlib.sha256(NOTES.encode()).hexdigest()


def test_the_root_says_how_large_it_is_and_how_it_begins(notes: Index) -> None:
    summary = notes.text("L1-00000")
    assert f"{len(NOTES):,} characters" in summary
    assert summary.endswith(f"It begins:\n{NOTES.encode()[:400].decode(errors='ignore')}")


def test_chunks_end_with_blank_lines_lines_or_words_where_there_are_any() -> None:
    blank = b"a" * 800 + b"\n\n" + b"b" * 150 + b"\n" + b"c" * 500
    line = b"a" * 800 + b"\n" + b"b" * 150 + b" " + b"c" * 500
    word = b"a" * 700 + b" " + b"b" * 800
    assert [list(cuts(raw)) for raw in (blank, line, word)] == [[0, 802], [0, 801], [0, 701]]
    assert list(cuts(b"x" * 2500)) == [0, 1000, 2000]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1), st.integers(1, 800)
)
@example(["\u2028\r\n", "\r", "\U0001f34e"], 700)
@example(["é"], 500)
def test_any_text_is_tiled_by_chunks_that_are_whole_characters(pieces: list[str], times: int) -> None:
    text = "".join(pieces) * times + "."
    raw = text.encode()
    starts = list(cuts(raw))
    parts = [raw[a:b] for a, b in zip(starts, [*starts[1:], len(raw)], strict=True)]
    assert "".join(part.decode() for part in parts) == text
    assert all(0 < len(part) <= CHUNK_BYTES for part in parts)
    index = text_index(Path("x.txt"), raw)
    assert index.chars == len(text)
    assert [index.text_at(n) for n in range(len(starts))] == [part.decode() for part in parts]


# -- looking into it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["lexical", "hybrid", "tree"])
def test_search_goes_by_words(notes: Index, mode: Mode) -> None:
    hit = notes.search("mooring 60", 3, mode=mode)[0]
    assert "mooring 60," in notes.text(hit.node)
    assert notes.search("trombone", 3, mode=mode) == []


def test_a_search_by_meaning_says_that_there_are_no_vectors(notes: Index) -> None:
    with pytest.raises(BadQuery, match="has no vectors, so it is not searched by meaning"):
        notes.search("boats", 3, mode="dense")
    with pytest.raises(BadQuery, match="has no vectors"):
        notes.embed_queries(["boats"])


def test_every_verb_answers(notes: Index) -> None:
    context, visits = recorded_verbs(notes)

    def ask(verb: str, *args: Any, **named: Any) -> Any:
        return context.serve(verb, args, named)

    leaf = ask("grep", "mooring 60")[0]["node"]
    assert ask("overview")["children"] == ask("children", "L1-00000") == ask("leaves", "L1-00000")
    assert [d["chars"] for d in ask("documents")] == [len(NOTES)]
    assert ask("peek", leaf)["chars"] == len(ask("read", leaf))
    assert [n["node"] for n in ask("path", leaf)] == ["L1-00000", leaf]
    assert [n["node"] for n in ask("parents", leaf)] == ["L1-00000"]
    assert ask("search", "mooring 60", k=1)[0]["node"] == leaf
    assert ask("search", "mooring 60", level=None)[0]["node"] == leaf
    assert ask("read", "notes.txt", 0, 8) == ask("slice", 0, 8) == "Entry 0."
    assert ask("contains", "\u2028– nothing") and not ask("contains", "trombone")
    assert ask("length") == len(NOTES) and ask("text") == NOTES
    assert all(visit["error"] == "" for visit in visits)


def test_a_chunk_is_a_branch_of_its_own(notes: Index) -> None:
    context, _ = recorded_verbs(notes, "L0-00001")
    assert context.serve("text", [], {}) == notes.text("L0-00001")


# -- what is opened ----------------------------------------------------------------------------------------


def test_a_folder_is_an_index_and_a_file_is_a_text(tmp_path: Path) -> None:
    toy_index(tmp_path / "toy.index")
    assert not open_any(tmp_path / "toy.index").is_plain
    assert open_any(str(written(tmp_path, '{"a": 1}\n', "rows.jsonl"))).is_plain


def test_a_byte_order_mark_is_a_character_of_the_text(tmp_path: Path) -> None:
    assert open_text(written(tmp_path, "\ufeffwords")).slice(0, 2) == "\ufeffw"


def test_a_name_that_is_no_text_still_names_a_document(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"n\xf6tes\n.txt")
    path.write_text("words")
    assert open_text(path).document("n?tes\n.txt").chars == 5


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "it holds no text"),
        (b" \r\n\t", "it holds no text"),
        (b"a line\nand \xff", "it is not UTF-8 (byte 0xff at byte 11, line 2)"),
        (b"half \xe2\x82", "it is not UTF-8 (byte 0xe2 at byte 5, line 1)"),
        ("half \ud83d".encode("utf-8", "surrogatepass"), "it is not UTF-8"),
        (b"%PDF-1.7\n\0\1", "it holds a NUL at byte 9, so it is binary"),
        ("words".encode("utf-16"), "it is UTF-16 by its byte order mark"),
    ],
)
def test_what_is_no_text_is_refused_in_one_sentence(tmp_path: Path, raw: bytes, fault: str) -> None:
    assert fault in refusal(written(tmp_path, raw))


def test_what_is_no_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is neither a file nor a folder" in refusal(tmp_path / "pipe")
    assert "there is no index folder at" in refusal(tmp_path / "missing.txt")
    assert "Not a directory" in refusal(written(tmp_path) / "below")
    assert "is not an index" in refusal(tmp_path)
    assert "null byte" in refusal(Path("a\0b"))


def test_a_text_too_large_to_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "MAX_BYTES", 10)
    assert "has more than 10 bytes; build an index of it" in refusal(written(tmp_path))
