"""Clustering and the index folder at scale, over made-up vectors and text; sizes follow --nodes."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks import REPOSITORY, Options, _synthetic, _updates
from benchmarks._report import Claim, Item, Table
from benchmarks._spent import anonymous_mb, spent
from index_store.types import Json
from raptor import ClusterSettings

if TYPE_CHECKING:
    from index_store.index import Index

Times = npt.NDArray[np.float64]
Row = tuple[str, ...]
QUERIES = 100
COMPARED = (2_000, 10_000)
NEAREST, READ = 10, 30
LIMIT_S = 1_200
FAST, PAPER, REFERENCE = "ours, fast", "ours, paper", "reference"
FASTER = 50
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


def measure(options: Options) -> Iterator[Item]:
    """Clustering, updates, and the folder of an index of so many nodes."""
    options.work.mkdir(parents=True, exist_ok=True)
    yield from _clustering(options)
    yield _updates.table(options.work / "updates")
    yield from _folder(options)
    yield _all_clustered(options)


# --- clustering ---


def _clustering(options: Options) -> Iterator[Item]:
    """Ours beside the published procedure, in our code and in the reference's, if it is at hand."""
    rows: list[tuple[str, ...]] = []
    took: dict[tuple[int, str], float | None] = {}
    for count in (n for n in COMPARED if n <= options.nodes):
        file = options.work / "vectors.npy"
        vectors, queries = _synthetic.vectors(count, QUERIES)
        np.save(file, vectors)
        size = float(ClusterSettings().target_size)
        if command := reference(options):
            cells, cpu_s, size = _clustered(command, file, queries)
            rows.append((f"{count:,}", REFERENCE, *cells))
            took[count, REFERENCE] = cpu_s
        # The published procedure takes many minutes over the most vectors: there only beside the reference's own.
        slow = () if options.reference or count < COMPARED[-1] else (PAPER,)
        for name, command in ((name, one) for name, one in ours(size).items() if name not in slow):
            cells, took[count, name], _ = _clustered(command, file, queries)
            rows.append((f"{count:,}", name, *cells))
    note = (
        "Made-up vectors, one level. Each in a process of its own, imports and compilation included; BLAS on one "
        "thread. Tightness: mean cosine of members to their cluster's centroid. Found: of each of "
        f"{QUERIES} queries' {NEAREST} nearest vectors, percent that are met in reading clusters, those of the nearest "
        f"centroids first, until {READ} members are read. "
        + ("" if options.reference else "The reference was not run: no checkout was named by --reference.")
    )
    columns = ("vectors", "by", "processor s", "tightness", "found", "clusters", "mean size", "largest")
    yield Table("Clustering", columns, tuple(rows), note)
    yield _clustering_claim(took)


def _clustering_claim(took: Mapping[tuple[int, str], float | None]) -> Claim:
    text, wanted = f"clustering of {COMPARED[-1]:,} vectors", f"at most a {FASTER:g}th"
    ours, theirs = took.get((COMPARED[-1], FAST)), took.get((COMPARED[-1], REFERENCE))
    if ours is None:
        return Claim("fiftieth", text, wanted, f"fewer than {COMPARED[-1]:,} nodes were asked for")
    if theirs is None:
        return Claim("fiftieth", text, wanted, f"{ours:.0f} s; no checkout of the reference was named")
    told = f"{ours:.0f} s (a {theirs / ours:.0f}th)"
    return Claim("fiftieth", text, wanted, told, f"{theirs:,.0f} s reference", holds=theirs >= FASTER * ours)


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


def _clustered(
    command: Sequence[str], file: Path, queries: "npt.NDArray[np.float32]"
) -> tuple[tuple[str, ...], float | None, float]:
    """The cells of a command, its processor seconds, and the mean size of its clusters."""
    out = file.with_name("clusters.npz")
    cpu_s = spent(_with_files(command, file, out), LIMIT_S).cpu_s
    if cpu_s is None:
        over = f"more than {LIMIT_S:,} by the clock"
        return (over, "-", "-", "-", "-", "-"), None, float(ClusterSettings().target_size)
    with np.load(out) as held:
        members, ends = held["arr_0"], held["arr_1"]
    groups, rows = np.split(members, ends[:-1]), np.load(file)
    sizes = [len(group) for group in groups]
    cells = (
        f"{cpu_s:,.1f}",
        f"{tightness(rows, groups):.3f}",
        f"{met(rows, groups, queries):.1f}",
        f"{len(groups):,}",
        f"{np.mean(sizes):.1f}",
        f"{max(sizes):,}",
    )
    return cells, cpu_s, float(np.mean(sizes))


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


def _all_clustered(options: Options) -> Table:
    """As many vectors as nodes, all cores."""
    file, out = options.work / "many.npy", options.work / "many.npz"
    np.save(file, _synthetic.vectors(options.nodes)[0])
    took = spent(_with_files(ours(ClusterSettings().target_size)[FAST], file, out), LIMIT_S)
    columns = ("vectors", "processor s", "memory, GB", "clusters", "mean size", "tightness")
    if took.cpu_s is None:
        row = (f"{options.nodes:,}", f"not done in {LIMIT_S / 60:.0f} minutes", "-", "-", "-", "-")
    else:
        with np.load(out) as held:
            clusters = np.split(held["arr_0"], held["arr_1"][:-1])
        members, rows = sum(map(len, clusters)), np.load(file, mmap_mode="r")
        row = (
            f"{options.nodes:,}",
            f"{took.cpu_s:,.0f}",
            f"{took.peak_mb / 1024:.1f}",
            f"{len(clusters):,}",
            f"{members / len(clusters):.1f}",
            f"{tightness(rows, clusters):.3f}",
        )
    file.unlink()
    note = "Made-up vectors, one level, in as many processes as there are cores; the memory of all of them together."
    return Table("Clustering of many", columns, (row,), note)


