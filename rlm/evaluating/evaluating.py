"""Ask questions by several systems under one cap, and hold what comes against what was given."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from index_store.arguments import check_fields, checked
from index_store.files import replace_file, replace_page
from index_store.index import Index, open_any
from index_store.types import Json
from rlm.answers.demands import Demands
from rlm.asking.many import Job, Outcome, ask_from
from rlm.asking.options import Options
from rlm.asking.runs import gateway_for, ready, words_digest
from rlm.audit import render, verify
from rlm.errors import RlmError
from rlm.evaluating import judging
from rlm.evaluating.cases import Case, check_cases
from rlm.evaluating.figures import Row, chosen, row_of, summary_of
from rlm.evaluating.folder import Evaluation, System, Try, caps_left, is_done, try_in
from rlm.evaluating.judging import Alce, Judge
from rlm.evaluating.page import render as render_page
from rlm.gateway.blocking import run_blocking
from rlm.gateway.errors import GatewayError
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps
from rlm.gateway.models import check_model
from rlm.gateway.types import Usage
from rlm.limits import Limits

FORMAT = 1
#: Gets each outcome as it comes, with its system, how many runs have ended, those of earlier commands among them, and
#: how many there are in all.
Told = Callable[[System, Outcome, int, int], None]


@dataclass(frozen=True, slots=True)
class Grid:
    """What is evaluated: every case by every system, the first of which the others are held against.

    The caps of `limits` hold for all together, those of `each` for each question by each system. `judge`: the model
    that judges citations, None for none; `judge_options`: sent with its calls. `at_once`: runs at a time. `by`: the
    quality by which a question is won or lost, of the names in `measures.QUALITIES`; by default the first of f1, cited
    and alce_recall that the cases can have, and None where that is none of them.

    Raises RlmError, one sentence, for what cannot be evaluated.
    """

    cases: Sequence[Case]
    systems: Sequence[System]
    limits: Limits = field(default_factory=lambda: Limits(calls=None))
    each: Caps = Caps()
    demands: Demands = field(default_factory=Demands)
    judge: str | None = None
    judge_options: Mapping[str, Json] = field(default_factory=dict)
    at_once: int = 4
    by: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, RlmError)
        if not self.cases:
            raise RlmError("no question is given; rlm.read_cases reads those of files")
        if not self.systems:
            raise RlmError("no system is named; give at least one route with its models")
        if self.at_once < 1:
            raise RlmError(f"at_once is {self.at_once}; give at least 1")
        names = [system.name for system in self.systems]
        for system in self.systems:
            if names.count(system.name) > 1:
                raise RlmError(f"{system} is named twice; name each route and each model once")
        object.__setattr__(self, "by", chosen(self.by, self.cases, self.judge is not None))


@dataclass(frozen=True, slots=True)
class Report:
    """What came of an evaluation. `figures`: as in figures.json. `before`: runs that an earlier command had done;
    `left`: runs that have no result, by why; `unjudged`: answers that the judge could not be asked of, by why. `spent`:
    by all commands together."""

    figures: dict[str, Json]
    before: int
    left: dict[str, int]
    unjudged: dict[str, int]
    spent: Usage


@checked(RlmError)
def evaluate(
    index: str | Path | Index, grid: Grid, folder: str | Path, told: Told = lambda *_: None
) -> Report:
    """Ask what has no result yet, and write figures.json and page.html into the folder of the runs; blocks.

    `told`: gets each outcome as it comes. Raises RlmError or IndexStoreError: one sentence.
    """
    opened = index if isinstance(index, Index) else open_any(index)
    for system in grid.systems:
        ready(opened, system.models)
    if grid.judge is not None:
        check_model(grid.judge)
    check_cases(opened, grid.cases)
    evaluation = Evaluation(Path(folder))
    with evaluation.lock():
        evaluation.begin(opened, grid.demands)
        return run_blocking(_evaluated(opened, grid, evaluation, told))


async def _evaluated(index: Index, grid: Grid, evaluation: Evaluation, told: Told) -> Report:
    before = evaluation.spent()
    limits = caps_left(grid.limits, before)
    jobs = {job.folder: (system, job) for system, job in _to_ask(grid, evaluation, limits)}
    runs = len(grid.cases) * len(grid.systems)
    left: dict[str, int] = {}
    async with gateway_for(limits) as pool:
        asking = ask_from(pool, index, [job for _, job in jobs.values()], grid.at_once, grid.each)
        async with aclosing(asking) as outcomes:
            n = runs - len(jobs)
            async for job, outcome in outcomes:
                n += 1
                told(jobs[job.folder][0], outcome, n, runs)
                if why := _lacking(job, outcome, grid.each):
                    left[why] = left.get(why, 0) + 1
        rows, unjudged = await _rows(index, grid, evaluation, pool)
        spent = before + pool.ledger.spent
    figures = figures_of(index, grid, rows)
    replace_file(evaluation.path / "figures.json", (json.dumps(figures, indent=1) + "\n").encode())
    replace_page(evaluation.path / "page.html", render_page(figures, rows, list(grid.systems)))
    return Report(figures, runs - len(jobs), left, unjudged, spent)


def _to_ask(grid: Grid, evaluation: Evaluation, limits: Limits) -> Iterator[tuple[System, Job]]:
    """What has no result yet: question by question, so that a cap ends all systems at about the same one."""
    for case in grid.cases:
        for system in grid.systems:
            found = evaluation.result(system, case, grid.each)
            if found is None or not is_done(found, grid.each):
                own = replace(limits, window=limits.window or system.window)
                options = Options(system.route, system.models, own, grid.demands)
                yield system, Job(case.question, options, evaluation.next_place(system, case))


def _lacking(job: Job, outcome: Outcome, each: Caps) -> str:
    """Why what came is no result; '' where it is one."""
    if outcome.answer is None:
        return (outcome.error or "").partition(" (trace: ")[0]
    found = None if job.folder is None else try_in(job.folder)
    return "" if found is not None and is_done(found, each) else f"stopped by {outcome.answer.stop}"


async def _rows(
    index: Index, grid: Grid, evaluation: Evaluation, pool: Gateway
) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """The rows of each system, by its name, in the order of the cases; and how many were not judged, by why."""
    turns, unjudged = asyncio.Semaphore(grid.at_once), dict[str, int]()

    async def row(system: System, case: Case) -> Row | None:
        async with turns:
            found = evaluation.result(system, case, grid.each)
            if found is None:
                return None
            _write_review(evaluation, found)
            alce: Alce | None = None
            try:
                alce = await _judged(found, grid, pool)
            except GatewayError as e:
                unjudged[str(e)] = unjudged.get(str(e), 0) + 1
            run = found.folder.relative_to(evaluation.path).as_posix()
            return row_of(index, system.name, case, found.events, run, found.verdict.head, alce)

    rows = {
        system.name: await asyncio.gather(*(row(system, case) for case in grid.cases))
        for system in grid.systems
    }
    return {name: [row for row in some if row is not None] for name, some in rows.items()}, unjudged


async def _judged(found: Try, grid: Grid, pool: Gateway) -> Alce | None:
    answered = [e for e in found.events if e["kind"] == "answered" and e["conversation"] == "0"]
    if grid.judge is None or not answered or not answered[-1]["content"]:
        return None
    judge = Judge(grid.judge, pool, found.folder / judging.FILE_NAME, grid.judge_options)
    return await judging.alce(judge, judging.statements_of(answered[-1]))


def _write_review(evaluation: Evaluation, found: Try) -> None:
    page = found.folder / "review.html"
    if not page.exists():
        told = found.folder.relative_to(evaluation.path.parent).as_posix()
        replace_page(page, render(found.events, verify(found.folder), told))


def figures_of(index: Index, grid: Grid, rows: dict[str, list[Row]]) -> dict[str, Json]:
    """All figures, as figures.json has them: of each system, over all questions and over each set, and of each run."""
    sets = list(dict.fromkeys(case.set for case in grid.cases))
    return {
        "format": FORMAT,
        "index": {"name": index.path.name, "digest": index.digest, "documents": len(index.documents)},
        "prompts": words_digest(),
        "demands": asdict(grid.demands),
        "judge": grid.judge,
        "by": grid.by,
        "questions": len(grid.cases),
        "systems": [system.as_json() for system in grid.systems],
        "all": _summaries(grid, rows),
        "sets": {
            one: _summaries(grid, {n: [r for r in some if r.case.set == one] for n, some in rows.items()})
            for one in sets
        },
        "rows": [row.as_json() for some in rows.values() for row in some],
    }


def _summaries(grid: Grid, rows: dict[str, list[Row]]) -> dict[str, Json]:
    first = rows[grid.systems[0].name]
    return {system.name: summary_of(rows[system.name], first) for system in grid.systems}
