"""The probability of each class, of predictions of a multiclass task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("predictions", sa.Column("probabilities", sa.String(), nullable=True))
