"""What a user waits for: the first event of a question, embedding, the names of a corpus, and what is compiled."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import REPOSITORY, Options, _synthetic
from benchmarks._report import Claim, Item, Table
from benchmarks._sets import Trial, there, trial_of
from index_store.embedder import AUTO, BUILT_IN, at_precision, load_embedder
from index_store.index import Index
from index_store.minilm import folder as weights_of
from index_store.name_table import name_table
from index_store.outline import Outline
from index_store.search import Weights

RUNS = 3
TEXTS = 512
FIRST_S, WALK_MS, NAMES_S, FASTER, COMPILE_S = 0.5, 7.0, 1.0, 1.8, 2.0
A_CORPUS = 10_600  # chunks, at which the time of the graph was told
FIRST = """
import asyncio, json, sys, time, rlm
async def main():
    async for event in rlm.events(sys.argv[1], "Who is meant?", runs=sys.argv[2]):
        print(json.dumps([event["kind"], time.process_time()]), flush=True)
        break
asyncio.run(main())
"""
COMPILE = """
import json, sys, time
import numpy as np
from raptor.clustering.cluster import cluster
if __name__ == "__main__":
    rows, times = np.load(sys.argv[1]), []
    for _ in range(2):
        began = time.process_time()
        cluster(rows, np.full(len(rows), 100))
        times.append(time.process_time() - began)
    print(json.dumps(times))
"""


def measure(options: Options) -> Iterator[Item]:
    """The table, and a claim for each of its rows. Raises NotRun without data."""
    trials = [trial_of(options, name) for name in there(options)]
    largest = max(trials, key=lambda trial: trial.index.levels[0])
    claims = [_first_event(largest.index), *_names(largest), _embedding(largest.index), _compiled(options)]
    columns = ("what", "processor", "against")
    rows = tuple((claim.text, claim.figure, claim.peer or "-") for claim in claims)
    note = (
        f"Of the set {largest.name}, {largest.index.levels[0]:,} chunks. Processor time, which a busy machine changes "
        "less than the time on a clock."
    )
    yield Table("What a user waits for", columns, rows, note)
    yield from claims


def _first_event(index: Index) -> Claim:
    """Of the runs but the first, which compiles the modules, as an installation has done."""
    cpu, clock = [], []
    with tempfile.TemporaryDirectory() as runs, tempfile.TemporaryDirectory() as compiled:
        around = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled}
        for _ in range(1 + RUNS):
            began = time.perf_counter()
            command = [sys.executable, "-c", FIRST, str(index.path.resolve()), runs]
            with subprocess.Popen(
                command, cwd=REPOSITORY, env=around, stdout=subprocess.PIPE, text=True
            ) as process:
                assert process.stdout is not None
                line = process.stdout.readline()
                clock.append(time.perf_counter() - began)
                process.communicate()
            cpu.append(float(json.loads(line)[1]))
    used, took = (statistics.median(times[1:]) for times in (cpu, clock))
    text, told = "the first event of a question, from the start of Python", f"{used:.2f} s"
    peer = f"{took:.2f} s by the clock"
    return Claim("first event", text, f"within {FIRST_S:g} s", told, peer, holds=used <= FIRST_S)


def _names(trial: Trial) -> Iterator[Claim]:
    index = trial.index
    passages = []
    for number in range(len(index.documents)):
        outline = Outline(index.documents[number])
        for leaf in index.document_leaves(number):
            span = index.span_at(leaf)
            passages.append((index.text_at(leaf), outline.parts(span.start if span else 0)))
    began = time.process_time()
    name_table(passages)
    took = time.process_time() - began
    at_size = took * A_CORPUS / len(passages)
    told = f"{took:.2f} s ({at_size:.2f} s at {A_CORPUS:,} chunks, in proportion)"
    yield Claim("walk", "the graph of names", f"{NAMES_S:g} s", told, holds=at_size <= 1.5 * NAMES_S)
    plain, walked = (_query_ms(trial, weights) for weights in (replace(Weights(), walk=0.0), Weights()))
    text, told = "the walk over names in a query", f"{walked - plain:.2f} ms"
    peer = f"{plain:.2f} ms without"
    yield Claim("walk", text, f"about {WALK_MS:g} ms", told, peer, holds=walked - plain <= WALK_MS)


def _query_ms(trial: Trial, weights: Weights) -> float:
    times = []
    for query, vector in list(zip(trial.queries, trial.vectors, strict=True))[:100]:
        where: dict[str, Any] = {"doc": query["scope"], "vector": vector, "weights": weights}
        trial.index.search(query["text"], **where)
        began = time.process_time()
        trial.index.search(query["text"], **where)
        times.append(1000 * (time.process_time() - began))
    return statistics.median(times)


def _embedding(index: Index) -> Claim:
    """The built-in embedder beside the same weights in float32."""
    from sentence_transformers import SentenceTransformer

    step = max(index.levels[0] // TEXTS, 1)
    texts = [index.text_at(number) for number in range(0, index.levels[0], step)][:TEXTS]
    plain = SentenceTransformer(str(weights_of()), device="cpu", local_files_only=True)
    ours = at_precision(load_embedder(BUILT_IN), AUTO).encode

    def theirs(some: list[str]) -> Any:
        return plain.encode(some, batch_size=32, show_progress_bar=False, normalize_embeddings=True)

    found = {}
    for name, encode in (("ours", ours), ("float32", theirs)):
        encode(texts[:32])
        began = time.process_time()
        found[name] = np.asarray(encode(texts)), time.process_time() - began
    (rows, took), (exact, slow) = found["ours"], found["float32"]
    least = float((rows * exact).sum(axis=1).min())
    told = f"{1000 * took / len(texts):.1f} s a thousand chunks ({slow / took:.2f} times as fast)"
    peer = f"{1000 * slow / len(texts):.1f} s in float32; cosine at least {least:.6f}"
    text = "embedding"
    return Claim("embedding", text, f"{FASTER:g} times as fast", told, peer, holds=slow >= FASTER * took)


def _compiled(options: Options) -> Claim:
    """What the first clustering of a process takes beside the second, in a process that is not the first."""
    file = options.work / "compile.npy"
    np.save(file, _synthetic.vectors(1_000)[0])
    command = [sys.executable, "-c", COMPILE, str(file.resolve())]
    for _ in range(2):
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    first, second = json.loads(done.stdout)
    text = "imports and compilation in the first clustering of a process"
    told, peer = f"{first - second:.1f} s", f"{second:.1f} s the second"
    return Claim("compiled", text, f"below {COMPILE_S:g} s", told, peer, holds=first - second < COMPILE_S)
