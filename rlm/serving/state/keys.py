"""Keys: made, found by their hash, listed and revoked.

A secret is 32 random bytes, and kept as its sha256: a slow hash protects what people think up, and nobody goes through
2**256 secrets. It is looked up by that hash, of which whoever guesses secrets cannot choose even the beginning, so the
time that a look-up takes tells nothing of a secret.
"""

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from index_store.terminal import brief
from rlm.errors import RlmError
from rlm.gateway.ledger import pico_of
from rlm.serving.state.leases import PICO, day_of, expire, locked, spending
from rlm.serving.state.tables import KEYS, MOST_PICO
from rlm.serving.types import Grant

PREFIX = "rk-"
#: Characters of a secret that a list shows: 24 of its 256 bits.
SHOWN = len(PREFIX) + 4
MOST_CHARS = 100
MOST_USD = MOST_PICO // PICO // 4


@dataclass(frozen=True, slots=True)
class Key:
    """A key as a list shows it: what it allows, its first characters, when it was made and revoked, in ISO form, and
    what was spent with it and is reserved by calls under way today, by UTC, in dollars."""

    grant: Grant
    start: str
    made: str
    revoked: str | None
    spent_usd: float
    reserved_usd: float


def add(c: Connection, wanted: Grant, now: float) -> tuple[Grant, str]:
    """Make a key that allows what `wanted` does: its grant, with an id, and the secret, which nobody can tell again.

    Raises RlmError where that cannot be kept, or the name is that of another key that holds.
    """
    _check(wanted)
    if any(row.name == wanted.name and row.revoked is None for row in c.execute(select(KEYS))):
        raise RlmError(f"there is a key {wanted.name} already; revoke it, or give this one another name")
    secret, grant = PREFIX + secrets.token_urlsafe(32), replace(wanted, key=secrets.token_hex(6))
    c.execute(
        insert(KEYS).values(
            id=grant.key,
            name=grant.name,
            digest=_digest(secret),
            start=secret[:SHOWN],
            made=now,
            indexes=listed(grant.indexes),
            models=listed(grant.models),
            access=listed(grant.access),
            pico_per_day=None if grant.usd_per_day is None else pico_of(grant.usd_per_day),
            requests_per_minute=grant.requests_per_minute,
            may_write=grant.may_write,
            is_admin=grant.is_admin,
        )
    )
    return grant, secret


def find(c: Connection, secret: str) -> Grant | None:
    """What a secret allows; None for one that no key has, or one that was revoked."""
    digest = _digest(secret)
    row = c.execute(select(KEYS).where(KEYS.c.digest == digest)).first()
    holds = row is not None and row.revoked is None and compare_digest(row.digest, digest)
    return _grant(row) if holds and row is not None else None


def every(c: Connection, now: float) -> list[Key]:
    """All keys, the first one first."""
    keys = []
    for row in c.execute(select(KEYS).order_by(KEYS.c.made, KEYS.c.id)).all():
        locked(c, row.id)
        expire(c, row.id, now)
        spent, reserved = spending(c, row.id, day_of(now))
        revoked = None if row.revoked is None else _iso(row.revoked)
        keys.append(Key(_grant(row), row.start, _iso(row.made), revoked, spent / PICO, reserved / PICO))
    return keys


def revoke(c: Connection, named: str, now: float) -> Grant:
    """Revoke the key of this id, or the one of this name that holds. Raises RlmError where there is none."""
    holding = [row for row in c.execute(select(KEYS)).all() if row.revoked is None]
    found = next((row for row in holding if named in (row.id, row.name)), None)
    if found is None:
        raise RlmError(
            f"no key that holds has the id or the name {brief(named)}; see them with: rlm keys list"
        )
    c.execute(update(KEYS).where(KEYS.c.id == found.id).values(revoked=now))
    return _grant(found)


def listed(values: Iterable[str] | None) -> str | None:
    """Words as one column keeps them; None for all."""
    return None if values is None else json.dumps(sorted(values))


def unlisted(column: str | None) -> frozenset[str] | None:
    """The words that a column keeps."""
    return None if column is None else frozenset(json.loads(column))


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _grant(row: Row[Any]) -> Grant:
    return Grant(
        row.id,
        row.name,
        unlisted(row.indexes),
        unlisted(row.models),
        unlisted(row.access),
        None if row.pico_per_day is None else row.pico_per_day / PICO,
        row.requests_per_minute,
        row.may_write,
        row.is_admin,
    )


def _check(grant: Grant) -> None:
    words = [("name", grant.name)]
    for what, values in (("index", grant.indexes), ("model", grant.models), ("label", grant.access)):
        words += [(what, value) for value in values or ()]
    for what, word in words:
        if not word.strip() or len(word) > MOST_CHARS or not word.isprintable():
            raise RlmError(
                f"the {what} of a key is {brief(word)}; give 1 to {MOST_CHARS} characters that can be printed"
            )
    usd, rate = grant.usd_per_day, grant.requests_per_minute
    if usd is not None and not 0 <= usd <= MOST_USD:
        raise RlmError(f"a key cannot spend {usd} dollars a day; give a number from 0 to {MOST_USD:,}")
    if rate is not None and not 1 <= rate <= 100_000:
        raise RlmError(f"a key cannot make {rate} requests a minute; give a number from 1 to 100,000")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
