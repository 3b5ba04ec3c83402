"""`rlm ask`: one question, or a file of them."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from index_store.index import Index, open_any
from index_store.terminal import count, one_line, print_json, say, spelled
from rlm.asking.asking import ask_opened
from rlm.asking.many import Answers, Outcome, ask_many, asked_with
from rlm.asking.options import Options
from rlm.asking.questions import Question, read_questions
from rlm.asking.runs import check_text, early_folder, ready
from rlm.asking.tally import Tally, tally
from rlm.audit import read
from rlm.commands.answers import UNFINISHED, amounts, as_text, dollars, exit_code
from rlm.commands.live import live
from rlm.commands.options import options_of
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.gateway.ledger import Caps
from rlm.limits import MOST

EACH = ("usd", "tokens", "calls")


def ask(args: argparse.Namespace) -> int:
    """Ask one question and print its answer, or ask a file of questions. Returns the exit code."""
    if (args.question is None) == (args.questions is None):
        raise RlmError('give one question, or --questions FILE: rlm ask INDEX "words"')
    if args.questions is not None:
        return _ask_many(args)
    if args.answers is not None:
        raise RlmError("--answers goes with --questions; one answer is printed")
    if given := [name for name in EACH if getattr(args, f"each_{name}") is not None]:
        raise RlmError(f"--each-{given[0]} goes with --questions; for one question there is --max-{given[0]}")
    check_text(args.question, "question")
    runs = Path(args.runs)
    with live(sys.stderr, quiet=args.quiet) as watch, early_folder(runs, args.question) as folder:
        options = options_of(args, watch)
        opened = ready(
            open_any(args.index, args.embedder), options.models
        )  # outside the loop, where Ctrl-C ends an import
        try:
            answer = run_blocking(ask_opened(opened, args.question, options, folder))
        except KeyboardInterrupt:
            _tell_trace(folder)
            raise
    print_json(answer.as_json()) if args.json else say(as_text(answer))
    return exit_code(answer)


def _tell_trace(folder: Path) -> None:
    """Say where the trace of a question that was stopped is, and its head."""
    with contextlib.suppress(RlmError, OSError):  # it was stopped before its first event
        say(f"trace: {spelled(str(folder))}\nhead:  {read(folder)[1].head}", file=sys.stderr)


def _ask_many(args: argparse.Namespace) -> int:
    if args.answers is None:
        raise RlmError("name the file that answers go to: --answers answers.jsonl")
    check_many(args)
    questions, path = read_questions(args.questions), Path(args.answers)
    if path.exists() and path.samefile(args.questions):
        raise RlmError(f"{args.answers} holds the questions; name another file for the answers")
    options = options_of(args)
    opened = ready(open_any(args.index, args.embedder), options.models)
    answers = Answers(path, asked_with(opened, options))
    with answers.lock():
        return _ask_those_left(args, opened, options, questions, answers)


def check_many(args: argparse.Namespace) -> None:
    """Raise RlmError where an option for many questions is out of range."""
    if args.at_once < 1:
        raise RlmError(f"--at-once is {args.at_once}; give at least 1")
    for name in EACH:
        if (most := getattr(args, f"each_{name}")) is not None and not 0 < most <= MOST:
            raise RlmError(f"--each-{name} is {most}; give more than 0 and at most {MOST:g}")


def _ask_those_left(
    args: argparse.Namespace, opened: Index, o: Options, questions: Sequence[Question], answers: Answers
) -> int:
    left = answers.begin(questions)
    if len(left) < len(questions) and not args.quiet:
        say(f"{len(questions) - len(left):,} of {len(questions):,} are answered", file=sys.stderr)

    outcomes: list[Outcome] = []

    async def go() -> None:
        asking = ask_many(
            opened,
            left,
            at_once=args.at_once,
            each=Caps(args.each_usd, args.each_tokens, args.each_calls),
            route=o.route,
            models=o.models,
            limits=o.limits,
            demands=o.demands,
            scope=o.scope,
            runs=o.runs,
        )
        try:
            async for outcome in asking:
                answers.add(outcome)
                outcomes.append(outcome)
                if outcome.answer is None or not args.quiet:
                    say(line(outcome), file=sys.stderr, flush=True)
        finally:
            await asking.aclose()

    if left:
        run_blocking(go())
    total = tally(outcomes, len(questions) - len(left))
    if args.json:
        print_json(total.as_json())
    else:
        unmet = sum(outcome.answer is not None and outcome.answer.stop == "unmet" for outcome in outcomes)
        lacking = f" ({unmet:,} not accepted, for want of what was demanded)" if unmet else ""
        say(
            f"{len(questions) - total.left:,} of {len(questions):,} answered{lacking}: {spelled(args.answers)}"
        )
        say("\n".join(_summed(total)))
    if total.left:
        say("run the same command again to ask the others once more", file=sys.stderr)
    return UNFINISHED if total.left else 0


def _summed(total: Tally) -> Iterator[str]:
    """The lines of what came of the questions that this run was to ask."""
    counts = {"out of budget": total.out_of_budget, "not asked": total.not_asked}
    told = (f"; {number:,} {name}" for name, number in counts.items() if number)
    asked = total.answered + total.left - total.not_asked
    yield f"this run: {asked:,} asked, {total.answered:,} answered{''.join(told)}"
    if total.not_asked:
        yield "not asked: what is left of the total cannot pay what a question may cost at most as it begins"
    yield from (f"failed: {number:,}: {one_line(why, 200)}" for why, number in total.failed.items())
    if total.read_by:
        yield f"read by: {total.read_by}; what that cannot do for a question is in its line, as warnings"
    yield f"spent: {amounts(total.spent, total.priced)}"
    if total.needed is not None:
        about = amounts(total.needed, total.priced)
        yield f"those left may need {about} (an estimate: as much for each as those answered used on average)"
    elif total.left:
        yield "what those left may need is not known: none was answered that could tell"


def line(outcome: Outcome) -> str:
    """What came of one of many questions, on one line."""
    asked = f"{one_line(str(outcome.question.id), 40)}: {one_line(outcome.question.text, 60)}"
    if outcome.answer is None:
        return f"{asked} -> {'failed: ' * outcome.asked}{one_line(outcome.error or '', 200)}"
    a = outcome.answer
    spent = f"{count(a.usage.calls, 'call')}, {dollars(a)}"
    ended = f"unmet ({one_line(a.lacks, 120)})" if a.stop == "unmet" else a.stop
    return f"{asked} -> {ended}: {one_line(a.content, 80)} ({count(len(a.citations), 'citation')}, {spent})"
