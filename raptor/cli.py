"""The command `raptor`: build an index, look at one. Nothing heavy is imported before a command runs."""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from index_store.reader import Index
    from index_store.types import Node
    from raptor.build import BuildReport
    from raptor.documents import Failure

EXAMPLE = """example:
  raptor build docs/ notes.md -o my.index && raptor inspect my.index
"""

SKIPPED_SHOWN = 10


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="raptor",
        description="Build a tree of summaries over documents, and look at it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _build_parser(commands)
    _inspect_parser(commands)
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
        "source", nargs="+", help="files, folders, globs, or a .jsonl of {_id, title, text} lines"
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
    build.add_argument("--json", action="store_true", help="print the report as JSON")
    build.set_defaults(run=_build)


def _inspect_parser(commands: Any) -> None:
    inspect = _command(
        commands, "inspect", "show an index's levels, labels and models", "raptor inspect my.index"
    )
    inspect.add_argument("index", metavar="INDEX")
    inspect.add_argument("--depth", type=int, default=2, help="levels of the tree to show (%(default)s)")
    inspect.add_argument("--json", action="store_true", help="print it as JSON")
    inspect.set_defaults(run=_inspect)


def _build(args: argparse.Namespace) -> int:
    from raptor.build import build_index
    from raptor.progress import show_progress
    from raptor.settings import read_settings

    settings = read_settings(args.config) if args.config else None
    with show_progress() as progress:
        report = build_index(
            args.source,
            args.output,
            summarizer=args.summarizer,
            embedder=args.embedder,
            settings=settings,
            progress=progress,
        )
    _tell_skipped(report.failures)
    print(json.dumps(report.as_json()) if args.json else _said(report))
    return 0


def _tell_skipped(failures: "Sequence[Failure]") -> None:
    for failure in failures[:SKIPPED_SHOWN]:
        print(f"skipped {failure.source}: {failure.reason}", file=sys.stderr)
    if len(failures) > SKIPPED_SHOWN:
        more = len(failures) - SKIPPED_SHOWN
        print(f"skipped {more:,} more; --json lists them all", file=sys.stderr)


def _said(report: "BuildReport") -> str:
    levels = " -> ".join(f"{n:,}" for n in report.levels)
    stages = ", ".join(f"{stage} {s:.1f} s" for stage, s in report.seconds.items())
    skipped = f", {len(report.failures)} skipped" if report.failures else ""
    tokens = report.prompt_tokens + report.completion_tokens
    again = "" if report.new else " (unchanged: nothing new was published)"
    return (
        f"{report.index}: generation {report.generation}{again}, {report.bytes / 1e6:.1f} MB\n"
        f"  {report.documents:,} documents{skipped}; nodes a level: {levels}\n"
        f"  {report.calls:,} model calls, {tokens:,} tokens, ${report.usd:.4f}\n"
        f"  {stages}"
    )


def _inspect(args: argparse.Namespace) -> int:
    from index_store.reader import open_index

    index = open_index(args.index)
    print(json.dumps(_facts(index, args.depth)) if args.json else _picture(index, args.depth))
    return 0


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
        f"{facts['index']}: generation {facts['generation']}, {facts['documents']:,} documents, "
        f"{facts['characters']:,} characters, {facts['bytes'] / 1e6:.1f} MB",
        f"models: {', '.join(f'{k} {v}' for k, v in models.items())}",
        f"digest: {facts['digest']}",
        "",
    ]
    for s in reversed(facts["levels"]):
        children = f", {s['mean_children']} children each" if s["level"] else " (chunks)"
        lines.append(f"level {s['level']}: {s['nodes']:,} nodes, {s['tokens']:,} tokens{children}")
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
    from raptor.errors import RaptorError
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
        print("raptor: stopped; nothing was published", file=sys.stderr)
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
