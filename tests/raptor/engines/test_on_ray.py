"""Batches, and whole builds, on a Ray cluster of two nodes: what is computed there is what is computed here."""

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from raptor.build import build_index
from raptor.clustering.cluster import cluster
from raptor.clustering.settings import ClusterSettings
from raptor.engines import on_ray
from raptor.engines.engine import GIVEN, Stage, WorkerLost
from raptor.engines.on_ray import OnRay
from raptor.errors import RaptorError
from raptor.loading.load import load
from raptor.settings import BuildSettings
from raptor.types import BuildReport
from tests.helpers import stages, tiny_embedder
from tests.helpers.clusters import Nodes
from tests.helpers.model_server import MODEL, ModelServer
from tests.helpers.places import ROOT
from tests.helpers.served import wait_until
from tests.raptor.engines.test_local import counted
from tests.raptor.loading.test_loading import mixed
from tests.raptor.test_resume import body_key, summary_of

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
KEPT = [False, True]
T = TypeVar("T")
#: A report, and how often each request was made.
Built = tuple[BuildReport, Counter[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(summary_of) as server:
        yield server


@pytest.fixture(scope="module")
def nodes(server: ModelServer) -> Iterator[Nodes]:
    with Nodes({"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-of-the-nodes"}) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def engine(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnRay]:
    """One connection for all tests, as its workers stay; begun in a folder with a stranger's files."""
    docs = tmp_path_factory.mktemp("docs")
    (docs / "numpy.py").write_text("raise SystemExit(7)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(docs)
        engine = OnRay(nodes.address)
        list(engine.map_batches(Stage("halve", stages.halved, 2), [1]))
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_embedder.use(monkeypatch)


@pytest.mark.parametrize("keeps", KEPT)
def test_every_batch_has_its_result_once_and_few_are_drawn_before_results_are_taken(
    engine: OnRay, keeps: bool, tmp_path: Path
) -> None:
    """Though the first worker that gets one of them ends."""
    drawn: list[int] = []
    found = list[tuple[int, int]]()
    for result in engine.map_batches(
        Stage("end once", stages.ends_once, str(tmp_path), keeps), counted(drawn, 40)
    ):
        assert len(drawn) <= len(found) + GIVEN * 2
        found.append(result)
    assert sorted(found) == [(number, number) for number in range(40)]
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize("keeps", KEPT)
def test_what_a_stage_raises_reaches_the_caller_as_it_was(engine: OnRay, keeps: bool) -> None:
    with pytest.raises(RaptorError, match=r"^batch 3 is refused; leave it out$"):
        list(engine.map_batches(Stage("refuse", stages.refused_at, 3, keeps), range(9)))


def test_what_is_given_up_is_not_begun_and_what_was_is_ended(engine: OnRay, tmp_path: Path) -> None:
    results = engine.map_batches(Stage("note", stages.noted, str(tmp_path)), range(50))
    next(results)
    results.close()
    assert list(engine.map_batches(Stage("halve", stages.halved, 2), [6])) == [(0, 3.0)]
    assert len(list(tmp_path.iterdir())) <= 3
    wait_until(lambda: ray.available_resources().get("CPU") == 2, "both cores are free again")


def test_a_batch_that_no_worker_survives_is_an_error_and_not_tried_for_ever(
    engine: OnRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "RETRIES", 1)
    with pytest.raises(
        RaptorError, match=r"the stage end lost 2 workers with the same batch .*; give the nodes"
    ):
        list(engine.map_batches(Stage("end", stages.ends_at, 0), [0]))


def test_a_batch_that_may_be_paid_for_is_not_computed_again(engine: OnRay, tmp_path: Path) -> None:
    with pytest.raises(WorkerLost):
        asyncio.run(engine.once(Stage("end once", stages.ends_once, str(tmp_path)), 3))
    assert asyncio.run(engine.once(Stage("end once", stages.ends_once, str(tmp_path)), 3)) == 3


def test_a_call_begins_when_a_worker_has_it_and_may_be_given_up_before(engine: OnRay, tmp_path: Path) -> None:
    busy = engine.map_batches(Stage("note", stages.noted, str(tmp_path)), range(5))
    next(busy)
    wait_until(lambda: {"1", "2"} <= {path.name for path in tmp_path.iterdir()})  # both cores are taken
    free = list[bool]()

    async def asked() -> float:
        halve = Stage("halve", stages.halved, 2)
        given_up, call = (
            asyncio.ensure_future(engine.once(halve, batch, lambda: free.append((tmp_path / "go").exists())))
            for batch in (4, 6)
        )
        await asyncio.sleep(0.5)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        (tmp_path / "go").touch()
        return await call

    assert asyncio.run(asked()) == 3.0
    assert free == [True]
    assert len(list(busy)) == 4


def test_workers_import_us_and_nothing_from_the_folder_that_the_build_was_started_in(engine: OnRay) -> None:
    ((_, seen),) = engine.map_batches(Stage("where", stages.where, 0), [0])
    assert str(ROOT) in seen["path"]
    assert not [path for path in seen["path"] if "docs" in path]
    assert seen["threads"] == "1"


def test_files_are_parsed_on_nodes_as_they_are_here(engine: OnRay, tmp_path: Path) -> None:
    found = mixed(tmp_path / "docs", 40)
    assert list(load(found, engine=engine)) == list(load(found))


def test_vectors_are_clustered_on_nodes_as_they_are_here(engine: OnRay) -> None:
    """Their parts are large enough to lie in the nodes' shared memory, where nothing can be written."""
    vectors, how = (
        np.random.default_rng(0).normal(size=(150, 600)).astype(np.float32),
        ClusterSettings(part_size=60),
    )
    there, here = (cluster(vectors, np.full(150, 100), how, engine=one) for one in (engine, None))
    assert [members.tolist() for members in there] == [members.tolist() for members in here]


def asked(server: ModelServer, work: Callable[[], T]) -> tuple[T, Counter[str]]:
    """What `work` gives, and how often each request reached the server meanwhile."""
    before = server.calls
    return work(), Counter(body_key(body) for body in server.requests[before:])


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_embedder.write_documents(tmp_path_factory.mktemp("corpus"), 40)
    (folder / "page.html").write_text("<h1>A page</h1><p>Yeast is old, and the oven never turns.</p>")
    return folder


@pytest.fixture(scope="module")
def here(server: ModelServer, docs: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The build on this machine alone, and what it asked."""
    with pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        tiny_embedder.use(patch)
        return asked(server, lambda: build_index(docs, tmp_path_factory.mktemp("here"), summarizer=MODEL))


def test_a_build_on_nodes_that_come_and_go_is_the_build_of_one_machine(
    engine: OnRay,
    nodes: Nodes,
    server: ModelServer,
    docs: Path,
    here: Built,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.use(monkeypatch)
    seen = list[str]()

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "embed" and done and not seen:
            nodes.remove(nodes.other)
            nodes.other = nodes.add()
        seen.append(stage)

    settings = BuildSettings(concurrency=2)
    build = partial(build_index, docs, tmp_path / "i", summarizer=MODEL, settings=settings, progress=progress)
    report, calls = asked(server, partial(build, engine="ray", address=nodes.address))
    expected, expected_calls = here
    assert (report.digest, report.calls) == (expected.digest, expected.calls)
    assert calls == expected_calls
    assert {headers["authorization"] for headers in server.headers[-report.calls :]} == {
        "Bearer sk-of-the-nodes"
    }
    assert "chunk" in seen


def test_a_driver_that_is_killed_goes_on_and_asks_for_nothing_that_is_recorded(
    engine: OnRay,
    nodes: Nodes,
    server: ModelServer,
    docs: Path,
    here: Built,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes on in another process, over the same nodes."""
    server.use(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = ["-m", "tests.helpers.killed_on_ray", str(docs), str(tmp_path / "i"), nodes.address, "3"]
    killed, first = asked(
        server, partial(subprocess.run, [sys.executable, *script], cwd=ROOT, capture_output=True)
    )
    assert killed.returncode == -signal.SIGKILL
    settings = BuildSettings(concurrency=2)
    build = partial(build_index, docs, tmp_path / "i", summarizer=MODEL, settings=settings)
    ended, rest = asked(server, partial(build, engine="ray", address=nodes.address))
    expected, expected_calls = here
    assert ended.digest == expected.digest
    assert first | rest == expected_calls
    assert (expected_calls - rest).total() >= 3
