"""What each stage takes as a corpus grows, and what follows from that for corpora that no machine here holds.

Measured: whole builds of made-up corpora (see `_made_up`), each in a process of its own; up to a million made-up
vectors; embedding beside bare sentence-transformers; what a question reads. What was measured is kept in the work
folder and not measured again. Then a simulation is played with these costs (`_simulation`), and arithmetic done on them
(`_plan`); `docs/scale.md` shows both. It takes half an hour, so it is not part of a run of all.
"""

import json
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import Options, _outlook, _plan
from benchmarks._plan import Costs, Line
from benchmarks._report import Claim, Item, Table
from benchmarks._sets import present, rows
from benchmarks._simulation import Cluster
from benchmarks._spent import commit
from benchmarks._stages import BARE, OURS, run
from index_store import lexical
from index_store.name_table import name_table

SIZES = (1_000, 10_000, 100_000)
VECTORS = (100_000, 1_000_000)
AT_ONCE = (1_000, 5_000)  # chunks of the builds whose summaries are no work
REFERENCE_SIZES, REFERENCE_S = (1_000, 10_000), 1_200
ROUNDS = 5  # of embedding by each way
LISTS = (1_000, 3_000, 10_000, 30_000)  # passages of the sets whose words and names are counted
ONE_CORE, TWO_CORES, GROWS, FACTOR = 0.95, 1.8, 1.2, 1.5
BARE_ONE = "sentence-transformers alone, on one core"
STAGES = ("load", "chunk", "embed", "cluster", "summarise", "write", "open")

Told = Mapping[str, Any]


def measure(options: Options) -> Iterator[Item]:
    """All tables, those of the simulation last."""
    work = options.work.resolve() / "scale"
    work.mkdir(parents=True, exist_ok=True)
    sizes = [size for size in SIZES if size <= options.nodes or size in SIZES[:2]]
    builds = {n: _once(work, f"build-{n}", "build", f"{work}/made-{n}", f"{n}") for n in sizes}
    yield _stages_table(builds)
    counts = [count for count in VECTORS if count <= options.nodes or count == VECTORS[0]]
    vectors = {n: _once(work, f"cluster-{n}", "cluster", "", f"{n}") for n in counts}
    written = {n: _once(work, f"write-{n}", "write", f"{work}/many-{n}", f"{n}") for n in counts}
    yield _vectors_table(vectors, written)
    yield _reference_table(options, work, builds)
    texts = f"{options.embedded}"
    speeds = _once(work, f"throughput-{texts}", "throughput", "", texts, f"{ROUNDS}", threads=True)
    yield _throughput_table(speeds)
    yield from _throughput_claims(speeds)
    reads = {n: _once(work, f"ask-{n}", "ask", f"{work}/made-{n}/index") for n in sizes}
    yield _reads_table(reads)
    yield _reads_claim(reads)
    at_once = [_once(work, f"at-once-{n}", "at-once", f"{work}/at-once-{n}", f"{n}") for n in AT_ONCE]
    kept = _once(work, "checkpoint", "checkpoint", f"{work}/checkpoint")
    many = vectors[counts[-1]] | {"vectors": counts[-1]}
    smaller, own = (
        _plan.costs(builds[small], builds[large], at_once, kept, many)
        for small, large in (sizes[:2], sizes[-2:])
    )
    yield from _simulated_beside_measured(smaller, builds)
    own = replace(own, embed=Line(0.0, min(_each_s(speeds, way, 1) for way in speeds["took"] if way != BARE)))
    yield _outlook.costs_table(own)
    yield from _outlook.simulated(own)
    lists = _kept(work / "lists.json", lambda: _lists(options)) if present(options) else {"lists": []}
    yield from _outlook.follows(own, reads[sizes[-1]]["handles"], lists["lists"])


def _once(work: Path, name: str, *command: str, **how: Any) -> dict[str, Any]:
    """What a measurement of `_stages` gave, now or when it was made."""
    return _kept(work / f"{name}.json", lambda: run(*command, **how))


