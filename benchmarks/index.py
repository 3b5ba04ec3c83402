"""Clustering and the index folder at scale, over made-up vectors and text; sizes follow --nodes."""

import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks import Options, _synthetic, _updates
from raptor import ClusterSettings

if TYPE_CHECKING:
    from index_store.index import Index

Times = npt.NDArray[np.float64]
REPOSITORY = Path(__file__).resolve().parent.parent
QUERIES = 100
COMPARED = (2_000, 10_000)
NEAREST, READ = 10, 30
LIMIT_S = 3_600
PATTERNS = {
    "a literal": "zqxjkv",
    "a word": r"\bketch\b",
    "twelve alternatives": "ketch|yawl|mizzen|sloop|cutter|dinghy|barque|brig|lugger|dhow|prahu|junk",
    "ignoring case": "(?i)mizzenmast",
    "ends of lines": "^Zzz.*zz$",
    "bounded repeats": r"[a-q][^u-z]{13}xq9",
    "nested repeats": "(a+)+$zz",
    "nested repeats, not anchored": "(x+x+)+y1",
    "equal alternatives": "(a|a)*c{5}",
    "any two words with a number": r"(\w+) (\w+) 9",
    "over lines": r"(?s)zqx.*jkv",
}
OURS = """
import sys, numpy as np
from raptor.clustering.cluster import cluster
from raptor.clustering.settings import ClusterSettings
if __name__ == "__main__":
    vectors = np.load(sys.argv[1])
    settings = ClusterSettings(method=sys.argv[3], target_size=int(sys.argv[4]))
    found = cluster(vectors, np.full(len(vectors), 100), settings)
    np.savez(sys.argv[2], np.concatenate(found), np.cumsum([len(members) for members in found]))
"""
# The reference's package imports every model it can talk to; its clustering needs none of them.
THEIRS = """
import sys, types, numpy as np
package = sys.modules["raptor"] = types.ModuleType("raptor")
package.__path__ = [sys.argv[3] + "/raptor"]
from raptor.cluster_utils import perform_clustering
labels = perform_clustering(np.load(sys.argv[1]), 10, 0.1)
groups = {}
for node, own in enumerate(labels):
    for label in own:
        groups.setdefault(int(label), []).append(node)
found = list(groups.values())
np.savez(sys.argv[2], np.concatenate(found), np.cumsum([len(members) for members in found]))
"""


def run(options: Options) -> None:
    """Print each section of SECTIONS as a table."""
    options.work.mkdir(parents=True, exist_ok=True)
    for section in SECTIONS:
        section(options)


# --- clustering ---


def compare_clustering(options: Options) -> None:
    """Ours beside the published procedure, in our code and in the reference's, if it is at hand."""
    print(
        "Clustering. Made-up vectors, one level. Each in a process of its own, imports and compilation included;"
    )
    print("CPU seconds of all its processes, BLAS on one thread. Tightness: mean cosine of members to their")
    print(
        f"cluster's centroid. Found: of each of {QUERIES} queries' {NEAREST} nearest vectors, percent that are met"
    )
    print(f"in reading clusters, those of the nearest centroids first, until {READ} members are read.\n")
    print("| vectors | by | CPU s | wall s | tightness | found | clusters | mean size | largest |")
    print("|---|---|---|---|---|---|---|---|---|")
    for count in (n for n in COMPARED if n <= options.nodes):
        file = options.work / "vectors.npy"
        rows, queries = _synthetic.vectors(count, QUERIES)
        np.save(file, rows)
        size = float(ClusterSettings().target_size)
        if command := reference(options):
            shown, size = _clustered(command, file, queries)
            print(f"| {count:,} | reference | {shown} |", flush=True)
        for name, command in ours(size).items():
            print(f"| {count:,} | {name} | {_clustered(command, file, queries)[0]} |", flush=True)
    if not options.reference:
        print("\nreference skipped: no --reference")
    print()


