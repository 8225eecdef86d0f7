"""When an alert is sent, why one is not, and mutes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table of mutes and add the columns of alerts."""
    op.create_table(
        "alert_mutes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("signal", sa.String(), nullable=False),
        sa.Column("muted_until", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("muted_at", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("alerts", sa.Column("due_at", sa.String(), nullable=True))
    op.add_column("alerts", sa.Column("retry_at", sa.String(), nullable=True))
    op.add_column("alerts", sa.Column("withheld", sa.String(), nullable=True))
