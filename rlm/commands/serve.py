"""`rlm serve`: indexes over HTTP."""

import argparse
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from index_store.access import of_reader
from index_store.errors import BrokenIndex
from index_store.index import open_any
from index_store.terminal import say, spelled
from rlm.asking.runs import check_embedder, check_models
from rlm.commands.given import limits_of, named_models
from rlm.errors import RlmError
from rlm.limits import RUNS
from rlm.serving.addresses import address, is_loopback, listening

if TYPE_CHECKING:
    from rlm.serving.settings import Settings
    from rlm.serving.types import State

CONNECTIONS = 2_048  # that wait to be taken
LACKING = "rlm serve needs the extra `serve`: pip install 'raptor-rlm[serve]'"


def serve(args: argparse.Namespace) -> int:
    """Serve until a signal comes. Returns the exit code."""
    try:
        import uvicorn

        from rlm.serving.app import create_app
        from rlm.serving.guard import hush_what_is_cut_off, log_requests
    except ModuleNotFoundError as e:
        if (e.name or "").startswith("rlm"):
            raise
        raise RlmError(LACKING) from e
    settings = _settings(args)
    state = _state(args, settings)
    if not is_loopback(args.host) and not state.has_keys():
        state.close()
        raise RlmError(
            f"--host {args.host} lets others ask, and no key was made; make one by rlm keys add NAME, or leave --host"
        )
    if not args.quiet:
        log_requests()
    app = create_app(settings, state)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=max(1, round(settings.drain_s)) + 5,
    )

    class Draining(uvicorn.Server):
        """One that takes no new questions from the moment a signal comes."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Let what runs come to its end; a second Ctrl-C does not wait for it."""
            app.state.server.jobs.drain(settings.drain_s)
            if self.should_exit:
                hush_what_is_cut_off()
            super().handle_exit(sig, frame)

    with listening(args.host, args.port, CONNECTIONS) as listens:
        names = ", ".join(settings.indexes) or "no index yet"
        say(f"serving {names} at {address(args.host, listens)}", file=sys.stderr, flush=True)
        try:
            Draining(config).run(sockets=[listens])
        except KeyboardInterrupt:  # which the server sends on, once it has ended
            say("rlm: stopped", file=sys.stderr)
    return 0


def _settings(args: argparse.Namespace) -> "Settings":
    from rlm.serving.settings import Settings, named_indexes
    from rlm.serving.state.place import data_folder

    data = Path(args.data) if args.data else data_folder()
    runs = Path(args.runs) if args.runs else data / RUNS
    for folder in (data, runs):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as e:
            raise RlmError(f"cannot make the folder {spelled(str(folder))}: {e.strerror or e}") from e
    models, window = named_models(args, args.model, args.child_model)
    check_models(models)
    indexes = named_indexes(args.index)
    _check_embedders(indexes, args.embedder)
    if args.max_running is not None and args.max_running < 1:
        raise RlmError(f"--max-running is {args.max_running}; give at least 1")
    return Settings(
        indexes,
        data.resolve(),
        runs.resolve(),
        models,
        limits_of(args, window),
        args.max_running or 2 * (os.cpu_count() or 1),
        access=of_reader(args.access),
        embedder=args.embedder,
        summarizer=args.summarizer or "",
        drain_s=args.drain,
    )


def _check_embedders(indexes: Mapping[str, str | Path], embedder: str | None) -> None:
    """Raise RlmError or BadQuery where the embedder of an index was not named, or is another. Of one at a URL, which
    is fetched when it is first asked, this is said then; and so it is of one that cannot be read, for the others' sake.
    """
    for place in indexes.values():
        if isinstance(place, Path):
            with suppress(BrokenIndex):
                check_embedder(open_any(place, embedder).by_its_own())


def _state(args: argparse.Namespace, settings: "Settings") -> "State":
    from rlm.serving.state.database import Database
    from rlm.serving.state.place import default_url

    return Database(args.db or default_url(settings.data))
