"""Send bytes by HTTP to an address that a person named, and nowhere else."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from index_store.terminal import one_line
from rlm.errors import RlmError

TRIES = 3
_PATIENCE_S = 30.0
_WAIT_S = 30.0  # at most between two tries
_AGAIN = frozenset({429, 502, 503, 504})
_SAID_BYTES = 2_000


class _NotElsewhere(urllib.request.HTTPRedirectHandler):
    """Follows nobody to another address: what is sent was meant for this one."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NotElsewhere)


def post(url: str, body: bytes, headers: Mapping[str, str], *, limit: int = 1 << 20) -> bytes:
    """What came back, of which no more than `limit` bytes are taken. Where the other side is busy, it is tried again.

    Raises RlmError, in one sentence without what an address has of a password.
    """
    place = checked(url)
    for attempt in range(TRIES):
        wait_s = min(2.0**attempt, _WAIT_S)
        try:
            request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
            with _OPENER.open(request, timeout=_PATIENCE_S) as reply:
                content: bytes = reply.read(limit + 1)
            if len(content) > limit:
                raise RlmError(f"{place} replied with more than {limit:,} bytes, which is no reply to this")
            return content
        except urllib.error.HTTPError as error:
            with error:
                said, asked = _said(error), error.headers.get("Retry-After", "")
            problem = f"HTTP {error.code}{f': {said}' if said else ''}"
            if error.code not in _AGAIN:
                raise RlmError(f"{place} refused what was sent ({problem}); look at the address") from error
            wait_s = min(float(asked), _WAIT_S) if asked.isascii() and asked.isdigit() else wait_s
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            problem = one_line(str(getattr(reason, "strerror", None) or reason or type(error).__name__), 200)
        if attempt + 1 < TRIES:
            time.sleep(wait_s)
    raise RlmError(f"{place} was tried {TRIES} times and did not take it ({problem}); is it up?")


def checked(url: str) -> str:
    """The host of an address, as an error names it. Raises RlmError where it is no address of HTTP."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isascii()
        port = parts.port
    except ValueError:
        is_one, port = False, None
    if not is_one or any(c.isspace() or not c.isprintable() for c in url):
        raise RlmError(f"{one_line(url, 80)!r} is no address; give one such as http://localhost:4318")
    return one_line(f"{parts.scheme}://{parts.hostname}{f':{port}' if port else ''}", 200)


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return one_line(error.read(_SAID_BYTES).decode("utf-8", "replace"), 200)
    except (OSError, http.client.HTTPException, ValueError):
        return ""
