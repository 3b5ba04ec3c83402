"""The list of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of runs."""
    op.create_table(
        "runs",
        sa.Column("folder", sa.Text, primary_key=True),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("index", sa.Text, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("began", sa.String(40), nullable=False),
        sa.Column("stop", sa.Text),
        sa.Column("usd", sa.Double, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("access", sa.Text),
    )
    op.create_index("runs_by_time", "runs", ["began"])
    op.create_index("runs_by_key", "runs", ["key", "began"])
