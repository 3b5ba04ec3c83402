"""Every file of an index is a stranger's: what is wrong with one is said in a sentence, in little memory and output."""

import json
import os
import random
import re
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_store.documents import ID_CHARS, LINE_BYTES
from index_store.errors import BrokenIndex, IndexStoreError
from index_store.generations import list_generations, prune, rollback
from index_store.index import open_index
from index_store.manifest import MOST_LEVELS
from index_store.picture import page
from index_store.tables import MARK_BYTES, NODE
from index_store.tree import LABEL_BYTES, TEXT_BYTES
from index_store.types import Span
from index_store.verify import verify_index
from raptor.cli import main
from tests.helpers.mutated import HEADERS, VECTOR, mutable_index, mutated_index, seal, use
from tests.helpers.thorough import cases
from tests.helpers.toy import DIM, publish_toy, toy_draft

MB = 1 << 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "i"
    mutable_index(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The generation's folder of an index to damage."""
    mutable_index(tmp_path / "i")
    return tmp_path / "i" / "generations" / "000001"


def index_at(folder: Path) -> Path:
    return folder.parents[1]


def refusal(folder: Path) -> str:
    """What opening an index says, which is one sentence; `verify` and the commands say it too, and end in order."""
    with pytest.raises(BrokenIndex) as caught:
        open_index(index_at(folder))
    said = str(caught.value)
    assert "\n" not in said and len(said) < 2_000 and verify_index(index_at(folder))
    assert [main([command, str(index_at(folder))]) for command in ("inspect", "verify")] == [2, 1]
    return said


def output(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["inspect", str(index_at(folder)), *arguments]) == 0
    return capsys.readouterr().out


# -- by chance ---------------------------------------------------------------------------------------------


def test_an_index_that_nobody_mutated_has_no_fault(whole: Path) -> None:
    assert not verify_index(whole)
    assert open_index(whole).inverted_file


@pytest.mark.parametrize("seed", range(cases(40, 120)))
def test_a_mutated_index_gives_results_or_one_sentence_each(whole: Path, tmp_path: Path, seed: int) -> None:
    mutated_index(random.Random(seed), whole, tmp_path / "i")
    begun = time.monotonic()
    for sentence in use(tmp_path / "i"):
        assert sentence.strip() and "\n" not in sentence
    assert time.monotonic() - begun < 60


# -- manifests and headers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": [2**62, 1]},
        {"levels": [2**63, 2**63, 1]},
        {"levels": [10**4000, 1]},
        {"levels": [1] * (MOST_LEVELS + 1)},
        {"levels": [1] * 100_000},
        {"levels": []},
        {"levels": {"6": 1}},
        {"levels": [6, -2, 5, 1]},
        {"documents": float("inf")},
        {"documents": -1},
        {"documents": 0},
        {"documents": 2**62},
        {"settings": {"seed": float("nan")}},
        {"settings": []},
        {"settings": json.loads("[" * 600 + "]" * 600)},
        {"settings": {"deep": json.loads("[" * 600 + "]" * 600)}},
        {"models": {"embedder": 5}},
        {"models": {"embedder": None}},
        {"models": [["embedder", "toy"]]},
        {"generation": 10**30},
        {"generation": -1},
        {"parent": float("-inf")},
        {"files": []},
        {"files": {"text.bin": {"size": float("inf"), "sha256": ""}}},
        {"files": {f"../{n}": {"size": 1, "sha256": ""} for n in range(10_000)}},
        {"format": 10**30},
        {"format": "x" * 10**6},
    ],
    ids=lambda wrong: json.dumps(wrong)[:40],
)
def test_a_manifest_that_no_build_writes_is_refused(folder: Path, wrong: dict[str, Any]) -> None:
    seal(folder, **wrong)
    refusal(folder)
    with pytest.raises(BrokenIndex):
        list_generations(index_at(folder))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"files": 5}, "`files` is 5, not a table"),
        ({"files": []}, "`files` is a list, not a table"),
        ({"files": {"text.bin": None}}, "`files.text.bin` is null, not a table"),
        (
            {"files": {"text.bin": {"size": "5", "sha256": ""}}},
            "`files.text.bin.size` is '5', not a whole number",
        ),
        ({"files": {"text.bin": {"size": 5}}}, "`files.text.bin.sha256` is null, not a text"),
        ({"generation": {}}, "`generation` is a table, not a whole number"),
        ({"parent": "1"}, "`parent` is '1', not a whole number or null"),
        ({"documents": True}, "`documents` is true, not a whole number"),
        ({"documents": 1e30}, "`documents` is 1e+30, not a whole number"),
        ({"documents": 10**30}, "and 1000000000000… documents"),
        ({"levels": 5}, "`levels` is 5, not a list"),
        ({"levels": [5, None]}, "`levels[1]` is null, not a whole number"),
        ({"models": 5}, "`models` is 5, not a table"),
        ({"models": {"embedder": 5}}, "`models.embedder` is 5, not a text"),
        ({"settings": [1]}, "`settings` is a list, not a table"),
        ({"settings": {"seed": float("nan")}}, "NaN"),
        ({"format": 10**30}, "has format 1000000000000…,"),
        ({"format": [1]}, "has format a list,"),
        ({"generation": 10**30}, "gives generation 1000000000000… of"),
        ({"parent": 10**30}, "of 1000000000000…, which has no folder"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_a_manifest_of_another_shape_is_told_of_by_the_field_and_in_words(
    folder: Path, wrong: dict[str, Any], told: str
) -> None:
    seal(folder, **wrong)
    said = refusal(folder)
    assert told in said
    assert not re.search(r"Error|\b(int|dict|str|NoneType|None)\b", said), said


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"5", "it is 5, not a table"),
        (b"{}", "has format null"),
        (b'{"format": 1}', "it has no `generation`"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"format": ' + b"1" * 5_000 + b"}", "it holds a number of 5,000 digits"),
        (b"", "it is no JSON: Expecting value"),
        (b"\xff\xfe", "it is no JSON: "),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_manifest_is_told_of_in_words(folder: Path, raw: bytes, told: str) -> None:
    (folder / "manifest.json").write_bytes(raw)
    said = refusal(folder)
    assert told in said
    assert not re.search(r"[a-z]Error|\bint\b|None", said), said


def test_sizes_beyond_all_numbers_are_refused_where_no_file_is_looked_at(folder: Path) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    seal(folder, files=files | {"text.bin": {"size": 10**400, "sha256": ""}})
    with pytest.raises(BrokenIndex, match="which none has"):
        list_generations(index_at(folder))


def test_a_manifest_of_another_size_than_manifests_have_is_not_parsed(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"[" * (5 * MB))
    assert "which no manifest has" in refusal(folder)


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header[:50])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_header_that_numpy_does_not_write_for_this_array_is_refused(
    folder: Path, header: str, version: int
) -> None:
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    start = b"\x93NUMPY" + bytes([version, 0]) + size + header.encode()
    (folder / "children_offsets.npy").write_bytes(start + bytes(80))
    seal(folder)
    assert "children_offsets.npy" in refusal(folder)


