"""Real models on two kinds of tasks, under a cap: counting what no line says, and finding over several hops.

OOLONG-like (after arXiv 2511.02817): messages of some users, of which a question counts those that are spam; no message
says so. BrowseComp-like (after BrowseComp-Plus, arXiv 2508.06600): questions over several documents in a large corpus.
Each question is put to one direct call, to retrieval, to the loop without children, and to the whole navigation. It is
all run by `rlm eval`, so a stop loses nothing: its folders are kept beside the indexes.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import rlm
from benchmarks import Options, growth
from benchmarks._report import Claim, Item, Loss, NotRun, Table, bounds, gained, percent
from benchmarks._sets import MULTI_HOP, Values, build_in, evenly, interval, present, rows, write
from index_store.index import open_index
from rlm.gateway.models import has_key
from rlm.limits import Route

#: Asked where no model is named, the first whose key is in the environment.
KNOWN = ("openai/gpt-5-mini", "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash")
MESSAGES, USERS, COUNTED, HOPS = 1_000, 20, 10, 20
NAVIGATED, ALONE = "navigation", "without recursion"
WAYS: Mapping[str, Route] = {"direct": "direct", "retrieve": "retrieve", NAVIGATED: "rlm"}
SHARE = 0.75  # of the money of a task, for the three ways; the rest is for the loop without children


@dataclass(frozen=True, slots=True)
class Task:
    """A corpus with questions. `by`: the figure of `rlm eval` that counts. `published`: of the paper's task of this
    kind, GPT-5 by one direct call and as a recursive model (arXiv 2512.24601), in percent."""

    name: str
    index: Path
    questions: Path
    by: str
    published: tuple[str, float, float]


def measure(options: Options) -> Iterator[Item]:
    """A table, and claims for each task. Raises NotRun without a model, or without any data."""
    model = _model(options)
    if not (tasks := list(_tasks(options))):
        raise NotRun(
            "it needs sms_spam.tsv, or questions over several documents, in the folder that --data names"
        )
    cells: list[tuple[str, ...]] = []
    claims: list[Item] = []
    for task in tasks:
        found = _evaluated(options, task, model, options.usd / len(tasks))
        cells += [_row(task, way, of_way) for way, of_way in found.items()]
        cells.append(_published_row(task))
        claims += _claims(task, found)
    columns = (
        "task",
        "way",
        "answered",
        "figure",
        "gold cited",
        "tokens, median",
        "dollars",
        "seconds, median",
    )
    note = (
        f"By {model}. Figure, in percent: of counts, answers with the right number; of several hops, token F1. What "
        "has no answer, as a text that is longer than the model's window, counts 0. Published rows are of other "
        "questions and other models: anchors, no peers."
    )
    yield Table("Ways to ask a model", columns, tuple(cells), note)
    yield from claims


def _model(options: Options) -> str:
    if options.model:
        return options.model
    if model := next((name for name in KNOWN if has_key(name)), ""):
        return model
    raise NotRun("no key of a model is in the environment, and none is named by --model")


# -- tasks -------------------------------------------------------------------------------------------------


def _tasks(options: Options) -> Iterator[Task]:
    if (messages := options.data / "sms_spam.tsv").is_file():
        yield _counting(options, messages)
    names = present(options)
    if multi_hop := [name for name in MULTI_HOP if name in names]:
        folder, questions = list(growth.corpora(options, names, multi_hop).values())[-1]
        few = options.work / "hops.jsonl"
        write(few, evenly(list(rows(questions)), min(HOPS, options.questions)))
        yield Task("BrowseComp-like", folder, few, "f1", ("BrowseComp+, 1,000 documents", 0.0, 91.3))


def _counting(options: Options, messages: Path) -> Task:
    lines = messages.read_text(encoding="utf-8").splitlines()
    labelled = [(label, text) for label, _, text in (line.partition("\t") for line in lines) if text.strip()]
    documents, questions = counting(evenly(labelled, MESSAGES), min(COUNTED, options.questions))
    folder, corpus, asked = (
        options.work / name for name in ("counting", "counting-corpus.jsonl", "counting.jsonl")
    )
    write(corpus, documents)
    write(asked, questions)
    if not (folder / "CURRENT").is_file():
        build_in({corpus: folder})
    return Task("OOLONG-like", folder, asked, "numbers", ("OOLONG", 44.0, 56.5))


def counting(
    labelled: Sequence[tuple[str, str]], most: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Documents and questions of some (label, text). A document has the messages of a month, a line each; a question
    counts those of one user, or of one month, whose label is spam. No label is in the documents."""
    users = np.random.default_rng(0).integers(1, USERS + 1, len(labelled)).tolist()
    months = [f"2024-{1 + 12 * place // len(labelled):02d}" for place in range(len(labelled))]
    lines: dict[str, list[str]] = {month: [] for month in months}
    spam: dict[str, int] = dict.fromkeys([f"of user {user}" for user in sorted({*users})], 0)
    spam |= dict.fromkeys([f"of the month {month}" for month in lines], 0)
    for month, user, (label, text) in zip(months, users, labelled, strict=True):
        lines[month].append(f"{month} user {user}: {' '.join(text.split())}\n")
        spam[f"of user {user}"] += label == "spam"
        spam[f"of the month {month}"] += label == "spam"
    documents = [
        {"_id": month, "title": f"Messages of {month}", "text": "".join(said)}
        for month, said in lines.items()
    ]
    questions = [
        {
            "_id": f"count {whose}",
            "text": f"How many of the messages {whose} are spam, that is advertising or fraud that nobody asked for? "
            "Judge each message by what it says. Answer with one number, and nothing else.",
            "answers": [str(number)],
        }
        for whose, number in evenly(list(spam.items()), most)
    ]
    return documents, questions


