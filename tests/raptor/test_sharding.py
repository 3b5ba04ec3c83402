"""An index in parts: which document stands where, one tree over all, and changes that touch few of the parts."""

import gc
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import raptor.cli
from index_store.errors import BrokenIndex
from index_store.folder import generation_folder
from index_store.generations import list_generations, rollback
from index_store.index import Index, Sharded, open_index
from index_store.manifest import MAX_BYTES, Manifest, dumps
from index_store.shards.layout import MOST_SHARDS, Shard, settings_of
from index_store.types import Document
from index_store.verify import verify_index
from raptor.build import build_index, sync_index, update_index
from raptor.corpus import merged_documents
from raptor.errors import RaptorError
from raptor.estimating import estimate
from raptor.loading.metadata import read_metadata
from raptor.loading.types import Text
from raptor.pruning import places_of_removed, prune_index
from raptor.settings import BuildSettings, Sharding, Spending
from raptor.sharding.planning import Change, Held, expected_sizes, key_of, planned_shards, replanned
from raptor.types import BuildReport
from tests.helpers import tiny_embedder
from tests.helpers.model_server import MODEL, ModelServer, Step, error
from tests.helpers.mutated import seal

Body = dict[str, Any]  # of a request to the model server


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_embedder.use(monkeypatch)


def document(doc: str, access: str = "", chars: int = 100) -> Document:
    return Document(doc, doc, doc, "0" * 64, chars, meta={"access": access} if access else {})


def names(
    sizes: Sequence[tuple[Document, int]], by: str = "size", chunks: int = 10
) -> Mapping[str, Sequence[str]]:
    plan = planned_shards(sizes, Sharding(by, chunks))
    return {name: [sizes[number][0].id for number in numbers] for name, numbers in plan.items()}


# -- which document stands where ---------------------------------------------------------------------------


def test_by_size_documents_follow_each_other_as_many_as_fit() -> None:
    sizes = [(document(doc), size) for doc, size in [("a", 4), ("b", 6), ("c", 1), ("d", 25), ("e", 1)]]
    assert names(sizes) == {"0001": ["a", "b"], "0002": ["c"], "0003": ["d"], "0004": ["e"]}


def test_by_folder_each_folder_at_the_top_is_a_shard_and_a_large_one_several() -> None:
    ids = ["hr/leave.md", "it/a/1.md", "readme.md", "it/b/2.md", "hr/pay.md", "größe/x.md"]
    assert names([(document(doc), 6) for doc in ids], "folder", 12) == {
        "hr": ["hr/leave.md", "hr/pay.md"],
        "it": ["it/a/1.md", "it/b/2.md"],
        "top": ["readme.md"],
        "groe": ["größe/x.md"],
    }
    assert list(names([(document(doc), 6) for doc in ids], "folder", 11)) == [
        *("hr-0001", "hr-0002", "it-0001", "it-0002", "top", "groe")
    ]


def test_by_access_those_stand_together_whom_the_same_readers_may_read() -> None:
    sizes = [
        (document("a", "hr"), 1),
        (document("b"), 1),
        (document("c", "hr, it"), 1),
        (document("d", "hr"), 1),
    ]
    assert names(sizes, "access") == {"hr": ["a", "d"], "open": ["b"], "hr-it": ["c"]}


def test_names_are_those_of_folders_and_differ_on_every_system() -> None:
    ids = [
        "A/1",
        "a/1",
        "../1",
        "~/1",
        "日本/1",
        "a-0001/1",
        f"{'x' * 200}/1",
        "Con/1",
        "nul.x/1",
        "./1",
        "console/1",
    ]
    shards = list(names([(document(doc), 1) for doc in ids], "folder"))
    assert shards == [
        "A",
        "a-0001",
        "folder",
        "folder-0001",
        "folder-0002",
        "a-0001-0001",
        "x" * 60,
        "folder-Con",
        "folder-nul.x",
        "folder-0003",
        "console",
    ]


