"""`rlm chat`: questions from the terminal, or one a line from a pipe, until the input ends."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from index_store.errors import IndexStoreError
from index_store.index import Index, open_any
from index_store.terminal import one_line, say, spelled
from index_store.types import Span
from rlm.answers.citations import Citation
from rlm.asking.asking import Answer
from rlm.asking.chat import Chat, chat_over
from rlm.asking.options import Options
from rlm.asking.runs import ready
from rlm.audit.claims import in_words
from rlm.commands.answers import amounts, as_text
from rlm.commands.given import models_of
from rlm.commands.live import live
from rlm.commands.options import options_of
from rlm.commands.typed import typed
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.gateway.types import Usage
from rlm.limits import Models

HELP = """\
/help          this
/sources       where the last answer is from: document, page, section
/cost          what was used so far
/model NAME    ask another model from now on
/new           a new conversation, without the variables of this one, with a trace of its own
/exit          end; so do /quit and Ctrl-D
Alone on a line, help, exit and quit need no slash. Capitals make no difference.
A line that ends in a backslash goes on in the next, at a terminal by Alt-Enter too.
Ctrl-C ends a question, not the chat."""
ENDS = frozenset({"/exit", "/quit"})
#: Words that are a command where they stand alone.
BARE = frozenset({"help", "exit", "quit"})


@dataclass(slots=True)
class _State:
    """`named`: the models for a name of the root. `last`: the last answer. `head`: of the last conversation
    that ended, as it was shown. `code`: to exit with."""

    chat: Chat
    named: Callable[[str], Models]
    quiet: bool
    head: str = ""
    last: Answer | None = None
    priced: bool = True
    code: int = 0


def chat(args: argparse.Namespace) -> int:
    """Ask each line that is typed as a question, until the input ends. Returns the exit code, 2 if one failed."""
    options = options_of(args, args.given)
    opened = ready(open_any(args.index, args.embedder, args.access, lazy=args.lazy), options.models)
    try:
        return run_blocking(_chat(opened, options, partial(models_of, args), args.quiet))
    except asyncio.CancelledError as e:  # by a signal to end
        raise KeyboardInterrupt from e


async def _chat(opened: Index, o: Options, named: Callable[[str], Models], quiet: bool) -> int:
    async with chat_over(opened, o) as opened_chat:
        state = _State(opened_chat, named, quiet)
        if sys.stdin.isatty():
            say("ask; /help says what else there is", file=sys.stderr)
        async for line in typed():
            name, given = _command_in(line)
            if name in ENDS:
                break
            if name:
                await _command(state, name, given)
            else:
                await _ask(state, line)
    if opened_chat.head != state.head:  # the line that ends the trace comes after the last answer
        say(f"\nend of the chat\nhead:  {opened_chat.head}", flush=True)
    return state.code


async def _ask(state: _State, question: str) -> None:
    before = state.chat.spent
    with live(sys.stderr, quiet=state.quiet) as watch:
        asking = asyncio.ensure_future(state.chat.ask(question, watch))
        with _signals(asking):
            try:
                await asyncio.wait([asking])
            finally:  # before the chat ends, so that its trace is whole
                _cancel(asking)
                await asyncio.wait([asking])
    if asking.cancelled():
        say("stopped; the chat goes on", file=sys.stderr, flush=True)
        return
    if (error := asking.exception()) is not None:
        if not isinstance(error, RlmError | IndexStoreError):
            raise error
        say(f"rlm: {one_line(str(error), 2_000)}", file=sys.stderr)
        state.code = 2
        return
    state.last = answer = asking.result()
    state.priced = state.priced and answer.priced
    say(as_text(answer, goes_on=True))
    say(f"cost: {_cost(state, _less(state.chat.spent, before))}", flush=True)


@contextmanager
def _signals(asking: "asyncio.Task[Answer]") -> Iterator[None]:
    """Within it Ctrl-C cancels the question alone, and a signal to end, or a terminal that goes, the whole chat."""
    loop, whole = asyncio.get_running_loop(), asyncio.current_task()
    assert whole is not None
    handlers = {signal.SIGINT: asking, signal.SIGTERM: whole}
    if sys.platform != "win32":
        handlers[signal.SIGHUP] = whole
    before: dict[signal.Signals, Any] = {}
    with suppress(RuntimeError, ValueError):  # only the main thread has signals, and no loop of Windows
        for sign, task in handlers.items():
            handler = signal.getsignal(sign)
            if handler != signal.SIG_IGN:
                loop.add_signal_handler(sign, _cancel, task)
                before[sign] = handler
    try:
        yield
    finally:
        for sign, handler in before.items():
            if loop.remove_signal_handler(sign):
                signal.signal(sign, handler)


def _cancel(task: "asyncio.Task[Any]") -> None:
    """Cancel a task once: a second time would cut short how it ends."""
    if not task.cancelling():
        task.cancel()


def _less(whole: Usage, part: Usage) -> Usage:
    return Usage(
        whole.calls - part.calls,
        whole.prompt_tokens - part.prompt_tokens,
        whole.completion_tokens - part.completion_tokens,
        max(whole.usd - part.usd, 0.0),
    )


def _cost(state: _State, question: Usage) -> str:
    return f"this question {amounts(question, state.priced)}; all so far {amounts(state.chat.spent, state.priced)}"


# -- commands ----------------------------------------------------------------------------------------------


def _command_in(line: str) -> tuple[str, str]:
    """(the command in a line, in small letters, what it is given); ("", "") where the line is a question."""
    if line.lower() in BARE:
        return f"/{line.lower()}", ""
    if not line.startswith("/"):
        return "", ""
    name, _, given = line.replace("\t", " ").partition(" ")
    return name.lower(), given.strip()


async def _command(state: _State, name: str, given: str) -> None:
    """Do what a command says, and say what came of it."""
    chat = state.chat
    match name:
        case "/help":
            say(HELP)
        case "/cost":
            say(f"all so far: {amounts(chat.spent, state.priced)}")
        case "/sources":
            say("\n".join(_sources(state)))
        case "/new":
            folder = await chat.begin_anew()
            if chat.head != state.head:
                say(f"end of the conversation\nhead:  {chat.head}")
            state.last, state.head = None, chat.head
            say(f"a new conversation; its trace: {spelled(str(folder))}")
        case "/model" if not given:
            say(f"the model is {spelled(chat.options.models.root)}; /model NAME asks another")
        case "/model":
            _use(state, given)
        case _:
            say(f"there is no command {one_line(name, 40)}; /help lists them", file=sys.stderr)
    sys.stdout.flush()


def _use(state: _State, name: str) -> None:
    try:
        models = state.named(name)
        state.chat.use(models)
    except RlmError as e:
        say(f"rlm: {one_line(str(e), 2_000)}", file=sys.stderr)
        return
    say(f"from now on {spelled(models.root)} is asked, and {spelled(models.child)} for sub-calls")


def _sources(state: _State) -> Iterator[str]:
    if state.last is None:
        yield "there is no answer yet"
    elif not state.last.citations:
        yield "the last answer cites nothing"
    else:
        yield from (_source(state.chat.index, *pair) for pair in enumerate(state.last.citations, 1))


def _source(index: Index, number: int, cited: Citation) -> str:
    """A citation in a line: document, page, section, and whether the words stand there."""
    if cited.supported == "summary":
        return f"[{number}] node {cited.node} ({in_words(cited.supported)}): {one_line(cited.quote, 100)}"
    if cited.doc is None or cited.start is None or cited.end is None:
        return f"[{number}] not in the documents: {one_line(cited.quote, 100)}"
    span = Span(cited.doc, cited.start, cited.end)
    section = " > ".join(one_line(heading, 60) for heading in index.section(span))
    page = f", page {cited.page}" if cited.page else ""
    place = f"{one_line(cited.doc, 200)}{page}{f', section {section}' if section else ''}"
    return f"[{number}] {place}, characters {cited.start}-{cited.end} ({cited.supported})"
