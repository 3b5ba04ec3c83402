"""Four shards against one index: the same hits, the same citations, and how much is read.

Each set is built twice by the real pipeline, as one index and as four shards of about the same size. Their trees
differ, as no cluster of a shard holds what stands in another; so they are also held against one index of the same
shape, which has the shards' very nodes, edges and vectors. Questions are asked of the navigator without a key.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt

import rlm
from benchmarks import Options
from benchmarks._report import Claim, Item, Table
from benchmarks._sets import BUILD_S, Query, Trial, each, evenly, there, trial_of
from benchmarks._spent import spent
from index_store.index import Index, Sharded, open_index
from index_store.name_table import name_table
from index_store.outline import Outline
from index_store.search import Weights
from index_store.types import Mode, Scope
from index_store.writer import Draft, publish
from raptor.settings import Sharding
from raptor.sharding.planning import planned_shards
from rlm.audit import read
from rlm.audit.given import given

SHARDS, HITS, ASKED = 4, 10, 100
SAME, READS = 0.99, 1.2
ONE, SHAPE = "one index", "the same shape"
#: What is searched: its name, the mode, and the weights.
WAYS: Mapping[str, tuple[Mode, Weights]] = {
    "hybrid": ("hybrid", Weights()),
    "dense": ("dense", Weights()),
    "lexical": ("lexical", Weights()),
}

Place = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of a set. `hits`: shares of the first ten that are the same, one a question, by what it is held against
    and the way of searching. `cited`: whether the citations are the same, by what it is held against; `chars`:
    different characters read, by index."""

    name: str
    shards: int
    hits: Mapping[tuple[str, str], npt.NDArray[np.float64]]
    cited: Mapping[str, npt.NDArray[np.bool_]]
    chars: Mapping[str, npt.NDArray[np.float64]]


def measure(options: Options) -> Iterator[Item]:
    """Hits, citations and characters read, set by set, and what follows from them. Raises NotRun without data."""
    names = there(options)
    asked = ceil(ASKED / len(names))
    found = each(partial(_compared, options, asked), names)
    yield _hits_table(found)
    yield _asked_table(found)
    yield from _claims(found)


def _compared(options: Options, asked: int, name: str) -> Compared:
    trial = trial_of(options, name)
    shards = _sharded(options, trial)
    shape = _same_shape(shards, options.work / f"{name}-shape")
    others = {ONE: trial.index, SHAPE: shape}
    hits = {
        (held, way): np.array(
            [_share(shards, other, trial, number, way) for number in range(len(trial.queries))]
        )
        for held, other in others.items()
        for way in WAYS
    }
    told = {
        held: [_answered(index, query) for query in evenly(trial.queries, asked)]
        for held, index in {"shards": shards, **others}.items()
    }
    cited = {
        held: np.array([own[0] == other[0] for own, other in zip(told["shards"], told[held], strict=True)])
        for held in others
    }
    chars = {
        held: np.array([read for _, read in answers], dtype=np.float64) for held, answers in told.items()
    }
    return Compared(name, len(shards.shards), hits, cited, chars)


# -- indexes -----------------------------------------------------------------------------------------------


def _sharded(options: Options, trial: Trial) -> Sharded:
    """The set as four shards, built if they are not there yet."""
    folder = options.work / f"{trial.name}-shards"
    if not (folder / "CURRENT").is_file():
        corpus, chunks = options.data / trial.name / "corpus.jsonl", _shard_chunks(trial.index)
        given = [str(corpus), "-o", str(folder), "--shard-chunks", str(chunks), "--quiet"]
        spent([sys.executable, "-m", "raptor.cli", "shard", *given], BUILD_S)
    index = open_index(folder)
    assert isinstance(index, Sharded)
    return index


def _shard_chunks(index: Index) -> int:
    """The least size of a shard that makes SHARDS of a corpus."""
    sizes = [(document, len(index.document_leaves(n))) for n, document in enumerate(index.documents)]
    least = ceil(index.levels[0] / SHARDS)
    return next(
        n
        for n in range(least, index.levels[0] + 1)
        if len(planned_shards(sizes, Sharding("size", n))) <= SHARDS
    )


def _same_shape(index: Sharded, folder: Path) -> Index:
    """One index with the nodes, edges and vectors of all shards."""
    if not (folder / "CURRENT").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        publish(folder, _draft(index), index.manifest.models, {"seed": 0})
    return open_index(folder)


