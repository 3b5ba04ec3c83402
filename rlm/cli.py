"""The command `rlm`: search an index, ask it, work in its REPL, look at traces. Imports nothing heavy to say --help."""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from index_store.reader import Index
    from index_store.types import Hit

EXAMPLE = """example:
  rlm ask my.index "who signed the lease, and when does it end?"
"""


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="rlm",
        description="Question an index; every step is in a trace that can be checked.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_search_parser, _ask_parser, _shell_parser, _trace_parser, _review_parser):
        add(commands)
    return main


def _command(commands: Any, name: str, help: str, example: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example:\n  {example}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


def _search_parser(commands: Any) -> None:
    search = _command(
        commands, "search", "find nodes by meaning and words", 'rlm search my.index "notice period" -k 5'
    )
    search.add_argument("index", metavar="INDEX")
    search.add_argument("query", nargs="?")
    search.add_argument("-k", type=int, default=10, help="hits (%(default)s)")
    search.add_argument("--mode", default="hybrid", choices=["hybrid", "dense", "lexical", "tree"])
    search.add_argument(
        "--level", type=int, help="one level; without it the chunks, or all levels in mode tree"
    )
    search.add_argument("--doc", metavar="ID", help="one document")
    search.add_argument("--queries", metavar="FILE", help='many queries: .jsonl of {"_id", "text", "scope"?}')
    search.add_argument("--json", action="store_true", help="print JSON")
    search.set_defaults(run=_search)


def _limit_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        default="offline/navigator",
        metavar="M",
        help="the root model, as litellm names it (%(default)s)",
    )
    command.add_argument(
        "--child-model", metavar="M", help="the model of sub-calls (offline/reader, or the root model)"
    )
    command.add_argument("--max-usd", type=float, metavar="USD", help="hard ceiling on dollars")
    command.add_argument("--max-calls", type=int, metavar="N", help="hard ceiling on model calls (200)")
    command.add_argument("--max-tokens", type=int, metavar="N", help="hard ceiling on tokens")
    command.add_argument(
        "--max-turns", type=int, metavar="N", help="turns of the root and of each child (16)"
    )
    command.add_argument("--timeout", type=float, metavar="S", help="wall clock of the run in seconds (600)")


def _ask_parser(commands: Any) -> None:
    ask = _command(
        commands,
        "ask",
        "answer a question with citations",
        'rlm ask my.index "what changed in 2021?" --max-usd 0.50',
    )
    ask.add_argument("index", metavar="INDEX")
    ask.add_argument("question")
    _limit_options(ask)
    ask.add_argument(
        "--runs", default="rlm-runs", metavar="DIR", help="where the trace's folder is made (%(default)s)"
    )
    ask.add_argument("--json", action="store_true", help="print JSON")
    ask.set_defaults(run=_ask)


def _shell_parser(commands: Any) -> None:
    shell = _command(commands, "shell", "work in the sandboxed REPL yourself", "rlm shell my.index")
    shell.add_argument("index", metavar="INDEX")
    _limit_options(shell)
    shell.add_argument(
        "--cell-timeout", type=float, default=10.0, metavar="S", help="seconds a cell may run (%(default)s)"
    )
    shell.add_argument("--fresh", action="store_true", help="start each cell from an empty namespace")
    shell.add_argument(
        "--json", action="store_true", help='read {"code": ...} lines, print one result line each'
    )
    shell.set_defaults(run=_shell)


def _trace_parser(commands: Any) -> None:
    trace = _command(
        commands,
        "trace",
        "show or verify the trace of a run",
        "rlm trace verify rlm-runs/20260101-120000-who",
    )
    trace.add_argument("action", choices=["show", "verify"])
    trace.add_argument("run_folder", metavar="RUN", help="a run's folder")
    trace.add_argument("--head", metavar="HASH", help="verify: the hash of the last line, as kept elsewhere")
    trace.add_argument("--json", action="store_true", help="print JSON")
    trace.set_defaults(run=_trace)


def _review_parser(commands: Any) -> None:
    review = _command(
        commands,
        "review",
        "write the audit page of a run",
        "rlm review rlm-runs/20260101-120000-who -o page.html",
    )
    review.add_argument("run_folder", metavar="RUN", help="a run's folder")
    review.add_argument("-o", "--output", required=True, metavar="PAGE", help="the HTML file")
    review.set_defaults(run=_review)


# -- search ------------------------------------------------------------------------------------------------


def _search(args: argparse.Namespace) -> int:
    from index_store.reader import open_index
    from rlm.errors import RlmError

    if (args.query is None) == (args.queries is None):
        raise RlmError('give one query, or --queries FILE: rlm search INDEX "words"')
    index = open_index(args.index)
    where = {"mode": args.mode, "level": args.level}
    if args.queries is not None:
        for rows in _batches(_queries(args.queries), 256):
            vectors = (
                index.embed_queries([r["text"] for r in rows])
                if args.mode != "lexical"
                else [None] * len(rows)
            )
            for row, vector in zip(rows, vectors, strict=True):
                scope = row.get("scope") or args.doc
                hits = index.search(row["text"], args.k, doc=scope, vector=vector, **where)
                print(json.dumps({"_id": row["_id"], "hits": [_hit_json(h) for h in hits]}), flush=True)
        return 0
    hits = index.search(args.query, args.k, doc=args.doc, **where)
    print(json.dumps([_hit_json(h) for h in hits]) if args.json else _hits_said(index, hits))
    return 0