def test_a_header_of_ten_megabytes_is_refused_unread(folder: Path) -> None:
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (10,), }" + b" " * (10 * MB) + b"\n"
    (folder / "children_offsets.npy").write_bytes(
        b"\x93NUMPY\2\0" + len(header).to_bytes(4, "little") + header + bytes(80)
    )
    seal(folder)
    assert "not the array file that a build writes" in refusal(folder)


@pytest.mark.parametrize("harm", ["pipe", "folder", "digits", "long"])
def test_a_pointer_that_is_no_line_of_a_file_is_refused(folder: Path, harm: str) -> None:
    pointer = index_at(folder) / "CURRENT"
    pointer.unlink()
    if harm == "pipe":
        os.mkfifo(pointer)
    elif harm == "folder":
        pointer.mkdir()
    else:
        pointer.write_bytes("٠٠٠٠٠١\n".encode() if harm == "digits" else b"000001 " + b"0" * MB)
    assert "CURRENT" in refusal(folder)
    for change in (list_generations, prune, lambda path: rollback(path, 1)):
        with pytest.raises(IndexStoreError):
            change(index_at(folder))


def test_generations_that_are_no_folders_are_one_sentence(folder: Path) -> None:
    (folder.parent / "000002").write_text("")
    (folder.parent / "000003").mkdir()
    with pytest.raises(BrokenIndex, match="half copied"):
        list_generations(index_at(folder))
    assert len(verify_index(index_at(folder))) == 2


# -- lengths -----------------------------------------------------------------------------------------------


def test_labels_that_all_point_at_the_same_bytes_are_refused(folder: Path) -> None:
    (folder / "labels.bin").write_bytes(b"x" * (30 * MB))
    rows = np.load(folder / "nodes.npy")
    rows["label_start"][6:], rows["label_end"][6:] = 0, 30 * MB
    np.save(folder / "nodes.npy", rows)
    seal(folder)
    assert "labels that do not lie one after another" in refusal(folder)


