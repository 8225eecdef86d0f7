"""The days that a watch quarantined."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the days."""
    column = sa.Column("quarantine_json", sa.String(), server_default="", nullable=False)
    op.add_column("watch", column)
