"""The same questions while the corpus grows: what is read and cited, and what a query takes.

At 1 time the corpus is the documents that hold the gold of some questions, at 10, 50 and 200 times also others of all
sets, at random, until there are so many times the characters. Vectors are taken from the sets' own indexes, so that
nothing is embedded twice; clusters and summaries are made anew. Questions are asked without a key: the offline models
find and quote.
"""

import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import rlm
from benchmarks import Options
from benchmarks._report import Claim, Item, NotRun, Table, bounds, percent
from benchmarks._sets import MULTI_HOP, build_all, build_in, each, evenly, interval, rows, there, write
from index_store.generations import Changes
from index_store.index import Index, open_index
from index_store.outline import Outline
from raptor.checkpoint import Checkpoint
from raptor.corpus import corpus_of, headed, new_parts
from raptor.grower import Grower
from raptor.loading.find import find
from raptor.loading.load import load
from raptor.loading.types import Text
from raptor.settings import EMBEDDER, SUMMARIZER, BuildSettings
from raptor.workspace import embedder_for, silent
from rlm.audit import read
from rlm.audit.events import RecordedEvent
from rlm.audit.given import given
from rlm.audit.routing import given_to_models
from rlm.gateway.blocks import quote
from rlm.gateway.tokens import count_tokens
from rlm.limits import Route

TIMES = (1, 10, 50, 200)
QUESTIONS = 15  # of each multi-hop set
ROUTES: tuple[Route, ...] = ("retrieve", "rlm")
COUNTED_AS = "gpt-4o"  # whose tokens are counted
BEFORE_TOKENS, SHARE, BLOCKS, READS, NEAR = 14_000, 0.9, 1.05, 1.2, 2.0

CLOSED = re.compile(r"(how (many|much)|is|are|was|were|do|does|did|has|have|can)\b", re.IGNORECASE)
CLOSED_QUESTIONS = 10  # of each multi-hop set
QUOTED = re.compile(r'"[^"]*"\s*(\[\d+\])?')