def _batches(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch


def _queries(path: str) -> Iterator[dict[str, Any]]:
    from rlm.errors import RlmError

    try:
        with Path(path).open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = json.loads(line)
                    if not (isinstance(row, dict) and isinstance(row.get("text"), str) and "_id" in row):
                        raise RlmError(f'{path}, line {number}: expected {{"_id": ..., "text": "..."}}')
                    yield row
    except OSError as e:
        raise RlmError(f"cannot read the queries {path}: {e.strerror or e}") from e
    except (ValueError, RecursionError) as e:
        raise RlmError(f"the queries {path} are not UTF-8 lines of JSON: {e}") from e


def _hit_json(hit: "Hit") -> dict[str, Any]:
    span = hit.span
    place = (
        {"doc": span.doc, "start": span.start, "end": span.end}
        if span
        else dict.fromkeys(("doc", "start", "end"))
    )
    return {"node": hit.node, "level": hit.level, **place, "score": hit.score}


def _hits_said(index: "Index", hits: "Sequence[Hit]") -> str:
    lines = []
    for rank, hit in enumerate(hits, 1):
        where = f"{hit.span.doc} {hit.span.start}-{hit.span.end}" if hit.span else index.node(hit.node).label
        lines.append(f"{rank:2}. {hit.score:7.3f}  {hit.node}  {where}")
        lines.append(f"      {' '.join(index.text(hit.node).split())[:160]}")
    return "\n".join(lines) or "nothing found"


# -- ask ---------------------------------------------------------------------------------------------------


def _settings(args: argparse.Namespace) -> tuple[Any, Any]:
    from rlm.limits import Limits, Models

    given = {
        "usd": args.max_usd,
        "calls": args.max_calls,
        "tokens": args.max_tokens,
        "turns": args.max_turns,
        "timeout_s": args.timeout,
    }
    limits = Limits(**{k: v for k, v in given.items() if v is not None})
    child = "offline/reader" if args.model.startswith("offline/") else args.model
    return Models(args.model, args.child_model or child), limits


def _ask(args: argparse.Namespace) -> int:
    from rlm.answering import ask
    from rlm.live import live

    models, limits = _settings(args)
    answer = ask(
        args.index, args.question, models=models, limits=limits, runs=args.runs, watch=live(sys.stderr)
    )
    print(json.dumps(answer.as_json()) if args.json else _answer_said(answer))
    return 0


def _answer_said(answer: Any) -> str:
    from rlm.audit import read
    from rlm.audit.routing import branches

    lines = [answer.content or f"(no answer: stopped by {answer.stop})", ""]
    for number, c in enumerate(answer.citations, 1):
        place = (
            f"{c.doc} {c.start}-{c.end}" + (f", page {c.page}" if c.page else "")
            if c.doc
            else "not in the source"
        )
        lines.append(f'[{number}] {place} ({c.supported}): "{_short(c.quote)}"')
    lines += ["", "branches entered:"]
    lines += [f"  {b.node}  {b.label}" for b in branches(read(answer.trace)[0]) if b.level][:12]
    u = answer.usage
    lines += [
        "",
        f"stop: {answer.stop}; {u.calls} calls, {u.tokens:,} tokens, ${u.usd:.4f}",
        f"trace: {answer.trace}  (head {answer.head[:16]})",
    ]
    return "\n".join(lines)


def _short(text: str, most: int = 240) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


# -- shell -------------------------------------------------------------------------------------------------


def _shell(args: argparse.Namespace) -> int:
    from rlm.shell import open_shell, talk, talk_json

    models, limits = _settings(args)
    with open_shell(args.index, models, limits, args.cell_timeout) as shell:
        (talk_json if args.json else talk)(shell, fresh=args.fresh)
    return 0


# -- traces ------------------------------------------------------------------------------------------------


def _trace(args: argparse.Namespace) -> int:
    from rlm.audit import read, verify

    if args.action == "verify":
        verdict = verify(args.run_folder, expected_head=args.head)
        facts = {
            "ok": verdict.ok,
            "events": verdict.events,
            "line": verdict.first_bad_line,
            "reason": verdict.reason,
        }
        print(json.dumps(facts | {"head": verdict.head}) if args.json else _verdict_said(verdict))
        return 0 if verdict.ok else 1
    from rlm.audit.timeline import show

    events, verdict = read(args.run_folder)
    print("\n".join(json.dumps(e) for e in events) if args.json else show(events, verdict))
    return 0


def _verdict_said(verdict: Any) -> str:
    if verdict.ok:
        return f"ok: {verdict.events} events, an unbroken chain; head {verdict.head}"
    return f"line {verdict.first_bad_line}: {verdict.reason}"


def _review(args: argparse.Namespace) -> int:
    from rlm.audit import read
    from rlm.audit.page import render
    from rlm.errors import RlmError

    events, verdict = read(args.run_folder)
    page = Path(args.output)
    try:
        partial = page.with_name(f".{page.name}.partial")
        partial.write_text(render(events, verdict), encoding="utf-8")
        partial.replace(page)
    except OSError as e:
        raise RlmError(f"cannot write the page {page}: {e.strerror or e}") from e
    print(page)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input is one sentence on standard error and exit code 2."""
    args = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    from index_store.errors import IndexStoreError
    from rlm.errors import RlmError
    from rlm.gateway.errors import GatewayError

    try:
        return run(args)
    except (RlmError, IndexStoreError, GatewayError) as e:
        print(f"rlm: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rlm: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, which is no error of ours
        return 0


if __name__ == "__main__":
    sys.exit(main())
