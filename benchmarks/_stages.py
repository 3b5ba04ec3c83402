"""What each stage of a build takes, measured in a process of its own: `python -m benchmarks._stages WHAT FOLDER ...`.

It prints one line of JSON. Processor seconds are those of the process and of its children that have ended; memory is
that of all of them together, sampled every 20 ms: beside mapped files (RssAnon), and of mapped files (RssFile).
"""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks import REPOSITORY, _made_up
from benchmarks._spent import environment, family_mb

EVERY_S = 0.02
PUTS = 1_000  # batches that the checkpoint is measured with
QUESTIONS = 20
TENTH = 10
OURS, FAST, BARE = "ours, float32", "ours, bfloat16", "bare"
CAPITALS = re.compile(r"\b[A-Z][a-z]+ [A-Z][a-z]+\b")


@dataclass(slots=True)
class Taken:
    """What a stage took: processor seconds, the clock, and the most memory meanwhile, MB."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    anon_mb: float = 0.0
    file_mb: float = 0.0

    def add(self, cpu_s: float, wall_s: float) -> None:
        """One more time that it was worked on."""
        self.cpu_s += cpu_s
        self.wall_s += wall_s

    def look(self) -> None:
        """Look at the memory."""
        anon, file = family_mb(os.getpid())
        self.anon_mb, self.file_mb = max(self.anon_mb, anon), max(self.file_mb, file)


@dataclass(slots=True)
class Meter:
    """Stages by name, and which of them is worked on now; "": none."""

    stages: dict[str, Taken] = field(default_factory=dict)
    now: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add what the block takes to a stage."""
        taken = self.stages.setdefault(name, Taken())
        before, self.now = self.now, name
        used, began = cpu_s(), time.monotonic()
        try:
            yield
        finally:
            taken.add(cpu_s() - used, time.monotonic() - began)
            taken.look()
            self.now = before

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """While it lasts, the memory of each stage is looked at."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(EVERY_S):
                if (taken := self.stages.get(self.now)) is not None:
                    taken.look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def as_json(self) -> dict[str, Any]:
        """The stages by name."""
        return {name: asdict(taken) for name, taken in self.stages.items()}


def cpu_s() -> float:
    """Processor seconds of this process and of its children that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def run(what: str, *arguments: str, threads: bool = False, limit_s: float | None = None) -> dict[str, Any]:
    """What a measurement of this module printed. `threads`: whether BLAS and torch may have more than one. SystemExit
    where it fails, TimeoutExpired where it takes longer than it may."""
    command, around = [sys.executable, "-m", "benchmarks._stages", what, *arguments], environment()
    if threads:
        around = {name: value for name, value in around.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=around, capture_output=True, text=True, timeout=limit_s
    )
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode} of {' '.join(command)}\n{done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


# -- a build ---------------------------------------------------------------------------------------------------


def build(folder: Path, chunks: int, at_once: bool = False) -> dict[str, Any]:
    """A whole build of a made-up corpus with made-up vectors. `at_once`: summaries are no work, so that what is left of
    their stage is that of the driver."""
    import raptor
    import raptor.workspace
    from index_store import open_index
    from rlm.gateway.blocks import unquote
    from rlm.gateway.offline.registry import register_offline

    folder.mkdir(parents=True)
    _made_up.write(folder / "corpus.jsonl", chunks)
    register_offline("at-once", lambda messages, most: _first_words(unquote(messages[-1]["content"])[0].text))
    meter, encoded = Meter(), Taken()

    def encode(texts: Sequence[str]) -> Any:
        began = time.thread_time()
        rows = _made_up.encode(texts)
        encoded.add(time.thread_time() - began, 0)
        return rows

    def load(name: str = _made_up.NAME, *, offline: bool = False) -> Any:
        return _made_up.load(name, encode=encode)

    summarizer = "offline/at-once" if at_once else "offline/extractive"
    with (
        patch("index_store.embedder.load_embedder", load),
        patch.object(raptor.workspace.Clock, "stage", lambda self, name: meter.stage(name)),
        meter.sampling(),
    ):
        load().token_offsets(["the vocabulary is read once"])
        report = raptor.build_index(folder / "corpus.jsonl", folder / "index", summarizer=summarizer)
        with meter.stage("open"):
            index = open_index(folder / "index")
    return {
        "stages": meter.as_json(),
        "encode_s": encoded.cpu_s,
        "documents": report.documents,
        "characters": index.chars,
        "levels": list(report.levels),
        "prompt_tokens": report.prompt_tokens,
        "reply_tokens": report.completion_tokens,
        "files": {name: entry.size for name, entry in index.manifest.files.items()},
    }


def _first_words(text: str) -> str:
    return f"LABEL: {' '.join(text.split()[:5])}\nSUMMARY: {text[:600]}"


def checkpoint(folder: Path) -> dict[str, float]:
    """Seconds that the driver takes to keep one batch of vectors, and to find it again; and the bytes of one."""
    import numpy as np

    from raptor.checkpoint import Checkpoint, result_key
    from raptor.embedding import BATCH

    rows = np.random.default_rng(0).standard_normal((BATCH, 384), dtype=np.float32)
    texts = [f"{'word ' * 90}{number}" for number in range(BATCH)]
    keys = [result_key("embed", number, list(texts)) for number in range(PUTS)]
    with closing(Checkpoint(folder)) as kept:
        began = cpu_s()
        for key in keys:
            kept.put_array(key, "embed", rows)
        put = cpu_s()
        for key in keys:
            kept.get_array(key, lambda value: value.shape == rows.shape)
        found = cpu_s()
        size = kept.bytes_of("embed")
    return {"put_s": (put - began) / PUTS, "get_s": (found - put) / PUTS, "bytes": size / PUTS}


# -- embedding -------------------------------------------------------------------------------------------------


def throughput(folder: Path, texts: int, rounds: int) -> dict[str, Any]:
    """Seconds by the clock and of the processor for the same texts, by a build's own way, its records among it, and by
    sentence-transformers alone: on one core and on two, all in turn."""
    import torch
    from sentence_transformers import SentenceTransformer

    from index_store.embedder import AUTO, FLOAT32, at_precision, load_embedder
    from index_store.minilm import folder as weights_of
    from raptor.checkpoint import Checkpoint
    from raptor.embedding import BATCH
    from raptor.grower import Grower
    from raptor.settings import SUMMARIZER, BuildSettings
    from raptor.workspace import silent

    passages = [piece for row in _made_up.documents(texts) for piece in _pieces(row["text"])][:texts]
    bare = SentenceTransformer(str(weights_of()), device="cpu", local_files_only=True)
    built_in = load_embedder()

    def by_us(some: Sequence[str], precision: str) -> None:
        with tempfile.TemporaryDirectory() as kept, closing(Checkpoint(Path(kept))) as checkpoint:
            model, settings = at_precision(built_in, precision), BuildSettings(precision=precision)
            Grower(model, SUMMARIZER, settings, checkpoint, silent).embed(some, "embed")

    def alone(some: Sequence[str]) -> None:
        bare.encode(list(some), batch_size=32, show_progress_bar=False, normalize_embeddings=True)

    ways: dict[str, Callable[[Sequence[str]], None]] = {
        OURS: lambda some: by_us(some, FLOAT32),
        BARE: alone,
    }
    if at_precision(built_in, AUTO).precision != FLOAT32:
        ways[FAST] = lambda some: by_us(some, AUTO)
    all_cores = sorted(os.sched_getaffinity(0))
    counts = [count for count in (1, 2) if count <= len(all_cores)]
    took: dict[str, dict[int, list[tuple[float, float]]]] = {name: {n: [] for n in counts} for name in ways}
    for number in range(rounds + 1):
        for count in counts:
            os.sched_setaffinity(0, all_cores[:count])  # threads that are made from here on keep to it
            torch.set_num_threads(count)
            for name, way in ways.items():
                used, began = cpu_s(), time.monotonic()
                way(passages if number else passages[:BATCH])  # what is loaded once, is loaded
                if number:
                    took[name][count].append((time.monotonic() - began, cpu_s() - used))
    return {"texts": len(passages), "took": took}


def _pieces(text: str) -> list[str]:
    return [text[start : start + 450] for start in range(0, len(text), 450)]


# -- many vectors ----------------------------------------------------------------------------------------------


def cluster(folder: Path, count: int) -> dict[str, Any]:
    """Made-up vectors, cut into parts; of these each tenth is clustered, where there are many."""
    import numpy as np

    from benchmarks import _synthetic
    from raptor.clustering.fast import cluster_part, partition
    from raptor.clustering.settings import ClusterSettings

    vectors, meter, settings = _synthetic.vectors(count)[0], Meter(), ClusterSettings()
    with meter.sampling():
        with meter.stage("partition"):
            parts = partition(vectors, settings)
        some = parts[:: TENTH if len(parts) > TENTH else 1]
        cluster_part(vectors[:300], np.full(300, 100), settings)  # imports and compiles what it needs
        with meter.stage("cluster"):
            for part in some:
                cluster_part(vectors[part], np.full(len(part), 100), settings)
    return {"stages": meter.as_json(), "parts": len(parts), "clustered": sum(map(len, some))}


def write(folder: Path, nodes: int) -> dict[str, Any]:
    """An index of made-up vectors and texts of 100 characters, written and opened."""
    from benchmarks import _synthetic
    from index_store import open_index
    from index_store.writer import publish

    models, meter = (
        {"embedder": "made-up", "embedder_fingerprint": "made-up", "summarizer": "made-up"},
        Meter(),
    )
    draft = _synthetic.draft(nodes, nodes * 100, 0)[0]
    with meter.sampling(), meter.stage("write"):
        publish(folder, draft, models, {})
    del draft
    with meter.sampling(), meter.stage("open"):
        index = open_index(folder)
    return {"stages": meter.as_json(), "nodes": len(index), "bytes": _size(index.manifest.files)}


def _size(files: Mapping[str, Any]) -> int:
    return sum(entry.size for entry in files.values())


# -- a question ------------------------------------------------------------------------------------------------


def ask(folder: Path) -> dict[str, Any]:
    """What questions read of an index: of the text, of the model's prompt, and of the files."""
    import rlm
    from benchmarks.growth import characters_given
    from index_store import open_index
    from rlm.audit import read

    with patch("index_store.embedder.load_embedder", _made_up.load):
        handles = handles_open()
        index = open_index(folder, _made_up.NAME)
        told: dict[str, Any] = {"opened": mapped_bytes(folder), "searches": []}
        questions = _questions(index)
        vectors = index.embed_queries(questions)
        for question, vector in zip(questions, vectors, strict=True):
            mapped, read_before, used = mapped_bytes(folder), read_bytes(), time.process_time()
            index.search(question, vector=vector)
            used, was_read = time.process_time() - used, read_bytes() - read_before
            # A list of words or names is read whole at the first question, and kept.
            told["searches"].append(
                {"cpu_s": used, "read": was_read, "mapped": mapped_bytes(folder) - mapped}
            )
        told["handles"] = handles_open() - handles
        with tempfile.TemporaryDirectory() as runs:
            for route in ("retrieve", "rlm"):
                answers = [rlm.ask(index, one, route=route, runs=runs) for one in questions]
                tokens = [one.usage.prompt_tokens + one.usage.completion_tokens for one in answers]
                chars = [characters_given(index, read(one.trace)[0]) for one in answers]
                told[route] = {"tokens": statistics.median(tokens), "chars": statistics.median(chars)}
    return told


def _questions(index: Any) -> list[str]:
    """A question about two names and two words of some chunk, from first to last."""
    found = []
    for number in range(0, index.levels[0], max(index.levels[0] // QUESTIONS, 1)):
        text = index.text_at(number)
        names = list(dict.fromkeys(CAPITALS.findall(text)))[:2]
        words = sorted(set(text.lower().split()), key=len)[-2:]
        found.append(f"What is said of {' and '.join([*names, *words])}?")
    return found[:QUESTIONS]


def mapped_bytes(folder: Path) -> int:
    """Bytes of the files below a folder that stand in this process's memory because they are mapped."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()
        if "-" in head[0] and not head[0].endswith(":"):
            ours = len(head) > 5 and line.endswith(head[-1]) and str(folder.resolve()) in line
        elif ours and head[0] == "Rss:":
            total += int(head[1]) << 10
    return total


def handles_open() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def read_bytes() -> int:
    """Bytes that this process has read by reading, from files or the page cache."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))


# -- the reference ---------------------------------------------------------------------------------------------


def reference(corpus: Path, checkout: Path) -> dict[str, Any]:
    """A build of a corpus by the reference RAPTOR as it comes, with the same made-up vectors, and summaries that are no
    work."""
    import types

    # The reference's package imports every model that it can talk to; its tree needs none of them.
    package = sys.modules["raptor"] = types.ModuleType("raptor")
    package.__path__ = [str(checkout / "raptor")]
    builders: Any = __import__("raptor.cluster_tree_builder", fromlist=["ClusterTreeBuilder"])
    trees: Any = __import__("raptor.tree_builder", fromlist=["split_text"])
    embeddings: Any = __import__("raptor.EmbeddingModels", fromlist=["BaseEmbeddingModel"])
    summarizers: Any = __import__("raptor.SummarizationModels", fromlist=["BaseSummarizationModel"])
    meter, calls = Meter(), 0

    class MadeUp(embeddings.BaseEmbeddingModel):  # type: ignore[misc]
        def create_embedding(self, text: str) -> Any:
            return _made_up.encode([text])[0]

    class First(summarizers.BaseSummarizationModel):  # type: ignore[misc]
        def summarize(self, context: str, max_tokens: int = 150) -> str:
            nonlocal calls
            calls += 1
            return context[:600]

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **named: Any) -> Any:
            if meter.now:  # it calls itself
                return work(*arguments, **named)
            with meter.stage(name):
                return work(*arguments, **named)

        return measured

    config = builders.ClusterTreeConfig(
        summarization_model=First(),
        embedding_models={"made-up": MadeUp()},
        cluster_embedding_model="made-up",
        clustering_params={},
    )
    builder = builders.ClusterTreeBuilder(config)
    trees.split_text = timed("chunk", trees.split_text)
    builder.multithreaded_create_leaf_nodes = timed("embed", builder.multithreaded_create_leaf_nodes)
    algorithm = builders.RAPTOR_Clustering
    algorithm.perform_clustering = staticmethod(timed("cluster", algorithm.perform_clustering))
    text = "\n\n".join(json.loads(line)["text"] for line in corpus.read_text(encoding="utf-8").splitlines())
    with meter.sampling():
        tree = builder.build_from_text(text)
    sizes = [len(tree.layer_to_nodes[layer]) for layer in sorted(tree.layer_to_nodes)]
    return {"stages": meter.as_json(), "levels": sizes, "calls": calls}


WHAT: Mapping[str, Callable[..., dict[str, Any]]] = {
    "build": lambda folder, chunks: build(Path(folder), int(chunks)),
    "at-once": lambda folder, chunks: build(Path(folder), int(chunks), at_once=True),
    "checkpoint": lambda folder: checkpoint(Path(folder)),
    "throughput": lambda folder, texts, rounds: throughput(Path(folder), int(texts), int(rounds)),
    "reference": lambda folder, checkout: reference(Path(folder), Path(checkout)),
    "cluster": lambda folder, count: cluster(Path(folder), int(count)),
    "write": lambda folder, nodes: write(Path(folder), int(nodes)),
    "ask": lambda folder: ask(Path(folder)),
}

if __name__ == "__main__":
    print(json.dumps(WHAT[sys.argv[1]](*sys.argv[2:])))