def test_more_shards_than_an_index_names_are_refused() -> None:
    told = "2,001 shards, and the manifest of an index has room for 2,000; divide it by raptor shard"
    many = [(document(f"{n}"), 2) for n in range(MOST_SHARDS + 1)]
    with pytest.raises(RaptorError, match=told):
        names(many, chunks=1)
    with pytest.raises(RaptorError, match=told):
        expected_sizes(many, 1.0, Sharding("size", 2))
    held = {f"{n}": Held([one], 2) for n, (one, _) in enumerate(many[1:])}
    with pytest.raises(RaptorError, match=told):
        replanned(
            [Change(one, one) for one, _ in many[1:]] + [Change(many[0][0], None)],
            held,
            Sharding("size", 1),
            50,
        )


def test_a_manifest_names_as_many_shards_as_an_index_may_have() -> None:
    levels = (10_000_000, 1_250_000, 156_250, 19_531, 2_441, 305, 38, 4, 1)
    blobs = tuple(200 * size for size in levels[1:])
    many, name = 10**10, "x" * 60
    wide = Shard(
        name,
        "0" * 64,
        many,
        levels,
        levels[1:],
        many,
        many,
        many,
        blobs,
        blobs,
        many,
        many,
        "🍎" * 80,
        999,
    )
    raw = dumps(Manifest(1, None, 1, (1,), {}, settings_of([wide] * MOST_SHARDS), {}))
    assert len(raw) < MAX_BYTES


@pytest.mark.parametrize(("by", "chunks"), [("colour", 5), ("size", 0)])
def test_what_is_no_division_is_refused(by: str, chunks: int) -> None:
    with pytest.raises(RaptorError, match=r"give (one of size, folder, access|at least 1)"):
        Sharding(by, chunks)


def moved(
    changes: Sequence[Change], held: Mapping[str, Held], by: str, chunks: int
) -> Mapping[str, Sequence[str]]:
    plan = replanned(changes, held, Sharding(by, chunks), chunk_chars=100)
    return {name: [change.now.id for change in own] for name, own in plan.items()}


def test_what_is_new_goes_into_the_last_shard_that_has_room() -> None:
    a, b, c, d, e = map(document, "abcde")
    held = {"0001": Held([a, b], 2), "0002": Held([c], 1)}
    changes = [Change(a, a), Change(c, c), Change(d, None), Change(e, None)]
    assert moved(changes, held, "size", 2) == {"0001": ["a"], "0002": ["c", "d"], "0003": ["e"]}


def test_what_is_new_goes_to_its_folder_even_where_that_is_full_and_an_empty_shard_is_gone() -> None:
    a, b, c, d = map(document, ["x/a", "y/b", "x/c", "z/d"])
    held = {"x": Held([a], 9), "y": Held([b], 9)}
    changes = [Change(a, a), Change(c, None), Change(d, None)]
    assert moved(changes, held, "folder", 9) == {"x": ["x/a", "x/c"], "z": ["z/d"]}


def test_a_document_moves_where_others_may_read_it_now() -> None:
    a, b = document("a", "hr"), document("b")
    held = {"hr": Held([a], 1), "open": Held([b], 1)}
    changes = [Change(document("a"), a), Change(b, b)]
    assert moved(changes, held, "access", 9) == {"open": ["a", "b"]}
    assert key_of(document("a", "it, hr"), "access") == "hr, it"


# -- built -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, BuildReport]:
    """A folder with `docs` in three folders and their index `i`, a copy of it as it was built, and the report."""
    place = tmp_path_factory.mktemp("sharding")
    for folder in "abc":
        tiny_embedder.write_documents(place / "at" / "docs" / folder, 14 + ord(folder) % 3, 12)
    with pytest.MonkeyPatch.context() as patch:
        tiny_embedder.use(patch)
        report = build_index(place / "at" / "docs", place / "at" / "i", shards=Sharding("folder"))
    shutil.copytree(place / "at", place / "kept")
    return place / "at", place / "kept", report


