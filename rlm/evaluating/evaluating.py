"""Ask questions by several systems under one cap, and hold what comes against what was given."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from index_store.arguments import check_fields, checked
from index_store.files import replace_file, replace_page
from index_store.index import Index, open_any
from index_store.terminal import count, one_line
from index_store.types import Json
from rlm.answers.demands import Demands
from rlm.asking.many import Job, Outcome, ask_from
from rlm.asking.options import Options, check_account
from rlm.asking.runs import gateway_for, ready, words_digest
from rlm.audit import render, verify
from rlm.errors import RlmError
from rlm.evaluating import judging
from rlm.evaluating.cases import Case, check_cases
from rlm.evaluating.figures import Row, chosen, row_of, summary_of
from rlm.evaluating.folder import Evaluation, System, Try, cap_of, caps_left, is_done, try_in
from rlm.evaluating.judging import Alce, Judge
from rlm.evaluating.page import render as render_page
from rlm.gateway.blocking import run_blocking
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Caps
from rlm.gateway.models import check_model
from rlm.gateway.types import Usage
from rlm.limits import Limits

FORMAT = 1
FIGURES = "figures.json"
_NUMBER = re.compile(r"\d[\d.,]*")
#: Gets each outcome as it comes, with its system, how many runs have ended, those of earlier commands among them, and
#: how many there are in all.
Told = Callable[[System, Outcome, int, int], None]


@dataclass(frozen=True, slots=True)
class Grid:
    """What is evaluated: every case by every system, the first of which the others are held against.

    The caps of `limits` hold for all together, those of `each` for each question by each system. `judge`: the model
    that judges citations, None for none; `judge_options`: sent with its calls. `at_once`: runs at a time. `by`: the
    quality by which a question is won or lost, of the names in `measures.QUALITIES`; by default the first of f1, cited
    and alce_recall that the cases can have, and None where that is none of them. `operator`, `purpose`, `retain`:
    as of `rlm.ask`. The store of answers is left alone: costs would not compare.

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
    operator: str = ""
    purpose: str = ""
    retain: str = ""

    def __post_init__(self) -> None:
        check_fields(self, RlmError)
        check_account(self.operator, self.purpose, self.retain)
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
    `left`: runs that have no result, by why; `unjudged`: answers that the judge could not be asked of, by why; reasons
    that differ in numbers alone are one. `spent`: by all commands together. `capped`: the names of the caps that are
    too low for what is left; `again`: whether something is left for another reason, which the same command may mend."""

    figures: dict[str, Json]
    before: int
    left: dict[str, int]
    unjudged: dict[str, int]
    spent: Usage
    capped: tuple[str, ...] = ()
    again: bool = False


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a run has no result, or an answer no judgement. `cap`: the name of the cap that was too low, '' for none."""

    why: str
    cap: str = ""


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
        _check_kept(grid, evaluation)
        return run_blocking(_evaluated(opened, grid, evaluation, told))


def _check_kept(grid: Grid, evaluation: Evaluation) -> None:
    """Raise RlmError where the figures that stand in the folder tell of what this grid leaves out: they are written
    anew, so that it would be gone from them."""
    lost: list[str] = []
    with suppress(OSError, ValueError, RecursionError, LookupError, TypeError):  # no figures yet, or not ours
        told: Any = json.loads((evaluation.path / FIGURES).read_bytes())
        names, sets = {system.name for system in grid.systems}, {case.set for case in grid.cases}
        lost += [str(one["shown_as"]) for one in told["systems"] if one["name"] not in names]
        lost += [f"the questions of {one}" for one in told["sets"] if one not in sets]
        lost += [f"the judge {told['judge']}"] if told["judge"] and grid.judge is None else []
    if lost:
        raise RlmError(
            f"the page in {evaluation.path} shows {one_line(', '.join(lost), 200)} too, which this command would "
            f"take out of it; name them as well, or another folder with -o, or delete its {FIGURES}"
        )


