"""`rlm trace check`: whether a run was reasonable, by what an independent search of its index finds."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from index_store.files import replace_file
from index_store.index import open_any
from index_store.terminal import count, one_line, print_json, say
from rlm.asking.runs import gateway_for
from rlm.audit.beside import folder_of
from rlm.audit.checking import ClaimCheck, Coverage, Report, Thresholds, check_read, definitions
from rlm.audit.checking.verdict import THRESHOLD_NAMES
from rlm.audit.listing import CHECK
from rlm.audit.verifying import Verdict, read, read_verified
from rlm.commands.given import named_models
from rlm.errors import RlmError
from rlm.evaluating.judging import Judge
from rlm.gateway.blocking import run_blocking
from rlm.gateway.errors import GatewayError
from rlm.gateway.models import check_model
from rlm.limits import Limits, Models

JUDGED = "judged.jsonl"
_LISTED = 10  # of each kind of finding that a terminal shows


def run(args: argparse.Namespace) -> int:
    """Check a run. Returns the exit code: 1 where it does not reach what --min-coverage and its like demand."""
    for name in ("min_coverage", "max_regret", *THRESHOLD_NAMES):
        _check_share(name, getattr(args, name))
    judge = None if args.judge is None else named_models(args, args.judge, None)[0]
    if judge is not None:
        check_model(judge.root)
        Limits(usd=args.max_usd)
    if args.min_coverage is not None and args.index is None:
        raise RlmError("--min-coverage needs the index that the run asked; give it as --index INDEX")
    given = {name: value for name in THRESHOLD_NAMES if (value := getattr(args, name)) is not None}
    index = None if args.index is None else open_any(args.index, args.embedder)
    events, verdict = read_verified(args.run_folder)
    report = check_read(events, verdict, index, Thresholds(**given))
    if judge is not None:
        report = run_blocking(judged(report, judge, args.max_usd, beside(args.run_folder)))
    if index is not None:
        _keep(args.run_folder, verdict, report)
    failed = list(_failed(args, report))
    if args.json:
        print_json(report.as_json())
    else:
        say("\n".join([*_lines(report), *(f"FAILED     {one}" for one in failed)]))
    return 1 if failed else 0


def beside(run: str) -> Path:
    """The file beside a trace that keeps what a judge said of its sentences."""
    return folder_of(run) / JUDGED


def _keep(run: str, verdict: Verdict, report: Report) -> None:
    """Keep the figures of a check beside the trace, for `rlm trace list`: no words of it, which may be taken out."""
    is_whole = verdict.ok or verdict.only_unclosed
    figures = {
        "head": verdict.head
        if is_whole
        else read(run)[1].head,  # of the last line, by which the list knows a run
        "verdict": report.verdict,
        "coverage": report.as_json()["coverage"],
        "regret": report.regret,
        "unsupported": report.unsupported,
    }
    try:
        replace_file(folder_of(run) / CHECK, json.dumps(figures).encode() + b"\n")
    except OSError as e:
        say(f"rlm: the figures are not kept for rlm trace list: {e.strerror or e}", file=sys.stderr)


async def judged(report: Report, models: Models, max_usd: float | None, file: Path) -> Report:
    """The report with a model's opinion of each sentence that cites something, for `max_usd` dollars at most.

    It changes no verdict: whether a sentence follows is what a model says, and another may say otherwise.
    """
    claims, said, unasked, model = [], list[bool](), "", models.root
    async with gateway_for(Limits(usd=max_usd, allow_unpriced=False)) as gateway:
        judge = Judge(model, gateway, file, models.options)
        for claim in report.claims:
            if not unasked and any(claim.cited):
                try:
                    follows = await judge.entails(claim.cited, claim.text)
                except GatewayError as e:
                    unasked = one_line(str(e), 300)
                else:
                    said.append(follows)
                    claim = replace(claim, why=f"{claim.why}; {_opinion(model, follows)}")
            claims.append(claim)
    told = (
        f"in the opinion of {model}, {sum(said)} of {count(len(said), 'sentence')} follow from what they cite"
    )
    rest = f"; the others were not judged: {unasked}" if unasked else ""
    reasons = (*report.reasons, f"{told} (a model's opinion, and no part of the verdict){rest}")
    return replace(report, claims=tuple(claims), reasons=reasons)


def _opinion(model: str, follows: bool) -> str:
    return f"in the opinion of {model} it {'follows' if follows else 'does not follow'}"


def show_definitions() -> None:
    """Print the page that says what each figure means."""
    say(definitions().rstrip())


def _check_share(name: str, value: float | None) -> None:
    most = 1_000 if name == "passages" else 1
    if value is not None and not 0 <= value <= most:
        raise RlmError(f"--{name.replace('_', '-')} is {value}; give a number from 0 to {most:,}")


def _failed(args: argparse.Namespace, report: Report) -> Iterator[str]:
    """What a run lacks of what was demanded, a sentence each."""
    cited = report.coverage.cited
    if args.min_coverage is not None and cited is not None and cited < args.min_coverage:
        why = f"; {report.reasons[0]}" if report.says_not_found else ""
        yield one_line(f"coverage is {cited:.2f}, less than --min-coverage {args.min_coverage}{why}", 1_000)
    if args.max_regret is not None and report.regret > args.max_regret:
        yield f"regret is {report.regret:.2f}, more than --max-regret {args.max_regret}"
    if args.no_unsupported and report.unsupported:
        yield f"{count(report.unsupported, 'sentence')} without support, and --no-unsupported was given"


def _lines(report: Report) -> Iterator[str]:
    yield f"verdict    {report.verdict}"
    yield from (f"  - {one_line(reason, 1_000)}" for reason in report.reasons)
    yield f"coverage   {_covered(report.coverage)}"
    yield from _listed(
        "steps",
        [
            f"event {step.seq}, {step.choice}: {step.verdict}; {one_line(step.why, 300)}"
            for step in report.steps
        ],
    )
    yield from _listed(
        "lost",
        [
            f"{one.stage}: {one.node} {one_line(one.doc, 60)} {one.start}-{one.end}  {one_line(one.label, 60)}"
            for one in report.lost
        ],
    )
    yield from _listed(
        "claims",
        [
            f"{_of_question(one, report)}{'ok' if one.supported else 'NO'}: "
            f"{one_line(one.text, 160)}  ({one_line(one.why, 200)})"
            for one in report.claims
        ],
    )


def _of_question(claim: ClaimCheck, report: Report) -> str:
    return f"question {claim.question}, " if report.is_chat else ""


def _covered(coverage: Coverage) -> str:
    if coverage.cited is None:
        return "cannot tell without the index"
    shares = ((name, getattr(coverage, name)) for name in ("offered", "entered", "read", "cited"))
    return ", ".join(f"{100 * share:.0f} % {name}" for name, share in shares)


def _listed(what: str, lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    yield what
    yield from (f"  {line}" for line in lines[:_LISTED])
    if len(lines) > _LISTED:
        yield f"  … {len(lines) - _LISTED:,} more, all of them with --json"