@pytest.fixture
def at(first: tuple[Path, Path, BuildReport]) -> Path:
    """The folder as the build left it. It is one place for all tests: an index knows where its sources lie."""
    at, kept, _ = first
    shutil.rmtree(at)
    shutil.copytree(kept, at)
    return at


def opened(path: Path) -> Sharded:
    index = open_index(path)
    assert isinstance(index, Sharded)
    return index


def digests(path: Path) -> dict[str, str]:
    return {shard.name: shard.digest for shard in opened(path).shards}


def texts(index: Index) -> dict[str, str]:
    return {d.id: index.document_text(d.id) for d in index.documents}


def test_all_documents_are_in_it_under_one_root(at: Path, first: tuple[Path, Path, BuildReport]) -> None:
    docs, index, report = at / "docs", opened(at / "i"), first[2]
    expected = {f"{p.parent.name}/{p.name}": p.read_text() for p in docs.rglob("*.txt")}
    assert texts(index) == expected
    assert [shard.name for shard in index.shards] == ["a", "b", "c"]
    assert index.levels[-1] == 1
    assert (report.documents, report.levels, report.chunks) == (len(expected), index.levels, index.levels[0])
    reached, below = {len(index) - 1}, {len(index) - 1}
    while below:
        below = {child for number in below for child in index.neighbours(number, "children")} - reached
        reached |= below
    assert reached == set(range(len(index)))


def test_a_build_makes_one_index_of_parts_only_where_it_is_told_to(at: Path) -> None:
    before = opened(at / "i").digest
    with pytest.raises(
        RaptorError, match=r"is an index in 3 parts, .*; give --replace to have that, add to it"
    ):
        build_index(at / "docs", at / "i")
    assert opened(at / "i").digest == before
    build_index(at / "docs", at / "i", replace=True)
    assert not isinstance(open_index(at / "i"), Sharded)


def test_digests_do_not_depend_on_how_many_shards_are_under_way(at: Path, tmp_path: Path) -> None:
    one_at_a_time = BuildSettings(concurrency=1)
    build_index(at / "docs", tmp_path / "i", shards=Sharding("folder"), settings=one_at_a_time)
    assert (opened(tmp_path / "i").digest, digests(tmp_path / "i")) == (
        opened(at / "i").digest,
        digests(at / "i"),
    )


def test_one_shard_and_a_document_of_one_chunk_are_indexes_too(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.txt").write_text("A ketch has two masts.")
    build_index(tmp_path / "docs", tmp_path / "i", shards=Sharding())
    assert texts(opened(tmp_path / "i")) == {"one.txt": "A ketch has two masts."}
    tiny_embedder.write_documents(tmp_path / "docs", 9)
    update_index(tmp_path / "i", tmp_path / "docs")
    assert len(opened(tmp_path / "i").documents) == 10


def listed(folder: Path) -> list[str]:
    return (folder / "names.txt").read_text(encoding="utf-8").split("\n")


def test_names_are_those_of_one_index_though_a_shard_alone_would_judge_otherwise(tmp_path: Path) -> None:
    """`Summer` begins sentences of one shard, and stands within them in the other: by all texts it is no name."""
    for shard, words in {
        "a": "Summer came. Ada left. ",
        "b": "In summer Ada stayed, as each summer. ",
    }.items():
        (tmp_path / "docs" / shard).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "docs" / shard / f"{shard}{number}.txt").write_text(words * 3)
    build_index(tmp_path / "docs", tmp_path / "one")
    build_index(tmp_path / "docs", tmp_path / "i", shards=Sharding("folder"))
    one, index = open_index(tmp_path / "one"), opened(tmp_path / "i")
    assert listed(one.folder / "names") == listed(index.folder / "shards") == ["ada"]
    (tmp_path / "docs" / "a" / "new.txt").write_text("Winter came. Ada left. Bob came.")
    update_index(tmp_path / "i", tmp_path / "docs")
    tree = opened(tmp_path / "i").shard(0)
    titles = ["a0.txt", "a1.txt", "a2.txt", "new.txt"]
    assert listed(tree.store.folder / "names") == sorted([*titles, "ada", "bob", "winter"])


