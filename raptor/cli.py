"""The command `raptor`: build an index, look at one. Nothing heavy is imported before a command runs."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from raptor.commands.build import _build, _remove, _update
from raptor.commands.inspect import _inspect
from raptor.commands.keep import _generations, _prune, _verify
from raptor.errors import RaptorError

if TYPE_CHECKING:
    pass

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
