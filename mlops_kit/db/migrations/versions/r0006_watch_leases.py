"""The process that watches a model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table of leases."""
    op.create_table(
        "watch_leases",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("process_id", sa.Integer(), nullable=False),
        sa.Column("lock_identity", sa.String(), nullable=False),
        sa.Column("acquired_at", sa.String(), nullable=False),
        sa.Column("seen_at", sa.String(), nullable=False),
        sa.Column("pass_ended_at", sa.String(), nullable=True),
        sa.Column("pass_error", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("model"),
    )