# -- changed -----------------------------------------------------------------------------------------------


def test_an_update_touches_the_shard_of_a_document_alone(at: Path) -> None:
    before, calls = digests(at / "i"), opened(at / "i").digest
    (at / "docs" / "b" / "d003.txt").write_text("The mast of a ketch holds a sail. " * 30)
    report = update_index(at / "i", at / "docs")
    after = digests(at / "i")
    assert report.differences is not None
    assert report.differences.changed == ("b/d003.txt",)
    assert {name for name in after if after[name] != before[name]} == {"b"}
    assert report.new and report.digest == opened(at / "i").digest != calls
    assert texts(opened(at / "i"))["b/d003.txt"].startswith("The mast")
    assert not update_index(at / "i", at / "docs").new


def test_a_new_folder_is_a_new_shard_and_an_empty_one_is_gone(at: Path) -> None:
    before = digests(at / "i")
    shutil.rmtree(at / "docs" / "a")
    tiny_embedder.write_documents(at / "docs" / "d", 3)
    report = sync_index(at / "i", allow=lambda paths: True)
    after = digests(at / "i")
    assert list(after) == ["b", "c", "d"]
    assert (after["b"], after["c"]) == (before["b"], before["c"])
    assert (report.changes.added, report.changes.removed) == (3, 15)


def test_an_update_of_many_texts_holds_few_of_them_at_a_time(at: Path) -> None:
    for folder in "bd":
        tiny_embedder.write_documents(at / "docs" / folder, 30, 3)
    held = list[int]()

    def count(stage: str, done: int, total: int) -> None:
        if stage != "load":
            held.append(sum(type(one) is Text for one in gc.get_objects()))

    assert update_index(at / "i", at / "docs", progress=count).changes.added == 44
    assert held and max(held) < 5


def test_what_is_removed_is_gone_from_its_shard(at: Path) -> None:
    before = digests(at / "i")
    update_index(at / "i", remove=["c/d001.txt"])
    index, after = opened(at / "i"), digests(at / "i")
    assert not index.has_document("c/d001.txt")
    assert {name for name in after if after[name] != before[name]} == {"c"}


def test_a_shard_whose_names_are_damaged_is_a_sentence_when_it_is_changed(at: Path) -> None:
    shard, upper = (generation_folder(at / "i" / name, 1) for name in ("shards/b", "."))
    file = shard / "names" / "names.txt"
    file.write_bytes(file.read_bytes() + b"\n\xff")
    seal(shard)
    told = json.loads((upper / "manifest.json").read_text())["settings"]
    told["shards"][1]["digest"] = json.loads((shard / "manifest.json").read_text())["digest"]
    seal(upper, settings=told)
    (at / "docs" / "b" / "new.txt").write_text("Ada left.")
    with pytest.raises(BrokenIndex, match=r"names.txt has \d+ words, expected"):
        update_index(at / "i", at / "docs")


class Id(str):
    """An id that counts how often one is compared with another."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Id.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_what_is_removed_is_not_each_compared_with_all_that_there_is(at: Path) -> None:
    index = opened(at / "i")
    *gone, last = (Id(document.id) for document in index.documents)
    assert [now.id for now, _ in merged_documents(index, [], gone)] == [last]
    assert Id.compared <= 4 * len(gone)


def test_shards_that_the_upper_index_does_not_name_yet_change_nothing(at: Path) -> None:
    """As after a kill between the shard's publication and that of the upper index."""
    live = (at / "i" / "CURRENT").read_bytes()
    generation = at / "i" / "generations" / "000002"
    before = texts(opened(at / "i"))
    (at / "docs" / "b" / "d003.txt").write_text("The mast of a ketch holds a sail. " * 30)
    first = update_index(at / "i", at / "docs")
    (at / "i" / "CURRENT").write_bytes(live)
    shutil.rmtree(generation)
    assert texts(opened(at / "i")) == before
    assert update_index(at / "i", at / "docs").digest == first.digest


