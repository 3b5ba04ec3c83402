"""A server of S3 on loopback, moto's, with a bucket of each test's own."""

import logging
import secrets
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

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
