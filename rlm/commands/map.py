"""`rlm map`: the same question to every row, without a root model; a table of answers, each with its span."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from index_store.files import replace_file
from index_store.index import open_any
from index_store.terminal import brief, count, one_line, print_json, say, spelled
from index_store.types import Json
from rlm.asking.runs import early_folder, ready
from rlm.asking.tables import Asked, Table, goes_on, map_opened, opened_to_plan, plan_opened
from rlm.audit.maps import counts_in_words, map_in_words
from rlm.commands.answers import UNFINISHED
from rlm.commands.given import typed_text
from rlm.commands.live import live
from rlm.commands.options import options_of
from rlm.errors import RlmError
from rlm.gateway.blocking import run_blocking
from rlm.limits import Limits
from rlm.loop.mapped import figures
from rlm.mapping.types import KINDS, Plan

#: What a field may be beside labels.
SPECS = KINDS[1:]


def table(args: argparse.Namespace) -> int:
    """Ask every row, write the table, say what came of it. Returns the exit code."""
    asked, output = asked_by(args), _output(args)
    if args.dry_run:
        return _priced(args, asked)
    try:
        with (
            live(sys.stderr, quiet=args.quiet) as watch,
            early_folder(Path(args.runs), asked.question) as folder,
        ):
            options = options_of(args, args.given, watch)
            opened = ready(open_any(args.index, args.embedder, args.access, lazy=args.lazy), options.models)
            tabled = run_blocking(map_opened(opened, asked, options, folder))
    except KeyboardInterrupt:
        say(goes_on(kept=not args.no_memo), file=sys.stderr)
        raise
    written = as_csv(tabled) if output is None or output.suffix == ".csv" else as_jsonl(tabled)
    if output is not None:
        _write(output, written)
    if args.json:
        print_json(tabled.as_json() | {"output": args.output})
    elif output is None:
        say(written, end="")
        say("\n".join(_summary(tabled, None)), file=sys.stderr)
    else:
        say("\n".join(_summary(tabled, args.output)))
    return UNFINISHED if tabled.failed else 0


def _output(args: argparse.Namespace) -> Path | None:
    """Where the table goes; None for standard output. Raises RlmError where it cannot go there: looked at before
    anything is paid for."""
    if args.output is None:
        return None
    path, shown = Path(args.output), spelled(args.output)
    if path.suffix not in (".csv", ".jsonl"):
        raise RlmError(f"the table goes to {shown}; name a file that ends with .csv or .jsonl")
    if path.is_symlink():
        raise RlmError(f"the table goes to {shown}, which is a link; name the file that it points to")
    if path.is_dir():
        raise RlmError(f"the table goes to {shown}, which is a folder; name a file in it")
    if not path.parent.is_dir():
        raise RlmError(f"the table goes to {shown}, and there is no such folder; make it, or name another")
    for read in filter(None, (args.index, args.fields)):
        if path.exists() and Path(read).exists() and path.samefile(read):
            raise RlmError(f"the table goes to {shown}, which is what is read; name another file")
    try:
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as e:
        raise _unwritable(path, e) from e
    return path


def _write(path: Path, written: str) -> None:
    try:
        replace_file(path, written.encode("utf-8", "replace"))
    except OSError as e:
        raise _unwritable(path, e) from e


def _unwritable(path: Path, error: OSError) -> RlmError:
    why = error.strerror or error
    return RlmError(
        f"the table goes to {spelled(str(path))}, where nothing can be written ({why}); name another file"
    )


def asked_by(args: argparse.Namespace) -> Asked:
    """What a command line asks of each row. Raises RlmError for what cannot be asked."""
    return Asked(
        typed_text(args.question, "question"),
        fields_by(args.fields, args.field),
        args.split,
        args.under,
        args.given.models.root if args.strong else None,
        args.sure,
        args.pack_tokens,
        {"auto": None, "yes": True, "no": False}[args.calibrate],
    )


def fields_by(file: str | None, single: Sequence[str]) -> dict[str, Json]:
    """The fields of a JSON file, and those of `--field NAME=SPEC`, whose spec is one of SPECS or labels with bars
    between them. Raises RlmError."""
    given = {} if file is None else _fields_in(file)
    for pair in single:
        name, is_pair, spec = pair.partition("=")
        if not is_pair or not name or not spec:
            raise RlmError(
                f"--field is {brief(pair)}; write it as NAME=SPEC, such as amount=number or label=spam|ham"
            )
        if spec not in SPECS and "|" not in spec:  # a word typed wrong would be the one label that there is
            raise RlmError(
                f"--field is {brief(pair)}; give labels with bars between them, or one of {', '.join(SPECS)}"
            )
        if name in given:
            raise RlmError(f"the field {brief(name)} is given twice; give each once")
        given[name] = spec if spec in SPECS else [label.strip() for label in spec.split("|")]
    if not given:
        raise RlmError("say what each row is asked for: --field label='spam|ham', or --fields FILE")
    return given


def _fields_in(file: str) -> dict[str, Json]:
    try:
        given = json.loads(Path(file).read_text(encoding="utf-8"), object_pairs_hook=_once)
    except OSError as e:
        raise RlmError(f"cannot read the fields in {spelled(file)}: {e.strerror or e}") from e
    except (ValueError, RecursionError) as e:
        raise RlmError(f"the fields in {spelled(file)} are no JSON: {one_line(str(e), 200)}") from e
    if not isinstance(given, dict):
        raise RlmError(
            f'{spelled(file)} holds no fields; write an object such as {{"label": ["spam", "ham"]}}'
        )
    return given


def _once(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    named = dict(pairs)
    if len(named) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RlmError(f"the field {brief(twice)} is given twice; give each once")
    return named


# -- the table ---------------------------------------------------------------------------------------------


def as_csv(table: Table) -> str:
    """A table as CSV: where each row stands, its fields, and why it has no answer."""
    out = io.StringIO()
    writer = csv.DictWriter(out, table.columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in table)
    return out.getvalue()


def _cell(value: Json) -> Json:
    """A value as a cell: true and false in JSON's words, and no text that a spreadsheet would run."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    words = value.replace("\r\n", "\n").replace(
        "\r", "\n"
    )  # a \r alone would stand outside of quotation marks
    return f"'{words}" if words[:1] in ("=", "+", "-", "@", "\t") else words


