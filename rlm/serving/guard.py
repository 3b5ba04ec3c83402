"""What every request passes: whose it is, how much it may send, and what every reply carries."""

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlm.serving.addresses import is_loopback
from rlm.serving.open_state import EVERYTHING
from rlm.serving.problems import Problem, problem_of, response
from rlm.serving.server import Server
from rlm.serving.types import Grant

_access = logging.getLogger("rlm.access")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: What a browser is told of every reply; a route may say otherwise of its own.
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; "
    "object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_GUARDED = ("/api/", "/v1/", "/metrics")
#: Threads of their own: those of the event loop may all be busy with an index that takes long to open.
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="rlm-guard")


class Guard:
    """ASGI middleware around an app, whose `state.server` it asks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        server: Server = scope["app"].state.server
        began, status, is_begun = time.monotonic(), 500, False
        body = _Body(server, scope, receive)
        scope.setdefault("state", {})

        async def answer(message: Message) -> None:
            nonlocal status, is_begun
            if message["type"] == "http.response.start":
                status, is_begun = message["status"], True
                message = {**message, "headers": _with_ours(message.get("headers", ()))}
            await send(message)

        try:
            try:
                scope["state"]["grant"] = await _admitted(server, scope)
                body.check_length()
            except Problem as problem:
                await response(scope["path"], problem)(scope, receive, answer)
                return
            await self._app(scope, body.receive, answer)
        except Exception as e:  # that nobody foresaw; it is logged, and told without a trace of itself
            if is_begun:
                raise
            await response(scope["path"], problem_of(e))(scope, receive, answer)
        finally:
            _log(server, scope, status, time.monotonic() - began)


def _with_ours(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    given = {name.lower() for name, _ in headers}
    ours = ((name.encode(), value.encode()) for name, value in HEADERS.items())
    return [*headers, *(pair for pair in ours if pair[0] not in given)]


def _log(server: Server, scope: Scope, status: int, seconds: float) -> None:
    """The line of a request: of its contents nothing, not even its address."""
    route = getattr(scope.get("route"), "path", None) or ("static" if status < 400 else "-")
    grant = scope["state"].get("grant")
    key = grant.key if isinstance(grant, Grant) and grant.key else "-"
    method = scope["method"] if scope["method"] in _METHODS else "other"
    _access.info("%s %s %d %.0f ms key=%s", method, route, status, seconds * 1000, key)
    server.metrics.asked(method, route, status, seconds)


def log_requests() -> None:
    """Write a line for each request where our warnings go, and there too what uvicorn warns of."""
    _access.setLevel(logging.INFO)
    logging.getLogger("uvicorn").parent = _access.parent


def hush_what_is_cut_off() -> None:
    """Write no traceback of a request that a second Ctrl-C cuts off: it would say nothing."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)


# -- whose it is -------------------------------------------------------------------------------------------


async def _admitted(server: Server, scope: Scope) -> Grant:
    """What the request may do. Raises Problem where it may not be made at all."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    is_guarded = scope["path"].startswith(_GUARDED)
    asking = partial(_grant, server, headers, scope["scheme"], is_guarded)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, asking)


def _grant(server: Server, headers: dict[str, str], scheme: str, is_guarded: bool) -> Grant:
    state = server.state
    if not state.has_keys():
        _check_local(headers, scheme)
        return EVERYTHING
    if not is_guarded:
        return Grant(may_write=False, is_admin=False, indexes=frozenset())
    kind, _, secret = headers.get("authorization", "").partition(" ")
    grant = state.grant(secret.strip()) if kind.lower() == "bearer" and secret else None
    if grant is None:
        told = (
            "the key is not known here, or was revoked"
            if secret
            else "no key; send Authorization: Bearer rk-..."
        )
        raise Problem(401, told, "invalid_api_key", {"WWW-Authenticate": "Bearer"})
    if (wait_s := state.wait_s(grant)) > 0:
        seconds = max(math.ceil(wait_s), 1)
        raise Problem(
            429,
            f"the key may make {grant.requests_per_minute} requests a minute; wait {seconds} s",
            "rate_limit_exceeded",
            {"Retry-After": str(seconds)},
        )
    return grant


def _check_local(headers: dict[str, str], scheme: str) -> None:
    """Raise Problem unless the address asked for is this machine's, and the page that asks is ours: without a key, any
    page in a browser here could ask otherwise, by a name that leads to this machine."""
    host = headers.get("host", "")
    if not is_loopback(_without_port(host)):
        raise Problem(
            403,
            "without a key the server answers at localhost alone; make one by rlm keys add",
            "forbidden_host",
        )
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"{scheme}://{host}".lower():
        raise Problem(403, "a page of another origin asks, which is not let in", "forbidden_origin")


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


# -- how much it may send ----------------------------------------------------------------------------------


class _Body:
    """The body of a request, as far as it may be long, and comes in time."""

    def __init__(self, server: Server, scope: Scope, receive: Receive) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        # Files are written to disk as they come; any other body is held in memory, whatever it says of itself.
        is_upload = scope["path"].startswith("/api/indexes/") and scope["path"].endswith("/documents")
        settings = server.settings
        self._most = settings.upload_bytes if is_upload else settings.json_bytes
        self._told = headers.get(b"content-length", b"0")
        self._receive, self._body_s = receive, settings.body_s
        self._read, self._is_whole = 0, False

    def check_length(self) -> None:
        """Raise Problem where the request says itself that it is too long."""
        if not self._told.isdigit() or int(self._told[:18]) > self._most:
            raise Problem(413, self._too_long, "too_long")

    async def receive(self) -> Any:
        """The next message of the request."""
        if self._is_whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._body_s)
        except TimeoutError:
            raise HTTPException(408, "the rest of the body did not come in time") from None
        self._is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        self._read += len(message.get("body", b""))
        if self._read > self._most:
            raise HTTPException(413, self._too_long)  # FastAPI, which reads it, lets no other through
        return message

    @property
    def _too_long(self) -> str:
        return f"the body is longer than {self._most:,} bytes; send less"
