"""The tables of a server's state. A change of one is a migration too, in `migrations/versions`.

Money is whole picodollars: a 64-bit integer holds nine million dollars of them. Times are seconds since 1970, days are
those of UTC, as 2026-01-31. No row refers to another by a foreign key: what was spent stays, whatever becomes of a key.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData()
#: More than any ceiling may be; where sums reach it, they stay there, so that no sum passes 64 bits.
MOST_PICO = 4 * 10**18

#: A key. `digest`: sha256 of the secret. `start`: its first characters. `indexes`, `models`, `access`: lists as JSON,
#: null for all.
KEYS = Table(
    "keys",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("start", String(16), nullable=False),
    Column("made", Double, nullable=False),
    Column("revoked", Double),
    Column("indexes", Text),
    Column("models", Text),
    Column("access", Text),
    Column("pico_per_day", BigInteger),
    Column("requests_per_minute", Integer),
    Column("may_write", Boolean, nullable=False),
    Column("is_admin", Boolean, nullable=False),
)

#: What a key has spent on a day, and what calls under way have reserved: sums over LEASES, and what was rebuilt.
SPENDING = Table(
    "spending",
    METADATA,
    Column("key", String(32), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("spent", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
)

#: A model call. `state`: "open" while it is under way; "closed", at what it cost; "expired" where its process did not
#: renew it until `ends`, so that it is counted as spent. `pico`: what it counts for.
LEASES = Table(
    "leases",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("key", String(32), nullable=False),
    Column("day", String(10), nullable=False),
    Column("pico", BigInteger, nullable=False),
    Column("process", String(32), nullable=False),
    Column("ends", Double, nullable=False),
    Column("state", String(8), nullable=False),
    Index("leases_by_state", "state", "key", "ends"),
)

#: The requests of the last minute, of keys that are limited.
REQUESTS = Table(
    "requests",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("key", String(32), nullable=False),
    Column("at", Double, nullable=False),
    Index("requests_by_time", "key", "at"),
)

#: The runs, as RunRow has them.
RUNS = Table(
    "runs",
    METADATA,
    Column("folder", Text, primary_key=True),
    Column("key", String(64), nullable=False),
    Column("index", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("began", String(40), nullable=False),
    Column("stop", Text),
    Column("usd", Double, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("access", Text),
    Index("runs_by_time", "began"),
    Index("runs_by_key", "key", "began"),
)
