"""The command `raptor`: build an index, look at one. Nothing heavy is imported before a command runs."""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from raptor.errors import RaptorError

if TYPE_CHECKING:
    from index_store.reader import Index
    from index_store.types import Node
    from raptor.build import BuildReport, Spending
    from raptor.estimate import Estimate
    from raptor.loading.metadata import Metadata
    from raptor.loading.readers import Failure
    from raptor.settings import BuildSettings

EXAMPLE = """example:
  raptor build docs/ notes.md -o my.index && raptor inspect my.index
"""


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="raptor",
        description="Build a tree of summaries over documents, and look at it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_build_parser, _update_parser, _remove_parser, _inspect_parser, _verify_parser):
        add(commands)
    _generations_parser(commands)
    _prune_parser(commands)
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


def _build_parser(commands: Any) -> None:
    build = _command(commands, "build", "build an index from documents", "raptor build docs/ -o my.index")
    build.add_argument(
        "source",
        nargs="+",
        help="files, folders, globs, or a .jsonl of {_id, title, text} lines, whose other fields are metadata",
    )
    build.add_argument("-o", "--output", required=True, metavar="INDEX", help="the index folder")
    build.add_argument(
        "--summarizer",
        default="offline/extractive",
        metavar="MODEL",
        help="a litellm model name (%(default)s)",
    )
    build.add_argument(
        "--embedder",
        default="minilm",
        metavar="NAME",
        help="minilm, or a sentence-transformers name (%(default)s)",
    )
    build.add_argument(
        "--config", metavar="FILE", help="settings as TOML: chunk_tokens, summary_tokens, [cluster] ..."
    )
    build.add_argument(
        "--cluster", choices=["fast", "paper"], help="paper: RAPTOR's own procedure, slow, for comparison"
    )
    _metadata_option(build)
    build.add_argument(
        "--dry-run",
        action="store_true",
        help="say what it would cost; what is free is done and kept for the build",
    )
    _spending_options(build)
    build.set_defaults(run=_build)


def _metadata_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--meta",
        metavar="FILE",
        help='fields of documents, to search by: .jsonl or .csv with an "_id" or "doc"',
    )