def test_a_label_of_thirty_megabytes_is_cut_where_it_is_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels.bin").write_bytes("ä".encode() * (15 * MB))
    rows = np.load(folder / "nodes.npy")
    rows["label_start"][6:], rows["label_end"][6:] = [0, 1, 30 * MB], [1, 30 * MB, 30 * MB]
    np.save(folder / "nodes.npy", rows)
    seal(folder)
    index = open_index(index_at(folder))
    assert len(index.node("L1-00001").label.encode()) <= LABEL_BYTES + 3
    for arguments in ([], ["--json"], ["--node", "L1-00001"], ["--at", "one.txt:0-3"]):
        assert len(output(capsys, folder, *arguments)) < 50_000
    assert len(page(index)) < 50_000


@pytest.mark.parametrize("blob", ["text", "summaries"])
def test_a_node_with_more_text_than_a_node_has_is_not_read(folder: Path, blob: str) -> None:
    """The file is sparse, so that it takes no space; its bytes are NUL."""
    rows = np.load(folder / "nodes.npy")
    last = 5 if blob == "text" else 8
    size = int(rows["end"][last]) + 2 * TEXT_BYTES
    os.truncate(folder / f"{blob}.bin", size)
    rows["end"][last] = size
    np.save(folder / "nodes.npy", rows)
    if blob == "text":
        borders = np.load(folder / "documents_text.npy")
        np.save(folder / "documents_text.npy", np.append(borders[:-1], size))
        np.save(folder / "text_marks.npy", np.arange(size // MARK_BYTES + 1) * MARK_BYTES)
    seal(folder)
    index = open_index(index_at(folder))
    with little_memory(), pytest.raises(BrokenIndex, match="more than the"):
        index.text_at(last)


class little_memory:
    """Holds that a block takes less than 300 MB beside what it mapped."""

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *error: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 300 * MB, f"took {peak / MB:.0f} MB"


def laddered(path: Path, levels: int, width: int) -> Path:
    """An index in which every node has all nodes of the level below as children; returns its generation's folder."""
    mutable_index(path)
    folder = path / "generations" / "000001"
    sizes = [width] * (levels - 1) + [1]
    firsts = np.cumsum([0, *sizes])
    n, text = sum(sizes), b"a" * width
    rows = np.zeros(n, dtype=NODE)
    rows["level"], rows["document"] = np.repeat(np.arange(levels), sizes), -1
    rows["document"][:width], rows["start"][:width], rows["end"][:width] = (
        0,
        range(width),
        range(1, width + 1),
    )
    below = [np.arange(firsts[i - 1], firsts[i]) for i in range(1, levels)]
    children = [c for i, c in enumerate(below, 1) for _ in range(sizes[i])]
    above = [np.arange(firsts[i], firsts[i + 1]) for i in range(1, levels)]
    parents = [p for i, p in enumerate(above) for _ in range(sizes[i])]
    line = json.dumps(
        {
            "id": "d",
            "title": "",
            "source": "",
            "sha256": "",
            "chars": width,
            "pages": [],
            "sections": [],
            "meta": {},
        }
    ).encode()
    arrays: dict[str, Any] = {
        "nodes": rows,
        "children": np.concatenate(children).astype(np.int32),
        "children_offsets": np.cumsum([0] * (width + 1) + [len(c) for c in children]),
        "parents": np.concatenate(parents).astype(np.int32),
        "parents_offsets": np.cumsum([0, *(len(p) for p in parents), 0]),
        "vectors": np.zeros((n, 0), dtype=np.float32),
        "documents_lines": np.array([0, len(line)]),
        "documents_order": np.zeros(1, dtype=np.int32),
        "documents_text": np.array([0, width]),
        "text_marks": np.zeros(width // MARK_BYTES + 1, dtype=np.int64)
        + np.arange(width // MARK_BYTES + 1) * MARK_BYTES,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    blobs = {"text.bin": text, "summaries.bin": b"", "labels.bin": b"", "documents.jsonl": line}
    for name, raw in blobs.items():
        (folder / name).write_bytes(raw)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    seal(folder, levels=sizes, documents=1, files={n: f for n, f in files.items() if not n.startswith("ivf")})
    seal(folder)
    return folder


def test_a_tree_with_more_ways_than_nodes_is_shown_by_its_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are 2 ** 100 ways from the root to a chunk."""
    folder = laddered(tmp_path / "i", levels=101, width=2)
    for arguments in (["--depth", "200"], ["--depth", "200", "--json"], ["--node", "L100-00000"]):
        assert len(output(capsys, folder, *arguments)) < 100_000
    assert len(page(open_index(tmp_path / "i"))) < 200_000


def test_a_tree_with_more_edges_than_nodes_is_shown_by_its_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of many summaries has the same children, as many."""
    folder = laddered(tmp_path / "i", levels=3, width=400)
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert not verify_index(tmp_path / "i")
    for arguments in (["--depth", "9"], ["--depth", "9", "--json"], ["--node", "L2-00000"]):
        assert len(output(capsys, folder, *arguments)) < held
    assert len(page(open_index(tmp_path / "i"))) < 2 * held


# -- edges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "at", "to"),
    [
        ("children", 0, 6),  # itself
        ("children", 0, 8),  # a node above
        ("children", -1, 8),  # the root is its own child
        ("children", -1, 0),  # two levels down
        ("parents", 0, 8),
        ("parents", 0, 0),
        ("parents", 0, -1),
        ("children", 0, 2**31 - 1),
    ],
)
def test_an_edge_that_does_not_lead_to_the_next_level_is_refused(
    folder: Path, name: str, at: int, to: int
) -> None:
    edges = np.load(folder / f"{name}.npy")
    edges[at] = to
    np.save(folder / f"{name}.npy", edges)
    seal(folder)
    assert f"{name}.npy leads out of range" in refusal(folder)


@pytest.mark.parametrize("offsets", [[0, 9, 3], [-1], [0, 2**62, -(2**62)], [2**63 - 1]])
@pytest.mark.parametrize("name", ["children_offsets", "parents_offsets", "documents_text", "documents_lines"])
def test_offsets_that_do_not_ascend_are_refused(folder: Path, name: str, offsets: list[int]) -> None:
    array = np.load(folder / f"{name}.npy")
    array[: len(offsets)] = offsets
    np.save(folder / f"{name}.npy", array)
    seal(folder)
    assert f"{name}.npy has offsets that do not ascend" in refusal(folder)


def test_a_child_that_is_listed_a_million_times_is_shown_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    children, offsets = np.load(folder / "children.npy"), np.load(folder / "children_offsets.npy")
    more = np.full(10**6, children[-1])
    np.save(folder / "children.npy", np.append(children, more))
    np.save(folder / "children_offsets.npy", np.append(offsets[:-1], offsets[-1] + len(more)))
    np.save(
        folder / "parents.npy", np.append(np.load(folder / "parents.npy"), np.full(10**6, 8, dtype=np.int32))
    )
    up = np.load(folder / "parents_offsets.npy")
    up[8] += 10**6
    up[9] += 10**6
    np.save(folder / "parents_offsets.npy", up)
    seal(folder)
    assert len(output(capsys, folder)) < 5_000
    assert verify_index(index_at(folder)) == ["some edges stand twice"]


# -- documents ---------------------------------------------------------------------------------------------


def write_lines(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write each document's line anew after `change`, and its offsets."""
    rows = [json.loads(line) for line in (folder / "documents.jsonl").read_bytes().splitlines()]
    for row in rows:
        change(row)
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    (folder / "documents.jsonl").write_bytes(b"".join(lines))
    np.save(folder / "documents_lines.npy", np.cumsum([0, *map(len, lines)]))
    seal(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", 5),
        ("id", "x" * (ID_CHARS + 1)),
        ("id", "\ud800"),
        ("title", None),
        ("title", "\udfff"),
        ("chars", -1),
        ("chars", 2**63),
        ("chars", 10**300),
        ("chars", 1e308),
        ("chars", True),
        ("chars", "5"),
        ("pages", [-1]),
        ("pages", [[]]),
        ("pages", {"a": 1}),
        ("pages", [2**64]),
        ("sections", [[0, 1]]),
        ("sections", [[0, 10**6, "x"]]),
        ("sections", [[0, 1, None]]),
        ("sections", 7),
        ("meta", []),
        ("meta", {"a": {}}),
        ("meta", {"\ud800": "x"}),
    ],
)
def test_a_document_of_wrong_values_is_one_sentence(folder: Path, name: str, value: Any) -> None:
    write_lines(folder, lambda row: row.update({name: value}))
    index = open_index(index_at(folder))
    with pytest.raises(BrokenIndex, match="is damaged at document"):
        index.span_text(Span("boats.txt", 0, 3))
    with pytest.raises(BrokenIndex, match="is damaged at document"):
        index.at(0)
    assert any("is damaged at document" in fault for fault in verify_index(index_at(folder)))


def test_characters_that_are_miscounted_are_one_sentence(folder: Path) -> None:
    write_lines(folder, lambda row: row.update(chars=3))
    with pytest.raises(BrokenIndex, match="miscounted"):
        open_index(index_at(folder)).at(0)


def test_a_line_longer_than_any_document_has_is_refused(folder: Path) -> None:
    write_lines(folder, lambda row: row.update(pages=[0] * (LINE_BYTES // 3 + 1)))
    assert "a line of more than" in refusal(folder)


@pytest.mark.slow
def test_a_document_with_a_long_line_takes_little_memory(folder: Path) -> None:
    """Lists of a few numbers take the most memory for their size."""
    write_lines(folder, lambda row: row["id"] == "one.txt" and row.update(sections=[[0, 1, "x"]] * 600_000))
    index = open_index(index_at(folder))
    with little_memory():
        assert index.documents[2].id == "one.txt"


def test_a_document_that_would_not_be_read_again_is_not_published(tmp_path: Path) -> None:
    draft = toy_draft()
    (first, text), *others = draft.documents
    long = replace(first, meta={"notes": "x" * LINE_BYTES})
    with pytest.raises(IndexStoreError, match=r"boats\.txt.* split it"):
        publish_toy(tmp_path / "i", replace(draft, documents=[(long, text), *others]))


def test_headings_that_nest_without_end_take_no_time(folder: Path) -> None:
    sections = [[0, level % 100, "x"] for level in range(100_000)]
    write_lines(folder, lambda row: row.update(sections=sections))
    index = open_index(index_at(folder))
    assert len(index.section(Span("boats.txt", 3, 5))) == 100
    assert index.search("mizzen", mode="lexical", section="x")


def test_a_field_that_a_line_repeats_without_end_counts_once(folder: Path) -> None:
    write_lines(
        folder, lambda row: row.update(meta={f"{n}": '"id": "x"' for n in range(100_000)} | {"id": "x"})
    )
    index = open_index(index_at(folder))
    with little_memory():
        assert index.documents.having("id", "x").tolist() == [0, 1, 2]


# -- searches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("name", ["vectors", "lexical/scores"])
def test_numbers_that_are_none_are_one_sentence(folder: Path, name: str, value: float) -> None:
    np.save(folder / f"{name}.npy", np.full_like(np.load(folder / f"{name}.npy"), value))
    seal(folder)
    index = open_index(index_at(folder))
    for mode in ("hybrid", "dense" if name == "vectors" else "lexical", "tree"):
        with pytest.raises(BrokenIndex):
            index.search("mizzen", mode=mode, vector=VECTOR)
    assert name != "vectors" or verify_index(index_at(folder))


@pytest.mark.parametrize("value", [-1, -9, 9, 2**31 - 1])
@pytest.mark.parametrize("name", ["lexical/nodes", "ivf/nodes"])
def test_nodes_that_do_not_exist_are_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    np.save(folder / f"{name}.npy", np.full_like(np.load(folder / f"{name}.npy"), value))
    seal(folder)
    for module in ("search", "vectors"):
        monkeypatch.setattr(f"index_store.{module}.EXACT_NODES", 2)
    with pytest.raises(BrokenIndex):
        open_index(index_at(folder)).search("mizzen", vector=VECTOR)


def test_words_that_are_more_than_their_columns_are_counted_before_they_are_listed(folder: Path) -> None:
    (folder / "lexical" / "words.txt").write_bytes(b"\n" * (100 * MB))
    seal(folder)
    index = open_index(index_at(folder))
    with little_memory(), pytest.raises(BrokenIndex, match="words, expected"):
        index.search("mizzen", mode="lexical")


def test_a_matrix_as_wide_as_no_embedder_makes_one_is_refused(folder: Path) -> None:
    """Of a sparse file: its rows are long, and none of it is on the disk."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, 100000), }".ljust(117) + b"\n"
    (folder / "vectors.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    os.truncate(folder / "vectors.npy", 128 + 9 * 100_000 * 4)
    seal(folder)
    assert "vectors.npy" in refusal(folder)


def test_a_regular_index_is_none_of_these(tmp_path: Path) -> None:
    publish_toy(tmp_path / "i")
    assert verify_index(tmp_path / "i") == []
    assert open_index(tmp_path / "i").vectors.shape == (9, DIM)