def ours(size: float) -> dict[str, list[str]]:
    """Commands that take a file of vectors and one to write; `size`: mean size of the clusters to come near to."""
    # Clusters come out larger than is asked for where vectors have few neighbours: hence two tries.
    default = ClusterSettings().target_size
    methods = {"fast": ("fast", default)}
    methods |= {f"fast, target {t}": ("fast", t) for t in (max(2, round(size / 2)), max(2, round(size)))}
    methods |= {"paper": ("paper", default)}
    command = [sys.executable, "-c", OURS, "{in}", "{out}"]
    return {f"ours, {name}": [*command, method, str(target)] for name, (method, target) in methods.items()}


def reference(options: Options) -> list[str]:
    """The like for the reference's checkout, by the Python in its `.venv` if it has one; [] without a checkout."""
    if not options.reference:
        return []
    own = options.reference.resolve() / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    return [python, "-c", THEIRS, "{in}", "{out}", str(options.reference.resolve())]


def _clustered(command: Sequence[str], file: Path, queries: "npt.NDArray[np.float32]") -> tuple[str, float]:
    """The row of a command, and the mean size of its clusters."""
    out = file.with_name("clusters.npz")
    cpu_s, wall_s, _ = spent(_with_files(command, file, out))
    if cpu_s is None:
        return f"- | over {LIMIT_S:,} | - | - | - | - | -", float(ClusterSettings().target_size)
    with np.load(out) as held:
        members, ends = held["arr_0"], held["arr_1"]
    groups, rows = np.split(members, ends[:-1]), np.load(file)
    sizes = [len(group) for group in groups]
    return (
        f"{cpu_s:,.1f} | {wall_s:,.1f} | {tightness(rows, groups):.3f} | {met(rows, groups, queries):.1f} "
        f"| {len(groups):,} | {np.mean(sizes):.1f} | {max(sizes):,}"
    ), float(np.mean(sizes))


def _with_files(command: Sequence[str], file: Path, out: Path) -> list[str]:
    return [{"{in}": str(file), "{out}": str(out)}.get(word, word) for word in command]


def tightness(vectors: "npt.NDArray[np.float32]", clusters: "Sequence[npt.NDArray[Any]]") -> float:
    """Mean cosine of each member of each cluster to the cluster's centroid."""
    cosines = [vectors[g] @ _synthetic.unit(vectors[g].mean(axis=0, keepdims=True))[0] for g in clusters]
    return float(np.concatenate(cosines).mean())


def met(
    rows: "npt.NDArray[np.float32]",
    groups: "Sequence[npt.NDArray[Any]]",
    queries: "npt.NDArray[np.float32]",
) -> float:
    """Percent of the queries' nearest rows that are among the first READ members of the nearest clusters."""
    centroids = _synthetic.unit(np.stack([rows[g].mean(axis=0) for g in groups]))
    shares = []
    for query in queries:
        order = np.argsort(-(centroids @ query))[:READ]
        read = np.concatenate([groups[i] for i in order.tolist()])
        first = list(dict.fromkeys(read.tolist()))[:READ]
        gold = np.argpartition(-(rows @ query), NEAREST)[:NEAREST]
        shares.append(np.isin(gold, first).mean())
    return 100 * float(np.mean(shares))


def spent(command: Sequence[str], limit_s: float = LIMIT_S) -> tuple[float | None, float, float]:
    """CPU seconds (None where the limit came first), wall seconds and peak MB of a command and its children."""
    before = os.times()
    began, peak_mb = time.monotonic(), 0.0
    process = subprocess.Popen(command, cwd=REPOSITORY, env=_environment())
    while process.poll() is None and time.monotonic() - began < limit_s:
        peak_mb = max(peak_mb, _family_mb(process.pid))
        time.sleep(0.2)
    wall_s = time.monotonic() - began
    if process.poll() is None:
        process.kill()
        process.wait()
        return None, wall_s, peak_mb
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode} of {command[0]}")
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu_s, wall_s, peak_mb


