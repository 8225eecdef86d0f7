"""The tables of version 0.1.

Databases of that version and of earlier commits have no recorded revision. So this migration
creates only what is missing, and completes the labels of the first commit that stored any.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_CURRENT_LABELS = """
UPDATE labels SET counts = (
    id IN (SELECT max(id) FROM labels WHERE word IN ('joined', 'corrected') GROUP BY prediction)
)
"""


def upgrade() -> None:
    """Create the tables that are missing."""
    _create_approval_tables()
    _create_prediction_tables()
    _create_monitoring_tables()
    _create_retraining_tables()
    _complete_labels()
    op.create_index(
        "one_label_counts",
        "labels",
        ["prediction"],
        unique=True,
        sqlite_where=sa.text("counts = 1"),
        postgresql_where=sa.text("counts"),
        if_not_exists=True,
    )


def _create_approval_tables() -> None:
    op.create_table(
        "opinions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("model_hash", sa.String(), nullable=False),
        sa.Column("evidence_hash", sa.String(), nullable=False),
        sa.Column("word", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("model_hash", sa.String(), nullable=False),
        sa.Column("evidence_hash", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=True),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.UniqueConstraint("model", "number"),
        if_not_exists=True,
    )


def _create_prediction_tables() -> None:
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("model_hash", sa.String(), nullable=False),
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("moment", sa.String(), nullable=True),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("decision", sa.Double(), nullable=True),
        sa.Column("features", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        if_not_exists=True,
    )
    op.create_index("predictions_by_moment", "predictions", ["model", "moment"], if_not_exists=True)
    op.create_index("predictions_by_key", "predictions", ["model", "key"], if_not_exists=True)
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("prediction", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("said", sa.String(), nullable=False),
        sa.Column("known", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("word", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("counts", sa.Boolean(), nullable=False),
        if_not_exists=True,
    )
    op.create_index("labels_by_word", "labels", ["model", "word"], if_not_exists=True)


def _create_monitoring_tables() -> None:
    op.create_table(
        "windows",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("start", sa.String(), nullable=False),
        sa.Column("end", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("looked_at", sa.String(), nullable=False),
        sa.Column("looked", sa.String(), nullable=False),
        sa.Column("settled_at", sa.String(), nullable=True),
        sa.Column("settled", sa.String(), nullable=True),
        sa.UniqueConstraint("model", "start"),
        if_not_exists=True,
    )
    op.create_table(
        "incidents",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("sentence", sa.String(), nullable=False),
        sa.Column("opened", sa.String(), nullable=False),
        sa.Column("updated", sa.String(), nullable=False),
        sa.Column("windows", sa.Integer(), nullable=False),
        sa.Column("closed", sa.String(), nullable=True),
        sa.Column("ended", sa.String(), nullable=False),
        sa.Column("seen_by", sa.String(), nullable=True),
        sa.Column("seen_at", sa.String(), nullable=True),
        sa.Column("seen_why", sa.String(), nullable=True),
        if_not_exists=True,
    )
    op.create_index(
        "one_open_incident",
        "incidents",
        ["model", "cause"],
        unique=True,
        sqlite_where=sa.text("closed IS NULL"),
        postgresql_where=sa.text("closed IS NULL"),
        if_not_exists=True,
    )


def _create_retraining_tables() -> None:
    op.create_table(
        "retrainings",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("moment", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.UniqueConstraint("model", "moment", "by"),
        if_not_exists=True,
    )
    op.create_table(
        "watch",
        sa.Column("model", sa.String(), primary_key=True),
        sa.Column("since", sa.String(), nullable=False),
        sa.Column("upto", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        if_not_exists=True,
    )


def _complete_labels() -> None:
    """Mark the current label of each prediction, as version 0.1 does when it stores a label.

    The first commit that stored labels took the last one that was joined or corrected.
    """
    inspector = sa.inspect(op.get_bind())
    columns = {column["name"] for column in inspector.get_columns("labels")}
    if "counts" in columns:
        return
    op.drop_index("labels_by_prediction", "labels", if_exists=True)
    op.add_column("labels", sa.Column("counts", sa.Boolean(), nullable=True))
    op.execute(_CURRENT_LABELS)
    with op.batch_alter_table("labels") as batch:
        batch.alter_column("counts", existing_type=sa.Boolean(), nullable=False)