Document = Mapping[str, Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of the questions by one route at one size. One value a question: `cited`, `gold_read` in percent;
    `tokens` of all prompts and replies; `chars`: different characters of documents that were given whole; `cpu_s`.
    `blocks`: tokens of all data blocks over those of the text in them."""

    times: int
    route: str
    cited: npt.NDArray[np.float64]
    gold_read: npt.NDArray[np.float64]
    tokens: Sequence[float]
    chars: Sequence[float]
    cpu_s: Sequence[float]
    blocks: float


def measure(options: Options) -> Iterator[Item]:
    """Questions and queries at each size, and what follows from them. Raises NotRun without data."""
    names = there(options)
    if not (multi_hop := [name for name in MULTI_HOP if name in names]):
        raise NotRun(f"its questions are those of {' and '.join(MULTI_HOP)}, which are not there")
    grown = corpora(options, names, multi_hop)
    found = each(_of_size, [(times, *paths) for times, paths in grown.items()])
    sizes = tuple(size for size, _, _ in found)
    queries = [of_size for _, of_size, _ in found]
    asked = sorted((one for _, _, of_size in found for one in of_size), key=lambda one: one.route)
    yield Table("Corpora", ("times", "documents", "chunks", "characters"), sizes)
    yield _asked_table(asked)
    yield _queries_table(queries)
    yield from _claims(asked)
    yield _closed_claim(options, multi_hop)
    yield _hybrid_claim(queries)


def _of_size(
    size: tuple[int, Path, Path],
) -> tuple[tuple[str, ...], tuple[int, Mapping[str, float]], list[Asked]]:
    times, folder, questions = size
    index = open_index(folder)
    told = (f"{times}", f"{len(index.documents):,}", f"{index.levels[0]:,}", f"{index.chars:,}")
    asked = _asked(index, questions, times, folder.with_name(f"{folder.name}.eval"))
    return told, (times, _queries(index, questions)), asked


# -- corpora -----------------------------------------------------------------------------------------------


def corpora(options: Options, names: Sequence[str], multi_hop: Sequence[str]) -> dict[int, tuple[Path, Path]]:
    """The index and the questions of each size, for as many times as the sets have characters."""
    documents = {f"{name}-{row['_id']}": row for name in names for row in _documents(options, name)}
    questions = [
        query
        | {"_id": f"{name}-{query['_id']}", "gold": [one | {"doc": f"{name}-{one['doc']}"} for one in gold]}
        for name in multi_hop
        for query in evenly([q for q in rows(options.data / name / "queries.jsonl") if q["gold"]], QUESTIONS)
        if (gold := query["gold"])
    ]
    needed = list(dict.fromkeys(one["doc"] for query in questions for one in query["gold"]))
    others = [doc for doc in documents if doc not in {*needed}]
    np.random.default_rng(0).shuffle(others)
    chars = sum(len(documents[doc]["text"]) for doc in needed)
    file = options.work / "growth.jsonl"
    write(file, questions)
    grown: dict[int, tuple[Path, Path]] = {}
    vectors: dict[str, Floats] = {}
    to_build: dict[Path, Path] = {}
    for times in TIMES:
        chosen, left = list(needed), chars * (times - 1)
        for doc in others:
            if left <= 0:
                break
            chosen.append(doc)
            left -= len(documents[doc]["text"])
        if left > 0:
            break  # there are no more
        folder = options.work / f"growth-{times}"
        if not (folder / "CURRENT").is_file():
            corpus = options.work / f"growth-{times}.jsonl"
            write(corpus, [{**documents[doc], "_id": doc} for doc in chosen])
            vectors = vectors or _vectors(options, names)
            seed(folder, corpus, vectors)
            to_build[corpus] = folder
        grown[times] = folder, file
    build_in(to_build)
    return grown


def _documents(options: Options, name: str) -> Iterator[Document]:
    for row in rows(options.data / name / "corpus.jsonl"):
        yield {"_id": row["_id"], "title": row.get("title", ""), "text": row["text"]}


def _vectors(options: Options, names: Sequence[str]) -> dict[str, Floats]:
    """The vectors of all chunks of the sets, by what was embedded of each."""
    vectors: dict[str, Floats] = {}
    build_all(options)
    for name in names:
        index = open_index(options.work / name)
        for number in range(len(index.documents)):
            outline = Outline(index.documents[number])
            for leaf in index.document_leaves(number):
                span = index.span_at(leaf)
                heading = outline.heading(span.start if span else 0)
                vectors[headed(heading, index.text_at(leaf))] = index.vectors[leaf]
    return vectors


def seed(folder: Path, corpus: Path, vectors: Mapping[str, Floats]) -> None:
    """Put what a build of `corpus` in `folder` will embed into its checkpoint: vectors that are known, else new ones.

    The batches of a build are part of what its checkpoint keeps them under, so they are put there by what reads them.
    """
    model = embedder_for(EMBEDDER, BuildSettings())

    def known(texts: Sequence[str]) -> Floats:
        missing = [text for text in texts if text not in vectors]
        fresh = dict(zip(missing, model.encode(missing), strict=True))
        found = [vectors[text] if text in vectors else fresh[text] for text in texts]
        return np.array(found, dtype=np.float32).reshape(-1, model.dim)

    with closing(Checkpoint(folder)) as checkpoint:
        grower = Grower(replace(model, encode=known), SUMMARIZER, BuildSettings(), checkpoint, silent)
        texts = [text for text in load(find([str(corpus)])) if isinstance(text, Text)]
        corpus_of(new_parts(texts, grower), Changes(added=len(texts)), grower)


# -- questions ---------------------------------------------------------------------------------------------


def _asked(index: Index, questions: Path, times: int, folder: Path) -> list[Asked]:
    """Ask all questions by each route, one after another."""
    shutil.rmtree(folder, ignore_errors=True)
    models = rlm.Models()
    systems = [rlm.System(route, models) for route in ROUTES]
    grid = rlm.Grid(rlm.read_cases([questions]), systems, at_once=1)
    took: dict[str, list[float]] = {system.name: [] for system in systems}
    told = _cpu_of_each(took)
    figures: Any = rlm.evaluate(index, grid, folder, told).figures
    return [
        _of_system(
            index, [row for row in figures["rows"] if row["system"] == one.name], folder, times, one, took
        )
        for one in systems
    ]


def _cpu_of_each(took: Mapping[str, list[float]]) -> Callable[..., None]:
    """What an evaluation that asks one question at a time calls after each: it notes what the question took."""
    last = [_cpu_s()]

    def told(system: rlm.System, *_: object) -> None:
        now = _cpu_s()
        took[system.name].append(now - last[0])
        last[0] = now

    return told


def _cpu_s() -> float:
    return sum(os.times()[:4])


def _of_system(
    index: Index,
    found: Sequence[Any],
    folder: Path,
    times: int,
    system: rlm.System,
    took: Mapping[str, list[float]],
) -> Asked:
    traces = [read(folder / row["run"])[0] for row in found]
    blocks = [part for events in traces for part in _block_tokens(events)]
    return Asked(
        times,
        system.route,
        100 * np.array([row["cited"] for row in found], dtype=np.float64),
        100 * np.array([row["read"] for row in found], dtype=np.float64),
        [row["tokens"] for row in found],
        [characters_given(index, events) for events in traces],
        took[system.name],
        sum(sent for sent, _ in blocks) / max(sum(text for _, text in blocks), 1),
    )


def characters_given(index: Index, events: Sequence[RecordedEvent]) -> int:
    """How many different characters of documents were given whole to the code or a model."""
    seen: dict[str, set[int]] = {}
    for span in given(index, events):
        seen.setdefault(span.doc, set()).update(range(span.start, span.end))
    return sum(map(len, seen.values()))


def _block_tokens(events: Sequence[RecordedEvent]) -> Iterator[tuple[int, int]]:
    """The tokens of the data blocks of each prompt, and of the text in them."""
    for blocks in given_to_models(events).values():
        if blocks:
            text = "\n".join(block.text for block in blocks)
            yield count_tokens(COUNTED_AS, quote(blocks)), count_tokens(COUNTED_AS, text)


def _asked_table(asked: Sequence[Asked]) -> Table:
    def row(one: Asked) -> tuple[str, ...]:
        return (
            f"{one.times}",
            one.route,
            percent(one.cited.mean()),
            percent(one.gold_read.mean()),
            f"{statistics.median(one.tokens):,.0f}",
            f"{statistics.median(one.chars):,.0f}",
            f"{one.blocks:.2f}",
            f"{statistics.median(one.cpu_s):.2f}",
        )

    columns = (
        "times",
        "route",
        "gold cited",
        "gold read",
        "tokens, median",
        "characters read, median",
        "blocks over text",
        "processor s, median",
    )
    note = (
        f"{len(asked[0].cited)} questions, the same at each size. Cited, read: percent of the gold documents, by the "
        "definitions of `rlm eval`. Tokens: of all prompts and replies. Characters read: different ones of documents, "
        f"given whole to the code or a model. Blocks over text: tokens (of {COUNTED_AS}) of passages with their marks "
        "over those of the passages. Answers are by rules that find and quote."
    )
    return Table("Questions without a key while the corpus grows", columns, tuple(map(row, asked)), note)


def _claims(asked: Sequence[Asked], routes: Sequence[str] = ROUTES) -> Iterator[Claim]:
    for route in routes:
        by_times = {one.times: one for one in asked if one.route == route}
        first, grown = by_times[1], by_times.get(50)
        if grown is not None:
            yield _growth_claim(route, first, grown)
            yield _reading_claim(route, first, grown)
        largest = max(by_times.values(), key=lambda one: one.times)
        if route == "rlm":
            yield _lean_claim(largest)
        text = f"tokens of blocks over text by {route}"
        told, holds = f"{largest.blocks:.2f}", round(largest.blocks, 2) <= BLOCKS
        yield Claim("blocks", text, f"at most {BLOCKS:g}", told, holds=holds)


def _lean_claim(asked: Asked) -> Claim:
    tokens, wanted = statistics.median(asked.tokens), f"at most {BEFORE_TOKENS // 2:,}"
    text, peer = (
        f"tokens of a question by rlm, {asked.times} times, median",
        f"{BEFORE_TOKENS:,}, measured before",
    )
    return Claim("lean", text, wanted, f"{tokens:,.0f}", peer, holds=tokens <= BEFORE_TOKENS / 2)


def _growth_claim(route: str, first: Asked, grown: Asked) -> Claim:
    share = grown.cited.mean() / max(first.cited.mean(), 1e-9)
    told = f"{percent(grown.cited.mean())} ({share:.2f})"
    _, low, high = interval(grown.cited - first.cited)
    text, peer = f"gold cited by {route}, 50 times", f"{percent(first.cited.mean())} at 1 time"
    return Claim(
        "growth", text, f"at least {SHARE:g} of it", told, peer, bounds(low, high), bool(share >= SHARE)
    )


def _reading_claim(route: str, first: Asked, grown: Asked) -> Claim:
    before, now = statistics.median(first.chars), statistics.median(grown.chars)
    text, peer = f"characters read by {route}, 50 times", f"{before:,.0f} at 1 time"
    told, most = f"{now:,.0f} ({now / max(before, 1):.2f} times)", f"at most {READS:g} times"
    return Claim("reading", text, most, told, peer, holds=now <= READS * before)


def _closed_claim(options: Options, names: Sequence[str]) -> Claim:
    """Of questions of yes or no, or of how many: answers that are quotes and nothing else."""
    answers: list[str] = []
    with tempfile.TemporaryDirectory() as runs:
        for name in names:
            index = open_index(options.work / name)
            texts = [row["text"] for row in rows(options.data / name / "queries.jsonl")]
            asked = evenly([text for text in texts if CLOSED.match(text)], CLOSED_QUESTIONS)
            answers += [str(rlm.ask(index, text, route="retrieve", runs=runs).content) for text in asked]
    bare = sum(is_bare(answer) for answer in answers)
    text = "questions of yes or no, or of how many, answered by nothing but quotes"
    return Claim("yes or no", text, "none", f"{bare} of {len(answers)}", holds=not bare)


def is_bare(answer: str) -> bool:
    """Whether an answer is quotes with their citations, and not a word of its own."""
    return bool(answer.strip()) and not QUOTED.sub("", answer).strip()


# -- queries -----------------------------------------------------------------------------------------------

MODES = ("dense", "lexical", "hybrid", "tree")
Queries = tuple[int, Mapping[str, float]]


def _queries(index: Index, questions: Path) -> dict[str, float]:
    """The median processor time of a query in each mode, in ms, the question's vector given."""
    asked = [row["text"] for row in rows(questions)]
    vectors = index.embed_queries(asked)
    found: dict[str, float] = {}
    for mode in MODES:
        times = []
        for text, vector in zip(asked, vectors, strict=True):
            where: dict[str, Any] = {"mode": mode, "vector": vector}
            index.search(text, **where)  # what is read once, is read
            began = time.process_time()
            index.search(text, **where)
            times.append(1000 * (time.process_time() - began))
        found[mode] = statistics.median(times)
    return found


def _queries_table(queries: Sequence[Queries]) -> Table:
    cells = tuple((f"{times}", *(f"{found[mode]:.2f}" for mode in MODES)) for times, found in queries)
    note = "Ten hits; the question's vector is given. Processor milliseconds, the median over the questions."
    return Table("Queries while the corpus grows", ("times", *MODES), cells, note)


def _hybrid_claim(queries: Sequence[Queries]) -> Claim:
    times, found = next((one for one in queries if one[0] == 50), queries[-1])
    text = f"a hybrid query at {times} times"
    told, peer = f"{found['hybrid']:.2f} ms", f"{found['dense']:.2f} ms dense"
    holds = found["hybrid"] <= NEAR * found["dense"]
    return Claim("hybrid", text, f"at most {NEAR:g} times dense", told, peer, holds=holds)