def _kept(file: Path, measured: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not file.is_file():
        file.write_text(json.dumps(measured() | {"commit": commit()}) + "\n", encoding="utf-8")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


# -- stages ----------------------------------------------------------------------------------------------------


def _stages_table(builds: Mapping[int, Told]) -> Table:
    found = []
    for told in builds.values():
        chunks = told["levels"][0]
        for name in STAGES:
            taken = told["stages"][name]
            cells = (
                _seconds(taken["cpu_s"]),
                f"{1000 * taken['cpu_s'] / chunks:.2f}",
                _seconds(taken["wall_s"]),
            )
            found.append((f"{chunks:,}", name, *cells, *_memory(taken), told["commit"]))
    note = (
        "Builds of made-up corpora, each in a process of its own: real parsing, cutting, tokens, names, clusters, "
        "offline summaries and files; the vectors are made up, so `embed` is all of that stage but the model, which "
        "is measured below. `load` has the search for near-duplicates too. Processor seconds of the stage alone, "
        "with its children. Memory: the most while it goes on, of the process and its children, with all that the "
        "build holds by then: beside mapped files (RssAnon), and of mapped files (RssFile), which the system takes "
        "back when it needs it."
    )
    columns = (
        "chunks",
        "stage",
        "processor s",
        "ms a chunk",
        "clock s",
        "memory, MB",
        "mapped, MB",
        "measured at",
    )
    return Table("Stages of a build", columns, tuple(found), note)


def _memory(taken: Told) -> tuple[str, str]:
    return f"{taken['anon_mb']:,.0f}", f"{taken['file_mb']:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:,.1f}" if value >= 1 else f"{value:.3f}"


def _vectors_table(vectors: Mapping[int, Told], written: Mapping[int, Told]) -> Table:
    found = []
    for count, told in vectors.items():
        amounts = {"partition": count, "cluster": told["clustered"]}
        for of, stages in ((told, amounts), (written[count], {"write": count, "open": count})):
            for name, amount in stages.items():
                taken = of["stages"][name]
                each = f"{1000 * taken['cpu_s'] / amount:.3f}"
                found.append(
                    (
                        f"{amount:,}",
                        f"{name}, of {count:,}",
                        _seconds(taken["cpu_s"]),
                        each,
                        *_memory(taken),
                        of["commit"],
                    )
                )
    note = (
        "Made-up vectors of 384 numbers. Partition: of all, into parts of near ones, on one core. Cluster: of these "
        "parts each tenth, in one process. Write, open: an index of so many nodes with texts of 100 characters, "
        "which are all in memory while it is written."
    )
    columns = ("vectors", "stage", "processor s", "ms a vector", "memory, MB", "mapped, MB", "measured at")
    return Table("Many vectors", columns, tuple(found), note)


def _reference_table(options: Options, work: Path, builds: Mapping[int, Told]) -> Table:
    columns = ("chunks", "by", "cut, s", "cluster, s", "all levels", "summaries", "memory, MB")
    if options.reference is None:
        note = "Not measured: no checkout of the reference RAPTOR was named by --reference."
        return Table("Beside the reference", columns, (), note)
    found = []
    checkout = str(options.reference.resolve())
    for size in (size for size in REFERENCE_SIZES if size in builds):
        stages, levels = builds[size]["stages"], builds[size]["levels"]
        seconds = (_seconds(stages["chunk"]["cpu_s"]), _seconds(stages["cluster"]["cpu_s"]))
        ours = (*seconds, _levels(levels), f"{sum(levels[1:]):,}", f"{_most(stages):,.0f}")
        found.append((f"{levels[0]:,}", "ours", *ours))
        corpus = f"{work}/made-{size}/corpus.jsonl"
        told = _reference(work / f"reference-{size}.json", corpus, checkout)
        if not told["stages"]:
            over = f"not done in {REFERENCE_S / 60:.0f} minutes"
            found.append((f"{levels[0]:,}", "reference", over, "-", "-", "-", "-"))
            continue
        stages, levels = told["stages"], told["levels"]
        seconds = (_seconds(stages["chunk"]["cpu_s"]), _seconds(stages["cluster"]["cpu_s"]))
        theirs = (*seconds, _levels(levels), f"{told['calls']:,}", f"{_most(stages):,.0f}")
        found.append((f"{levels[0]:,}", "reference", *theirs))
    note = (
        "The same corpora as one text, the same made-up vectors, summaries that are no work; processor seconds. The "
        "reference's own settings: chunks of 100 tokens of its tokenizer, five layers at most."
    )
    return Table("Beside the reference", columns, tuple(found), note)


def _reference(file: Path, corpus: str, checkout: str) -> dict[str, Any]:
    def measured() -> dict[str, Any]:
        try:
            return run("reference", corpus, checkout, limit_s=REFERENCE_S)
        except subprocess.TimeoutExpired:
            return {"stages": {}}

    return _kept(file, measured)


def _levels(levels: Sequence[int]) -> str:
    return ", ".join(f"{level:,}" for level in levels)


def _most(stages: Told) -> float:
    return max(float(taken["anon_mb"]) for taken in stages.values())


# -- embedding -------------------------------------------------------------------------------------------------


def _each_s(told: Told, way: str, cores: int, cpu: bool = True) -> float:
    """Seconds of one text: the median over the rounds, of the processor or by the clock."""
    return float(statistics.median(took[cpu] for took in told["took"][way][f"{cores}"])) / float(
        told["texts"]
    )


def _times(told: Told, way: str, cores: int, cpu: bool) -> float:
    """How many times as fast as the bare one on one core: the median over the rounds, in each of which both ran."""
    pairs = zip(told["took"][way][f"{cores}"], told["took"][BARE]["1"], strict=True)
    return float(statistics.median(bare[cpu] / own[cpu] for own, bare in pairs))


def _throughput_table(told: Told) -> Table:
    found = []
    for way, by_cores in told["took"].items():
        for cores in map(int, by_cores):
            by_clock, used = (_each_s(told, way, cores, cpu) for cpu in (False, True))
            ratios = (f"{_times(told, way, cores, cpu):.2f}" for cpu in (False, True))
            found.append((way, f"{cores}", f"{1 / by_clock:,.1f}", f"{1 / used:,.1f}", *ratios))
    note = (
        f"{told['texts']:,} made-up texts of 450 characters, {ROUNDS} rounds in which the ways take turns; medians. "
        "Ours: as a build embeds, its records included. Bare: sentence-transformers with its defaults, in batches of "
        "32, as many threads as cores. Times: of the bare one on one core in the same round."
    )
    columns = (
        "way",
        "cores",
        "texts a second",
        "texts a processor s",
        "times bare, by the clock",
        "by the processor",
    )
    return Table("Embedding", columns, tuple(found), note)


def _throughput_claims(told: Told) -> Iterator[Claim]:
    text, wanted = "embedding on one core, by the processor", f"at least {ONE_CORE:g} times"
    ratio = _times(told, OURS, 1, cpu=True)
    yield Claim("embed fast", text, wanted, f"{ratio:.2f} times", BARE_ONE, holds=ratio >= ONE_CORE)
    text, wanted = "embedding on two cores, by the clock", f"at least {TWO_CORES:g} times"
    if "2" not in told["took"][OURS]:
        yield Claim("embed fast", text, wanted, "this machine has one core")
        return
    ratio = _times(told, OURS, 2, cpu=False)
    yield Claim("embed fast", text, wanted, f"{ratio:.2f} times", BARE_ONE, holds=ratio >= TWO_CORES)


# -- a question ------------------------------------------------------------------------------------------------


def _reads_table(reads: Mapping[int, Told]) -> Table:
    first = min(reads)
    found = []
    for size, told in reads.items():
        searches = told["searches"]
        words = [f"{told[route][what]:,.0f}" for route in ("retrieve", "rlm") for what in ("chars", "tokens")]
        opened = told["opened"] + searches[0]["mapped"] + searches[0]["read"]
        further = statistics.mean(one["mapped"] + one["read"] for one in searches[1:])
        cells = (_mb(opened), _mb(further), f"{1000 * _search_s(told):.1f}", f"{told['handles']}")
        found.append((f"{size // first:,}", f"{size:,}", *words, *cells))
    note = (
        f"{len(reads[first]['searches'])} questions about names and words of some chunk, without a key. Characters: "
        "different ones of documents, given whole to the code or a model; tokens: of all prompts and replies; "
        "medians. Bytes of files: mapped pages that came into memory, and lists that are read whole, in a fresh "
        "process: to open and for the first search, and for each further one. Handles: files that an open index "
        "keeps open."
    )
    columns = (
        "times",
        "chunks",
        "retrieve: characters",
        "retrieve: tokens",
        "rlm: characters",
        "rlm: tokens",
        "first search, MB of files",
        "each further one, MB",
        "processor ms of a search",
        "handles",
    )
    return Table("What a question reads", columns, tuple(found), note)


def _search_s(told: Told) -> float:
    return float(statistics.median(one["cpu_s"] for one in told["searches"][1:]))


def _mb(size: float) -> str:
    return f"{size / 1e6:,.2f}"


def _reads_claim(reads: Mapping[int, Told]) -> Claim:
    small, large = min(reads), max(reads)
    grown = max(reads[large][route]["chars"] / reads[small][route]["chars"] for route in ("retrieve", "rlm"))
    text = f"characters read of {large // small} times the corpus, the worse of two routes"
    return Claim("scale reads", text, f"at most {GROWS:g} times", f"{grown:.2f} times", holds=grown <= GROWS)


# -- lists of words and names ---------------------------------------------------------------------------


def _lists(options: Options) -> dict[str, Any]:
    """How many different stems and names so many passages of the sets have, and their bytes."""
    texts = (row["text"] for name in present(options) for row in rows(options.data / name / "corpus.jsonl"))
    passages = [text[start : start + 450] for text in texts for start in range(0, len(text), 450)]
    order = np.random.default_rng(0).permutation(len(passages)).tolist()
    found = []
    for count in (count for count in (*LISTS, len(passages)) if count <= len(passages)):
        some = [passages[place] for place in sorted(order[:count])]
        stems = lexical.columns(some)[3].split(b"\n")
        names = name_table((text, ()) for text in some).listed
        sizes = (sum(map(len, stems)) + len(stems), sum(len(name.encode()) + 1 for name in names))
        found.append([count, len(stems), sizes[0], len(names), sizes[1]])
    return {"lists": found}


# -- the simulation --------------------------------------------------------------------------------------------


def _simulated_beside_measured(own: Costs, builds: Mapping[int, Told]) -> Iterator[Item]:
    """One node, against the builds, with the costs of the two smallest of them."""
    found, worst = [], 1.0
    for told in builds.values():
        chunks, stages = told["levels"][0], told["stages"]
        one = _plan.together(list(_plan.built(own, chunks, Cluster()).values()))
        used = sum(stages[name]["cpu_s"] for name in STAGES[:-1])
        said = one.core_s + one.driver_s
        clock = sum(stages[name]["wall_s"] for name in STAGES[:-1])
        factor = max(said / used, used / said)
        worst = max(worst, factor)
        cells = (_seconds(said), _seconds(used), f"{factor:.2f}", _seconds(one.wall_s), _seconds(clock))
        found.append((f"{chunks:,}", *cells))
    note = (
        "The simulation on one node of one core, with the costs of one chunk that the two smallest builds give, "
        "beside what each build took; vectors made up in both. By the clock the build has the cores of this machine, "
        "which others use."
    )
    columns = (
        "chunks",
        "simulated, processor s",
        "measured",
        "times apart",
        "simulated, clock s",
        "measured by the clock",
    )
    yield Table("The simulation beside what was measured", columns, tuple(found), note)
    text = f"simulated builds of {SIZES[0]:,} to {max(builds):,} chunks on one node"
    wanted, apart = f"within {FACTOR:g} times of what was measured", f"{worst:.2f} times apart at most"
    yield Claim("simulated", text, wanted, apart, holds=worst <= FACTOR)