def _spending_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-usd",
        type=float,
        metavar="USD",
        help="hard ceiling on dollars for this run; a build that is expected to cost more does not start",
    )
    command.add_argument(
        "--max-errors",
        type=int,
        default=10,
        metavar="N",
        help="failed summaries after which it stops (%(default)s)",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")


def _update_parser(commands: Any) -> None:
    update = _command(
        commands, "update", "add documents, or replace changed ones", "raptor update my.index docs/new.md"
    )
    update.add_argument("index", metavar="INDEX")
    update.add_argument(
        "source",
        nargs="+",
        help="as for build; documents whose text is unchanged cost nothing. A file below a folder that was "
        "indexed before keeps the id that it has below that folder (docs/a/b.md of docs/: a/b.md)",
    )
    _metadata_option(update)
    update.add_argument("--summarizer", metavar="MODEL", help="another than the one that built the index")
    _spending_options(update)
    update.set_defaults(run=_update)


def _remove_parser(commands: Any) -> None:
    remove = _command(
        commands, "remove", "remove documents from an index", "raptor remove my.index docs/old.md"
    )
    remove.add_argument("index", metavar="INDEX")
    remove.add_argument("doc", nargs="+", metavar="DOC", help="document ids")
    remove.add_argument("--summarizer", metavar="MODEL", help="another than the one that built the index")
    _spending_options(remove)
    remove.set_defaults(run=_remove)


def _verify_parser(commands: Any) -> None:
    verify = _command(commands, "verify", "check every byte and edge of an index", "raptor verify my.index")
    verify.add_argument("index", metavar="INDEX")
    verify.add_argument("--json", action="store_true", help="print it as JSON")
    verify.set_defaults(run=_verify)


def _generations_parser(commands: Any) -> None:
    generations = _command(
        commands,
        "generations",
        "list an index's generations, or go back to one",
        "raptor generations my.index",
    )
    generations.add_argument("index", metavar="INDEX")
    generations.add_argument("--rollback", type=int, metavar="N", help="make generation N the live one again")
    generations.add_argument("--json", action="store_true", help="print it as JSON")
    generations.set_defaults(run=_generations)


def _prune_parser(commands: Any) -> None:
    prune = _command(
        commands, "prune", "delete old generations of an index", "raptor prune my.index --keep 2"
    )
    prune.add_argument("index", metavar="INDEX")
    prune.add_argument(
        "--keep",
        type=int,
        default=1,
        metavar="N",
        help="how many generations stay: the live one, and the N-1 newest others (%(default)s)",
    )
    prune.add_argument("--json", action="store_true", help="print it as JSON")
    prune.set_defaults(run=_prune)


def _inspect_parser(commands: Any) -> None:
    inspect = _command(
        commands, "inspect", "show an index's levels, labels and models", "raptor inspect my.index"
    )
    inspect.add_argument("index", metavar="INDEX")
    inspect.add_argument("--depth", type=int, default=2, help="levels of the tree to show (%(default)s)")
    inspect.add_argument(
        "--node", metavar="ID", help="one node: its text, what is above and below it, and its sources"
    )
    inspect.add_argument(
        "--at", metavar="DOC:START-END", help="the nodes above a range of characters of a document"
    )
    inspect.add_argument(
        "--documents", action="store_true", help="the documents: id, characters, title, a line each"
    )
    inspect.add_argument("--html", metavar="FILE", help="draw the tree as one self-contained page")
    inspect.add_argument("--json", action="store_true", help="print it as JSON")
    inspect.set_defaults(run=_inspect)


def _build(args: argparse.Namespace) -> int:
    from raptor.build import build_index
    from raptor.progress import show_progress

    spending = _spending(args)
    if args.dry_run:
        return _dry_run(args)
    with show_progress() as progress:
        report = build_index(
            args.source,
            args.output,
            summarizer=args.summarizer,
            embedder=args.embedder,
            settings=_settings(args),
            metadata=_metadata(args.meta),
            spending=spending,
            progress=progress,
        )
    return _tell(report, args.json)


def _metadata(file: str | None) -> "Metadata | None":
    from raptor.loading.metadata import read_metadata

    return read_metadata(file) if file else None


def _settings(args: argparse.Namespace) -> "BuildSettings":
    from dataclasses import replace

    from raptor.settings import BuildSettings, read_settings

    settings = read_settings(args.config) if args.config else BuildSettings()
    if args.cluster:
        settings = replace(settings, cluster=replace(settings.cluster, method=args.cluster))
    return settings


def _spending(args: argparse.Namespace) -> "Spending":
    from raptor.build import Spending

    return Spending(args.max_usd, args.max_errors)


def _dry_run(args: argparse.Namespace) -> int:
    from raptor.estimate import check_cap, estimate
    from raptor.progress import show_progress

    _metadata(args.meta)  # a bad file is better told now than by the build
    with show_progress() as progress:
        expected, failures = estimate(
            args.source,
            args.output,
            summarizer=args.summarizer,
            embedder=args.embedder,
            settings=_settings(args),
            progress=progress,
        )
    _tell_skipped(failures)
    print(json.dumps(expected.as_json()) if args.json else _estimate_said(expected, args))
    check_cap(expected, args.max_usd)
    return 0


def _estimate_said(expected: "Estimate", args: argparse.Namespace) -> str:
    levels = " -> ".join(f"{n:,}" for n in expected.levels)
    price = "its price is not known"
    if expected.usd_low is not None and expected.usd_high is not None:
        price = f"${expected.usd_low:.4f} to ${expected.usd_high:.4f}"
    paid = (
        f"; {counted(expected.recorded, 'more is', 'more are')} paid for already" if expected.recorded else ""
    )
    return (
        f"{counted(expected.documents, 'document')}, {counted(expected.chunks, 'chunk')}; "
        f"nodes a level: {levels}\n"
        f"  {counted(expected.calls, 'call')} of {args.summarizer}, {expected.prompt_tokens:,} tokens in, "
        f"{expected.completion_tokens:,} out: {price}{paid}\n"
        f"  about {expected.minutes:g} minutes more, {size_said(expected.disk_bytes)} on disk\n"
        f"  nothing was paid for; embeddings are kept in {args.output}/build.sqlite for the build"
    )


def counted(n: int, one: str, many: str = "") -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def size_said(size: int) -> str:
    """Bytes in the unit that leaves a few digits."""
    kilo, mega = size / 1e3, size / 1e6
    return f"{size} bytes" if size < 1000 else f"{kilo:.0f} kB" if mega < 1 else f"{mega:,.1f} MB"


def _update(args: argparse.Namespace) -> int:
    return _changed(args, args.source, [], _metadata(args.meta))


def _remove(args: argparse.Namespace) -> int:
    return _changed(args, [], args.doc)


def _changed(
    args: argparse.Namespace,
    sources: Sequence[str],
    remove: Sequence[str],
    metadata: "Metadata | None" = None,
) -> int:
    from raptor.build import update_index
    from raptor.progress import show_progress

    with show_progress() as progress:
        report = update_index(
            args.index,
            sources,
            remove=remove,
            summarizer=args.summarizer,
            metadata=metadata,
            spending=_spending(args),
            progress=progress,
        )
    return _tell(report, args.json)


def _tell(report: "BuildReport", as_json: bool) -> int:
    _tell_skipped(report.failures)
    for unused in report.unused_metadata:
        print(f"metadata {unused.source}: {unused.reason}", file=sys.stderr)
    print(json.dumps(report.as_json()) if as_json else _said(report))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from index_store.verify import verify
    from raptor.progress import show_progress

    with show_progress() as progress:
        problems = verify(args.index, lambda done, total: progress("verify", done, total))
    print(
        json.dumps({"ok": not problems, "problems": problems}) if args.json else "\n".join(problems) or "ok"
    )
    return 1 if problems else 0


def _generations(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from index_store.generations import generations, rollback

    if args.rollback is not None:
        rollback(args.index, args.rollback)
    found = generations(args.index)
    if args.json:
        print(json.dumps([asdict(g) for g in found]))
        return 0
    for g in found:
        levels = " -> ".join(f"{n:,}" for n in g.levels)
        live = "*" if g.live else " "
        print(
            f"{live} {g.number:6}  {counted(g.documents, 'document')}  {levels}  {size_said(g.bytes)}  {g.digest[:12]}"
        )
    return 0


def _prune(args: argparse.Namespace) -> int:
    from raptor.pruning import prune_index

    gone, dropped = prune_index(args.index, args.keep)
    said = f"deleted: {', '.join(map(str, gone)) or 'none'}"
    said += f"; {counted(dropped, 'recorded result')} no longer needed" if dropped else ""
    print(json.dumps({"deleted": gone, "dropped": dropped}) if args.json else said)
    return 0


def _tell_skipped(failures: "Sequence[Failure]") -> None:
    for failure in failures:
        print(f"skipped {failure.source}: {failure.reason}", file=sys.stderr)


def _said(report: "BuildReport") -> str:
    levels = " -> ".join(f"{n:,}" for n in report.levels)
    stages = ", ".join(f"{stage} {s:.1f} s" for stage, s in report.seconds.items())
    skipped = f", {len(report.failures):,} skipped" if report.failures else ""
    tokens = report.prompt_tokens + report.completion_tokens
    again = "" if report.new else " (unchanged: nothing new was published)"
    return (
        f"{report.index}: generation {report.generation}{again}, {size_said(report.bytes)}\n"
        f"  {counted(report.documents, 'document')}{skipped}{_changes_said(report)}; nodes a level: {levels}\n"
        f"  {counted(report.calls, 'model call')}, {counted(tokens, 'token')}, ${report.usd:.4f}\n"
        f"  {stages}"
    )


def _changes_said(report: "BuildReport") -> str:
    c = report.changes
    if not (c.unchanged or c.changed or c.removed):
        return ""
    return f" ({c.added:,} added, {c.changed:,} changed, {c.removed:,} removed)"


def _inspect(args: argparse.Namespace) -> int:
    from index_store.reader import open_index

    index = open_index(args.index)
    if args.html:
        return _draw(index, args.html)
    if args.documents:
        return _list_documents(index, args.json)
    if args.node or args.at:
        facts = _node_facts(index, args.node) if args.node else {"above": _above(index, args.at)}
        print(json.dumps(facts) if args.json else _facts_said(facts))
        return 0
    print(json.dumps(_facts(index, args.depth)) if args.json else _picture(index, args.depth))
    return 0


def _draw(index: "Index", file: str) -> int:
    from pathlib import Path

    from index_store.picture import page

    try:
        partial = Path(f"{file}.partial")
        partial.write_text(page(index), encoding="utf-8")
        partial.replace(file)
    except OSError as e:
        raise RaptorError(f"cannot write the page {file}: {e.strerror or e}") from e
    print(file)
    return 0


def _list_documents(index: "Index", as_json: bool) -> int:
    """Each document with tabs between its fields, so that other programs can cut the lines."""
    for d in index.documents:
        facts = {
            "id": d.id,
            "characters": d.chars,
            "title": d.title,
            "source": d.source,
            "pages": len(d.pages),
        }
        if as_json:
            print(json.dumps(facts | {"meta": dict(d.meta)}))
        else:
            print("\t".join([_plain(d.id), f"{d.chars:,}", _plain(d.title)]))
    return 0


def _node_facts(index: "Index", node: str) -> dict[str, Any]:
    """A node with its text, its neighbours in the tree, and the characters it stands on."""
    from dataclasses import asdict

    from index_store.provenance import sources

    return {
        "node": node,
        "label": index.node(node).label,
        "text": index.text(node),
        "path": [n.id for n in index.path_to(node)],
        "parents": [n.id for n in index.parents(node)],
        "children": [n.id for n in index.children(node)],
        "sources": [asdict(s.span) | {"pages": s.pages} for s in sources(index, node)],
    }


def _above(index: "Index", place: str) -> list[dict[str, Any]]:
    """The nodes over a range given as DOC:START-END."""
    import re

    from index_store.provenance import above
    from index_store.types import Span

    parts = re.fullmatch(r"(.+):(\d+)-(\d+)", place, re.DOTALL | re.ASCII)
    if parts is None:
        raise RaptorError(f"--at is {place!r}; write it as DOC:START-END, for example notes.md:120-480")
    found = above(index, Span(parts[1], int(parts[2]), int(parts[3])))
    return [{"node": n.id, "level": n.level, "label": n.label} for n in found]


def _facts_said(facts: dict[str, Any]) -> str:
    return "\n".join(line for name, value in facts.items() for line in _fact_lines(name, value))


def _fact_lines(name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        return [f"{name}: {value}"]
    shown = [
        " ".join(str(v) for v in x.values() if v is not None) if isinstance(x, dict) else str(x)
        for x in value
    ]
    return [f"{name}: {len(value)}", *(f"  {line}" for line in shown)]


def _facts(index: "Index", depth: int) -> dict[str, Any]:
    from dataclasses import asdict

    from index_store.graph import level_stats

    manifest = index.manifest
    return {
        "index": str(index.path),
        "generation": manifest.generation,
        "digest": manifest.digest,
        "documents": manifest.documents,
        "characters": index.chars,
        "nodes": len(index),
        "levels": [asdict(s) for s in level_stats(index)],
        "models": dict(manifest.models),
        "settings": dict(manifest.settings),
        "bytes": sum(f.size for f in manifest.files.values()),
        "tree": _branch(index, index.root, depth),
    }


def _branch(index: "Index", node: "Node", depth: int) -> dict[str, Any]:
    children = index.children(node.id)
    shown = [_branch(index, c, depth - 1) for c in children] if depth > 0 else []
    return {"node": node.id, "label": node.label, "children": len(children), "shown": shown}


def _plain(text: str) -> str:
    """`text` for a terminal: what cannot be printed, and could command one, as `?`."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _picture(index: "Index", depth: int) -> str:
    facts = _facts(index, 0)
    models = {k: _plain(v) for k, v in facts["models"].items() if "fingerprint" not in k}
    lines = [
        f"{facts['index']}: generation {facts['generation']}, {counted(facts['documents'], 'document')}, "
        f"{counted(facts['characters'], 'character')}, {size_said(facts['bytes'])}",
        f"models: {', '.join(f'{k} {v}' for k, v in models.items())}",
        f"digest: {facts['digest']}",
        "",
    ]
    for s in reversed(facts["levels"]):
        children = f", {s['mean_children']} children each" if s["level"] else " (chunks)"
        size = f"{counted(s['nodes'], 'node')}, {counted(s['tokens'], 'token')}"
        lines.append(f"level {s['level']}: {size}{children}")
    return "\n".join([*lines, "", *_tree_lines(index, index.root, depth)])


def _tree_lines(index: "Index", node: "Node", depth: int, indent: str = "") -> list[str]:
    children = index.children(node.id)
    lines = [f"{indent}{node.id}  {_plain(node.label)}" + (f"  ({len(children)} below)" if children else "")]
    if depth > 0:
        for child in children:
            lines += _tree_lines(index, child, depth - 1, indent + "  ")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input is one sentence on standard error and exit code 2."""
    args = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    from index_store.errors import IndexStoreError
    from rlm.gateway.errors import GatewayError

    _never_fail_to_print()
    try:
        code = run(args)
        sys.stdout.flush()
        return code
    except (RaptorError, IndexStoreError, GatewayError) as e:
        print(f"raptor: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("raptor: stopped; nothing was published; the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, which is no error of ours
        # Nor may the last flush fail, at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _never_fail_to_print() -> None:
    """A file name or a label may hold what the terminal's encoding lacks; better escaped than a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