def _environment() -> dict[str, str]:
    # Where the reference finds its tokenizer's file without asking the network; and BLAS on one thread for all,
    # because its threads spin while they wait for each other, which says nothing of the work.
    litellm = importlib.util.find_spec("litellm")
    assert litellm
    assert litellm.origin
    cache = Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers"
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    return os.environ | one | {"TIKTOKEN_CACHE_DIR": str(cache), "PYTHONWARNINGS": "ignore"}


def _family_mb(pid: int) -> float:
    """Resident anonymous MB of a process and its children's children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return anonymous_mb(pid) + sum(_family_mb(int(child)) for child in children)
    except OSError:  # ended meanwhile
        return 0.0


def anonymous_mb(pid: int | str = "self") -> float:
    """Resident MB of a process beside mapped files, which are the page cache's."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def cluster_all(options: Options) -> None:
    """As many vectors as nodes, all cores."""
    file, out = options.work / "many.npy", options.work / "many.npz"
    np.save(file, _synthetic.vectors(options.nodes)[0])
    command = ours(ClusterSettings().target_size)["ours, fast"]
    cpu_s, wall_s, peak_mb = spent(_with_files(command, file, out))
    print(
        f"{options.nodes:,} vectors of {_synthetic.DIM} dimensions clustered on {os.cpu_count()} cores:",
        end=" ",
    )
    if cpu_s is None:
        print(f"not done in {LIMIT_S / 60:.0f} minutes\n")
        return
    with np.load(out) as held:
        clusters = np.split(held["arr_0"], held["arr_1"][:-1])
    members = sum(len(group) for group in clusters)
    tight = tightness(np.load(file, mmap_mode="r"), clusters)
    print(
        f"{wall_s / 60:.1f} minutes, {cpu_s / 60:.1f} of CPU, {peak_mb / 1024:.1f} GB at most in all processes"
    )
    print(
        f"together; {len(clusters):,} clusters, mean size {members / len(clusters):.1f}, tightness {tight:.3f}\n"
    )
    file.unlink()


# --- updates ---


def measure_updates(options: Options) -> None:
    for line in _updates.lines(options.work / "updates"):
        print(line, flush=True)
    print()


# --- the index folder ---


