"""How fast texts are embedded beside sentence-transformers itself, on one core and on two, in turns within one run.

python -m benchmarks._throughput FILE      # a JSON list of texts; prints the figures as JSON
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import REPOSITORY

RUNS = 3


@dataclass(frozen=True, slots=True)
class Throughput:
    """Texts a second by the clock, and seconds of the processor for all texts: of sentence-transformers (`bare`) and of
    a build (`ours`), on one core and, where there are so many, on two; 0 where there are not. `one`, `two`: ours on so
    many cores as a multiple of bare on one, the median over turns; on one by the processor, which others that use the
    machine change less than the clock. `cosine`: the least between the two vectors of a text."""

    texts: int
    bare_1: float
    ours_1: float
    bare_2: float
    ours_2: float
    bare_cpu_s: float
    ours_cpu_s: float
    one: float
    two: float
    cosine: float


def throughput(texts: Sequence[str], runs: int = RUNS) -> Throughput:
    """Measure in a process of its own, whose cores are chosen before torch starts its threads. Linux alone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "texts.json")
        file.write_text(json.dumps([list(texts), runs]), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks._throughput", str(file)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return Throughput(**json.loads(done.stdout.splitlines()[-1]))


def _measured(texts: list[str], runs: int) -> Throughput:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    import torch
    from sentence_transformers import SentenceTransformer

    from index_store.embedder import load_embedder
    from index_store.minilm import folder
    from raptor.embedding import embed

    plain = SentenceTransformer(str(folder()), device="cpu", local_files_only=True)
    model, found = load_embedder(), {}

    def bare() -> object:
        return plain.encode(texts, batch_size=32, show_progress_bar=False, normalize_embeddings=True)

    def ours() -> object:
        return embed(model, texts)

    def on(count: int, name: str, work: Callable[[], object]) -> tuple[float, float]:
        os.sched_setaffinity(0, cores[:count])
        torch.set_num_threads(count)
        used, began = time.process_time(), time.perf_counter()
        found[name] = work()
        return time.perf_counter() - began, time.process_time() - used

    embed(model, texts[:40]), plain.encode(texts[:40], show_progress_bar=False)
    turns = []
    for _ in range(runs):
        turn = {f"{w.__name__}_1": on(1, w.__name__, w) for w in (bare, ours)}
        if len(cores) > 1:
            turn |= {f"{w.__name__}_2": on(2, w.__name__, w) for w in (ours, bare)}
        turns.append(turn)

    def rate(name: str) -> float:
        return statistics.median(len(texts) / turn[name][0] for turn in turns) if name in turns[0] else 0.0

    alike = min(float(a @ b) for a, b in zip(found["bare"], found["ours"], strict=True))  # type: ignore[call-overload]
    return Throughput(
        len(texts),
        rate("bare_1"),
        rate("ours_1"),
        rate("bare_2"),
        rate("ours_2"),
        statistics.median(turn["bare_1"][1] for turn in turns),
        statistics.median(turn["ours_1"][1] for turn in turns),
        statistics.median(turn["bare_1"][1] / turn["ours_1"][1] for turn in turns),
        statistics.median(turn["bare_1"][0] / turn["ours_2"][0] for turn in turns) if len(cores) > 1 else 0.0,
        alike,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(_measured(*json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))))
