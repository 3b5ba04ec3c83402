"""What may be typed after `rlm trace` and `rlm review`: the actions on runs, and their options."""

import argparse
from typing import Any

from index_store.terminal import add_command
from rlm.gateway.naming import add_model_options
from rlm.limits import RUNS

A_RUN = f"{RUNS}/20260101-120000-who"


def add_memo_option(command: Any) -> None:
    """The option of a command that asks models."""
    command.add_argument(
        "--no-memo",
        action="store_true",
        help="ask every sub-call anew, and keep nothing in INDEX.memo.sqlite, where those that were answered are kept",
    )


def trace_parser(commands: Any) -> None:
    trace = add_command(
        commands,
        "trace",
        "show, verify, check, replay, compare, sign, note, list, export or redact the traces of runs",
        f"rlm trace verify {A_RUN}",
        "rlm.commands.trace:trace",
    )
    actions = trace.add_subparsers(dest="action", required=True, metavar="ACTION")
    for add in (
        _show_parser,
        _verify_parser,
        _check_parser,
        _replay_parser,
        _diff_parser,
        _redact_parser,
        _schema_parser,
        _sign_parser,
        _note_parser,
        _list_parser,
        _export_parser,
    ):
        add(actions)


def _action(actions: Any, name: str, what: str, example: str, run: str) -> Any:
    """The parser of what is done with one run."""
    command = add_command(actions, name, what, f"rlm trace {name} {A_RUN}{example}", run)
    _run_argument(command)
    return command


def _run_argument(command: Any) -> None:
    command.add_argument("run_folder", metavar="RUN", help="a run's folder")


def _json_option(command: Any, told: str = "print JSON") -> None:
    command.add_argument("--json", action="store_true", help=told)


def _show_parser(actions: Any) -> None:
    show = _action(actions, "show", "show a run as text", " --full", "rlm.commands.trace:trace")
    _head_option(show)
    show.add_argument("--full", action="store_true", help="every prompt, reply, output and result whole")
    _json_option(show, "print JSON, an event a line")


def _verify_parser(actions: Any) -> None:
    verify = _action(
        actions,
        "verify",
        "say whether a trace, its signature and its notes are as they were written; exit code 0: they are; 1: they are "
        "not; 3: each line of the trace is, and it has no end, since the run was killed or its tail was cut off",
        " --allowed-signers signers",
        "rlm.commands.trace:trace",
    )
    _head_option(verify)
    verify.add_argument(
        "--index",
        metavar="INDEX",
        help="the index that was asked, to hold its texts against the citations",
    )
    verify.add_argument(
        "--allowed-signers",
        metavar="FILE",
        help="whose signatures count: lines of a name and a public key, as ssh-keygen reads them",
    )
    verify.add_argument("--signer", metavar="NAME", help="the one of them who must have signed")
    verify.add_argument(
        "--timestamp-ca",
        metavar="FILE",
        help="the certificates, as PEM, of the authority whose timestamp counts",
    )
    _json_option(verify)


def _check_parser(actions: Any) -> None:
    check = _action(
        actions,
        "check",
        "judge by an independent search whether its way and its answer are reasonable",
        " --index docs.index",
        "rlm.commands.check:run",
    )
    check.add_argument("--index", metavar="INDEX", help="the index that was asked, which is searched anew")
    _json_option(check)
    _check_options(check)


def _replay_parser(actions: Any) -> None:
    replay = _action(
        actions,
        "replay",
        "do a run again from its record: the same code and index, the recorded replies",
        " --index docs.index",
        "rlm.commands.replay:replay",
    )
    replay.add_argument("--index", metavar="INDEX", help="the index that was asked")
    _replay_options(replay)
    _json_option(replay)


def _diff_parser(actions: Any) -> None:
    diff = add_command(
        actions,
        "diff",
        "hold two runs against each other",
        f"rlm trace diff {A_RUN} {RUNS}/another",
        "rlm.commands.difference:diff",
    )
    _run_argument(diff)
    diff.add_argument("other", nargs="?", metavar="OTHER", help="the run to hold it against")
    _json_option(diff)