# -- runs --------------------------------------------------------------------------------------------------

#: The rows of figures.json of each way, by the question's id, and how many questions there are.
Found = Mapping[str, tuple[Mapping[str, Any], int]]


def _evaluated(options: Options, task: Task, model: str, usd: float) -> Found:
    """The runs of all ways. The loop without children has a folder of its own, as it has another limit."""
    index, cases = open_index(task.index), rlm.read_cases([task.questions])
    models = rlm.Models(model)
    systems = {way: rlm.System(route, models) for way, route in WAYS.items()}
    limits = rlm.Limits(usd=SHARE * usd, calls=None)
    folder = options.work / f"{task.questions.stem}.eval"
    each = rlm.Caps(usd=(1 - SHARE) * usd / len(cases))  # so that no run takes what another needs
    told = rlm.evaluate(index, rlm.Grid(cases, list(systems.values()), limits, each), folder).figures
    found = {way: (_by_id(told, system), len(cases)) for way, system in systems.items()}
    alone = replace(limits, usd=(1 - SHARE) * usd, depth=0)
    grid = rlm.Grid(cases, [systems[NAVIGATED]], alone, each)
    told = rlm.evaluate(index, grid, folder.with_name(f"{folder.stem}-alone.eval")).figures
    return found | {ALONE: (_by_id(told, systems[NAVIGATED]), len(cases))}


def _by_id(figures: Any, system: rlm.System) -> dict[str, Any]:
    return {row["_id"]: row for row in figures["rows"] if row["system"] == system.name}


def _values(task: Task, found: Found, way: str) -> Values:
    """The task's figure of each question in percent, 0 where there is no run."""
    ids = sorted({id for runs, _ in found.values() for id in runs})
    runs, questions = found[way]
    values = [100 * (runs.get(id, {}).get(task.by) or 0.0) for id in ids]
    return np.array(values + [0.0] * (questions - len(ids)))


def _row(task: Task, way: str, cells: tuple[Mapping[str, Any], int]) -> tuple[str, ...]:
    runs, questions = cells
    cited = [row["cited"] for row in runs.values() if row.get("cited") is not None]
    figure = float(_values(task, {way: cells}, way).mean())
    return (
        task.name,
        way,
        f"{sum(bool(row['answer']) for row in runs.values())} of {questions}",
        percent(figure),
        percent(100 * statistics.mean(cited)) if cited else "-",
        f"{statistics.median(row['tokens'] for row in runs.values()):,.0f}" if runs else "-",
        f"{sum(row['usd'] for row in runs.values()):.2f}",
        f"{statistics.median(row['seconds'] for row in runs.values()):.1f}" if runs else "-",
    )


def _published_row(task: Task) -> tuple[str, ...]:
    name, direct, recursive = task.published
    return (
        f"published: {name}",
        "GPT-5, direct, and as an RLM",
        "-",
        f"{direct:g} and {recursive:g}",
        *"----",
    )


def _claims(task: Task, found: Found) -> Iterator[Item]:
    """The whole navigation beside each other way."""
    ours = _values(task, found, NAVIGATED)
    for way in (*WAYS, ALONE):
        if way == NAVIGATED:
            continue
        theirs = _values(task, found, way)
        mean, low, high = interval(ours - theirs)
        text, told = f"{task.name}, navigation", gained(mean, low, high)
        peer = f"{percent(theirs.mean())} {way}"
        yield Claim("models", text, "more than noise", percent(ours.mean()), peer, told, low > 0)
        if mean < 0:
            yield Loss(way, task.name, percent(theirs.mean()), percent(ours.mean()), bounds(-high, -low))
