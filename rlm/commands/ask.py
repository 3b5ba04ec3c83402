"""What a person at a terminal asks and is told: `rlm ask`, `rlm chat`, `rlm shell`."""

import argparse
import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from index_store.index import Index
from index_store.terminal import count, one_line, visible
from rlm.answers.citations import Citation
from rlm.answers.demands import Demands, not_found
from rlm.answers.schema import load_schema
from rlm.asking.asking import Answer, Manner, ask_as, check_question, ready
from rlm.asking.chat import open_chat
from rlm.asking.many import Answers, Outcome, Question, ask_many, read_questions
from rlm.audit import read
from rlm.audit.routing import branches
from rlm.audit.timeline import branch_line
from rlm.commands.live import live
from rlm.commands.shell import open_shell, talk, talk_json
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.limits import Limits, Models
from rlm.loop.run import Watch, unwatched

#: The exit code where a limit left no answer, or the answer lacks what was demanded of it.
UNFINISHED = 3


def ask(args: argparse.Namespace) -> int:
    """One question, or a file of them."""
    if (args.question is None) == (args.questions is None):
        raise RlmError('give one question, or --questions FILE: rlm ask INDEX "words"')
    if args.questions is not None:
        return _ask_many(args)
    if args.answers is not None:
        raise RlmError("--answers goes with --questions; one answer is printed")
    check_question(args.question)
    with live(sys.stderr) as watch:
        manner = _manner(args, watch)
        opened = ready(args.index, manner.models)  # outside the loop, where Ctrl-C ends an import
        answer = run_blocking(ask_as(opened, args.question, manner))
    print(json.dumps(answer.as_json()) if args.json else _answer_said(answer))
    return _code(answer)


def _code(answer: Answer) -> int:
    return 0 if answer.content and answer.stop != "unmet" else UNFINISHED


def _manner(args: argparse.Namespace, watch: Watch) -> Manner:
    models, limits = _settings(args)
    schema = None if getattr(args, "schema", None) is None else load_schema(args.schema)
    demands = Demands(getattr(args, "require_citations", False), schema)
    return Manner(getattr(args, "route", "rlm"), models, limits, demands, Path(args.runs), watch)


def _settings(args: argparse.Namespace) -> tuple[Models, Limits]:
    given = {
        "usd": args.max_usd,
        "calls": args.max_calls,
        "tokens": args.max_tokens,
        "turns": args.max_turns,
        "timeout_s": args.timeout,
        "depth": args.depth,
        "reply_tokens": args.reply_tokens,
        "concurrency": args.concurrency,
        "requests_per_minute": args.rpm,
        "tokens_per_minute": args.tpm,
        "window": args.window,
        "allow_unpriced": args.allow_unpriced,
        "cell_timeout_s": getattr(args, "cell_timeout", None),
        "backend": args.backend,
    }
    kept = {name: value for name, value in given.items() if value is not None}
    if getattr(args, "questions", None) is not None:
        kept.setdefault("calls", None)  # without a cap on all together, each question has its own
    limits = Limits(**kept)
    child = "offline/reader" if args.model.startswith("offline/") else args.model
    return Models(args.model, args.child_model or child), limits


def _answer_said(answer: Answer) -> str:
    entered = [branch for branch in branches(read(answer.trace)[0]) if branch.level]
    u = answer.usage
    lines = [visible(answer.content) or f"(no answer: stopped by {answer.stop})", ""]
    lines += [_citation_said(number, c) for number, c in enumerate(answer.citations, 1)]
    if answer.stop == "unmet":
        lines += ["(not accepted: it lacks what was demanded of it)"]
    elif answer.content and not answer.citations and not not_found(answer.content):
        lines += ["(no citations: nothing of this was looked up in the documents)"]
    if entered:
        lines += ["", "branches entered:", *(f"  {branch_line(branch)}" for branch in entered[:12])]
    lines.append("")
    lines += [f"stop: {answer.stop}; {count(u.calls, 'call')}, {u.tokens:,} tokens, {_dollars(answer)}"]
    return "\n".join([*lines, f"trace: {answer.trace}", f"head:  {answer.head}"])