def measure_index(options: Options) -> None:
    """Write an index of so many nodes, then read it in a fresh process."""
    folder = options.work / f"index-{options.nodes}"
    module = [sys.executable, "-m", "benchmarks.index"]
    if not (folder / "CURRENT").exists():
        _, wall_s, peak_mb = spent([*module, "write", str(folder), str(options.nodes)])
        print(f"written in {wall_s:,.0f} s with {peak_mb / 1024:.1f} GB, made-up content included")
    done = subprocess.run([*module, "read", str(folder)], cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    print(done.stdout)


def write_index(folder: Path, nodes: int) -> None:
    from index_store.writer import publish

    models = {"embedder": "made-up", "embedder_fingerprint": "made-up", "summarizer": "made-up"}
    draft, queries = _synthetic.draft(nodes, nodes * 100, QUERIES)
    publish(folder, draft, models, {})
    np.save(folder / "queries.npy", queries)


def read_index(folder: Path) -> None:
    """Print what opening, reading, searching and grepping take in this process."""
    from index_store import open_index

    began = time.perf_counter()
    index = open_index(folder)
    first_ms = (time.perf_counter() - began) * 1e3
    again = [_timed(lambda: open_index(folder)) for _ in range(20)]
    size = sum(f.size for f in index.manifest.files.values()) / 2**30
    print(f"{len(index):,} nodes in {len(index.documents):,} documents, {size:.1f} GB on disk.\n")
    print(
        "Processor: of the threads of this process, which a busy machine changes less than the time on a clock.\n"
    )
    print("| what | measured | processor | how |\n|---|---|---|---|")
    _row(
        "open",
        "ms",
        _median(again),
        f"median of 20; the first one, modules loaded and no more, {first_ms:.1f} ms",
    )
    numbers = np.random.default_rng(0).integers(0, len(index), 20_000).tolist()
    for what, read in (("read a node", index.at), ("read a node's text", index.text_at)):
        cold, warm = (_timed(lambda: [read(n) for n in numbers]) / 20 for _ in range(2))  # noqa: B023
        _row(what, "us", warm, f"mean of 20,000 random ones; pages first touched {cold[0]:.1f} us")
    queries = np.load(folder / "queries.npy")
    _search_rows(index, queries)
    _grep_rows(index)
    with _peak() as peak:
        _everything(index, queries)
    how = "peak RssAnon, sampled each 5 ms over all of the above"
    print(f"| memory beside the page cache | {peak[0]:.0f} MB | | {how} |")


def _row(what: str, unit: str, spent: Times, how: str) -> None:
    print(f"| {what} | {spent[0]:.1f} {unit} | {spent[1]:.1f} {unit} | {how} |", flush=True)


def _timed(work: Callable[[], object]) -> Times:
    """Milliseconds by the clock and of the processor."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - began, time.process_time() - used]) * 1e3


def _median(times: Sequence[Times]) -> Times:
    return np.asarray(np.median(times, axis=0))


def _search_rows(index: "Index", queries: "npt.NDArray[np.float32]") -> None:
    step = max(index.levels[0] // QUERIES, 1)
    words = [" ".join(index.text_at(n).split()[:6]) for n in range(0, index.levels[0], step)]
    nearest_hits: list[set[str]] = []
    for mode in ("dense", "hybrid", "tree", "lexical"):
        times, hits_here = [], []
        for text, query in zip(words, queries, strict=False):
            hits: list[Any] = []
            times.append(_timed(lambda: hits.extend(index.search(text, mode=mode, vector=query, k=10))))  # noqa: B023
            hits_here.append({hit.node for hit in hits})
        p95 = np.quantile([clock for clock, _ in times], 0.95)
        _row(
            f"{mode} query",
            "ms",
            _median(times),
            f"median of {len(times)}, k=10; 95th percentile {p95:.1f} ms",
        )
        nearest_hits = nearest_hits or hits_here
    shared = [len(nearest(index, q) & hits) for q, hits in zip(queries, nearest_hits, strict=True)]
    how = f"against all cosines, {len(shared)} queries"
    print(f"| recall@10 of dense search | {np.mean(shared) / 10:.3f} | | {how} |", flush=True)


def nearest(index: "Index", query: "npt.NDArray[np.float32]") -> set[str]:
    """Ids of the ten chunks with the largest cosines, every one computed."""
    cosines = np.asarray(index.vectors[: index.levels[0]] @ query)
    return {index.id_of(n) for n in np.argpartition(-cosines, 10)[:10].tolist()}


def _grep_rows(index: "Index") -> None:
    size = len(index.text_bytes) / 1e6
    for name, pattern in PATTERNS.items():
        best = min((_timed(lambda p=pattern: index.grep(p)) for _ in range(3)), key=sum)  # type: ignore[misc]
        shown = pattern.replace("|", "\\|")
        _row(f"grep, {name}", "ms", best, f"`{shown}` over {size:.0f} MB; best of 3")
    best = min((_timed(lambda: index.grep(r"\w+\.", limit=10_000)) for _ in range(3)), key=sum)
    how = "found, and all of them with chunk, characters and line; best of 3"
    _row("grep, 10,000 hits", "ms", best, how)


def _everything(index: "Index", queries: "npt.NDArray[np.float32]") -> None:
    for mode in ("dense", "hybrid"):
        for query in queries:
            index.search("some of the words", mode=mode, vector=query, k=10)
    for pattern in PATTERNS.values():
        index.grep(pattern)


@contextmanager
def _peak() -> Iterator[list[float]]:
    """A list whose only entry grows to the largest RssAnon meanwhile, MB."""
    peak, stop = [anonymous_mb()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            peak[0] = max(peak[0], anonymous_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


#: What this part prints, in order.
SECTIONS: tuple[Callable[[Options], None], ...] = (
    compare_clustering,
    measure_updates,
    measure_index,
    cluster_all,
)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write_index(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        read_index(Path(sys.argv[2]))
