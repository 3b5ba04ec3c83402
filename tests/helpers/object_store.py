"""A server of S3 on loopback, moto's, with a bucket of each test's own; and somebody who stands between."""

import logging
import secrets
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

KEY = "a-secret-key-that-nobody-may-see"


@contextmanager
def object_store() -> Iterator[str]:
    """The address of a server, with an environment that names it and the user's key."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with pytest.MonkeyPatch.context() as patch:
            name_it(patch, f"http://{host}:{port}")
            yield f"http://{host}:{port}"
    finally:
        server.stop()


def name_it(patch: pytest.MonkeyPatch, address: str) -> None:
    """Make the environment name a server, and a user."""
    patch.setenv("AWS_ENDPOINT_URL", address)
    patch.setenv("AWS_ACCESS_KEY_ID", "user")
    patch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    patch.setenv("AWS_REGION", "us-east-1")


def new_bucket(address: str) -> str:
    """The URL of a bucket that is made for this."""
    bucket = f"bucket-{secrets.token_hex(4)}"
    request = urllib.request.Request(f"{address}/{bucket}", method="PUT")
    with urllib.request.urlopen(request, timeout=30):
        return f"s3://{bucket}"


@dataclass
class Meddler:
    """What stands between a user and a server. `drops`: beginnings of headers that it takes out. `change`: what becomes
    of the body of a reply, given the path asked. `status`: that of each reply. `asked`: method and path of each request
    so far."""

    drops: tuple[str, ...] = ()
    change: Callable[[str, bytes], bytes] = lambda path, body: body
    status: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def meddling(address: str, meddler: Meddler) -> Iterator[None]:
    """Put somebody between; the environment names them instead of the server."""
    there = urlsplit(address)

    class Between(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Hand a request on, and its reply back."""
            meddler.asked.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            given = {
                name: value
                for name, value in self.headers.items()
                if not name.lower().startswith(meddler.drops or ("-",))
            }
            asking = HTTPConnection(there.hostname or "", there.port, timeout=30)
            asking.request(self.command, self.path, body, given)
            reply = asking.getresponse()
            content = reply.read()
            if self.command == "GET":
                content = meddler.change(self.path, content)
            self.send_response(meddler.status or reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in (
                    "content-length",
                    "transfer-encoding",
                    "connection",
                    "server",
                    "date",
                ):
                    self.send_header(name, value)
            length = reply.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content)
            asking.close()

        do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            name_it(patch, f"http://127.0.0.1:{server.server_port}")
            yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
