"""The command `rlm`: search an index, ask it, work in its REPL, look at traces. --help imports nothing heavy."""

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from index_store.config import ConfigError, offer, parsed
from index_store.embedder import CALLED
from index_store.errors import IndexStoreError
from index_store.paths import is_url
from index_store.terminal import Parser, add_command, command_line, logged, one_line, prepare, say
from index_store.types import MODES
from rlm.commands.actions import add_memo_option, review_parser, trace_parser
from rlm.commands.keys import keys_parser
from rlm.errors import RlmError
from rlm.evaluating.measures import QUALITIES
from rlm.gateway.naming import add_file_option, add_model_options
from rlm.limits import HIT_CHARS, MAP_LIMITS, ROUTES, RUNS, Limits, Models
from rlm.sandbox.opening import choices

LIMITS, MODELS = Limits(), Models()
EXAMPLE = 'rlm ask my.index "who signed the lease, and when does it end?"'


def parser() -> Parser:
    main, commands = command_line(
        "rlm", "Question an index; every step is in a trace that can be checked.", EXAMPLE
    )
    for add in (
        _overview_parser,
        _search_parser,
        _ask_parser,
        _map_parser,
        _eval_parser,
        _chat_parser,
        _shell_parser,
        _mcp_parser,
        trace_parser,
        review_parser,
        _serve_parser,
        _models_parser,
        keys_parser,
        _doctor_parser,
    ):
        add(commands)
    offer(commands.choices)
    return main


def _overview_parser(commands: Any) -> None:
    overview = add_command(
        commands,
        "overview",
        "show what is in an index, as nested areas",
        "rlm overview my.index -o overview.html",
        "rlm.commands.overview:overview",
    )
    overview.add_argument("index", metavar="INDEX", help="an index folder, or a text file")
    _access_option(overview)
    overview.add_argument("--under", metavar="NODE", help="only the branch below this node, such as L2-00003")
    overview.add_argument(
        "--depth",
        type=int,
        default=2,
        metavar="N",
        help="levels inside the whole (%(default)s); large areas first",
    )
    overview.add_argument(
        "-o", "--output", "--page", metavar="PAGE", help="write a page with a map of the areas"
    )
    overview.add_argument("--json", action="store_true", help="print JSON")


def _search_parser(commands: Any) -> None:
    search = add_command(
        commands,
        "search",
        "find nodes by meaning and words",
        'rlm search my.index "notice period" -k 5',
        "rlm.commands.search:search",
    )
    search.add_argument("index", metavar="INDEX")
    search.add_argument("query", nargs="?", help='what to find; "-" reads it from standard input')
    _embedder_option(search)
    _access_option(search)
    search.add_argument("-k", type=int, default=10, help="hits (%(default)s)")
    search.add_argument(
        "--mode",
        default="hybrid",
        choices=MODES,
        help="scores, higher is better: dense is the cosine, lexical is BM25; hybrid and tree put both together in "
        "standard deviations, so these compare within one list only (%(default)s)",
    )
    search.add_argument(
        "--level", type=int, help="one level; without it the chunks, or all levels in mode tree"
    )
    _scope_options(search)
    search.add_argument(
        "--no-fold",
        action="store_true",
        help="show passages that say the same in near-duplicate documents each as a hit of its own",
    )
    search.add_argument(
        "--queries",
        metavar="FILE",
        help='many queries: .jsonl of {"_id", "text", "scope"?}, "-" for standard input',
    )
    search.add_argument(
        "--json",
        action="store_true",
        help=f"print JSON, with the first {HIT_CHARS:,} characters of each hit as text, and the part that fits the "
        "query best as match",
    )


