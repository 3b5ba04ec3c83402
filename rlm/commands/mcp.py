"""`rlm mcp`: indexes as tools for a client of the Model Context Protocol."""

import argparse
import asyncio
import os
import sys
from typing import Any, NoReturn

from index_store.index import open_any
from index_store.terminal import say, spelled
from rlm.asking.runs import gateway_for, ready
from rlm.commands.given import limits_of, named_models
from rlm.errors import RlmError
from rlm.loop.embedding import paying
from rlm.serving.addresses import address, is_loopback, listening
from rlm.serving.settings import named_indexes
from rlm.serving.state.place import own_data

HOST, PORT = "127.0.0.1", 8765
DRAIN_S = 5  # for what is under way when the server is stopped
CONNECTIONS = 100


def mcp(args: argparse.Namespace) -> int:
    """Serve until the client goes, or until Ctrl-C. Returns the exit code."""
    _check_transport(args)
    paths = named_indexes(args.index)
    models, window = named_models(args, args.model, args.child_model)
    limits = limits_of(args, window)
    from rlm.adapters.mcp import Asking, server_of

    runs = args.runs or own_data("name a folder by --runs") / "runs"  # a client starts it anywhere
    asking = Asking(models, limits, runs)
    opened = {
        name: open_any(path, args.embedder, args.access, lazy=args.lazy).by_its_own()
        for name, path in paths.items()
    }
    indexes = {
        name: paying(ready(index, models), lambda: gateway_for(limits)) for name, index in opened.items()
    }
    server = server_of(indexes, asking)
    if args.http:
        _serve(server, args.host or HOST, PORT if args.port is None else args.port)
    else:
        asyncio.run(server.serve_stdio(_stop))
    return 0


def _stop() -> NoReturn:
    """End as Ctrl-C ends other commands."""
    say("rlm: stopped", file=sys.stderr, flush=True)
    os._exit(130)


def _check_transport(args: argparse.Namespace) -> None:
    """Raise RlmError for a host or port without --http, and for a host that others than this machine's reach."""
    if not args.http and (args.host is not None or args.port is not None):
        raise RlmError("--host and --port go with --http; without it the client speaks over standard input")
    if args.port is not None and not 0 <= args.port <= 65_535:
        raise RlmError(f"--port is {args.port}; give 1 to 65535, or 0 for any that is free")
    if args.host is not None and not is_loopback(args.host):
        raise RlmError(
            f"--host is {args.host!r}, and rlm mcp has no keys, so it serves this machine alone; give {HOST}, ::1 or "
            "localhost"
        )


def _serve(server: Any, host: str, port: int) -> None:
    """Serve over HTTP until a signal comes. Raises RlmError where the port is taken."""
    import uvicorn

    from rlm.adapters.mcp import PATH, app_of

    with listening(host, port) as listens:
        config = uvicorn.Config(
            app_of(server, host, listens.getsockname()[1]),
            log_config=None,
            access_log=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=DRAIN_S,
        )
        say(f"serving at {spelled(address(host, listens))}{PATH[1:]}", file=sys.stderr, flush=True)
        uvicorn.Server(config).run(sockets=[listens])
