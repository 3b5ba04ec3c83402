"""The command `raptor`: build an index, look at one. What a command runs is named here and imported when it runs."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from index_store.config import ConfigError, offer, parsed
from index_store.embedder import AUTO, DEVICES, PRECISIONS
from index_store.errors import IndexStoreError
from index_store.terminal import Parser, add_command, command_line, logged, one_line, prepare, say
from raptor.clustering.settings import METHODS
from raptor.engines.engine import ENGINES, LOCAL
from raptor.errors import RaptorError
from raptor.loading.kinds import TYPES
from raptor.settings import BY, EMBEDDER, SUMMARIZER, Sharding, Spending
from rlm.gateway.errors import GatewayError
from rlm.gateway.naming import add_model_options

if TYPE_CHECKING:
    from index_store.terminal import Subcommands

EXAMPLE = "raptor build docs/ notes.md -o my.index && raptor inspect my.index"


def parser() -> Parser:
    """The parser; `run` of what it parses names the function that runs the command, as `module:function`."""
    main, commands = command_line(
        "raptor", "Build a tree of summaries over documents, and look at it.", EXAMPLE
    )
    _build_parser(commands)
    _shard_parser(commands)
    _update_parser(commands)
    _sync_parser(commands)
    _remove_parser(commands)
    _inspect_parser(commands)
    _verify_parser(commands)
    _check_sources_parser(commands)
    _generations_parser(commands)
    _prune_parser(commands)
    _push_parser(commands)
    _pull_parser(commands)
    _init_parser(commands)
    _config_parser(commands)
    offer(commands.choices)
    return main


def _build_parser(commands: "Subcommands") -> None:
    build = add_command(
        commands,
        "build",
        "build an index from documents",
        "raptor build docs/ -o my.index",
        "raptor.commands.build:build",
        progress=True,
    )
    _build_options(build)


def _shard_parser(commands: "Subcommands") -> None:
    shard = add_command(
        commands,
        "shard",
        "build an index in parts, each an index of its own, with one tree over their roots",
        "raptor shard archive/ --by folder -o my.index",
        "raptor.commands.build:shard",
        progress=True,
    )
    shard.add_argument(
        "--by",
        choices=BY,
        default=Sharding().by,
        help="what goes into one shard. size: documents in their order, as many as fit; folder: each folder at the "
        "top of the ids; access: the documents that the same readers may read. A folder, or what some may read, that "
        "does not fit into one shard fills several (%(default)s)",
    )
    shard.add_argument(
        "--shard-chunks",
        type=int,
        default=Sharding().chunks,
        metavar="N",
        help="most chunks of a shard; a document is never cut, so one that has more is alone in its own (%(default)s)",
    )
    _build_options(shard)


def _build_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "source",
        nargs="+",
        help="files, folders, globs, archives, or a .jsonl of {_id, title, text} lines; other fields are metadata. "
        f"Read are {TYPES}",
    )
    command.add_argument("-o", "--output", required=True, metavar="INDEX", help="the index folder")
    command.add_argument(
        "--summarizer",
        default=SUMMARIZER,
        metavar="MODEL",
        help="a litellm model name, or a short one of your own (%(default)s)",
    )
    add_model_options(command)
    command.add_argument(
        "--embedder",
        default=EMBEDDER,
        metavar="NAME",
        help="minilm, a sentence-transformers name, or litellm/NAME, which is called and paid for (%(default)s)",
    )
    _device_option(command)
    command.add_argument(
        "--cluster", choices=METHODS, help="paper: RAPTOR's own procedure, slow, for comparison"
    )
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="what embeddings are computed in; auto: bfloat16, in half the time, where the processor has it (auto)",
    )
    _picking_options(command)
    _metadata_option(command)
    _reading_options(command)
    command.add_argument(
        "--ocr-language",
        metavar="NAMES",
        help="of pages that are pictures, as tesseract names it: deu+eng (English)",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="say within seconds what it would take in time and dollars, by measuring a part; nothing is written",
    )
    command.add_argument(
        "--replace",
        action="store_true",
        help="drop the documents of an index there that the sources do not hold; without it that is refused",
    )
    _engine_options(command)
    _spending_options(command)


def _device_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device",
        choices=DEVICES,
        default=AUTO,
        help="where embeddings are computed; auto: on a GPU if torch sees one (%(default)s)",
    )


def _metadata_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--meta",
        metavar="FILE",
        help='fields of documents, to search by: .jsonl or .csv with an "_id" or "doc"',
    )


def _picking_options(command: argparse.ArgumentParser) -> None:
    for name, about in (("include", "take of each folder only"), ("exclude", "leave out of each folder")):
        command.add_argument(
            f"--{name}",
            action="append",
            metavar="PATTERN",
            help=f"{about} what a pattern fits, as in .gitignore; may be repeated, and sync keeps to it",
        )


def _reading_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--encoding",
        metavar="NAME",
        help="the encoding of every text file, such as latin-1 or utf-16; without it each file's own is found out",
    )
    _opening_options(command)


def _opening_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--password",
        default="",
        metavar="WORDS",
        help="what opens encrypted PDFs and archives; it is kept nowhere",
    )
    command.add_argument(
        "--follow-links",
        action="store_true",
        help="read links to files that lie outside the folders named; without it they are skipped",
    )


def _engine_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--engine",
        choices=ENGINES,
        default=LOCAL,
        help="where it is computed: on this machine, or on a Ray cluster; the index is the same (%(default)s)",
    )
    command.add_argument(
        "--address",
        default="",
        metavar="HOST:PORT",
        help="the head of the Ray cluster (what RAY_ADDRESS names, or else a cluster of this machine alone)",
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
        default=Spending().max_errors,
        metavar="N",
        help="failed summaries after which it stops (%(default)s)",
    )
    command.add_argument("--json", action="store_true", help="print the report as JSON")


def _update_parser(commands: "Subcommands") -> None:
    update = add_command(
        commands,
        "update",
        "add documents, or replace changed ones",
        "raptor update my.index docs/new.md",
        "raptor.commands.build:update",
        progress=True,
    )
    update.add_argument("index", metavar="INDEX")
    update.add_argument(
        "source",
        nargs="+",
        help="as for build; documents whose text is unchanged cost nothing. A file below a folder that was "
        "indexed before keeps the id that it has below that folder (docs/a/b.md of docs/: a/b.md)",
    )
    _picking_options(update)
    _metadata_option(update)
    _reading_options(update)
    _engine_options(update)
    _change_options(update)


def _sync_parser(commands: "Subcommands") -> None:
    sync = add_command(
        commands,
        "sync",
        "make an index what its sources are now: added, changed, renamed and deleted documents",
        "raptor sync my.index --dry-run",
        "raptor.commands.build:sync",
        progress=True,
    )
    sync.add_argument("index", metavar="INDEX")
    _opening_options(sync)
    _dry_run_option(sync)
    sync.add_argument(
        "--again", action="store_true", help="bring back what remove took out, if a source still has it"
    )
    _leave_option(sync)
    _engine_options(sync)
    _change_options(sync)


def _leave_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--yes",
        action="store_true",
        help="read the sources that it names even where it was built elsewhere and they lie outside of this folder",
    )


def _dry_run_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="say what would change, and write nothing")


def _remove_parser(commands: "Subcommands") -> None:
    remove = add_command(
        commands,
        "remove",
        "remove documents from an index",
        "raptor remove my.index docs/old.md",
        "raptor.commands.build:remove",
        progress=True,
    )
    remove.add_argument("index", metavar="INDEX")
    remove.add_argument(
        "doc",
        nargs="+",
        metavar="DOC",
        help="ids; files, folders, globs or .jsonl that documents came from, even if they are gone by now; folders and "
        "globs of ids; or a .jsonl that lists ids. What is still in a source comes back with sync --again only",
    )
    remove.add_argument(
        "--purge",
        action="store_true",
        help="delete the earlier generations too, recorded texts, and copies for readers in your cache: what was "
        "removed is then in runs alone",
    )
    _dry_run_option(remove)
    _change_options(remove)


def _change_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--summarizer",
        metavar="MODEL",
        help="who summarises, where that is not to be, or cannot be, an offline model that built the index",
    )
    add_model_options(command)
    command.add_argument(
        "--embedder", metavar="NAME", help="the embedder that built the index, where that is not minilm"
    )
    _device_option(command)
    _spending_options(command)


def _verify_parser(commands: "Subcommands") -> None:
    verify = add_command(
        commands,
        "verify",
        "check every byte and edge of an index",
        "raptor verify my.index",
        "raptor.commands.keep:verify",
        progress=True,
    )
    verify.add_argument("index", metavar="INDEX")
    verify.add_argument("--json", action="store_true", help="print it as JSON")


def _check_sources_parser(commands: "Subcommands") -> None:
    check = add_command(
        commands,
        "check-sources",
        "say which files changed or are gone since they were indexed",
        "raptor check-sources my.index --run runs/20260101-120000-what-is-a-ketch",
        "raptor.commands.keep:check_sources",
        progress=True,
    )
    check.add_argument("index", metavar="INDEX")
    check.add_argument(
        "--run", dest="run_folder", metavar="RUN", help="a folder of rlm ask: only what its answer cites"
    )
    _opening_options(check)
    _leave_option(check)
    check.add_argument("--json", action="store_true", help="print it as JSON")


def _generations_parser(commands: "Subcommands") -> None:
    generations = add_command(
        commands,
        "generations",
        "list an index's generations, or go back to one",
        "raptor generations my.index",
        "raptor.commands.keep:generations",
    )
    generations.add_argument("index", metavar="INDEX")
    generations.add_argument(
        "--rollback",
        type=_number_or_digest,
        metavar="N",
        help="make generation N the live one again, or the one whose digest begins so",
    )
    generations.add_argument("--json", action="store_true", help="print it as JSON")


def _number_or_digest(given: str) -> int | str:
    """What names a generation: its number, or at least eight signs of its digest."""
    if re.fullmatch(r"[0-9a-f]{8,64}", given):
        return given
    if re.fullmatch(r"[0-9]{1,7}", given):
        return int(given)
    raise argparse.ArgumentTypeError(f"{given!r} is neither a number nor 8 signs or more of a digest")


def _prune_parser(commands: "Subcommands") -> None:
    prune = add_command(
        commands,
        "prune",
        "delete old generations of an index",
        "raptor prune my.index --keep 2",
        "raptor.commands.keep:prune",
    )
    prune.add_argument("index", metavar="INDEX")
    prune.add_argument(
        "--keep",
        type=int,
        default=1,
        metavar="N",
        help="how many generations stay: the live one, and the N-1 newest others (%(default)s)",
    )
    prune.add_argument(
        "--grace",
        type=float,
        metavar="HOURS",
        help="of a URL: what is younger stays, as somebody may be fetching or sending it (24)",
    )
    prune.add_argument("--json", action="store_true", help="print it as JSON")


def _push_parser(commands: "Subcommands") -> None:
    push = add_command(
        commands,
        "push",
        "publish an index at a URL: a bucket or a shared folder",
        "raptor push my.index s3://bucket/my.index",
        "raptor.commands.stores:push_index",
        progress=True,
    )
    push.add_argument("index", metavar="INDEX", help="the index folder")
    _url_argument(push)
    push.add_argument(
        "--replace",
        action="store_true",
        help="send every file anew, and replace also what somebody else has published there",
    )
    push.add_argument("--json", action="store_true", help="print it as JSON")


def _pull_parser(commands: "Subcommands") -> None:
    pull = add_command(
        commands,
        "pull",
        "get an index from a URL into a folder, to change it there or to have it without a network",
        "raptor pull s3://bucket/my.index my.index",
        "raptor.commands.stores:pull_index",
        progress=True,
    )
    _url_argument(pull)
    pull.add_argument("index", metavar="INDEX", help="the index folder; made where it is missing")
    pull.add_argument(
        "--replace",
        action="store_true",
        help="where the folder holds what was not pushed, make that an earlier generation",
    )
    pull.add_argument("--json", action="store_true", help="print it as JSON")


def _url_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "url",
        metavar="URL",
        help="s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH or file:///PATH; keys come from the environment, "
        "as the cloud's own tools have them",
    )


def _inspect_parser(commands: "Subcommands") -> None:
    inspect = add_command(
        commands,
        "inspect",
        "show an index's levels, labels and models",
        "raptor inspect my.index",
        "raptor.commands.inspect:inspect",
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
    inspect.add_argument(
        "--as",
        dest="access",
        metavar="LABELS",
        help="as a reader with these labels, with commas between, sees it; '' is what is open to all",
    )
    inspect.add_argument("--html", metavar="FILE", help="draw the tree as one self-contained page")
    inspect.add_argument("--json", action="store_true", help="print it as JSON")


def _init_parser(commands: "Subcommands") -> None:
    init = add_command(
        commands,
        "init",
        "write a raptor.toml with every setting, for a folder and all below it",
        "raptor init contracts/",
        "raptor.commands.config:init",
    )
    init.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="where (here)")


def _config_parser(commands: "Subcommands") -> None:
    shown = add_command(
        commands,
        "config",
        "show which settings hold here, and where each is from",
        "raptor config",
        "raptor.commands.config:show",
    )
    shown.add_argument(
        "--config", metavar="FILE", help="of this file, instead of a raptor.toml found upwards"
    )
    shown.add_argument("--json", action="store_true", help="print it as JSON")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input is one sentence on standard error and exit code 2."""
    try:
        args = parsed(parser(), "build", argv)
    except ConfigError as e:
        say(f"raptor: {one_line(str(e), 2_000)}", file=sys.stderr)
        return 2
    prepare(sys.stdout, sys.stderr)
    try:
        with logged(args.verbose, quiet=args.quiet):
            run: Callable[[argparse.Namespace], int] = resolve_name(args.run)
            code = run(args)
        sys.stdout.flush()
        return code
    except (RaptorError, IndexStoreError, GatewayError) as e:
        say(f"raptor: {one_line(str(e), 2_000)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("raptor: stopped; nothing was published; the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, which is no error of ours
        # Nor may the last flush fail, at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