def _dollars(answer: Answer) -> str:
    return f"${answer.usage.usd:.4f}" if answer.priced else "price unknown"


def _citation_said(number: int, c: Citation) -> str:
    page = f", page {c.page}" if c.page else ""
    place = f"{one_line(c.doc, 200)} {c.start}-{c.end}{page}" if c.doc else "not in the source"
    return f'[{number}] {place} ({_support(c)}): "{one_line(c.quote, 240)}"'


def _support(c: Citation) -> str:
    return f"nearest, {c.similarity:.2f} alike" if c.supported == "nearest" else c.supported


# -- many --------------------------------------------------------------------------------------------------


def _ask_many(args: argparse.Namespace) -> int:
    if args.answers is None:
        raise RlmError("name the file that answers go to: --answers answers.jsonl")
    if args.at_once < 1:
        raise RlmError(f"--at-once is {args.at_once}; give at least 1")
    questions, answers = read_questions(Path(args.questions)), Answers(Path(args.answers))
    if answers.path.exists() and answers.path.samefile(args.questions):
        raise RlmError(f"{args.answers} holds the questions; name another file for the answers")
    with answers.held():
        return _ask_those_left(args, questions, answers)


def _ask_those_left(args: argparse.Namespace, questions: Sequence[Question], answers: Answers) -> int:
    manner, left = _manner(args, unwatched), answers.begin(questions)
    if len(left) < len(questions):
        print(f"{len(questions) - len(left):,} of {len(questions):,} are answered", file=sys.stderr)

    opened = ready(args.index, manner.models)

    async def go() -> int:
        open_still = 0
        asking = ask_many(opened, left, manner, args.at_once)
        try:
            async for outcome in asking:
                answers.add(outcome)
                open_still += not outcome.done
                print(_outcome_said(outcome), file=sys.stderr, flush=True)
        finally:
            await asking.aclose()
        return open_still

    open_still = run_blocking(go()) if left else 0
    print(f"{len(questions) - open_still:,} of {len(questions):,} answered: {args.answers}")
    if open_still:
        print("run the same command again to ask the others once more", file=sys.stderr)
    return UNFINISHED if open_still else 0


def _outcome_said(outcome: Outcome) -> str:
    asked = f"{one_line(outcome.question.id, 40)}: {one_line(outcome.question.text, 60)}"
    if outcome.answer is None:
        return f"{asked} -> failed: {one_line(outcome.error or '', 200)}"
    a = outcome.answer
    spent = f"{count(a.usage.calls, 'call')}, {_dollars(a)}"
    return f"{asked} -> {a.stop}: {one_line(a.content, 80)} ({count(len(a.citations), 'citation')}, {spent})"


# -- chat, shell -------------------------------------------------------------------------------------------


def chat(args: argparse.Namespace) -> int:
    """Questions from the terminal, or one a line from a pipe, until the input ends."""
    manner = _manner(args, unwatched)
    return run_blocking(_chat(ready(args.index, manner.models), manner))


async def _chat(opened: Index, manner: Manner) -> int:
    code = 0
    async with open_chat(opened, manner) as chat:
        async for question in _typed():
            try:
                with live(sys.stderr) as watch:
                    answer = await chat.ask(question, watch)
            except RlmError as e:
                print(f"rlm: {one_line(str(e), 2_000)}", file=sys.stderr)
                code = 2
                continue
            print(_answer_said(answer), flush=True)
    return code


async def _typed() -> AsyncIterator[str]:
    """Each line that is not empty, until the input ends, or "exit". A thread that waits for a key holds nothing up."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the input
            for line in iter(sys.stdin.readline, ""):
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, "exit")

    threading.Thread(target=read, name="rlm-typed", daemon=True).start()
    while True:
        if sys.stdin.isatty():
            print("? ", end="", file=sys.stderr, flush=True)
        line = (await lines.get()).strip()
        if line in ("exit", "quit"):
            return
        if line:
            yield line


def shell(args: argparse.Namespace) -> int:
    """A person's own REPL."""
    models, limits = _settings(args)
    with open_shell(args.index, models, limits) as opened:
        (talk_json if args.json else talk)(opened, fresh=args.fresh)
    return 0
