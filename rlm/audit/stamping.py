"""A timestamp by RFC 3161: an authority's word that some bytes were there at a time. Asked for over HTTP; read and
checked by stock `openssl ts`, without any network.

What it shows: whoever holds the authority's key says that these bytes existed then. It says nothing of who wrote them,
nor that they are true.
"""

import hashlib
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from index_store.terminal import one_line
from rlm.audit.beside import last_words, ran
from rlm.audit.log import TraceError
from rlm.audit.posting import checked, post

MAX_BYTES = 1 << 20
UNCHECKED = "it was not checked; give the authority's certificates as --timestamp-ca"
_DUMP = re.compile(r"^ {4}[0-9a-f]{4} - ((?:[0-9a-f]{2}[ -])+)", re.M)


@dataclass(frozen=True, slots=True)
class Stamped:
    """What a timestamp is worth. `at`: the time that it names, in ISO form, '' where it cannot be read. `ok`: None
    where nobody checked it."""

    at: str
    ok: bool | None
    reason: str


def ask_for(url: str, content: bytes, send: Callable[..., bytes] = post) -> bytes:
    """A reply of the authority at `url` with a timestamp of `content`. Raises RlmError where it gives none."""
    place = checked(url)
    with tempfile.TemporaryDirectory() as folder:
        data, query, reply = (Path(folder, name) for name in ("data", "query", "reply"))
        data.write_bytes(content)
        made = ran("openssl", "ts", "-query", "-data", data, "-sha256", "-cert", "-out", query)
        if made.returncode:
            raise TraceError(f"openssl cannot ask for a timestamp ({last_words(made)}); install OpenSSL anew")
        asked = _fields(ran("openssl", "ts", "-query", "-in", query, "-text").stdout)
        came = send(url, query.read_bytes(), {"Content-Type": "application/timestamp-query"}, limit=MAX_BYTES)
        told = _told(came)
        if "Time stamp" not in told:
            reply.write_bytes(came)
            said = _fields(ran("openssl", "ts", "-reply", "-in", reply, "-text").stdout)
            words = one_line(
                said.get("Status description", "") or said.get("Status", "no reply of such"), 200
            )
            raise TraceError(f"{place} gave no timestamp ({words}); name another authority")
    if told["imprint"] != _imprint(content) or told.get("Nonce") != asked.get("Nonce"):
        raise TraceError(f"{place} gave a timestamp of something else; name another authority")
    return came


def stamped(reply: bytes, content: bytes, authority: Path | None) -> Stamped:
    """What the timestamp in an authority's reply is worth for `content`. `authority`: its certificates, as PEM.

    They are held against the time that it names, so that a timestamp outlives them. Raises TraceError where they are no
    such file.
    """
    told = _told(reply)
    at = _time(told.get("Time stamp", ""))
    if at is None:
        return Stamped("", False, "it cannot be read")
    time = at.isoformat()
    if told["imprint"] != _imprint(content):
        return Stamped(time, False, "it is of something else")
    if authority is None:
        return Stamped(time, None, UNCHECKED)
    try:
        has_one = b"-----BEGIN CERTIFICATE-----" in authority.read_bytes()
    except OSError as error:
        raise TraceError(
            f"cannot read {authority}: {error.strerror}; name the authority's certificates"
        ) from error
    if not has_one:
        raise TraceError(f"{authority} holds no certificate; name those of the authority, as PEM")
    with tempfile.TemporaryDirectory() as folder:
        data, token = Path(folder, "data"), Path(folder, "token")
        data.write_bytes(content)
        token.write_bytes(reply)
        whom: list[str | Path] = ["-CAfile", authority, "-attime", str(int(at.timestamp()))]
        done = ran("openssl", "ts", "-verify", "-in", token, "-data", data, *whom)
    why = "the authority says that it was there then" if not done.returncode else _why(done.stderr)
    return Stamped(time, not done.returncode, why)


def _why(said: bytes) -> str:
    """What openssl found first, without the places in its own code."""
    errors = [
        line.split(":", 7) for line in said.decode("utf-8", "replace").splitlines() if ":error:" in line
    ]
    found = errors[0] if errors else []
    words = ": ".join(part for part in (found[4:5] + found[7:8]) if part) or "openssl refuses it"
    return f"it does not hold ({one_line(words, 200)})"


def _told(reply: bytes) -> dict[str, str]:
    """What the token in a reply says, by openssl's names for it, and `imprint`: the hash in it; {} where there is none.

    Of the token alone, since what stands around it in a reply is signed by nobody.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, token = Path(folder, "whole"), Path(folder, "token")
        whole.write_bytes(reply)
        taken = ran("openssl", "ts", "-reply", "-in", whole, "-token_out", "-out", token)
        if taken.returncode or not token.is_file():
            return {}
        return _fields(
            ran("openssl", "ts", "-reply", "-in", token, "-token_in", "-token_out", "-text").stdout
        )


def _fields(text: bytes) -> dict[str, str]:
    told = text.decode("utf-8", "replace")
    pairs = [line.partition(": ") for line in told.splitlines() if not line.startswith(" ")]
    imprint = "".join(re.sub("[ -]", "", part) for part in _DUMP.findall(told))
    return {name: value.strip() for name, _, value in pairs} | {"imprint": imprint}


def _imprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _time(words: str) -> datetime | None:
    """The time in openssl's words, `Nov 30 14:01:25.5 2026 GMT`."""
    try:
        return datetime.strptime(re.sub(r"\.\d+", "", words), "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    except ValueError:
        return None
