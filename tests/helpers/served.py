"""A server in a thread of this process, asked over real HTTP."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import uvicorn

from rlm.gateway.purse import Purse
from rlm.serving.app import create_app
from rlm.serving.open_state import OpenState
from rlm.serving.server import Server
from rlm.serving.settings import Settings
from rlm.serving.types import Grant, RunRow, State

PATIENCE_S = 120.0  # a busy machine is slow; only a failing test waits so long


@dataclass(frozen=True, slots=True)
class Served:
    """A server under way. `url`: without a slash at its end."""

    url: str
    server: Server

    @property
    def port(self) -> int:
        """Where it listens on this machine."""
        return int(self.url.rpartition(":")[2])

    def client(self, key: str = "") -> httpx.Client:
        """A client of its own API."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S)

    def openai(self, key: str = "none") -> openai.OpenAI:
        """OpenAI's own client, which asks once."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, timeout=PATIENCE_S, max_retries=0)


@contextmanager
def serving(settings: Settings, state: State | None = None) -> Iterator[Served]:
    """Serve until the block ends."""
    app = create_app(settings, state)
    config = uvicorn.Config(app, log_config=None, log_level="critical", access_log=False, ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield Served(f"http://127.0.0.1:{sock.getsockname()[1]}", app.state.server)
        finally:
            server.should_exit = True
            thread.join()


def raw_request(path: str, body: object) -> bytes:
    """The bytes of a request, for a client that goes away without a word."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def wait_until(is_so: Callable[[], object], what: str = "it") -> None:
    """Wait until something holds; fail where it does not within PATIENCE_S."""
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, f"waited in vain: {what}"
        time.sleep(0.01)


class EmptyPurse:
    """A purse with nothing in it, from which nothing is asked."""

    key = "empty"

    def reserve(self, amounts: Mapping[str, int]) -> None:
        raise AssertionError("nothing is to be reserved")

    def exchange(self, reservation: str, pico: int) -> None:
        raise AssertionError("nothing is to be exchanged")

    def settle(self, reservation: str, pico: int) -> None:
        raise AssertionError("nothing is to be settled")

    def release(self, reservations: Sequence[str]) -> None:
        raise AssertionError("nothing is to be released")

    def left(self) -> int | None:
        return 0


class KeyedState(OpenState):
    """A state with keys, in memory. `waits`: seconds that a key must wait; `broke`: keys without money."""

    def __init__(self, grants: dict[str, Grant]) -> None:
        super().__init__()
        self.grants, self.is_well = grants, True
        self.waits: dict[str, float] = {}
        self.broke: set[str] = set()

    def has_keys(self) -> bool:
        return True

    def grant(self, secret: str) -> Grant | None:
        return self.grants.get(secret)

    def wait_s(self, grant: Grant) -> float:
        return self.waits.get(grant.key, 0.0)

    def purse(self, grant: Grant) -> Purse | None:
        return EmptyPurse() if grant.key in self.broke else None

    def runs(
        self, grant: Grant, *, index: str | None = None, limit: int = 50, offset: int = 0
    ) -> Sequence[RunRow]:
        every = super().runs(grant, index=index, limit=10**9)
        return [run for run in every if grant.is_admin or run.key == grant.key][offset : offset + limit]

    def run(self, grant: Grant, folder: str) -> RunRow | None:
        found = super().run(grant, folder)
        return found if found and (grant.is_admin or found.key == grant.key) else None

    def is_ready(self) -> bool:
        return self.is_well


def settings_of(folder: Path, *indexes: Path, **more: object) -> Settings:
    """The settings of a server over some indexes, which keeps all else in a folder."""
    known: dict[str, object] = {"max_running": 2, "drain_s": 5.0, **more}
    named = {path.stem: path for path in indexes}
    return Settings(named, folder / "data", folder / "runs", **known)  # type: ignore[arg-type]
