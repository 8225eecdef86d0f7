"""The process that holds the lease of a watch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the identity of the process."""
    column = sa.Column("process_json", sa.String(), server_default="", nullable=False)
    op.add_column("watch_leases", column)
