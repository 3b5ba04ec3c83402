"""Keys, what they spend, and how often they ask."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("start", sa.String(16), nullable=False),
        sa.Column("made", sa.Double, nullable=False),
        sa.Column("revoked", sa.Double),
        sa.Column("indexes", sa.Text),
        sa.Column("models", sa.Text),
        sa.Column("access", sa.Text),
        sa.Column("pico_per_day", sa.BigInteger),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("may_write", sa.Boolean, nullable=False),
        sa.Column("is_admin", sa.Boolean, nullable=False),
    )
    op.create_table(
        "spending",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("pico", sa.BigInteger, nullable=False),
        sa.Column("process", sa.String(32), nullable=False),
        sa.Column("ends", sa.Double, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
    )
    op.create_index("leases_by_state", "leases", ["state", "key", "ends"])
    op.create_table(
        "requests",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("requests_by_time", "requests", ["key", "at"])