def test_labels_that_change_move_a_document_and_readers_see_their_shards_alone(tmp_path: Path) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 9)
    meta = tmp_path / "meta.jsonl"
    rows = [{"_id": f"d{n:03}.txt", "access": "hr" if n < 4 else "it"} for n in range(8)]
    meta.write_text("\n".join(map(json.dumps, rows)))
    report = build_index(docs, tmp_path / "labelled", shards=Sharding("access"), metadata=read_metadata(meta))
    assert [shard.name for shard in opened(tmp_path / "labelled").shards] == ["hr", "it", "open"]
    assert {seen.label: seen.documents for seen in report.access} == {"": 1, "hr": 5, "it": 5}
    assert {d.id for d in open_index(tmp_path / "labelled", access="hr").documents} == {
        *(f"d{n:03}.txt" for n in (0, 1, 2, 3, 8))
    }
    meta.write_text(json.dumps({"_id": "d000.txt", "access": "it"}))
    update_index(tmp_path / "labelled", metadata=read_metadata(meta))
    index = opened(tmp_path / "labelled")
    assert [shard.documents for shard in index.shards] == [3, 5, 1]
    assert not open_index(tmp_path / "labelled", access="hr").has_document("d000.txt")
    assert texts(index)["d000.txt"] == (docs / "d000.txt").read_text()


def test_a_shard_that_outgrows_its_size_stays_and_says_so(at: Path, tmp_path: Path) -> None:
    docs = at / "docs" / "a"
    build_index(docs, tmp_path / "i", shards=Sharding("size", 30))
    (docs / "d001.txt").write_text("The mast of a ketch holds a sail. " * 200)
    report = update_index(tmp_path / "i", docs)
    (note,) = report.notes
    assert note.source == "shards/0001"
    assert "more than the 30 of a shard" in note.words


def test_documents_that_are_alike_are_known_as_such_over_all_shards(at: Path) -> None:
    words = (at / "docs" / "a" / "d000.txt").read_text()
    (at / "docs" / "c" / "copy.txt").write_text(words)
    update_index(at / "i", at / "docs")
    index = opened(at / "i")
    first, copy = map(index.document_number, ("a/d000.txt", "c/copy.txt"))
    assert index.alike[copy] == index.alike[first]


def test_copies_that_all_may_read_are_alike_whether_that_is_said_or_not(at: Path) -> None:
    meta = at / "meta.jsonl"
    for folder in "ac":
        (at / "docs" / folder / "new.txt").write_text("Ada left the harbour.")
    meta.write_text(json.dumps({"_id": "c/new.txt", "access": "*"}))
    update_index(at / "i", at / "docs", metadata=read_metadata(meta))
    index = opened(at / "i")
    assert index.copies(index.document_number("a/new.txt")) == [index.document_number("c/new.txt")]


def test_pruning_keeps_the_generations_of_shards_that_are_named_and_no_others(at: Path) -> None:
    shards = at / "i" / "shards"
    (at / "docs" / "b" / "d003.txt").write_text("The mast of a ketch holds a sail. " * 30)
    update_index(at / "i", at / "docs")
    update_index(at / "i", remove=["c"])
    assert places_of_removed(at / "i") == ["generations 1, 2", "build.sqlite"]
    before = texts(opened(at / "i"))
    assert prune_index(at / "i")[0] == [1, 2]
    assert places_of_removed(at / "i") == []
    held = {folder.name: [g.name for g in (folder / "generations").iterdir()] for folder in shards.iterdir()}
    assert held == {"a": ["000001"], "b": ["000002"]}
    assert texts(opened(at / "i")) == before
    assert verify_index(at / "i") == []