async def _evaluated(index: Index, grid: Grid, evaluation: Evaluation, told: Told) -> Report:
    before = evaluation.spent()
    limits = caps_left(grid.limits, before)
    jobs = {job.folder: (system, job) for system, job in _to_ask(grid, evaluation, limits)}
    runs = len(grid.cases) * len(grid.systems)
    left: list[Lack] = []
    async with gateway_for(limits) as pool:
        asking = ask_from(pool, index, [job for _, job in jobs.values()], grid.at_once, grid.each)
        async with aclosing(asking) as outcomes:
            n = runs - len(jobs)
            async for job, outcome in outcomes:
                n += 1
                if lack := _lacking(job, outcome, grid):
                    left.append(lack)
                    outcome = outcome if outcome.asked else replace(outcome, error=lack.why)
                told(jobs[job.folder][0], outcome, n, runs)
        rows, unjudged = await _rows(index, grid, evaluation, pool)
        spent = before + pool.ledger.spent
    figures = figures_of(index, grid, rows)
    with evaluation.writing():
        replace_file(evaluation.path / FIGURES, (json.dumps(figures, indent=1) + "\n").encode())
        replace_page(evaluation.path / "page.html", render_page(figures, rows, list(grid.systems)))
    lacks = [*left, *unjudged]
    return Report(
        figures,
        runs - len(jobs),
        _counted(left),
        _counted(unjudged),
        spent,
        tuple(dict.fromkeys(lack.cap for lack in lacks if lack.cap)),
        any(not lack.cap for lack in lacks),
    )


def _counted(lacks: Sequence[Lack]) -> dict[str, int]:
    """How often each reason came; those that differ in numbers alone are one, in the words of the first."""
    first: dict[str, str] = {}
    return dict(Counter(first.setdefault(_NUMBER.sub("0", lack.why), lack.why) for lack in lacks))


def _to_ask(grid: Grid, evaluation: Evaluation, limits: Limits) -> Iterator[tuple[System, Job]]:
    """What has no result yet: question by question, so that a cap ends all systems at about the same one."""
    for case in grid.cases:
        for system in grid.systems:
            found = evaluation.result(system, case, grid.each)
            if found is None or not is_done(found, grid.each):
                own = replace(limits, window=limits.window or system.window)
                options = Options(
                    system.route,
                    system.models,
                    own,
                    grid.demands,
                    operator=grid.operator,
                    purpose=grid.purpose,
                    retain=grid.retain,
                    memo=False,  # or a later system would get for nothing what an earlier one had paid
                )
                yield system, Job(case.question, options, evaluation.next_place(system, case))


def _lacking(job: Job, outcome: Outcome, grid: Grid) -> Lack | None:
    """Why what came is no result; None where it is one."""
    if outcome.cap:
        return Lack(
            f"not asked, as what is left of {_cap(grid, outcome.cap)} does not pay for it", outcome.cap
        )
    if outcome.answer is None:
        return Lack((outcome.error or "").partition(" (trace: ")[0])
    found = None if job.folder is None else try_in(job.folder)
    if found is not None and is_done(found, grid.each):
        return None
    cap = cap_of(found) if found is not None and found.stop == "budget" else ""
    return Lack(f"stopped by {_cap(grid, cap)}" if cap else f"stopped by {outcome.answer.stop}", cap)


def _cap(grid: Grid, name: str) -> str:
    """The cap of all together in words, as it was given: what earlier commands have spent is not taken off."""
    cap = getattr(grid.limits, name)
    if cap is None:
        return f"the {name} cap"
    return f"the cap of ${cap:,g}" if name == "usd" else f"the cap of {count(int(cap), name[:-1])}"


async def _rows(
    index: Index, grid: Grid, evaluation: Evaluation, pool: Gateway
) -> tuple[dict[str, list[Row]], list[Lack]]:
    """The rows of each system, by its name, in the order of the cases; and why some were not judged."""
    turns, unjudged = asyncio.Semaphore(grid.at_once), list[Lack]()

    async def row(system: System, case: Case) -> Row | None:
        async with turns:
            found = evaluation.result(system, case, grid.each)
            if found is None:
                return None
            _write_review(evaluation, found)
            alce: Alce | None = None
            try:
                alce = await _judged(found, grid, pool)
            except OverBudget as e:
                why = f"what is left of {_cap(grid, e.cap)} does not pay for the judge"
                unjudged.append(Lack(why, e.cap))
            except GatewayError as e:
                unjudged.append(Lack(str(e)))
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