def as_jsonl(table: Table) -> str:
    """A table as JSON, a line for each row."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table)


def _summary(table: Table, output: str | None) -> Iterable[str]:
    yield map_in_words(figures(table.mapped) | {"agreement": {}}) + (f": {spelled(output)}" if output else "")
    for field in table.counted:
        yield f"{one_line(field, 60)}: {counts_in_words(table.counts(field))}"
    for name, agreed in table.agreement.items():
        shares = f"{agreed.share:.1%} ({agreed.low:.1%} to {agreed.high:.1%})"
        yield f"{one_line(name, 60)}: two readings of {count(agreed.rows, 'row')} agree in {shares}"
    if table.why:
        yield f"stopped: {one_line(table.why, 300)}; {goes_on(kept=table.kept)}"
    if table.trouble:
        yield one_line(table.trouble, 300)
    used = table.usage
    dollars = f"${used.usd:.4f}" if table.priced else "price not known"
    yield f"stop: {table.stop}; {count(used.calls, 'call')}, {count(used.tokens, 'token')}, {dollars}"
    yield f"trace: {spelled(str(table.trace))}"
    yield f"head:  {table.head}"


# -- what it will cost -------------------------------------------------------------------------------------


def _priced(args: argparse.Namespace, asked: Asked) -> int:
    with live(sys.stderr, quiet=args.quiet) as watch:
        options = options_of(args, args.given, watch)
        opened = opened_to_plan(
            open_any(args.index, args.embedder, args.access, lazy=args.lazy), options.models
        )
        plan = plan_opened(opened, asked, options)
    short = list(too_little(plan, options.limits))
    if args.json:
        print_json(plan_json(plan) | {"too_little": short})
    else:
        say("\n".join([*_planned(plan), *short]))
    return 0


def too_little(plan: Plan, limits: Limits) -> Iterable[str]:
    """A sentence on each cap that is less than a plan takes, as expected or at most."""
    amounts = [
        ("--max-usd", "${:.6f}", limits.usd, plan.usd, plan.most_usd),
        ("--max-tokens", "{:,}", limits.tokens, plan.tokens, plan.most_tokens),
        ("--max-calls", "{:,}", limits.calls, plan.calls, plan.calls),
    ]
    for option, form, cap, expected, most in amounts:
        if cap is None or expected is None or most is None or most <= cap:
            continue
        if cap < expected:
            takes = f"{form.format(expected)} that is expected: rows will be left without an answer"
        else:
            takes = f"{form.format(most)} that is set aside at most: rows may be left without an answer"
        yield f"{option} is {form.format(cap)}, less than the {takes}"


def plan_json(plan: Plan) -> dict[str, Json]:
    """A plan as the command line prints it."""
    stages: list[dict[str, Json]] = [
        {
            "reading": stage.turn,
            "model": stage.model,
            "rows": stage.rows,
            "calls": stage.calls,
            "text_tokens": stage.text_tokens,
            "prompt_tokens": stage.prompt_tokens,
            "reply_tokens": stage.reply_tokens,
            "usd": stage.usd,
            "most_usd": stage.most_usd,
        }
        for stage in plan.stages
    ]
    return {
        "rows": plan.rows,
        "distinct": plan.distinct,
        "stored": plan.stored,
        "calls": plan.calls,
        "tokens": plan.tokens,
        "most_tokens": plan.most_tokens,
        "usd": plan.usd,
        "most_usd": plan.most_usd,
        "stages": stages,
    }


def _planned(plan: Plan) -> Iterable[str]:
    same = f", {count(plan.distinct, 'text')} that differ" if plan.distinct < plan.rows else ""
    stored = f", {plan.stored:,} in the store" if plan.stored else ""
    yield f"{count(plan.rows, 'row')}{same}{stored}: {count(plan.calls, 'call')}, if none has to be repeated"
    for stage in plan.stages:
        usd, most = stage.usd, stage.most_usd
        cost = "price not known" if usd is None or most is None else f"about ${usd:.4f}, at most ${most:.4f}"
        yield (
            f"  {stage.turn} reading, {stage.model}: {count(stage.rows, 'row')}, {count(stage.calls, 'call')}, "
            f"{count(stage.prompt_tokens, 'prompt token')}, about {stage.reply_tokens:,} of replies; {cost}"
        )