# --- the index folder ---


def _folder(options: Options) -> Iterator[Item]:
    """Write an index of so many nodes, then read it in a fresh process."""
    folder = options.work / f"index-{options.nodes}"
    module = [sys.executable, "-m", "benchmarks.index"]
    if not (folder / "CURRENT").exists():
        spent([*module, "write", str(folder), str(options.nodes)])
    done = subprocess.run([*module, "read", str(folder)], cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    told = json.loads(done.stdout)
    columns = ("what", "measured", "processor", "how")
    note = "Processor: of the threads of the process, which a busy machine changes less than the time on a clock."
    yield Table(f"An index of {told['size']}", columns, tuple(map(tuple, told["rows"])), note)


def write_index(folder: Path, nodes: int) -> None:
    from index_store.writer import publish

    models = {"embedder": "made-up", "embedder_fingerprint": "made-up", "summarizer": "made-up"}
    draft, queries = _synthetic.draft(nodes, nodes * 100, QUERIES)
    publish(folder, draft, models, {})
    np.save(folder / "queries.npy", queries)


def read_index(folder: Path) -> dict[str, Json]:
    """What opening, reading, searching and grepping take in this process: its size in words, and rows of cells."""
    from index_store import open_index

    began = time.perf_counter()
    index = open_index(folder)
    first_ms = (time.perf_counter() - began) * 1e3
    again = [_timed(lambda: open_index(folder)) for _ in range(20)]
    gb = sum(f.size for f in index.manifest.files.values()) / 2**30
    how = f"median of 20; the first one, modules loaded and no more, {first_ms:.1f} ms"
    rows = [_row("open", "ms", _median(again), how)]
    numbers = np.random.default_rng(0).integers(0, len(index), 20_000).tolist()
    for what, read in (("read a node", index.at), ("read a node's text", index.text_at)):
        cold, warm = (_timed(lambda: [read(n) for n in numbers]) / 20 for _ in range(2))  # noqa: B023
        how = f"mean of 20,000 random ones; pages first touched {cold[0]:.1f} us"
        rows.append(_row(what, "us", warm, how))
    queries = np.load(folder / "queries.npy")
    rows += _search_rows(index, queries)
    rows += _grep_rows(index)
    with _peak() as peak:
        _everything(index, queries)
    how = "peak RssAnon, sampled each 5 ms over all of the above"
    rows.append(("memory beside the page cache", f"{peak[0]:.0f} MB", "-", how))
    size = f"{len(index):,} nodes in {len(index.documents):,} documents, {gb:.1f} GB"
    return {"size": size, "rows": rows}


def _row(what: str, unit: str, spent: Times, how: str) -> Row:
    return what, f"{spent[0]:.1f} {unit}", f"{spent[1]:.1f} {unit}", how


def _timed(work: Callable[[], object]) -> Times:
    """Milliseconds by the clock and of the processor."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - began, time.process_time() - used]) * 1e3


def _median(times: Sequence[Times]) -> Times:
    return np.asarray(np.median(times, axis=0))


def _search_rows(index: "Index", queries: "npt.NDArray[np.float32]") -> Iterator[Row]:
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
        how = f"median of {len(times)}, k=10; 95th percentile {p95:.1f} ms"
        yield _row(f"{mode} query", "ms", _median(times), how)
        nearest_hits = nearest_hits or hits_here
    shared = [len(nearest(index, q) & hits) for q, hits in zip(queries, nearest_hits, strict=True)]
    how = f"against all cosines, {len(shared)} queries"
    yield "recall@10 of dense search", f"{np.mean(shared) / 10:.3f}", "-", how


def nearest(index: "Index", query: "npt.NDArray[np.float32]") -> set[str]:
    """Ids of the ten chunks with the largest cosines, every one computed."""
    cosines = np.asarray(index.vectors[: index.levels[0]] @ query)
    return {index.id_of(n) for n in np.argpartition(-cosines, 10)[:10].tolist()}


def _grep_rows(index: "Index") -> Iterator[Row]:
    size = len(index.text_bytes) / 1e6
    for name, pattern in PATTERNS.items():
        best = min((_timed(lambda p=pattern: index.grep(p)) for _ in range(3)), key=sum)  # type: ignore[misc]
        yield _row(f"grep, {name}", "ms", best, f"`{pattern}` over {size:.0f} MB; best of 3")
    best = min((_timed(lambda: index.grep(r"\w+\.", limit=10_000)) for _ in range(3)), key=sum)
    how = "found, and all of them with chunk, characters and line; best of 3"
    yield _row("grep, 10,000 hits", "ms", best, how)


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


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write_index(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        print(json.dumps(read_index(Path(sys.argv[2]))))