class _Once(argparse.Action):
    """An option that narrows the scope and stands once: of two, one would be forgotten."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "it is given twice; give it once, or name a group by --where")
        setattr(namespace, self.dest, values)


def _scope_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--doc",
        action=_Once,
        metavar="DOC",
        help="only this document, by its id or the path of its file; or those in a folder, or that a pattern fits: "
        "'reports/*.pdf'",
    )
    command.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only documents with this metadata; may be repeated",
    )
    command.add_argument(
        "--section", action=_Once, metavar="TEXT", help="only chunks under a heading that contains this"
    )


def _access_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--as",
        dest="access",
        metavar="LABELS",
        help="read only what a reader with these labels, with commas between, may: a document is theirs if it has one "
        "of them, or none at all; '' is what is open to all",
    )
    if command.prog != "rlm serve":
        command.add_argument(
            "--lazy",
            action="store_true",
            help="of an index at a URL: leave its vectors there until a search by meaning needs them",
        )


def _embedder_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--embedder",
        metavar="NAME",
        help="the embedder that built the index, where that is not minilm: a folder, or litellm/NAME",
    )


def _limit_options(command: argparse.ArgumentParser) -> None:
    add_memo_option(command)
    _access_option(command)
    _scope_options(command)
    _model_options(command)
    _cap_options(command)
    _loop_options(command)


def _model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        default=MODELS.root,
        metavar="M",
        help="the root model, as litellm names it, or by a short name of your own (%(default)s)",
    )
    command.add_argument(
        "--child-model", metavar="M", help=f"the model of sub-calls ({MODELS.child}, or the root model)"
    )
    add_model_options(command)
    _embedder_option(command)


def _loop_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-turns",
        type=int,
        metavar="N",
        help=f"turns of the root and of each child, before the call kept back ({LIMITS.turns})",
    )
    command.add_argument(
        "--backend",
        choices=choices(),
        default=LIMITS.backend,
        help="what confines the code; auto: the kernel's layers where they hold, else Monty; of one that is named "
        "never another (%(default)s)",
    )
    command.add_argument(
        "--depth", type=int, metavar="N", help=f"levels of children with a REPL ({LIMITS.depth})"
    )


def _cap_options(command: argparse.ArgumentParser, limits: Limits = LIMITS) -> None:
    """The caps of a run. `limits`: those by default; without a cap on calls there is no call of a root either."""
    counted = f", the root's and the one kept back for the end included ({limits.calls})"
    command.add_argument("--max-usd", type=float, metavar="USD", help="hard ceiling on dollars")
    command.add_argument(
        "--max-calls",
        type=int,
        metavar="N",
        help="hard ceiling on model calls" + (counted if limits.calls else ""),
    )
    command.add_argument("--max-tokens", type=int, metavar="N", help="hard ceiling on tokens")
    command.add_argument(
        "--timeout", type=float, metavar="S", help=f"wall clock of the run in seconds ({limits.timeout_s:g})"
    )
    command.add_argument(
        "--reply-tokens",
        type=int,
        metavar="N",
        help=f"tokens of one model reply, its reasoning included ({LIMITS.reply_tokens})",
    )
    command.add_argument(
        "--allow-unpriced", action="store_true", help="with --max-usd: call models without a known price too"
    )
    command.add_argument(
        "--concurrency", type=int, metavar="N", help=f"model calls at a time ({LIMITS.concurrency})"
    )
    command.add_argument("--rpm", type=float, metavar="N", help="requests a minute to each model")
    command.add_argument("--tpm", type=float, metavar="N", help="tokens a minute to each model")
    command.add_argument(
        "--window", type=int, metavar="N", help="tokens the model takes, where litellm does not know"
    )


def _ask_parser(commands: Any) -> None:
    ask = add_command(
        commands,
        "ask",
        "answer a question with citations",
        'rlm ask my.index "what changed in 2021?" --max-usd 0.50',
        "rlm.commands.ask:ask",
        progress=True,
    )
    ask.add_argument("index", metavar="INDEX", help="an index folder, or a text file")
    ask.add_argument("question", nargs="?", help='what to answer; "-" reads it from standard input')
    ask.add_argument(
        "--questions",
        metavar="FILE",
        help='many questions: .jsonl of {"_id", "text", "scope"?}, "-" for standard input; with --answers',
    )
    ask.add_argument(
        "--answers",
        metavar="FILE",
        help="where answers to --questions go, a line each; those it holds are not asked again",
    )
    _many_options(ask, "with --questions: ")
    _way_options(ask, "auto")
    _limit_options(ask)
    _account_options(ask)
    _runs_option(ask)
    ask.add_argument("--json", action="store_true", help="print JSON")


def _many_options(command: argparse.ArgumentParser, when: str = "") -> None:
    command.add_argument(
        "--at-once", type=int, default=4, metavar="N", help="questions at a time (%(default)s)"
    )
    for name, kind in (("usd", float), ("tokens", int), ("calls", int)):
        command.add_argument(
            f"--each-{name}",
            type=kind,
            metavar="N",
            help=f"{when}hard ceiling on {'dollars' if name == 'usd' else name} of each question; "
            f"--max-{name} is that of all together",
        )


def _map_parser(commands: Any) -> None:
    table = add_command(
        commands,
        "map",
        "ask every row the same question, and write a table of the answers",
        "rlm map my.index 'Is it a complaint?' --split line --field label='complaint|other' -o rows.csv --max-usd 1",
        "rlm.commands.map:table",
        progress=True,
    )
    table.add_argument("index", metavar="INDEX", help="an index folder, or a text file")
    _access_option(table)
    table.add_argument("question", help='what is asked of each row; "-" reads it from standard input')
    table.add_argument(
        "--fields",
        metavar="FILE",
        help='what each row is asked for, as JSON: {"label": ["spam", "ham"], "month": "YYYY-MM", "amount": "number"}',
    )
    table.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="NAME=SPEC",
        help="one field: labels with bars between them, or one of YYYY-MM-DD, YYYY-MM, YYYY, number, integer, yes/no, "
        "text; may be repeated",
    )
    table.add_argument(
        "--split",
        choices=["document", "section", "chunk", "line", "record"],
        default="record",
        help="what a row is; a record is what repeats: rows of a table, JSON lines, log entries, messages, else "
        "paragraphs (%(default)s)",
    )
    table.add_argument("--under", metavar="NODE", help="only the rows below this node, such as L2-00003")
    table.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where the table goes, .csv or .jsonl (standard output, as CSV)",
    )
    table.add_argument(
        "--dry-run",
        action="store_true",
        help="say how many calls, tokens and dollars it takes, and ask nothing",
    )
    table.add_argument(
        "--sure",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="read this share of the rows twice, in other company, and tell how far the readings agree (%(default)s)",
    )
    table.add_argument(
        "--strong",
        metavar="M",
        help="another model: all rows are read twice, and it reads those on which the two readings differ",
    )
    table.add_argument(
        "--pack-tokens",
        type=int,
        metavar="N",
        help="tokens of rows in one prompt (by how many rows there are)",
    )
    table.add_argument(
        "--calibrate",
        choices=["auto", "yes", "no"],
        default="auto",
        help="try out how many rows a prompt may hold until readings fall apart; auto: of many rows (%(default)s)",
    )
    add_memo_option(table)
    _scope_options(table)
    table.add_argument(
        "--model",
        default=MODELS.child,
        metavar="M",
        help="the model that reads, as litellm names it, or by a short name of your own (%(default)s)",
    )
    add_model_options(table)
    _embedder_option(table)
    _cap_options(table, MAP_LIMITS)
    _account_options(table)
    _runs_option(table)
    table.add_argument("--json", action="store_true", help="print what came of it as JSON")


def _eval_parser(commands: Any) -> None:
    evaluation = add_command(
        commands,
        "eval",
        "hold answers to your own questions against given ones, by several routes and models side by side",
        "rlm eval my.index questions.jsonl --routes retrieve,rlm --models gpt-5-mini,gpt-5-nano --max-usd 5",
        "rlm.commands.eval:compare",
        progress=True,
    )
    evaluation.add_argument("index", metavar="INDEX", help="an index folder, or a text file")
    _access_option(evaluation)
    evaluation.add_argument(
        "questions",
        nargs="+",
        metavar="QUESTIONS",
        help='.jsonl of {"_id", "text", "answers": [...], "gold": [{"doc", "start", "end"}], "scope"?}, a set each',
    )
    evaluation.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="the folder of the runs, the figures and the page, with which the same command goes on "
        "(QUESTIONS.eval, without .jsonl)",
    )
    evaluation.add_argument(
        "--routes",
        default="auto",
        metavar="A,B",
        help=f"of {', '.join(ROUTES)}; the first is held against (%(default)s)",
    )
    evaluation.add_argument(
        "--models",
        dest="model_sets",
        default=MODELS.root,
        metavar="A,B",
        help="models, each ROOT or ROOT+CHILD, by litellm's names or short ones; each by each route (%(default)s)",
    )
    evaluation.add_argument(
        "--judge",
        metavar="M",
        help="a model that says whether the text cited supports each sentence (ALCE); "
        "offline/judge compares words",
    )
    evaluation.add_argument(
        "--by",
        metavar="FIGURE",
        help="the figure by which a question is won or lost, and that the chart shows: "
        f"{', '.join(QUALITIES)} (f1, or cited where no question has answers)",
    )
    evaluation.add_argument(
        "--make",
        type=int,
        metavar="N",
        help="write N drafts of questions, with gold, to QUESTIONS, for you to correct, and ask nothing; "
        "by --model, else by patterns of sentences",
    )
    evaluation.add_argument("--model", metavar="M", help="with --make: the model that writes the drafts")
    evaluation.add_argument(
        "--seed", type=int, default=0, help="with --make: which passages are taken (%(default)s)"
    )
    _many_options(evaluation)
    evaluation.add_argument(
        "--require-citations", action="store_true", help="as in rlm ask: no answer without quotes that stand"
    )
    add_model_options(evaluation, "--models-file")
    _embedder_option(evaluation)
    _cap_options(evaluation)
    _loop_options(evaluation)
    _account_options(evaluation)
    evaluation.add_argument("--json", action="store_true", help="print the figures as JSON")


def _way_options(command: argparse.ArgumentParser, route: str) -> None:
    command.add_argument(
        "--route",
        default=route,
        choices=ROUTES,
        help="direct: the whole text in one call; retrieve: what a search finds in one call; overview: what is in "
        "the corpus, from the upper levels of the tree in one call; rlm: the loop; "
        "auto chooses, and the trace says why (%(default)s)",
    )
    command.add_argument(
        "--require-citations",
        action="store_true",
        help="take no answer whose quotes are not in the documents, or there with other numbers or a not more or less; "
        '"Not in these documents" needs none, and is an answer too (exit code 0)',
    )
    command.add_argument("--schema", metavar="FILE", help="a JSON Schema that the answer must fit")


def _chat_parser(commands: Any) -> None:
    chat = add_command(
        commands,
        "chat",
        "ask one question after another; the REPL is kept between them",
        "rlm chat my.index",
        "rlm.commands.chat:chat",
        progress=True,
    )
    chat.add_argument("index", metavar="INDEX", help="an index folder, or a text file")
    _way_options(chat, "rlm")
    _limit_options(chat)
    _account_options(chat)
    _runs_option(chat)


def _account_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--operator", metavar="NAME", help="who asks; kept in the trace")
    command.add_argument("--purpose", metavar="TEXT", help="what for; kept in the trace")
    command.add_argument(
        "--retain",
        metavar="DATE",
        help="the day until which the run is to be kept, as 2030-12-31; kept in the trace",
    )


def _runs_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--runs", default=RUNS, metavar="DIR", help="where the trace's folder is made (%(default)s)"
    )


def _shell_parser(commands: Any) -> None:
    shell = add_command(
        commands,
        "shell",
        "work in the sandboxed REPL yourself",
        "rlm shell my.index",
        "rlm.commands.shell:shell",
    )
    shell.add_argument("index", metavar="INDEX")
    _limit_options(shell)
    _account_options(shell)
    _runs_option(shell)
    shell.add_argument(
        "--cell-timeout", type=float, default=10.0, metavar="S", help="seconds a cell may run (%(default)s)"
    )
    shell.add_argument("--fresh", action="store_true", help="start each cell from an empty namespace")
    shell.add_argument(
        "--json", action="store_true", help='read {"code": ...} lines, print one result line each'
    )


def _serve_parser(commands: Any) -> None:
    serve = add_command(
        commands,
        "serve",
        "answer over HTTP: an API that chat clients speak, our own, and pages for a browser",
        "rlm serve my.index --port 8000",
        "rlm.commands.serve:serve",
        progress=True,
    )
    serve.add_argument(
        "index",
        nargs="*",
        metavar="INDEX",
        help="index folders, each PATH or NAME=PATH; the folder's name names it",
    )
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="where it listens; another than this machine takes keys (%(default)s)",
    )
    serve.add_argument("--port", type=int, default=8000, help="its port (%(default)s)")
    serve.add_argument(
        "--data",
        metavar="DIR",
        help="where the database, uploads and the indexes made of them are kept (the user's data folder)",
    )
    serve.add_argument("--runs", metavar="DIR", help="where each run gets a folder (in --data)")
    serve.add_argument(
        "--model",
        default=MODELS.root,
        metavar="M",
        help="the root model of a question that names none (%(default)s)",
    )
    serve.add_argument("--child-model", metavar="M", help="the model of its sub-calls")
    serve.add_argument(
        "--summarizer", metavar="M", help="who summarises what is uploaded (raptor's own default)"
    )
    add_model_options(serve)
    _embedder_option(serve)
    _cap_options(serve)
    _loop_options(serve)
    serve.add_argument(
        "--max-running",
        type=int,
        metavar="N",
        help="questions at once; others wait their turn (twice the cores)",
    )
    _access_option(serve)
    serve.add_argument(
        "--db",
        metavar="URL",
        help="the database of keys, money and runs: a file of SQLite, or postgresql+psycopg://... (a file in --data)",
    )
    serve.add_argument(
        "--drain",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds that what runs has to its end at a shutdown (%(default)s)",
    )


def _mcp_parser(commands: Any) -> None:
    mcp = add_command(
        commands,
        "mcp",
        "give indexes to a chat client or an editor as tools (Model Context Protocol)",
        "rlm mcp my.index --max-usd 0.50",
        "rlm.commands.mcp:mcp",
    )
    mcp.add_argument(
        "index",
        metavar="INDEX",
        nargs="+",
        help="an index folder, or a text file; NAME=PATH names it, else it has the folder's name",
    )
    mcp.add_argument(
        "--http",
        action="store_true",
        help="serve over streamable HTTP on this machine, else over standard input and output",
    )
    mcp.add_argument("--host", metavar="H", help="with --http: where to listen (127.0.0.1)")
    mcp.add_argument(
        "--port", type=int, metavar="P", help="with --http: the port (8765); 0 is any that is free"
    )
    _access_option(mcp)
    _model_options(mcp)
    _cap_options(mcp)
    _loop_options(mcp)
    mcp.add_argument(
        "--runs",
        metavar="DIR",
        help="where the traces' folders are made (raptor-rlm/runs in your data folder)",
    )


def _models_parser(commands: Any) -> None:
    models = add_command(
        commands,
        "models",
        "list the models at hand: price, window, and whether the key is there",
        "rlm models openai/gpt-5-mini",
        "rlm.commands.models:models",
    )
    models.add_argument("name", nargs="?", metavar="NAME", help="one model, by a short name or litellm's")
    add_file_option(models)
    models.add_argument("--json", action="store_true", help="print JSON")


def _doctor_parser(commands: Any) -> None:
    doctor = add_command(
        commands,
        "doctor",
        "say which layers of the sandbox hold on this machine",
        "rlm doctor",
        "rlm.commands.doctor:doctor",
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input is one sentence on standard error and exit code 2."""
    try:
        args = parsed(parser(), "ask", argv)
    except ConfigError as e:
        say(f"rlm: {one_line(str(e), 2_000)}", file=sys.stderr)
        return 2
    prepare(sys.stdout, sys.stderr)
    _end_like_ctrl_c()
    try:
        with logged(args.verbose, quiet=args.quiet):
            if (getattr(args, "embedder", None) or "").startswith(CALLED):
                resolve_name("rlm.commands.given:name_embedder")(args)
            if args.command in ("ask", "chat", "map", "shell"):
                args.given = resolve_name("rlm.commands.given:given_by")(args)
            _say_opening(args)
            run: Callable[[argparse.Namespace], int] = resolve_name(args.run)
            code = run(args)
        sys.stdout.flush()
        return code
    except (RlmError, IndexStoreError) as e:
        say(f"rlm: {one_line(str(e), 2_000)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("rlm: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return _unread(0)  # the reader of our output went away, which is no error of ours
    except OSError as e:
        say(f"rlm: {one_line(_of_the_system(e), 2_000)}", file=sys.stderr)
        return _unread(2)


def _of_the_system(error: OSError) -> str:
    """What the system refused, and where it did, so far as it says so."""
    why = error.strerror or str(error)
    what = f"cannot use {error.filename}: {why}" if error.filename and error.strerror else why
    return f"{what}; make room, or name another place" if error.errno == errno.ENOSPC else what


def _say_opening(args: argparse.Namespace) -> None:
    """The first sign of life of a command that asks, once its arguments are checked and before anything heavy is
    imported."""
    if args.command not in ("ask", "chat", "eval", "map") or getattr(args, "quiet", False):
        return
    if is_url(args.index):
        resolve_name("index_store.stores.urls:url_of")(
            args.index
        )  # one that could hold a password is not shown
    if is_url(args.index) or Path(args.index).exists():
        say(f"opening {one_line(args.index, 200)}", file=sys.stderr, flush=True)


def _unread(code: int) -> int:
    """What is left of our output must not be flushed at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _end_like_ctrl_c() -> None:
    """A service manager's stop, or a terminal that goes, closes the trace too."""
    if threading.current_thread() is threading.main_thread():
        for sign in (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)):
            if signal.getsignal(sign) is signal.SIG_IGN:  # nohup
                continue
            signal.signal(sign, _interrupt)


def _interrupt(*_: object) -> None:
    """As Ctrl-C does, also where a shell started us in the background and so had Ctrl-C ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
