"""A build, from folders of documents to a published index: what it holds, what it reports, how it dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from index_store import Index, embedder as embedders, open_index
from index_store.errors import BrokenIndex, IndexStoreError
from index_store.writer import publish
from raptor.build import build_index
from raptor.cli import main
from raptor.errors import RaptorError
from raptor.settings import BuildSettings
from raptor.types import BuildReport
from rlm.gateway.blocks import unquote
from rlm.gateway.errors import GatewayError
from tests.helpers import tiny_embedder
from tests.helpers.model_server import MODEL, ModelServer, Step, error
from tests.helpers.places import ROOT
from tests.helpers.tiny_embedder import write_documents
from tests.helpers.toy import publish_toy, toy_draft


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_embedder.use(monkeypatch)


def chunks_of(*words: str) -> str:
    """A text of one chunk for each word, at 16 tokens a chunk."""
    return " ".join(" ".join([word] * 14) + "." for word in words)


def small(**given: Any) -> BuildSettings:
    return BuildSettings(chunk_tokens=16, **given)


def check_tree(index: Index) -> None:
    """One root, from which every node is reached; each summary stands on the level below; chunks tile documents."""
    assert index.levels[-1] == 1
    assert len(index.below(len(index) - 1)) == len(index)
    for number in range(index.levels[0], len(index)):
        node = index.at(number)
        assert {child.level for child in index.children(node.id)} == {node.level - 1}
        assert index.text(node.id)
        assert node.label
        assert node.label.isprintable()
    for number, document in enumerate(index.documents):
        text = index.document_text(document.id)
        spans = [index.span_at(leaf) for leaf in index.document_leaves(number)]
        assert [s.start for s in spans if s] == [0, *(s.end for s in spans[:-1] if s)]
        assert spans[-1]
        assert spans[-1].end == len(text) == document.chars


# -- what a build holds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 12])
@pytest.mark.usefixtures("tiny")
def test_a_few_chunks_stand_under_one_root_and_one_chunk_is_the_root(tmp_path: Path, count: int) -> None:
    (tmp_path / "a.txt").write_text(chunks_of(*(f"w{i}" for i in range(count))))
    report = build_index(tmp_path / "a.txt", tmp_path / "i", settings=small())
    index = open_index(tmp_path / "i")
    assert report.levels == index.levels == ((count, 1) if count > 1 else (1,))
    assert report.calls == (count > 1)
    check_tree(index)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.usefixtures("tiny")
def test_chunks_that_together_pass_the_cap_still_end_in_one_root(tmp_path: Path, count: int) -> None:
    from raptor.clustering.settings import ClusterSettings

    (tmp_path / "a.txt").write_text(chunks_of(*(f"w{i}" for i in range(count))))
    build_index(tmp_path / "a.txt", tmp_path / "i", settings=small(cluster=ClusterSettings(max_tokens=1)))
    check_tree(open_index(tmp_path / "i"))


@pytest.mark.parametrize("count", [12, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("tiny")
def test_hundreds_of_chunks_make_a_tree_of_several_levels(tmp_path: Path, count: int) -> None:
    report = build_index(write_documents(tmp_path / "docs", count), tmp_path / "i", settings=small())
    index = open_index(tmp_path / "i")
    assert report.chunks == report.levels[0] > 10 * count
    assert len(report.levels) > 2
    assert all(above < below for below, above in zip(report.levels, report.levels[1:], strict=False))
    check_tree(index)
    fewest = report.chunks / 32  # no cluster has more than four times target_size
    assert report.levels[1] >= fewest


@pytest.mark.usefixtures("tiny")
def test_equal_chunks_make_a_tree_too(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text("the same words in every file")
    build_index(tmp_path, tmp_path / "i")
    check_tree(open_index(tmp_path / "i"))


def test_the_real_embedder_builds_what_search_finds(tmp_path: Path) -> None:
    (tmp_path / "boats.md").write_text("# Boats\nA ketch carries two masts.\n", encoding="utf-8")
    (tmp_path / "größe.txt").write_text(
        "Äpfel wiegen 150 g – höchstens. \U0001f34e\u2028Birnen mehr.", encoding="utf-8"
    )
    (tmp_path / "bread.txt").write_text("Sourdough needs a long rise.", encoding="utf-8")
    report = build_index([tmp_path], tmp_path / "i")
    index = open_index(tmp_path / "i")
    assert report.levels == (3, 1)
    check_tree(index)
    hit = index.search("sailing vessel", 1)[0]
    assert hit.span
    assert hit.span.doc == "boats.md"


@pytest.mark.usefixtures("tiny")
def test_a_title_of_a_megabyte_is_not_repeated_for_each_chunk(tmp_path: Path) -> None:
    row = {"_id": "a", "title": "t" * 10**6, "text": chunks_of(*(f"w{i}" for i in range(40)))}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    build_index(tmp_path / "a.jsonl", tmp_path / "i", settings=small())
    index = open_index(tmp_path / "i")
    assert (index.folder / "lexical" / "words.txt").stat().st_size < 10_000
    vectors = index.vectors[: index.levels[0]]
    assert len({row.tobytes() for row in vectors}) > 30  # the chunks' own words are in their vectors


@pytest.mark.usefixtures("tiny")
def test_the_index_itself_is_no_source_of_its_next_build(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words")
    half_built = tmp_path / "my" / "generations" / "000001.partial"
    half_built.mkdir(parents=True)
    (half_built / "documents.jsonl").write_text('{"_id": "x", "text": "a line of an index"}')
    assert build_index(tmp_path, tmp_path / "my").documents == 1
    assert build_index(tmp_path, tmp_path / "my").documents == 1


# -- what it reports ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
def test_the_report_counts_what_the_model_server_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = write_documents(tmp_path / "docs", 12)
    (docs / "bad.txt").write_bytes(b"\xff\xfe\x00x")
    (docs / "empty.md").write_text(" \n")
    said = Step(
        "LABEL: A label\nSUMMARY: A summary.",
        usage={"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107},
    )
    with ModelServer([said]) as server:
        server.use(monkeypatch)
        report = build_index(docs, tmp_path / "i", summarizer=MODEL, settings=small())
    assert report.calls == server.calls == sum(report.levels[1:])
    assert (report.prompt_tokens, report.completion_tokens) == (100 * server.calls, 7 * server.calls)
    assert {Path(failure.source).name for failure in report.failures} == {"bad.txt", "empty.md"}
    assert report.documents == 12
    shown = report.as_json()
    assert shown["tokens"] == 107 * server.calls
    assert json.loads(json.dumps(shown))["failures"][0].keys() == {"source", "reason"}
    assert set(shown["seconds"]) == {"load", "chunk", "embed", "cluster", "summarise", "write"}
    members = [len(unquote(body["messages"][1]["content"])) for body in server.requests]
    index = open_index(tmp_path / "i")
    assert Counter(members) == Counter(
        len(index.children(n.id)) for lv in range(1, len(index.levels)) for n in index.nodes(lv)
    )


@pytest.mark.usefixtures("tiny")
def test_progress_ends_each_stage_with_all_of_it_done(tmp_path: Path) -> None:
    heard: dict[str, list[tuple[int, int]]] = {}
    build_index(
        write_documents(tmp_path / "docs", 5),
        tmp_path / "i",
        settings=small(),
        progress=lambda stage, done, total: heard.setdefault(stage, []).append((done, total)),
    )
    for stage, steps in heard.items():
        done = [d for d, _ in steps]
        assert done == sorted(done), stage
        assert done[0] == 0, stage
        assert steps[-1][0] == steps[-1][1] or stage == "load", stage
    assert list(heard)[:3] == ["load", "chunk", "embed"]
    assert list(heard)[-1] == "write"


# -- the same again ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
def test_the_same_build_again_publishes_nothing_new_and_elsewhere_has_the_same_digest(tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs", 10)
    first = build_index(docs, tmp_path / "i", settings=small())
    again = build_index(docs, tmp_path / "i", settings=small())
    elsewhere = build_index(docs, tmp_path / "j", settings=small(concurrency=1))
    assert (first.new, again.new, again.generation) == (True, False, 1)
    assert first.digest == again.digest == elsewhere.digest
    assert [p.name for p in (tmp_path / "i" / "generations").iterdir()] == ["000001"]


@pytest.mark.usefixtures("tiny")
def test_a_changed_document_or_setting_makes_the_next_generation(tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs", 3)
    first = build_index(docs, tmp_path / "i")
    (docs / "d000.txt").write_text("other words")
    second = build_index(docs, tmp_path / "i")
    third = build_index(docs, tmp_path / "i", settings=small())
    assert [r.generation for r in (first, second, third)] == [1, 2, 3]
    assert len({r.digest for r in (first, second, third)}) == 3
    assert open_index(tmp_path / "i").manifest.generation == 3


@pytest.mark.slow
def test_two_processes_in_two_folders_build_the_same_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        write_documents(tmp_path / name / "docs", 12)
    build = ["build", "docs", "-o", "my.index", "--json"]
    monkeypatch.chdir(tmp_path / "one")
    assert main(build) == 0  # in this process, which has another seed for its hashes
    here = json.loads(capsys.readouterr().out)
    raptor = [sys.executable, "-m", "raptor.cli", *build]
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    made = subprocess.run(raptor, cwd=tmp_path / "two", env=environment, capture_output=True, check=True)
    assert here["digest"] == json.loads(made.stdout)["digest"]
    # so that the batched encoder was at work, not only the one for a few texts
    assert here["chunks"] > embedders.FEW


# -- damage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["text.bin", "nodes.npy", "manifest.json"])
@pytest.mark.usefixtures("tiny")
def test_building_again_mends_a_damaged_index(tmp_path: Path, damage: str) -> None:
    docs = write_documents(tmp_path / "docs", 3)
    first = build_index(docs, tmp_path / "i")
    broken = open_index(tmp_path / "i").folder / damage
    broken.write_bytes(broken.read_bytes()[:-3] + b"xyz")
    report = build_index(docs, tmp_path / "i")
    assert (report.new, report.generation, report.digest) == (True, 2, first.digest)
    check_tree(open_index(tmp_path / "i"))


@pytest.mark.parametrize("line", ["", "000009\n", "../../elsewhere\n", "0" * 6000])
@pytest.mark.usefixtures("tiny")
def test_building_again_mends_a_broken_pointer(tmp_path: Path, line: str) -> None:
    docs = write_documents(tmp_path / "docs", 2)
    build_index(docs, tmp_path / "i")
    (tmp_path / "i" / "CURRENT").write_text(line)
    with pytest.raises(BrokenIndex):
        open_index(tmp_path / "i")
    assert build_index(docs, tmp_path / "i").generation == 2
    check_tree(open_index(tmp_path / "i"))


def test_two_writers_at_once_are_refused_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_toy(tmp_path)
    refused = []

    def publish_inside(*_: object) -> None:
        with pytest.raises(IndexStoreError, match="another build is writing"):
            publish_toy(tmp_path)
        refused.append(True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("index_store.writer._write_edges", publish_inside)
    with pytest.raises(
        IndexStoreError, match=r"cannot write the index .*No space left on device; free the space"
    ):
        publish_toy(tmp_path)
    assert refused
    assert [p.name for p in (tmp_path / "generations").iterdir()] == [
        "000001"
    ]  # nothing half-written is left
    check_tree(open_index(tmp_path))


def test_strange_names_beside_the_generations_are_no_generations(tmp_path: Path) -> None:
    publish_toy(tmp_path)
    for name in ("²", "12", "0000009", "notes.txt"):
        (tmp_path / "generations" / name).mkdir()
    assert publish(tmp_path, toy_draft(), {"embedder": "other"}, {}).generation == 2


# -- dying -------------------------------------------------------------------------------------------------


class Moments:
    """The index folder as it is before each of a build's file operations in it: what a kill there would leave."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self.folder, self.copies, self.watching = folder, copies, False
        self.made: list[tuple[str, Path]] = []
        sys.addaudithook(self.heard)  # for the life of the process; `watching` turns it off

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.watching or event not in ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove"):
            return
        if isinstance(args[0], str | os.PathLike) and Path(args[0]).is_relative_to(self.folder):
            self.watching = False
            copy = self.copies / f"{len(self.made):03}"
            if self.folder.exists():
                shutil.copytree(self.folder, copy)
            self.made.append((f"{event} {Path(args[0]).name}", copy))
            self.watching = True

    def __enter__(self) -> "Moments":
        self.watching = True
        return self

    def __exit__(self, *_: object) -> None:
        self.watching = False