def _redact_parser(actions: Any) -> None:
    redact = _action(
        actions,
        "redact",
        "take contents out of a trace, for good; it can be verified as before, and says who took out what and why",
        ' --words "J[.] Doe|Jane Doe" --by "Ann Ek" --why "erasure was asked for"',
        "rlm.commands.redact:redact",
    )
    redact.add_argument(
        "--words",
        metavar="REGEX",
        help="each content in which this is found, as RE2 reads it; (?i) before it takes any case",
    )
    redact.add_argument(
        "--event", type=int, metavar="N", help="the contents of one event, by its number from 0"
    )
    redact.add_argument(
        "--field",
        metavar="F",
        help="with --event: the field, such as question, or a part, such as messages/0",
    )
    redact.add_argument("--by", required=True, metavar="NAME", help="who takes it out")
    redact.add_argument("--why", required=True, metavar="TEXT", help="the reason, which everyone can read")
    _json_option(redact)


def _schema_parser(actions: Any) -> None:
    add_command(
        actions,
        "schema",
        "print the JSON Schema of the events that `rlm trace show --json` prints",
        "rlm trace schema > trace.schema.json",
        "rlm.commands.schema:schema",
    )


class _Definitions(argparse.Action):
    """Prints the page of definitions, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from rlm.commands.check import show_definitions

        show_definitions()
        parser.exit()


def _check_options(trace: argparse.ArgumentParser) -> None:
    check = trace.add_argument_group("check", "what is questionable, and what makes the exit code 1")
    check.add_argument(
        "--min-coverage", type=float, metavar="X", help="exit 1 where less of the evidence is cited"
    )
    check.add_argument("--max-regret", type=float, metavar="X", help="exit 1 where a step has more regret")
    check.add_argument("--no-unsupported", action="store_true", help="exit 1 where a sentence has no support")
    check.add_argument(
        "--strong",
        type=float,
        metavar="X",
        help="of the best passage's evidence, what a strong one has (0.03)",
    )
    check.add_argument("--passages", type=int, metavar="N", help="strong passages, at most (15)")
    check.add_argument(
        "--cited",
        type=float,
        metavar="X",
        help="of the best passage's evidence, what is cited must have (0.4)",
    )
    check.add_argument(
        "--regret",
        type=float,
        metavar="X",
        help="of the evidence on offer, from which a step is questionable (0.3)",
    )
    check.add_argument(
        "--on-offer", type=float, metavar="X", help="of all evidence, below which no step is judged (0.05)"
    )
    check.add_argument(
        "--words", type=float, metavar="X", help="of a sentence's telling words, how many must be cited (0.4)"
    )
    check.add_argument(
        "--unsupported", type=float, metavar="X", help="of the sentences, how many may lack support (0.5)"
    )
    check.add_argument(
        "--found",
        type=float,
        metavar="X",
        help="of the question's words, what the best passage must hold against an answer that finds nothing (0.5)",
    )
    check.add_argument(
        "--embedder",
        metavar="FOLDER",
        help="a model's folder, where another than the built-in one built the index",
    )
    check.add_argument(
        "--judge",
        metavar="MODEL",
        help="a model, by litellm's name or a short one, that says, too, whether each sentence follows: an opinion",
    )
    add_model_options(trace)
    check.add_argument(
        "--max-usd", type=float, default=1.0, metavar="X", help="what --judge may spend (%(default)s)"
    )
    check.add_argument(
        "--definitions", action=_Definitions, nargs=0, help="print what each figure means, with formulas"
    )


def _sign_parser(actions: Any) -> None:
    sign = _action(
        actions,
        "sign",
        "sign the head of a trace, as ssh-keygen does",
        " --key ~/.ssh/id_ed25519 --as jane@example.com",
        "rlm.commands.sign:sign",
    )
    sign.add_argument(
        "--key",
        required=True,
        metavar="FILE",
        help="a private key of OpenSSH; or a public one, whose private one ssh-agent has",
    )
    sign.add_argument("--as", dest="signer", required=True, metavar="NAME", help="who signs")
    sign.add_argument("--timestamp", metavar="URL", help="also ask this RFC 3161 authority for a timestamp")
    sign.add_argument("--unclosed", action="store_true", help="sign a trace whose run never ended, too")
    sign.add_argument("--force", action="store_true", help="in place of what NAME signed here before")
    _json_option(sign)


def _note_parser(actions: Any) -> None:
    note = _action(
        actions,
        "note",
        "write a reviewer's note beside a trace, or list the notes",
        ' --by jane --verdict rejected --step 12 --text "wrong year"',
        "rlm.commands.note:note",
    )
    note.add_argument("--by", metavar="NAME", help="who reviewed")
    note.add_argument(
        "--verdict",
        metavar="WORD",
        help='accepted, rejected or "needs another look": of the run, or with --step of that step',
    )
    note.add_argument("--step", type=int, metavar="SEQ", help="the number of the event it is about")
    note.add_argument("--text", metavar="TEXT", help="what is to say")
    note.add_argument("--import", dest="file", metavar="FILE", help="the notes that the page saved, as JSON")
    note.add_argument("--list", action="store_true", help="list the notes")
    _json_option(note)


def _list_parser(actions: Any) -> None:
    runs = add_command(
        actions,
        "list",
        "list the runs below a folder",
        f"rlm trace list {RUNS} --sort cost",
        "rlm.commands.runs:runs",
    )
    runs.add_argument("runs", metavar="RUNS", help="a folder of runs")
    runs.add_argument(
        "--sort",
        default="started",
        metavar="FIELD",
        help="by a field that --json shows, such as cost, coverage or verdict; times and numbers from the largest on "
        "(%(default)s)",
    )
    runs.add_argument("--reverse", action="store_true", help="the other way round")
    runs.add_argument("--stop", metavar="WHY", help="only those that ended so: answer, budget, unclosed, ...")
    runs.add_argument(
        "--verdict", metavar="WORD", help="only those that a reviewer called so, or none for none"
    )
    runs.add_argument("--signer", metavar="NAME", help="only those that NAME has signed; not checked here")
    runs.add_argument("--since", metavar="DATE", help="only those begun at that date or later: 2026-01-31")
    runs.add_argument(
        "--search", metavar="WORDS", help="only those with all these words in questions and answers"
    )
    _json_option(runs)


def _export_parser(actions: Any) -> None:
    export = _action(
        actions,
        "export",
        "give a run to other tools: as one text for a ticket, or as OpenTelemetry spans",
        " --markdown -o run.md",
        "rlm.commands.export:export",
    )
    ways = export.add_mutually_exclusive_group(required=True)
    ways.add_argument("--markdown", action="store_true", help="as one text that can be pasted into a ticket")
    ways.add_argument("--otlp", metavar="URL", help="send spans to this OTLP/HTTP endpoint")
    export.add_argument(
        "-o", "--output", metavar="FILE", help="with --markdown: the file, else standard output"
    )
    export.add_argument(
        "--with-contents",
        action="store_true",
        help="with --otlp: questions, prompts, replies, code and results too, which leave your machine then",
    )
    _head_option(export)


def _replay_options(replay: argparse.ArgumentParser) -> None:
    replay.add_argument(
        "--anyway", action="store_true", help="over another index too, to see what changes first"
    )
    fork = replay.add_argument_group("fork", "follow the record up to a turn, and go on live from there")
    fork.add_argument(
        "--from",
        dest="turn",
        type=int,
        metavar="TURN",
        help="the turn of the root model from which a new run goes on; with --model and -o",
    )
    fork.add_argument("--model", metavar="M", help="the root model from there on")
    fork.add_argument("--child-model", metavar="M", help="the model of sub-calls from there on")
    fork.add_argument("-o", "--output", metavar="NEWRUN", help="the folder of the new run")
    add_model_options(replay)
    for name, kind in (
        ("--max-usd", float),
        ("--max-calls", int),
        ("--max-tokens", int),
        ("--timeout", float),
    ):
        fork.add_argument(name, type=kind, metavar="N", help=f"as {name} of rlm ask")
    fork.add_argument("--allow-unpriced", action="store_true", help="as that of rlm ask")
    add_memo_option(fork)


def review_parser(commands: Any) -> None:
    review = add_command(
        commands,
        "review",
        "write the audit page of a run, of two side by side, or a site of many",
        f"rlm review {A_RUN} -o page.html --index docs.index",
        "rlm.commands.review:review",
    )
    review.add_argument(
        "runs", metavar="RUN", nargs="+", help="a run's folder; two to compare them; or a folder of many runs"
    )
    review.add_argument(
        "-o", "--output", required=True, metavar="PAGE", help="the HTML file, or of many runs the folder"
    )
    review.add_argument(
        "--index", metavar="INDEX", help="the index that was asked: the check searches it anew, for the page"
    )
    review.add_argument(
        "--embedder", metavar="FOLDER", help="a model's folder, where another than the built-in one built it"
    )
    review.add_argument(
        "--allowed-signers", metavar="FILE", help="whose signatures count, as ssh-keygen reads it"
    )
    review.add_argument(
        "--timestamp-ca",
        metavar="FILE",
        help="the certificates, as PEM, of the authority whose timestamp counts",
    )
    _head_option(review)


def _head_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--head",
        metavar="HASH",
        help="the hash of the last line, as rlm ask printed it and as kept elsewhere",
    )
