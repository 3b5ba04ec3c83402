"""`rlm ask`: one question, or a file of them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from index_store.index import Index, open_any
from index_store.terminal import count, one_line, print_json, say, spelled
from rlm.asking.asking import ask_opened
from rlm.asking.many import Answers, Outcome, ask_many, asked_with
from rlm.asking.options import Options
from rlm.asking.questions import Question, read_questions
from rlm.asking.runs import check_text, ready
from rlm.commands.answers import UNFINISHED, as_text, dollars, exit_code
from rlm.commands.live import live
from rlm.commands.options import options_of
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking


def ask(args: argparse.Namespace) -> int:
    """Ask one question and print its answer, or ask a file of questions. Returns the exit code."""
    if (args.question is None) == (args.questions is None):
        raise RlmError('give one question, or --questions FILE: rlm ask INDEX "words"')
    if args.questions is not None:
        return _ask_many(args)
    if args.answers is not None:
        raise RlmError("--answers goes with --questions; one answer is printed")
    check_text(args.question, "question")
    with live(sys.stderr) as watch:
        options = options_of(args, watch)
        opened = ready(
            open_any(args.index, args.embedder), options.models
        )  # outside the loop, where Ctrl-C ends an import
        answer = run_blocking(ask_opened(opened, args.question, options))
    print_json(answer.as_json()) if args.json else say(as_text(answer))
    return exit_code(answer)


def _ask_many(args: argparse.Namespace) -> int:
    if args.answers is None:
        raise RlmError("name the file that answers go to: --answers answers.jsonl")
    if args.at_once < 1:
        raise RlmError(f"--at-once is {args.at_once}; give at least 1")
    questions, path = read_questions(args.questions), Path(args.answers)
    if path.exists() and path.samefile(args.questions):
        raise RlmError(f"{args.answers} holds the questions; name another file for the answers")
    options = options_of(args)
    opened = ready(open_any(args.index, args.embedder), options.models)
    answers = Answers(path, asked_with(opened, options))
    with answers.lock():
        return _ask_those_left(args, opened, options, questions, answers)


def _ask_those_left(
    args: argparse.Namespace, opened: Index, o: Options, questions: Sequence[Question], answers: Answers
) -> int:
    left = answers.begin(questions)
    if len(left) < len(questions):
        say(f"{len(questions) - len(left):,} of {len(questions):,} are answered", file=sys.stderr)

    async def go() -> tuple[int, int]:
        unanswered = unmet = 0
        asking = ask_many(
            opened,
            left,
            at_once=args.at_once,
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
                unanswered += not outcome.done
                unmet += outcome.answer is not None and outcome.answer.stop == "unmet"
                say(_line(outcome), file=sys.stderr, flush=True)
        finally:
            await asking.aclose()
        return unanswered, unmet

    unanswered, unmet = run_blocking(go()) if left else (0, 0)
    lacking = f" ({unmet:,} not accepted, for want of what was demanded)" if unmet else ""
    say(f"{len(questions) - unanswered:,} of {len(questions):,} answered{lacking}: {spelled(args.answers)}")
    if unanswered:
        say("run the same command again to ask the others once more", file=sys.stderr)
    return UNFINISHED if unanswered else 0


def _line(outcome: Outcome) -> str:
    asked = f"{one_line(str(outcome.question.id), 40)}: {one_line(outcome.question.text, 60)}"
    if outcome.answer is None:
        return f"{asked} -> failed: {one_line(outcome.error or '', 200)}"
    a = outcome.answer
    spent = f"{count(a.usage.calls, 'call')}, {dollars(a)}"
    ended = f"unmet ({one_line(a.lacks, 120)})" if a.stop == "unmet" else a.stop
    return f"{asked} -> {ended}: {one_line(a.content, 80)} ({count(len(a.citations), 'citation')}, {spent})"
