"""`rlm keys`: make, list and revoke the keys of a server, and make its list of runs anew."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from index_store.access import labels
from index_store.terminal import add_command, count, one_line, print_json, say, visible
from rlm.errors import RlmError
from rlm.limits import RUNS
from rlm.serving.types import Grant

if TYPE_CHECKING:
    from rlm.serving.state.database import Database
    from rlm.serving.state.keys import Key

EVERYTHING = "*"
_HEADS = [
    "id",
    "name",
    "begins",
    "spent today",
    "a day",
    "a minute",
    "indexes",
    "models",
    "may read",
    "may",
    "state",
]


def keys_parser(commands: Any) -> None:
    keys = add_command(
        commands,
        "keys",
        "make, list and revoke the keys of a server, and make its list of runs anew",
        "rlm keys list",
        "rlm.commands.keys:keys",
    )
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    for add in (_add_parser, _list_parser, _revoke_parser, _rebuild_parser):
        add(actions)


def _add_parser(actions: Any) -> None:
    add = _action(
        actions, "add", "make a key; it is shown once", "rlm keys add alice --index docs --usd-per-day 2"
    )
    add.add_argument("name", metavar="NAME", help="whose key it is")
    add.add_argument(
        "--index", action="append", metavar="I", help="an index it may ask; may be repeated; all by default"
    )
    add.add_argument(
        "--model", action="append", metavar="M", help="a model it may ask; may be repeated; all by default"
    )
    add.add_argument(
        "--usd-per-day", type=float, metavar="X", help="dollars in a day of UTC; no ceiling by default"
    )
    add.add_argument("--requests-per-minute", type=int, metavar="N", help="requests in any 60 seconds")
    add.add_argument(
        "--as",
        dest="access",
        default="",
        metavar="LABELS",
        help="the labels of documents it may read, with commas between; '*' for everything; by default what is open "
        "to all",
    )
    add.add_argument(
        "--write",
        action="store_true",
        help="it may build and update indexes, with --as '*' alone, as that replaces documents of any label",
    )
    add.add_argument("--admin", action="store_true", help="it may see the runs of all keys, and /metrics")


def _list_parser(actions: Any) -> None:
    _action(actions, "list", "list the keys, with what they spent today, by UTC", "rlm keys list")


def _revoke_parser(actions: Any) -> None:
    revoke = _action(actions, "revoke", "revoke a key, for good", "rlm keys revoke alice")
    revoke.add_argument("key", metavar="KEY", help="its id or its name")


def _rebuild_parser(actions: Any) -> None:
    rebuild = _action(
        actions,
        "rebuild",
        "make the list of runs, and what was spent, anew from the folders of runs",
        f"rlm keys rebuild --runs {RUNS}",
    )
    rebuild.add_argument("--runs", required=True, metavar="DIR", help="the folder of runs")


def _action(actions: Any, name: str, what: str, example: str) -> Any:
    command = add_command(actions, name, what, example, "rlm.commands.keys:keys")
    command.add_argument(
        "--db",
        metavar="URL",
        help="the database: a file, or postgresql://USER@HOST/NAME, of which libpq's PGPASSWORD or ~/.pgpass may hold "
        "the password; by default the file in your folder for data",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    return command


def keys(args: argparse.Namespace) -> int:
    """Do what was asked for with the keys. Returns the exit code."""
    from rlm.serving.state.place import check_extra, default_url

    check_extra("rlm keys")
    from rlm.serving.state.connecting import missing_file
    from rlm.serving.state.database import Database

    actions: dict[str, Callable[[Database, argparse.Namespace], None]] = {
        "add": _add,
        "list": _list,
        "revoke": _revoke,
        "rebuild": _rebuild,
    }
    wanted = _wanted(args) if args.action == "add" else None
    url = default_url() if args.db is None else args.db
    if args.action != "add" and (missing := missing_file(url)) is not None:
        raise RlmError(
            f"there is no database at {missing}; name the server's own by --db, or make a first key, and with it the "
            "database: rlm keys add NAME"
        )
    database = Database(url)
    args.wanted = wanted
    try:
        actions[args.action](database, args)
    finally:
        database.close()
    return 0


def _wanted(args: argparse.Namespace) -> Grant:
    access = frozenset[str]() if not args.access.strip() else labels(args.access, "--as")
    return Grant(
        name=args.name,
        indexes=None if args.index is None else frozenset(args.index),
        models=None if args.model is None else frozenset(args.model),
        access=None if args.access.strip() == EVERYTHING else access,
        usd_per_day=args.usd_per_day,
        requests_per_minute=args.requests_per_minute,
        may_write=args.write,
        is_admin=args.admin,
    )


def _add(database: "Database", args: argparse.Namespace) -> None:
    grant, secret = database.add_key(args.wanted)
    if args.json:
        print_json({"id": grant.key, "name": grant.name, "key": secret})
        return
    say(secret)
    say(
        f"this is the key {grant.key} of {grant.name}; keep it now, as nothing can show it again",
        file=sys.stderr,
    )


def _list(database: "Database", args: argparse.Namespace) -> None:
    found = database.list_keys()
    if args.json:
        print_json([_json(key) for key in found])
        return
    rows = [_HEADS, *map(_row, found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    say(visible("\n".join(lines)))


def _revoke(database: "Database", args: argparse.Namespace) -> None:
    grant = database.revoke_key(args.key)
    print_json({"id": grant.key, "name": grant.name}) if args.json else say(
        f"the key {grant.key} of {one_line(grant.name, 100)} is revoked"
    )


def _rebuild(database: "Database", args: argparse.Namespace) -> None:
    from rlm.serving.state.rebuilding import found_in, rebuild

    found = found_in(Path(args.runs))
    rebuild(database, found)
    days = len({day for _, day in found.spent})
    if args.json:
        print_json({"runs": len(found.runs), "days": days, "unread": list(found.unread)})
        return
    say(f"{count(len(found.runs), 'run')} listed, and spending of {count(days, 'day')} entered")
    for name in found.unread:
        say(f"left out, as its trace cannot be read: {one_line(name, 200)}", file=sys.stderr)


def _json(key: "Key") -> dict[str, Any]:
    """A key as JSON; null stands for all, or no limit."""
    words = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(key.grant).items()
    }
    told = {name: value for name, value in asdict(key).items() if name != "grant"}
    return {"id": words.pop("key"), **words, **told}


def _row(key: "Key") -> list[str]:
    grant = key.grant
    may = " ".join(
        word for word, has in (("ask", True), ("write", grant.may_write), ("admin", grant.is_admin)) if has
    )
    cells = [
        grant.key,
        grant.name,
        f"{key.start}...",
        f"${key.spent_usd:.4f}" + (f" (+ ${key.reserved_usd:.4f})" if key.reserved_usd else ""),
        "" if grant.usd_per_day is None else f"${grant.usd_per_day:g}",
        "" if grant.requests_per_minute is None else f"{grant.requests_per_minute}",
        _words(grant.indexes, "all"),
        _words(grant.models, "all"),
        _words(grant.access, "everything") or "what is open to all",
        may,
        "holds" if key.revoked is None else f"revoked {key.revoked[:10]}",
    ]
    return [one_line(cell, 60) for cell in cells]


def _words(values: frozenset[str] | None, everything: str) -> str:
    return everything if values is None else ", ".join(sorted(values))