def test_nothing_stays_of_a_shard_of_which_the_build_died_once_its_documents_are_gone(
    at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_embedder.write_documents(at / "docs" / "d", 14)
    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr("raptor.sharding.whole.publish_upper", Mock(side_effect=KeyboardInterrupt))
        update_index(at / "i", at / "docs")
    prune_index(at / "i")
    assert (at / "i" / "shards" / "d" / "build.sqlite").exists()  # the same command would go on with it
    shutil.rmtree(at / "docs" / "d")
    assert not sync_index(at / "i", allow=lambda paths: True).new
    prune_index(at / "i")
    assert sorted(folder.name for folder in (at / "i" / "shards").iterdir()) == ["a", "b", "c"]


def test_pruning_deletes_nothing_behind_a_link_in_the_place_of_the_shards(at: Path) -> None:
    photo = at / "mine" / "photos" / "boat.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_text("a boat")
    update_index(at / "i", remove=["c"])
    shutil.rmtree(at / "i" / "shards")
    (at / "i" / "shards").symlink_to(at / "mine")
    for ask in (prune_index, places_of_removed):
        with pytest.raises((RaptorError, BrokenIndex), match="shards is a link"):
            ask(at / "i")
    assert photo.exists() and [one.number for one in list_generations(at / "i")] == [1, 2]


def test_going_back_to_a_generation_opens_the_shards_that_it_had(at: Path) -> None:
    before = texts(opened(at / "i"))
    update_index(at / "i", remove=["b/d003.txt"])
    rollback(at / "i", 1)
    assert texts(opened(at / "i")) == before
    prune_index(at / "i")
    assert texts(opened(at / "i")) == before
    assert verify_index(at / "i") == []


# -- paid for ----------------------------------------------------------------------------------------------


def summary_of(body: Body) -> str:
    """A reply that depends on the whole request and on nothing else."""
    key = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()
    return f"LABEL: part {key[:6]}\nSUMMARY: {' '.join(key[i : i + 6] for i in range(0, 60, 6))}."


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Three folders of few documents: what is paid for takes real calls."""
    for folder in "abc":
        tiny_embedder.write_documents(tmp_path / "few" / folder, 4 + ord(folder) % 3, 12)
    return tmp_path / "few"


def test_a_shard_that_failed_is_all_that_is_asked_again(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = partial(build_index, few, tmp_path / "i", shards=Sharding("folder"), summarizer=MODEL)
    failing: set[str] = set()

    def script(body: Body) -> str | Step:
        words = json.dumps(body["messages"])
        if not failing or words in failing:
            failing.add(words)
            return error(400, "no")
        return summary_of(body)

    with ModelServer(script) as server:
        server.use(monkeypatch)
        with pytest.raises(RaptorError, match=r"1 summary failed.*the same command"):
            build()
        paid = {json.dumps(body["messages"]) for body in server.requests} - failing
    assert not (tmp_path / "i" / "CURRENT").exists()
    with ModelServer(summary_of) as server:
        server.use(monkeypatch)
        report = build()
        asked = [json.dumps(body["messages"]) for body in server.requests]
        assert len(asked) == len(set(asked)) == report.calls
    assert paid and not paid & set(asked)
    with ModelServer(summary_of) as server:
        server.use(monkeypatch)
        whole = build_index(few, tmp_path / "whole", shards=Sharding("folder"), summarizer=MODEL)
        assert (whole.digest, server.calls) == (report.digest, len(paid) + len(asked))


def test_an_update_pays_for_the_shard_of_a_document_and_the_tree_above_alone(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, docs = Sharding("folder"), few
    with ModelServer(summary_of) as server:
        server.use(monkeypatch)
        build_index(docs, tmp_path / "i", shards=shards, summarizer=MODEL)
        (docs / "b" / "d003.txt").write_text("The mast of a ketch holds a sail. " * 30)
        before = len(server.requests)
        report = update_index(tmp_path / "i", docs, summarizer=MODEL)
        asked = server.requests[before:]
    own = opened(tmp_path / "i").shards[1].levels
    assert 0 < report.calls == len(asked) <= sum(own[1:]) + 1
    root = open_index(tmp_path / "i").root
    assert (root.label, len(open_index(tmp_path / "i").children(root.id))) == (summary_label(asked[-1]), 3)


def summary_label(body: Body) -> str:
    return summary_of(body).partition("\n")[0].removeprefix("LABEL: ")


def test_one_cap_holds_for_all_shards_and_the_tree_over_them(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litellm

    entry = {"input_cost_per_token": 1e-9, "output_cost_per_token": 1e-5, "litellm_provider": "openai"}
    monkeypatch.setitem(litellm.model_cost, "openai/priced-for-shards", entry | {"mode": "chat"})
    build = partial(build_index, few, tmp_path / "i", shards=Sharding("folder"))
    with ModelServer(
        lambda body: Step(summary_of(body), usage={"prompt_tokens": 9, "completion_tokens": 190})
    ) as server:
        server.use(monkeypatch)
        whole = build_index(
            few, tmp_path / "whole", shards=Sharding("folder"), summarizer="openai/priced-for-shards"
        )
        with pytest.raises(RaptorError, match="stopped at its cap"):
            build(summarizer="openai/priced-for-shards", spending=Spending(usd=whole.usd * 0.7))
        spent = (server.calls - whole.calls) * 190e-5
        assert 0.3 * whole.usd < spent <= 0.7 * whole.usd
        with pytest.raises(RaptorError, match="and was not started"):
            build_index(
                few,
                tmp_path / "never",
                shards=Sharding("folder"),
                summarizer="openai/priced-for-shards",
                spending=Spending(usd=whole.usd * 0.1),
            )
        rest = build(summarizer="openai/priced-for-shards", spending=Spending(usd=whole.usd - spent + 0.005))
        assert (rest.digest, server.calls) == (whole.digest, 2 * whole.calls)


def test_a_dry_run_counts_each_shard_and_the_tree_over_them_as_the_build_makes_them(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "i"
    before, _ = estimate(few, path, shards=Sharding("folder"))
    report = build_index(few, path, shards=Sharding("folder"))
    assert (before.shards, before.levels, before.calls) == (3, report.levels, report.calls)
    after, _ = estimate(few, path, shards=Sharding("folder"))
    assert (after.recorded, after.calls) == (before.calls, 0)
    assert raptor.cli.main(["shard", str(few), "-o", str(path), "--by", "folder", "--dry-run"]) == 0
    assert "30 chunks in 3 shards; nodes a level: 30 -> 3 -> 1" in capsys.readouterr().out


def test_by_a_part_of_a_corpus_a_dry_run_knows_about_how_many_shards_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = tiny_embedder.write_documents(tmp_path / "docs", 20, 30)
    monkeypatch.setattr("raptor.estimating.READ_BYTES", 25_000)
    part, _ = estimate(docs, tmp_path / "i", shards=Sharding("size", 25))
    assert part.sampled < 70 and 90 < part.chunks < 110
    assert part.shards == -(-part.chunks // 25)
    assert part.levels[-2:] == (part.shards, 1)


def test_by_access_a_dry_run_divides_by_what_metadata_says(few: Path, tmp_path: Path) -> None:
    (tmp_path / "meta.jsonl").write_text('{"_id": "a/d000.txt", "access": "hr"}\n')
    metadata = read_metadata(tmp_path / "meta.jsonl")
    expected, _ = estimate(few, tmp_path / "i", shards=Sharding("access"), metadata=metadata)
    assert expected.shards == 2


def test_a_cap_is_held_against_what_a_dry_run_says_the_tree_over_the_shards_included(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litellm

    entry = {"input_cost_per_token": 1e-4, "output_cost_per_token": 1e-2, "litellm_provider": "openai"}
    monkeypatch.setitem(litellm.model_cost, "openai/priced-for-a-cap", entry | {"mode": "chat"})
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    dear: Any = partial(dict, summarizer="openai/priced-for-a-cap", shards=Sharding("folder"))
    expected, _ = estimate(few, tmp_path / "i", **dear())
    assert expected.usd_low is not None and expected.usd_high is not None
    told = re.escape(f"needs about ${expected.usd_low:.4f} to ${expected.usd_high:.4f}, above the cap")
    with pytest.raises(RaptorError, match=told):
        build_index(few, tmp_path / "i", **dear(spending=Spending(usd=0.99 * expected.usd_low)))
