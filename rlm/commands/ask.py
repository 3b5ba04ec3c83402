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
from rlm.asking.questions import Question
from rlm.asking.runs import early_folder, ready
from rlm.asking.tally import Tally, tally
from rlm.audit import read
from rlm.commands.answers import UNFINISHED, amounts, as_text, dollars, exit_code
from rlm.commands.live import live
from rlm.commands.options import options_of
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.gateway.ledger import Caps
from rlm.gateway.models import not_sent
from rlm.limits import Models


def ask(args: argparse.Namespace) -> int:
    """Ask one question and print its answer, or ask a file of questions. Returns the exit code."""
    if args.questions is not None:
        return _ask_many(args)
    question, runs = args.given.questions[0].text, Path(args.runs)
    with live(sys.stderr, quiet=args.quiet) as watch, early_folder(runs, question) as folder:
        options = options_of(args, args.given, watch)
        opened = ready(
            open_any(args.index, args.embedder, args.access, lazy=args.lazy), options.models
        )  # outside the loop, where Ctrl-C ends an import
        try:
            answer = run_blocking(ask_opened(opened, question, options, folder))
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
    options, path = options_of(args, args.given), Path(args.answers)
    with Answers(path).lock():
        opened = ready(open_any(args.index, args.embedder, args.access, lazy=args.lazy), options.models)
        if not args.quiet:
            say("".join(f"note: {note}\n" for note in _untaken(options.models)), end="", file=sys.stderr)
        answers = Answers(path, asked_with(opened, options))
        return _ask_those_left(args, opened, options, args.given.questions, answers)


def _untaken(models: Models) -> list[str]:
    """Which options a model of the run does not take, a sentence for each; one question is told so as it goes on."""
    names = dict.fromkeys((models.root, models.child))
    asked = {name: models.options if name == models.root else models.sub_call_options(name) for name in names}
    return [told for name, options in asked.items() if (told := not_sent(name, options))]


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
            operator=o.operator,
            purpose=o.purpose,
            retain=o.retain,
            memo=o.memo,
        )
        try:
            async for outcome in asking:
                answers.add(outcome)
                outcomes.append(outcome)
                if outcome.answer is None or not args.quiet:
                    say(line(outcome), file=sys.stderr, flush=True)
        finally:
            await asking.aclose()

    def told() -> Tally:
        total = tally(outcomes, len(questions) - len(left), len(left) - len(outcomes))
        if args.json:
            print_json(total.as_json())
        else:
            lacking = f" ({total.unmet:,} not accepted, for want of what was demanded)" if total.unmet else ""
            answered = f"{len(questions) - total.left:,} of {len(questions):,} answered{lacking}"
            say(f"{answered}: {spelled(args.answers)}")
            say("\n".join(_summed(total)))
        if total.left:
            say("run the same command again to ask the others once more", file=sys.stderr)
        return total

    try:
        if left:
            run_blocking(go())
    except KeyboardInterrupt:
        told()
        raise
    total = told()
    return UNFINISHED if total.left or total.unmet else 0


def _summed(total: Tally) -> Iterator[str]:
    """The lines of what came of the questions that this run was to ask."""
    counts = {
        "out of budget": total.out_of_budget,
        "not asked": total.not_asked,
        "stopped, or never begun": total.stopped,
    }
    told = (f"; {number:,} {name}" for name, number in counts.items() if number)
    yield f"this run: {total.asked:,} asked, {total.answered:,} answered{''.join(told)}"
    if total.not_asked:
        yield "not asked: what is left of the total cannot pay what a question may cost at most as it begins"
    yield from (f"failed: {number:,}: {one_line(why, 200)}" for why, number in total.failed.items())
    if total.read_by:
        yield f"read by: {total.read_by}; what that cannot do for a question is in its line, as warnings"
    beside = "; what those that were stopped used is in their traces" if total.stopped else ""
    had = f", and {total.stored:,} from the store" * bool(total.stored)
    had += f" ({total.cached_tokens:,} tokens cached)" * bool(total.cached_tokens)
    yield f"spent: {amounts(total.spent, total.priced)}{had}{beside}"
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