def _draft(index: Index) -> Draft:
    documents = [(document, index.document_text(document.id)) for document in index.documents]
    outlines = [Outline(document) for document, _ in documents]
    leaves, nodes = range(index.levels[0]), range(index.levels[0], len(index))
    spans = [(int(index.leaf_documents[leaf]), index.span_at(leaf)) for leaf in leaves]
    chunks = [(document, span.start, span.end) for document, span in spans if span]
    passages = ((documents[d][1][start:end], outlines[d].parts(start)) for d, start, end in chunks)
    return Draft(
        documents=documents,
        chunks=np.array(chunks, dtype=np.int64),
        labels=[index.at(node).label for node in nodes],
        summaries=[index.text_at(node) for node in nodes],
        levels=index.levels,
        children=[np.array(index.neighbours(node, "children"), dtype=np.int64) for node in nodes],
        guests=[np.array(index.guests(node), dtype=np.int64) for node in nodes],
        tokens=np.array([index.at(node).tokens for node in range(len(index))], dtype=np.int64),
        vectors=np.array([index.vectors[node] for node in range(len(index))], dtype=np.float32),
        alike=index.alike.tolist(),
        names=name_table(passages),
    )


# -- questions ---------------------------------------------------------------------------------------------


def _share(index: Index, other: Index, trial: Trial, number: int, way: str) -> float:
    """The share of the first hits of `other` that are among those of `index`."""
    query, vector = trial.queries[number], trial.vectors[number]
    own, wanted = ({*_hits(one, query, vector, way)} for one in (index, other))
    return len(own & wanted) / max(len(wanted), 1)


def _hits(index: Index, query: Query, vector: npt.NDArray[np.float32], way: str) -> list[Place]:
    mode, weights = WAYS[way]
    found = index.search(query["text"], HITS, mode=mode, weights=weights, doc=query["scope"], vector=vector)
    return [(hit.span.doc, hit.span.start, hit.span.end) for hit in found if hit.span]


def _answered(index: Index, query: Query) -> tuple[list[Place], int]:
    """The places that an answer cites, and how many different characters of documents were read for it."""
    with tempfile.TemporaryDirectory() as runs:
        scope = Scope(query["scope"]) if query["scope"] else Scope()
        answer = rlm.ask(index, query["text"], route="rlm", scope=scope, runs=runs, memo=False)
        events, _ = read(answer.trace)
        seen: dict[str, set[int]] = {}
        for span in given(index, events):
            seen.setdefault(span.doc, set()).update(range(span.start, span.end))
    places = [(c.doc, c.start, c.end) for c in answer.citations if c.doc is not None]
    return sorted((str(doc), int(start or 0), int(end or 0)) for doc, start, end in places), sum(
        map(len, seen.values())
    )


# -- told --------------------------------------------------------------------------------------------------


def _hits_table(found: Sequence[Compared]) -> Table:
    heads = [(held, way) for held in (ONE, SHAPE) for way in WAYS]
    rows = [
        (
            one.name,
            f"{one.shards}",
            f"{len(one.hits[heads[0]])}",
            *(f"{one.hits[head].mean():.3f}" for head in heads),
        )
        for one in found
    ]
    pooled = [np.concatenate([one.hits[head] for one in found]) for head in heads]
    rows.append(("all", "", f"{len(pooled[0])}", *(f"{values.mean():.3f}" for values in pooled)))
    columns = ("set", "shards", "questions", *(f"{held}, {way}" for held, way in heads))
    note = (
        f"Share of the first {HITS} hits that are the same in shards and in what they are held against. The same "
        "shape: one index with the very nodes, edges and vectors of the shards."
    )
    return Table("Hits of shards", columns, tuple(rows), note)


def _asked_table(found: Sequence[Compared]) -> Table:
    rows = [
        (
            one.name,
            f"{len(one.cited[ONE])}",
            *(f"{one.cited[held].mean():.2f}" for held in (ONE, SHAPE)),
            *(f"{one.chars[held].mean():,.0f}" for held in ("shards", ONE, SHAPE)),
        )
        for one in found
    ]
    columns = (
        *("set", "questions", f"cited as {ONE}", f"cited as {SHAPE}"),
        *("characters read, shards", ONE, SHAPE),
    )
    note = "Share of the questions whose citations are the same places; different characters of documents, a question."
    return Table("Answers from shards", columns, tuple(rows), note)


def _claims(found: Sequence[Compared]) -> Iterator[Claim]:
    for held in (ONE, SHAPE):
        share = float(np.concatenate([one.hits[held, "hybrid"] for one in found]).mean())
        text = f"share of the first {HITS} hits that are those of {_worded(held)}"
        yield Claim("shards", text, f"at least {SAME:g}", f"{share:.3f}", holds=share >= SAME)
    for held in (ONE, SHAPE):
        same = np.concatenate([one.cited[held] for one in found])
        text = f"questions whose citations are those of {_worded(held)}"
        yield Claim("shards", text, "all", f"{same.sum()} of {len(same)}", holds=bool(same.all()))
    own, one = (float(np.concatenate([c.chars[held] for c in found]).mean()) for held in ("shards", ONE))
    told, most = f"{own:,.0f} ({own / max(one, 1):.2f} times)", f"at most {READS:g} times"
    yield Claim("shards", "characters read a question", most, told, f"{one:,.0f}", holds=own <= READS * one)


def _worded(held: str) -> str:
    return held if held == ONE else "one index of the same shape"
