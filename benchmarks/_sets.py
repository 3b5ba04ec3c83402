"""The development sets: their indexes, built once by the real pipeline, their questions, and how reading is scored."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks import Options
from benchmarks._report import NotRun
from benchmarks._spent import Spent, spent
from index_store.index import Index, open_index
from raptor.engines.local import cores

#: Those that are given, smallest first; any other folder of the same form can be named with --sets.
SETS = (
    "hotpotqa",
    "musique",
    "fairytaleqa",
    "contractnli",
    "codebase",
    "chroma",
    "qmsum",
    "covidqa",
    "filings",
)
#: Those whose questions need passages of several documents.
MULTI_HOP = ("hotpotqa", "musique")
RESAMPLES = 2_000
BUILD_S = 24 * 3_600  # a build is waited for: one that was cut short would leave nothing to measure

Values: TypeAlias = npt.NDArray[np.float64]
Query: TypeAlias = Mapping[str, Any]
Argument = TypeVar("Argument")
Result = TypeVar("Result")
#: What was read, best first: {"doc", "start", "end"}. A summary has a document of its own name, which is no gold.
Spans: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Trial:
    """An open index with questions that have gold, and their (n, dim) vectors."""

    name: str
    index: Index
    queries: Sequence[Query]
    vectors: npt.NDArray[np.float32]

    @property
    def metric(self) -> str:
        """recall@5 where the gold is documents, cover@4k where it is characters."""
        return "recall@5" if self.queries[0]["gold"][0]["start"] is None else "cover@4k"


def there(options: Options) -> list[str]:
    """The names of the sets whose data is there, of those that are wanted. Raises NotRun where none is."""
    if names := present(options):
        return names
    raise NotRun("it needs questions with gold: folders with corpus.jsonl and queries.jsonl, named by --data")


def present(options: Options) -> list[str]:
    """As `there`, [] where none is."""
    return [name for name in options.sets or SETS if (options.data / name / "corpus.jsonl").is_file()]


def trial_of(options: Options, name: str) -> Trial:
    """The index of a set, built if it is not there yet, with its questions, at most as many as are asked for."""
    build_all(replace(options, sets=(name,)))
    index = open_index(options.work / name)
    queries = [query for query in rows(options.data / name / "queries.jsonl") if query["gold"]]
    queries = evenly(queries, options.questions)
    return Trial(name, index, queries, index.embed_queries([query["text"] for query in queries]))


def build_all(options: Options) -> dict[str, Spent]:
    """Build the sets that are there and have no index yet, as many at a time as there are cores; what each took, now or
    then, by name. Raises NotRun where no set is there."""
    names = there(options)
    missing = [name for name in names if not (options.work / name / "CURRENT").is_file()]
    took = build_in({options.data / name / "corpus.jsonl": options.work / name for name in missing})
    for name, of_build in zip(missing, took, strict=True):
        _record(options, name).write_text(of_build.as_json(), encoding="utf-8")
    return {name: _took(options, name) for name in names}


def build_in(folders: Mapping[Path, Path]) -> list[Spent]:
    """Build the index of each corpus in its folder, in a process with one thread each; what each took."""
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(lambda pair: spent(_command(*pair), BUILD_S), folders.items()))


def _command(corpus: Path, folder: Path) -> list[str]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return [sys.executable, "-m", "raptor.cli", "build", str(corpus), "-o", str(folder), "--quiet"]


def _record(options: Options, name: str) -> Path:
    return options.work / f"{name}.build.json"


def _took(options: Options, name: str) -> Spent:
    """What the build of a set took, nothing where that is not known."""
    record = _record(options, name)
    return Spent.from_json(record.read_text(encoding="utf-8")) if record.is_file() else Spent(None, 0.0, 0.0)


def each(work: Callable[[Argument], Result], items: Sequence[Argument]) -> list[Result]:
    """What `work` gives of each item, in processes, as many at a time as there are cores."""
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, items))


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a .jsonl file. Some texts hold odd line ends."""
    with file.open(encoding="utf-8", newline="\n") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def write(file: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write a .jsonl file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the items, from first to last."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int).tolist()]


# -- scores --------------------------------------------------------------------------------------------------


def recall(gold: Spans, read: Spans, k: int) -> float:
    """The share of the gold documents that are among the first k documents read."""
    first = list(dict.fromkeys(one["doc"] for one in read))[:k]
    wanted = {one["doc"] for one in gold}
    return len(wanted & {*first}) / len(wanted)


def cover(gold: Spans, read: Spans, chars: int) -> float:
    """The share of the gold characters that are among the first `chars` different characters read."""
    seen: dict[str, set[int]] = {}
    left = chars
    for one in read:
        old = seen.setdefault(one["doc"], set())
        new = [at for at in range(one["start"], one["end"]) if at not in old][:left]
        old.update(new)
        left -= len(new)
        if left <= 0:
            break
    found = sum(at in seen.get(one["doc"], ()) for one in gold for at in range(one["start"], one["end"]))
    wanted: int = sum(one["end"] - one["start"] for one in gold)
    return found / wanted


def scored(trial: Trial, read: Callable[[Query, npt.NDArray[np.float32]], Spans]) -> Values:
    """The set's metric in percent for each question, of what `read` gives for a question and its vector."""
    score, most = (recall, 5) if trial.metric == "recall@5" else (cover, 4_000)
    pairs = zip(trial.queries, trial.vectors, strict=True)
    return 100 * np.array([score(query["gold"], read(query, vector), most) for query, vector in pairs])


def interval(differences: Values) -> tuple[float, float, float]:
    """Mean of paired differences, and its 95 % percentile bootstrap interval over the questions."""
    picks = np.random.default_rng(0).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


def span_of(index: Index, number: int) -> dict[str, Any]:
    """What is read of a node: the place of a chunk; of a summary its characters, which stand in no document."""
    if span := index.span_at(number):
        return {"doc": span.doc, "start": span.start, "end": span.end}
    return {"doc": f"summary {index.id_of(number)}", "start": 0, "end": index.chars_at(number)}