def opened_digest(path: Path) -> str | None:
    """The digest of the index at `path`, checked; None where there is none."""
    try:
        index = open_index(path)
    except BrokenIndex as e:
        assert "raptor build SOURCE -o" in str(e)
        return None
    check_tree(index)
    return index.manifest.digest


@pytest.mark.parametrize("over", [False, True], ids=["anew", "over an index"])
@pytest.mark.usefixtures("tiny")
def test_a_build_that_dies_at_any_moment_leaves_the_old_state_or_the_new(tmp_path: Path, over: bool) -> None:
    docs, out = write_documents(tmp_path / "docs", 3), tmp_path / "i"
    old = build_index(docs, out).digest if over else None
    (docs / "d000.txt").write_text("other words")
    with Moments(out, tmp_path / "copies") as moments:
        new = build_index(docs, out).digest
    states = [opened_digest(copy) for _, copy in moments.made]
    assert len(states) > 30
    turned = states.index(new)
    assert states == [old] * turned + [new] * (len(states) - turned)
    assert any(name == "os.rename CURRENT.partial" for name, _ in moments.made)
    for _, copy in moments.made[:: len(moments.made) // 6]:
        assert build_index(docs, copy).digest == new
        assert opened_digest(copy) == new
        assert not list(copy.rglob("*.partial"))


KILLED = """
import os, signal, sys
from index_store import embedder
from tests.helpers import tiny_embedder
from raptor.build import build_index
from raptor.cli import main

embedder.load_embedder = tiny_embedder.load
docs, over, anew, *moments = sys.argv[1:]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def build(out, moment):
    if moment == "rename":
        os.rename = die
    if moment == "switch":
        import index_store.writer
        index_store.writer.switch = die
    build_index(docs, f"{out}-{moment}", progress=lambda stage, done, total: stage == moment and die())

build_index(docs, f"{anew}-whole")  # once, before the forks, so that none of them has to load what a build loads
for out in (over, anew):
    for moment in moments:
        child = os.fork()
        if not child:
            build(out, moment)
            os._exit(1)
        print(moment, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_killed_build_leaves_the_old_generation_live_and_the_next_one_succeeds(tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs", 10)
    moments = ["load", "chunk", "embed", "cluster level 1", "summarise level 1", "write", "rename", "switch"]
    over, anew = tmp_path / "over", tmp_path / "anew"
    old = {m: build_index(docs, f"{over}-{m}").digest for m in moments}
    (docs / "d000.txt").write_text("other words")
    script = [sys.executable, "-c", KILLED, str(docs), str(over), str(anew), *moments]
    ran = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [f"{m} {-signal.SIGKILL}" for m in moments * 2]
    new = build_index(docs, tmp_path / "i").digest
    for moment in moments:
        assert opened_digest(Path(f"{over}-{moment}")) == old[moment]
        assert opened_digest(Path(f"{anew}-{moment}")) is None
        for out in (over, anew):
            assert build_index(docs, f"{out}-{moment}").digest == new
            assert opened_digest(Path(f"{out}-{moment}")) == new


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A model server that summarises twice and then refuses."""
    good = "LABEL: A label\nSUMMARY: A summary."
    with ModelServer([good, good, error(400, "the scripted refusal")]) as server:
        server.use(monkeypatch)
        yield server


@pytest.mark.usefixtures("tiny")
def test_one_failed_call_ends_the_build_with_one_sentence_and_nothing_published(
    tmp_path: Path, refusing: ModelServer
) -> None:
    docs = write_documents(tmp_path / "docs", 20)
    with pytest.raises((GatewayError, RaptorError)) as failed:
        build_index(docs, tmp_path / "i", summarizer=MODEL, settings=small(concurrency=1))
    assert "the scripted refusal" in str(failed.value)
    assert "\n" not in str(failed.value)
    assert opened_digest(tmp_path / "i") is None
    assert refusing.calls < 20  # the calls that were waiting were not made


# -- refused before any work -------------------------------------------------------------------------------


def refused(tmp_path: Path, out: Path, **given: Any) -> str:
    """The sentence with which a build is refused; nothing was loaded or changed by then."""
    before = sorted(tmp_path.rglob("*"))
    heard: list[str] = []
    with pytest.raises(RaptorError) as caught:
        build_index(tmp_path, out, progress=lambda stage, *_: heard.append(stage), **given)
    assert heard == []
    assert sorted(tmp_path.rglob("*")) == before
    return str(caught.value)


def test_a_bad_place_for_the_index_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    end = "; choose a new or empty folder for the index"
    assert refused(tmp_path, tmp_path / "a.txt") == f"{tmp_path / 'a.txt'} is a file{end}"
    below = f"lies below {tmp_path / 'a.txt'}, which is no folder{end}"
    assert refused(tmp_path, tmp_path / "a.txt" / "b" / "i").endswith(below)
    assert refused(tmp_path, folder) == f"{folder} is a folder with other files in it{end}"
    assert "cannot be looked at (File name too long)" in refused(tmp_path, tmp_path / ("x" * 300))
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert refused(tmp_path, tmp_path / "dangling").endswith(f"is a file{end}")


def test_chunks_larger_than_what_the_embedder_reads_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(
        RaptorError, match=r"chunk_tokens is 300, but the embedder minilm reads only the first 25\d"
    ):
        build_index(tmp_path, tmp_path / "i", settings=BuildSettings(chunk_tokens=300))
    assert not (tmp_path / "i").exists()


def test_a_report_is_what_build_index_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_embedder.use(monkeypatch)
    (tmp_path / "a.txt").write_text("words")
    report = build_index(str(tmp_path / "a.txt"), str(tmp_path / "i"))
    assert isinstance(report, BuildReport)
    assert report.bytes == sum(f.size for f in open_index(tmp_path / "i").manifest.files.values())
